//! `whole-requests`: a request and its answer in one call, as plain data.
//!
//! Header fields cross the boundary as one piece. A name and a value of their own for each field would be two calls of the
//! component's allocator, and what calls cost is most of what a request costs here.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use memchr::memchr;
use server::message::{HttpResponse, Request};
use server::{ServerWorld, http as handler};

use super::exports::entra_mcp::plugin::whole_requests as wit;
use super::incoming::{MAX_BODY_BYTES, Size};

/// What ends a header field. It is in no value (RFC 9110 section 5.5).
const END: &[u8] = b"\r\n";

/// Serves one request.
pub(crate) async fn serve(env: Option<&ServerWorld<'_>>, request: PlainRequest) -> wit::Served {
    let answer = match env {
        None => handler::not_set_up(),
        Some(env) => match request.read(env.site.settings.client_address_header.as_deref()) {
            Ok(request) => match handler::handle_whole(env, request).await {
                Some(answer) => HttpResponse::Full(answer),
                None => return wit::Served::Streams,
            },
            Err(status) => handler::unreadable(env, status),
        },
    };
    match answer {
        HttpResponse::Full(answer) => wit::Served::Whole(plain(answer)),
        HttpResponse::Stream(..) => wit::Served::Streams,
    }
}

/// A request as it came.
pub(crate) struct PlainRequest {
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path_with_query: String,
    pub(crate) fields: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl PlainRequest {
    /// The request, or the HTTP status of what is wrong with it.
    fn read(self, client_address_header: Option<&str>) -> Result<Request, u16> {
        let Self { method, authority, path_with_query: mut path, fields, body } = self;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| 400_u16)?;
        let headers = header_map(fields.into())?;
        if body.len() > MAX_BODY_BYTES {
            return Err(413);
        }
        let query = path.find('?').map(|at| {
            let query = path.get(at + 1..).unwrap_or_default().to_owned();
            path.truncate(at);
            query
        });
        let client_address = client_address_header.and_then(|name| headers.get(name)?.to_str().ok()).map(str::to_owned);
        // As for `wasi:http`: a body of these is not looked at.
        let body = if matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) { Vec::new() } else { body };
        Ok(Request { method, authority: Some(authority), path, query, headers, body, client_address })
    }
}

/// Header fields, within their bounds. An error is an HTTP status. The values are parts of `fields`, not copies.
fn header_map(fields: Bytes) -> Result<HeaderMap, u16> {
    let mut size = Size::default();
    let mut headers = HeaderMap::with_capacity(16);
    let mut from = 0;
    while let Some(rest) = fields.get(from..).filter(|rest| !rest.is_empty()) {
        let colon = memchr(b':', rest).ok_or(400_u16)?;
        let name = rest.get(..colon).unwrap_or_default();
        let value = rest.get(colon + 1..).unwrap_or_default();
        let length = memchr(b'\r', value).ok_or(400_u16)?;
        if value.get(length..length + END.len()) != Some(END) {
            return Err(400);
        }
        size.add(name.len(), length)?;
        let (begins, ends) = (from + colon + 1, from + colon + 1 + length);
        let name = HeaderName::from_bytes(name).map_err(|_| 400_u16)?;
        let value = HeaderValue::from_maybe_shared(fields.slice(begins..ends)).map_err(|_| 400_u16)?;
        headers.append(name, value);
        from = ends + END.len();
    }
    Ok(headers)
}

fn plain(answer: Response<Vec<u8>>) -> wit::Answer {
    let (head, body) = answer.into_parts();
    let mut fields = Vec::with_capacity(512);
    for (name, value) in &head.headers {
        for part in [name.as_str().as_bytes(), b":", value.as_bytes(), END] {
            fields.extend_from_slice(part);
        }
    }
    wit::Answer { status: head.status.as_u16(), fields, body }
}
