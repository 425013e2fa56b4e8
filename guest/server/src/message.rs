//! Requests and answers, as the rest of the component sees them.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::server_world::ServerWorld;

/// A request with its whole body.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// What the client takes the server's name to be (`Host`, `:authority`).
    pub authority: Option<String>,
    /// The path, without the path prefix of the public URL.
    pub path: String,
    /// The query, without `?`.
    pub query: Option<String>,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The address of the client, if the host says it.
    pub client_address: Option<String>,
}

/// Tokens, codes, cookies and secrets are in the query, the header fields and the body.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, .. } = self;
        let mut shown = f.debug_struct("Request");
        shown.field("method", method).field("path", path);
        shown.finish_non_exhaustive()
    }
}

/// An answer.
pub enum HttpResponse {
    /// All of it.
    Full(Response<Vec<u8>>),
    /// The head, and a body that comes piece by piece.
    Stream(Response<()>, Box<dyn BodyStream>),
}

/// A body that comes piece by piece. It is dropped when the client goes away.
#[async_trait(?Send)]
pub trait BodyStream {
    /// The next piece; `None` at the end.
    async fn next(&mut self, env: &ServerWorld<'_>) -> Option<Vec<u8>>;
}

/// An answer in plain text.
pub fn text(status: u16, text: &str) -> Response<Vec<u8>> {
    with_body(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

/// An answer in JSON that no cache may keep.
pub fn json(status: u16, value: &serde_json::Value) -> Response<Vec<u8>> {
    let mut response = with_body(status, "application/json", value.to_string().into_bytes());
    response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer with a body of the given type.
pub fn with_body(status: u16, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
