//! `wasi:http/incoming-handler`: reads a request, writes its answer.

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use wasip2::http::types::{
    Fields, IncomingRequest, Method as WasiMethod, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

use crate::encoding::random_uuid;
use crate::environment::Environment;
use crate::transport::http;
use crate::transport::http::message::{Answer, Request};

/// Largest request body in bytes. The bundled host has the same limit; other hosts may have none.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Bytes that are read at once.
const READ_BYTES: u64 = 64 * 1024;
/// Bytes that a stream takes in one blocking write, by `wasi:io`.
const WRITE_BYTES: usize = 4096;

/// Serves one request.
pub(crate) async fn serve(env: &Environment, request: IncomingRequest, out: ResponseOutparam) {
    let answer = match read(env, request) {
        Ok(request) => http::handle(env, request).await,
        Err(status) => Answer::Full(http::message::text(status, "The request cannot be read")),
    };
    match answer {
        Answer::Full(response) => {
            let (head, body) = response.into_parts();
            let length = body.len();
            if let Some(mut writer) = Writer::begin(out, head.status.as_u16(), &head.headers, Some(length)) {
                writer.write(&body);
                writer.finish();
            }
        }
        Answer::Stream(response, mut stream) => {
            let (head, ()) = response.into_parts();
            let Some(mut writer) = Writer::begin(out, head.status.as_u16(), &head.headers, None) else { return };
            while let Some(piece) = stream.next(env).await {
                if !writer.write(&piece) {
                    return;
                }
            }
            writer.finish();
        }
    }
}

fn read(env: &Environment, request: IncomingRequest) -> Result<Request, u16> {
    let method = match request.method() {
        WasiMethod::Get => Method::GET,
        WasiMethod::Post => Method::POST,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Patch => Method::PATCH,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Other(other) => Method::from_bytes(other.as_bytes()).map_err(|_| 400_u16)?,
    };
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers().entries() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| 400_u16)?;
        headers.append(name, HeaderValue::from_bytes(&value).map_err(|_| 400_u16)?);
    }
    let settings = env.settings.http.as_ref();
    let client_address = settings
        .and_then(|settings| settings.client_address_header.as_deref())
        .and_then(|name| headers.get(name))
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let authority = request.authority();
    let body = read_body(&request)?;
    let correlation_id = random_uuid(env.random.as_ref());
    Ok(Request { method, authority, path, query, headers, body, client_address, correlation_id })
}

fn read_body(request: &IncomingRequest) -> Result<Vec<u8>, u16> {
    let body = request.consume().map_err(|()| 500_u16)?;
    let stream = body.stream().map_err(|()| 500_u16)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(read) if bytes.len() + read.len() > MAX_BODY_BYTES => return Err(413),
            Ok(read) => bytes.extend_from_slice(&read),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(400),
        }
    }
}

/// An answer that is being written.
struct Writer {
    // Before the body, whose child it is: dropped first.
    stream: Option<wasip2::io::streams::OutputStream>,
    body: OutgoingBody,
}

impl Writer {
    fn begin(out: ResponseOutparam, status: u16, headers: &HeaderMap, length: Option<usize>) -> Option<Self> {
        let fields = Fields::new();
        for (name, value) in headers {
            // What the host forbids (hop-by-hop fields) is not sent.
            let _ = fields.append(name.as_str(), value.as_bytes());
        }
        if let Some(length) = length {
            let _ = fields.set("content-length", &[length.to_string().into_bytes()]);
        }
        let response = OutgoingResponse::new(fields);
        let _ = response.set_status_code(status);
        let body = response.body().ok()?;
        let stream = body.write().ok()?;
        ResponseOutparam::set(out, Ok(response));
        Some(Self { stream: Some(stream), body })
    }

    /// Whether there is still somebody who reads.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let Some(stream) = &self.stream else { return false };
        bytes.chunks(WRITE_BYTES).all(|chunk| stream.blocking_write_and_flush(chunk).is_ok())
    }

    fn finish(mut self) {
        drop(self.stream.take());
        // If it cannot be finished, nobody reads any more.
        let _ = OutgoingBody::finish(self.body, None);
    }
}
