//! The host names that the server answers for, and the web pages that may call it (the Fetch standard's CORS protocol).
//!
//! A browser sends `Origin` with whatever a web page has it send, so a page that a person happens to visit cannot speak
//! for them here. Programs send none. Nothing is ever shared with credentials: there are none that a browser would add.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response};

use super::routes::Route;
use super::{ResponseHead, empty};
use crate::authorization_server::Endpoint;
use crate::message::{Request, text};
use crate::site::Site;

/// What a page may send.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Accept, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, \
                               Mcp-Session-Id, Last-Event-ID, traceparent, tracestate, baggage";
/// What a page may read of an answer, besides what every page may.
const EXPOSED_HEADERS: &str = "WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After, X-Correlation-Id";
/// Seconds for which a browser may remember a preflight: as long as Chromium does at most.
const MAX_AGE_SECONDS: u64 = 7200;

/// Which web pages may read answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Every page: public documents.
    EveryPage,
    /// The server's own pages, and those of the settings.
    AllowedOrigins,
    /// No page.
    NoPage,
}

/// Whether the client means this server. DNS names are compared without regard to case (RFC 4343), and nothing else is.
pub(super) fn is_our_host(site: &Site<'_>, request: &Request) -> bool {
    let known = |name: &str| is_allowed_host(site, name);
    let mut fields = request.headers.get_all(HOST).iter();
    match (&request.authority, fields.next(), fields.next()) {
        (_, _, Some(_)) => false,
        (Some(authority), None, None) => known(authority),
        (None, Some(host), None) => host.to_str().is_ok_and(known),
        // Two names for one server: they have to agree.
        (Some(authority), Some(host), None) => {
            known(authority) && host.to_str().is_ok_and(|host| host.eq_ignore_ascii_case(authority))
        }
        (None, None, None) => false,
    }
}

/// Whether this is one of the server's names, with the port if it is not that of the scheme.
pub(super) fn is_allowed_host(site: &Site<'_>, name: &str) -> bool {
    site.settings.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// The one origin of a request; an error for several.
fn origin_of(request: &Request) -> Result<Option<&HeaderValue>, ()> {
    let mut fields = request.headers.get_all(ORIGIN).iter();
    match (fields.next(), fields.next()) {
        (origin, None) => Ok(origin),
        _ => Err(()),
    }
}

fn is_allowed(site: &Site<'_>, origin: &HeaderValue) -> bool {
    // `null` is the origin of every sandboxed page: it identifies no site, so it is refused whatever the settings say.
    origin != "null" && (origin == site.origin || site.settings.allowed_origins.iter().any(|allowed| origin == allowed))
}

/// Whether the page that sent the request, if one did, may call this endpoint.
pub(super) fn may_call(site: &Site<'_>, route: &Route<'_>, request: &Request) -> bool {
    let Ok(origin) = origin_of(request) else { return false };
    let Some(origin) = origin else { return true };
    match (route.sharing(), route) {
        // A proxy passes on what the client sent: the page that asks is that of the client.
        (Sharing::AllowedOrigins, _) | (_, Route::ForwardAuth) => is_allowed(site, origin),
        // The form of the consent page, which is the server's own.
        (_, Route::OAuth(Endpoint::Authorize)) if request.method == Method::POST => origin == site.origin,
        _ => true,
    }
}

/// The one origin whose page may read the answer to a request of this page.
pub(super) fn reader(site: &Site<'_>, request: &Request) -> Option<String> {
    let origin = origin_of(request).ok().flatten().filter(|origin| is_allowed(site, origin))?;
    origin.to_str().ok().map(str::to_owned)
}

/// Says which pages may read an answer.
pub(super) fn share(site: &Site<'_>, route: &Route<'_>, request: &Request, head: ResponseHead<'_>) {
    match route.sharing() {
        Sharing::EveryPage => {
            head.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Sharing::AllowedOrigins => {
            // Without an origin there is no page to share with, and a cache keeps none of these answers.
            let Ok(Some(origin)) = origin_of(request) else { return };
            head.headers.append(VARY, HeaderValue::from_static("Origin"));
            if is_allowed(site, origin) {
                share_with(origin.clone(), head.headers);
            }
        }
        Sharing::NoPage => {}
    }
}

/// Lets the page of this origin read an answer.
pub(super) fn share_with(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
}

/// Answers `OPTIONS`: what a page may send here. [`share`] adds which page.
pub(super) fn preflight(site: &Site<'_>, route: &Route<'_>, request: &Request) -> Response<Vec<u8>> {
    let granted = match (route.sharing(), origin_of(request)) {
        (_, Err(())) => return text(403, "The request names several origins"),
        (Sharing::NoPage, _) | (_, Ok(None)) => false,
        (Sharing::EveryPage, Ok(Some(_))) => true,
        (Sharing::AllowedOrigins, Ok(Some(origin))) if is_allowed(site, origin) => true,
        (Sharing::AllowedOrigins, Ok(Some(_))) => {
            return text(403, "Web pages of this origin may not call this server: see the setting `allowed_origins`");
        }
    };
    let mut response = empty(204);
    let headers = response.headers_mut();
    headers.insert(ALLOW, route.allow());
    if granted {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, route.allow());
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS));
    }
    response
}
