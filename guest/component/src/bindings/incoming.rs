//! `wasi:http/incoming-handler`: reads a request, writes its answer.
//!
//! Every call of an import costs more than the work around it, so there are as few as possible: all header fields go
//! in one call, and a body in as many as its stream takes without a pause.

use ::http::header::{CONTENT_LENGTH, HOST};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use server::message::{HttpResponse, Request};
use server::{ServerWorld, http};
use wasip2::http::types::{
    Fields, IncomingRequest, Method as WasiMethod, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// Largest request body in bytes. The bundled host has the same limit; other hosts may have none.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Names and values of all header fields of a request, in bytes. The same.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Header fields of a request. Browsers send about 20.
const MAX_HEADER_FIELDS: usize = 256;
/// Bytes that are read at once.
const READ_BYTES: u64 = 64 * 1024;

/// Serves one request.
pub(crate) async fn serve(env: Option<&ServerWorld<'_>>, request: IncomingRequest, out: ResponseOutparam) {
    let mut is_head = false;
    let answer = match env {
        None => http::not_set_up(),
        Some(env) => match read(env, request) {
            Ok(request) => {
                is_head = request.method == Method::HEAD;
                http::handle(env, request).await
            }
            Err(status) => http::unreadable(env, status),
        },
    };
    match answer {
        HttpResponse::Full(response) => {
            let (head, body) = response.into_parts();
            // The answer to a `HEAD` has the length of a body that is not sent.
            let length = (!is_head).then_some(body.len());
            if let Some(mut writer) = Writer::begin(out, head.status.as_u16(), &head.headers, length) {
                writer.write(&body);
                writer.finish();
            }
        }
        HttpResponse::Stream(response, mut stream) => {
            let (head, ()) = response.into_parts();
            let Some(mut writer) = Writer::begin(out, head.status.as_u16(), &head.headers, None) else { return };
            while let Some(env) = env
                && let Some(piece) = stream.next(env).await
            {
                if !writer.write(&piece) {
                    return;
                }
            }
            writer.finish();
        }
    }
}

fn read(env: &ServerWorld<'_>, request: IncomingRequest) -> Result<Request, u16> {
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
    let mut path = request.path_with_query().unwrap_or_default();
    let query = path.find('?').map(|at| {
        let query = path.get(at + 1..).unwrap_or_default().to_owned();
        path.truncate(at);
        query
    });
    let headers = header_map(request.headers().entries())?;
    let header = env.site.settings.client_address_header.as_deref();
    let client_address =
        header.and_then(|name| headers.get(name)).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // A host that does not take the name out of the header fields may say it there only.
    let authority = request.authority().filter(|authority| !authority.is_empty() || !headers.contains_key(HOST));
    let body = match method {
        Method::GET | Method::HEAD | Method::OPTIONS => Vec::new(),
        _ => read_body(&request, declared_length(&headers))?,
    };
    Ok(Request { method, authority, path, query, headers, body, client_address })
}

/// Header fields, within their bounds. An error is an HTTP status.
pub(super) fn header_map(entries: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, u16> {
    let mut size = Size::default();
    entries.iter().try_for_each(|(name, value)| size.add(name.len(), value.len()))?;
    let mut headers = HeaderMap::with_capacity(entries.len());
    for (name, value) in entries {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| 400_u16)?;
        headers.append(name, HeaderValue::try_from(value).map_err(|_| 400_u16)?);
    }
    Ok(headers)
}

/// The size of the header fields so far.
#[derive(Default)]
pub(super) struct Size {
    fields: usize,
    bytes: usize,
}

impl Size {
    /// Counts a field; an error is the HTTP status for too many of them, or too long ones.
    pub(super) fn add(&mut self, name: usize, value: usize) -> Result<(), u16> {
        self.fields += 1;
        self.bytes = self.bytes.saturating_add(name).saturating_add(value);
        if self.fields > MAX_HEADER_FIELDS || self.bytes > MAX_HEADER_BYTES { Err(431) } else { Ok(()) }
    }
}

/// What `Content-Length` says. The host has checked it: it ends the body there.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn read_body(request: &IncomingRequest, declared: Option<usize>) -> Result<Vec<u8>, u16> {
    if declared.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(413);
    }
    let body = request.consume().map_err(|()| 500_u16)?;
    let stream = body.stream().map_err(|()| 500_u16)?;
    let mut bytes = Vec::new();
    while declared.is_none_or(|length| bytes.len() < length) {
        match stream.blocking_read(READ_BYTES) {
            Ok(read) if bytes.len() + read.len() > MAX_BODY_BYTES => return Err(413),
            Ok(read) if bytes.is_empty() => bytes = read,
            Ok(read) => bytes.extend_from_slice(&read),
            Err(StreamError::Closed) if declared.is_none() => break,
            Err(_) => return Err(400),
        }
    }
    Ok(bytes)
}

/// An answer that is being written.
struct Writer {
    // Before the body, whose child it is: dropped first.
    stream: Option<OutputStream>,
    body: OutgoingBody,
}

impl Writer {
    fn begin(out: ResponseOutparam, status: u16, headers: &HeaderMap, length: Option<usize>) -> Option<Self> {
        let field = |name: &HeaderName, value: &[u8]| (name.as_str().to_owned(), value.to_vec());
        let mut entries: Vec<_> = headers.iter().map(|(name, value)| field(name, value.as_bytes())).collect();
        // No content has no length (RFC 9110 section 8.6).
        if let Some(length) = length.filter(|_| status != 204) {
            entries.push(field(&CONTENT_LENGTH, length.to_string().as_bytes()));
        }
        let fields = Fields::from_list(&entries).unwrap_or_else(|_| {
            // What the host forbids (hop-by-hop fields) is not sent.
            let fields = Fields::new();
            for (name, value) in &entries {
                let _ = fields.append(name, value);
            }
            fields
        });
        let response = OutgoingResponse::new(fields);
        if status != 200 {
            let _ = response.set_status_code(status);
        }
        let body = response.body().ok()?;
        let stream = body.write().ok()?;
        ResponseOutparam::set(out, Ok(response));
        Some(Self { stream: Some(stream), body })
    }

    /// Writes `bytes`; false if the client does not read any more.
    fn write(&mut self, mut bytes: &[u8]) -> bool {
        let Some(stream) = &self.stream else { return false };
        while !bytes.is_empty() {
            let Ok(room) = stream.check_write() else { return false };
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let Some((piece, rest)) = bytes.split_at_checked(room.min(bytes.len())) else { return false };
            if piece.is_empty() {
                stream.subscribe().block();
            } else if stream.write(piece).is_err() {
                return false;
            }
            bytes = rest;
        }
        // What was written goes out now: a stream may be silent for long after this.
        stream.flush().is_ok()
    }

    fn finish(mut self) {
        drop(self.stream.take());
        // If it cannot be finished, the client does not read any more.
        let _ = OutgoingBody::finish(self.body, None);
    }
}
