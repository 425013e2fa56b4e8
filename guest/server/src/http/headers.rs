//! Header fields that every answer has, so that a browser does nothing with it but show it.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue};

use super::ResponseHead;
use super::routes::Route;
use crate::authorization_server::Endpoint;
use crate::site::Site;

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Nothing may be loaded, run, sent or framed.
const STRICT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'";
/// A year, in seconds. Not for sub-domains: other parties may own them.
const TRANSPORT_SECURITY: &str = "max-age=31536000";

/// Adds what is missing. A page may say itself what it loads and refers to; no page may weaken the rest.
pub(super) fn secure(site: &Site<'_>, route: &Route<'_>, head: ResponseHead<'_>) {
    let fixed = HeaderValue::from_static;
    let headers = head.headers;
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(fixed(STRICT_POLICY));
    headers.entry(CACHE_CONTROL).or_insert(fixed("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(X_FRAME_OPTIONS, fixed("DENY"));
    // With `no-referrer` a browser sends the consent form with `Origin: null` (Fetch standard, "append a request
    // `Origin` header"), which is refused. Nothing leaves the server's origin with this value either.
    let referrer = if *route == Route::OAuth(Endpoint::Authorize) { "same-origin" } else { "no-referrer" };
    headers.entry(REFERRER_POLICY).or_insert(fixed(referrer));
    if site.is_https() {
        headers.insert(STRICT_TRANSPORT_SECURITY, fixed(TRANSPORT_SECURITY));
    }
    if headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html")) {
        headers.insert(CROSS_ORIGIN_OPENER_POLICY, fixed("same-origin"));
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, fixed("same-origin"));
    }
}
