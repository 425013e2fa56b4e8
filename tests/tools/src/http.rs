//! One request over `wasi:http`, and what came of it.

use serde_json::{Value, json};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme,
};
use wasip2::io::streams::StreamError;

/// The most that one read asks for.
const READ_BYTES: u64 = 64 * 1024;

/// What a tool asks for, before the host has seen it.
#[derive(Debug, Default)]
pub struct Request {
    pub method: Option<String>,
    pub scheme: Option<String>,
    pub authority: Option<String>,
    pub path: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Refused {
    /// `wasi:http` does not take this part of the request.
    Part(String),
    /// The host does not send it, or it fails.
    Code(ErrorCode),
    /// It breaks while the body is read.
    Body(String),
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// `GET` of an absolute URL, taken apart without a look at what is in it.
    pub fn get(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        Self {
            scheme: Some(scheme.to_owned()),
            authority: Some(authority.to_owned()),
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// From the arguments of a tool: `url`, or its parts; each part may be left out.
    pub fn of(arguments: &Value) -> Self {
        let text = |name: &str| arguments[name].as_str().map(str::to_owned);
        let base = text("url").map(|url| Self::get(&url)).unwrap_or_default();
        let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
        Self {
            method: text("method").or(base.method),
            scheme: text("scheme").or(base.scheme),
            authority: text("authority").or(base.authority),
            path: text("path").or(base.path),
            headers: arguments["headers"].as_array().into_iter().flatten().filter_map(pair).collect(),
            body: text("body"),
        }
    }

    /// The request as a resource of `wasi:http`, with the body that is to be written.
    pub fn outgoing(&self) -> Result<(OutgoingRequest, OutgoingBody), Refused> {
        let part = |name: &str| Refused::Part(name.to_owned());
        let fields = Fields::new();
        for (name, value) in &self.headers {
            fields.append(name, value.as_bytes()).map_err(|error| Refused::Part(format!("{name}: {error:?}")))?;
        }
        let request = OutgoingRequest::new(fields);
        let method = match self.method.as_deref() {
            None | Some("GET") => Method::Get,
            Some("POST") => Method::Post,
            Some("TRACE") => Method::Trace,
            Some("CONNECT") => Method::Connect,
            Some("OPTIONS") => Method::Options,
            Some(other) => Method::Other(other.to_owned()),
        };
        let scheme = self.scheme.as_deref().map(|scheme| match scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            other => Scheme::Other(other.to_owned()),
        });
        request.set_method(&method).map_err(|()| part("method"))?;
        request.set_scheme(scheme.as_ref()).map_err(|()| part("scheme"))?;
        request.set_authority(self.authority.as_deref()).map_err(|()| part("authority"))?;
        request.set_path_with_query(self.path.as_deref()).map_err(|()| part("path"))?;
        let body = request.body().map_err(|()| part("body"))?;
        Ok((request, body))
    }

    /// Hands the request to the host. The answer may be awaited later.
    pub fn start(&self) -> Result<FutureIncomingResponse, Refused> {
        let (request, body) = self.outgoing()?;
        let future = outgoing_handler::handle(request, None).map_err(Refused::Code)?;
        if let Some(text) = &self.body {
            let stream = body.write().map_err(|()| Refused::Part("body".to_owned()))?;
            for chunk in text.as_bytes().chunks(4096) {
                stream.blocking_write_and_flush(chunk).map_err(|error| Refused::Body(format!("{error:?}")))?;
            }
        }
        OutgoingBody::finish(body, None).map_err(Refused::Code)?;
        Ok(future)
    }

    /// Sends the request and reads the whole answer.
    pub fn send(&self) -> Result<Answer, Refused> {
        answer(&self.start()?)
    }
}

/// Waits for the answer to a request.
pub fn answer(future: &FutureIncomingResponse) -> Result<Answer, Refused> {
    future.subscribe().block();
    match future.get() {
        Some(Ok(response)) => read(response.map_err(Refused::Code)?),
        Some(Err(())) | None => Err(Refused::Part("the answer was taken before".to_owned())),
    }
}

fn read(response: IncomingResponse) -> Result<Answer, Refused> {
    let headers = response.headers().entries().into_iter();
    let headers = headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    let body = response.consume().map_err(|()| Refused::Part("the answer's body".to_owned()))?;
    Ok(Answer { status: response.status(), headers, body: read_body(&body)? })
}

/// Reads a body to its end.
pub fn read_body(body: &IncomingBody) -> Result<Vec<u8>, Refused> {
    let stream = body.stream().map_err(|()| Refused::Part("the body's stream".to_owned()))?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => return Err(Refused::Body(error.to_debug_string())),
        }
    }
}

impl Answer {
    /// The body as JSON, or `null`.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a tool saw, for its answer: `status`, `headers`, `body`; or `refused`, the name of the error code of
/// `wasi:http`, with `detail`.
pub fn seen(result: Result<Answer, Refused>) -> Value {
    match result {
        Ok(Answer { status, headers, body }) => {
            json!({ "status": status, "headers": headers, "body": String::from_utf8_lossy(&body) })
        }
        Err(Refused::Part(part)) => json!({ "refused": "part", "detail": part }),
        Err(Refused::Body(error)) => json!({ "refused": "body", "detail": error }),
        Err(Refused::Code(code)) => {
            let detail = format!("{code:?}");
            let name: String = detail.chars().take_while(|letter| letter.is_alphanumeric()).collect();
            // Generated code writes `ErrorCode::Name`.
            let name = detail
                .strip_prefix("ErrorCode::")
                .map_or(name, |rest| rest.chars().take_while(|letter| letter.is_alphanumeric()).collect());
            json!({ "refused": name, "detail": detail })
        }
    }
}
