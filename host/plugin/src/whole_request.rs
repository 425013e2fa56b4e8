//! One HTTP request and its answer in one call of the component, as plain data (`wit/whole-requests.wit`).
//!
//! `http_call.rs` serves streams.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;

use crate::bindings::export::whole_requests::{Answer, Served};
use crate::client_channel::NoChannel;
use crate::error::Error;
use crate::http_call::{HttpBody, MAX_ANSWER_BYTES};
use crate::plugin::Plugin;

/// Fields of the connection, and `Host`: they are the host's alone, in both directions, as with `wasi:http`.
static OF_THE_HOST: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;

/// Header fields of an answer, and their bytes. The component's have about 12, in less than 1 KiB.
const MAX_FIELDS: usize = 256;
const MAX_FIELD_BYTES: usize = 128 * 1024;

/// What ends a header field. It is in no value.
const END: &[u8] = b"\r\n";

impl Plugin {
    /// Answers a request, unless its answer may be a stream: then nothing was done.
    pub(crate) async fn answer_whole(&self, request: &Request<Bytes>) -> Result<Option<Response<HttpBody>>, Error> {
        self.call(None, Arc::new(NoChannel), async |exports, store| {
            let path = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
            let fields = fields(request.headers());
            let served = exports
                .entra_mcp_plugin_whole_requests()
                .call_serve(store, request.method().as_str(), authority(request), path, &fields, request.body())
                .await?;
            match served {
                Served::Whole(answer) => response(request.method(), answer).map(Some).map_err(wasmtime::Error::msg),
                Served::Streams => Ok(None),
            }
        })
        .await
    }
}

/// For which host the request is.
fn authority(request: &Request<Bytes>) -> &str {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let field = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    named.or_else(field).unwrap_or_default()
}

/// The fields that the component sees.
fn fields(headers: &HeaderMap) -> Vec<u8> {
    let of_the_component = || headers.iter().filter(|(name, _)| !OF_THE_HOST.contains(name));
    let length = of_the_component().map(|(name, value)| name.as_str().len() + value.len() + b":\r\n".len()).sum();
    let mut fields = Vec::with_capacity(length);
    for (name, value) in of_the_component() {
        for part in [name.as_str().as_bytes(), b":", value.as_bytes(), END] {
            fields.extend_from_slice(part);
        }
    }
    fields
}

fn response(method: &Method, answer: Answer) -> Result<Response<HttpBody>, &'static str> {
    let Answer { status, fields, body } = answer;
    if body.len() > MAX_ANSWER_BYTES || fields.len() > MAX_FIELD_BYTES {
        return Err("its answer is too long");
    }
    let status = StatusCode::from_u16(status).map_err(|_| "its answer has no status")?;
    let mut headers = header_map(fields.into())?;
    // No content has no length (RFC 9110 section 8.6), and the answer to `HEAD` does not say that of the body that it
    // leaves out.
    if !body.is_empty() || (*method != Method::HEAD && status != StatusCode::NO_CONTENT) {
        headers.insert(CONTENT_LENGTH, body.len().into());
    }
    let mut response = Response::new(HttpBody::full(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The fields of an answer, but for those that are not the component's. The values are parts of `fields`, not copies.
fn header_map(fields: Bytes) -> Result<HeaderMap, &'static str> {
    const MALFORMED: &str = "its answer has a malformed header field";
    let mut headers = HeaderMap::with_capacity(16);
    let mut rest = fields.as_ref();
    while !rest.is_empty() {
        let colon = rest.iter().position(|byte| *byte == b':').ok_or(MALFORMED)?;
        let (name, value) = rest.split_at_checked(colon).ok_or(MALFORMED)?;
        let value = value.get(1..).ok_or(MALFORMED)?;
        let length = value.iter().position(|byte| *byte == b'\r').ok_or(MALFORMED)?;
        let (value, after) = value.split_at_checked(length).ok_or(MALFORMED)?;
        rest = after.strip_prefix(END).ok_or(MALFORMED)?;
        let name = HeaderName::from_bytes(name).map_err(|_| MALFORMED)?;
        let value = HeaderValue::from_maybe_shared(fields.slice_ref(value)).map_err(|_| MALFORMED)?;
        if !OF_THE_HOST.contains(&name) {
            headers.append(name, value);
        }
        if headers.len() > MAX_FIELDS {
            return Err("its answer has too many header fields");
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
