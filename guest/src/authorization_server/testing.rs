//! Requests for the unit tests of this folder.

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderValue, Method};

use crate::transport::http::message::Request;

/// A request without header fields and body.
pub(super) fn request(method: Method, path: &str) -> Request {
    Request {
        method,
        authority: Some("mcp.example.com".to_owned()),
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        body: Vec::new(),
        client_address: Some("203.0.113.7".to_owned()),
        correlation_id: "correlation-1".to_owned(),
    }
}

/// A registration.
pub(super) fn registration(body: &str) -> Request {
    let mut request = request(Method::POST, "/register");
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = body.as_bytes().to_vec();
    request
}

/// A request to the token endpoint with these `Authorization` fields.
pub(super) fn authorized(values: &[&str]) -> Request {
    let mut request = request(Method::POST, "/token");
    for value in values {
        request.headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// A request of a browser with these `Cookie` fields.
pub(super) fn with_cookies(values: &[&str]) -> Request {
    let mut request = request(Method::GET, "/authorize");
    for value in values {
        request.headers.append(COOKIE, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// The parameters of a form.
pub(super) fn form(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
