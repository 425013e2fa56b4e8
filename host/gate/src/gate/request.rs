//! Header fields of requests: which go to the component, and which to the server behind.

use bytes::Bytes;
use entra_mcp_plugin::gatekeeper::Grant;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, ORIGIN, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, REFERER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::answer;
use super::{BehindError, set_fields};

/// Fields that are about one connection (RFC 9110 section 7.6.1), besides those that `Connection` names.
pub(super) const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Fields that are between the client and this server: credentials, the page that a browser shows, the framing. The
/// component has looked at them, and says itself what the server behind gets in their place.
const OURS: [HeaderName; 7] = [AUTHORIZATION, COOKIE, ORIGIN, REFERER, HOST, CONTENT_LENGTH, EXPECT];

/// Fields that have one value. Two readers of several could take different ones.
const SINGLE: [&str; 2] = ["content-type", "last-event-id"];

/// The fields of MCP have one value each.
const MCP: &str = "mcp-";

/// Removes what must not reach the server behind whatever the component decides, so that the component judges what is
/// sent on: fields about the connection, and names that a CGI or WSGI server takes for others (`X_Ms_Client_Principal`).
/// Fields of `kept`, which the host has set, cannot be removed by naming them in `Connection`.
pub(super) fn screen(headers: &mut HeaderMap, kept: &[HeaderName]) -> Result<(), &'static str> {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != HOST && !kept.contains(name))
        .collect();
    let ambiguous =
        |name: &&HeaderName| !name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let ambiguous: Vec<HeaderName> = headers.keys().filter(ambiguous).cloned().collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain(&ambiguous) {
        headers.remove(name);
    }
    let has_several = |name: &&HeaderName| headers.get_all(*name).iter().nth(1).is_some();
    let is_single = |name: &&HeaderName| name.as_str().starts_with(MCP) || SINGLE.contains(&name.as_str());
    match headers.keys().filter(is_single).any(|name| has_several(&name)) {
        true => Err("a header field that has one value occurs several times"),
        false => Ok(()),
    }
}

/// The request that goes on. The query of the client stays here.
pub(super) fn outgoing(request: Request<Bytes>, grant: &Grant) -> Result<Request<Bytes>, BehindError> {
    let (mut parts, body) = request.into_parts();
    let mut headers = std::mem::take(&mut parts.headers);
    for name in &OURS {
        headers.remove(name);
    }
    for name in &grant.drop_headers {
        headers.remove(name.as_str());
    }
    if answer::reads(grant).events() {
        // What is to be judged, or has events whose ids are tied to the caller, has to be read.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let unusable = |_| BehindError::Malformed("the component sets a header field that is none".to_owned());
    set_fields(&mut headers, &grant.set_headers).map_err(unusable)?;
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    let uri = parts.uri.path().parse();
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = uri.map_err(|_| BehindError::Malformed("the path cannot be sent on".to_owned()))?;
    *outgoing.headers_mut() = headers;
    Ok(outgoing)
}
