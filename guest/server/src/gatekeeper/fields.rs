//! Which header fields of a request go on to a server behind.
//!
//! Threat: a client tells the server behind that it is another person, comes from another place or asks for another path, or
//! hands it the token that it has for this server. There is no end of fields by which programs believe such things, so those
//! that go on are named, and all others do not (ARCHITECTURE.md, invariant 13). Programs compare names of fields in their own ways (CGI and WSGI read `X_Remote_User` and `X-Remote-User` as one), so a
//! name with anything but letters, digits and hyphens in it never goes on.

use base::settings::HttpSettings;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};

/// Fields that go on: what an MCP server needs of a request, and what joins its logs with those of others. `accept` and
/// `mcp` stand for those as well whose names begin with them and a hyphen.
const PASSED: [&str; 8] = [
    "content-type",
    "user-agent",
    "last-event-id",
    "traceparent",
    "tracestate",
    "baggage",
    "x-correlation-id",
    "x-request-id",
];
/// Fields that go on with whatever follows after a hyphen.
const PASSED_PREFIXES: [&str; 2] = ["accept", "mcp"];

/// Names of fields that must not go on. What never may is among them, whether or not the request has it.
pub(super) fn to_drop(settings: &HttpSettings, headers: &HeaderMap) -> Vec<HeaderName> {
    let of_the_host = |name: &HeaderName| {
        let named = [&settings.client_address_header, &settings.token_header];
        named.into_iter().flatten().any(|of_the_host| name.as_str().eq_ignore_ascii_case(of_the_host))
    };
    let mut names = vec![AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
    names.extend(headers.keys().filter(|name| !goes_on(name.as_str()) || of_the_host(name)).cloned());
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

/// `name` is in lower case.
fn goes_on(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_of = |prefix: &&str| name.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    is_plain && (PASSED.contains(&name) || PASSED_PREFIXES.iter().any(is_of))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use world::testing::http_settings;

    use super::*;

    #[test]
    fn no_field_but_the_named_ones_goes_on() {
        let settings = HttpSettings { token_header: Some("x-gateway-token".to_owned()), ..http_settings() };
        let identity = [
            "authorization",
            "cookie",
            "proxy-authorization",
            "x-ms-client-principal",
            "x-ms-client-principal-id",
            "x-ms-client-principal-name",
            "x-ms-client-principal-idp",
            "x-ms-token-aad-access-token",
            "x-ms-token-aad-id-token",
            "x-entra-mcp-assertion",
            "x-entra-mcp-client-address",
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-access-token",
            "x-forwarded-preferred-username",
            "x-forwarded-groups",
            "x-auth-request-user",
            "x-auth-request-access-token",
            "x-original-url",
            "x-original-uri",
            "remote-user",
            "x-gateway-token",
            "x_ms_client_principal",
            "x-ms_client-principal",
            "remote_user",
            "x.remote.user",
            "mcp_session_id",
            "x-http-method-override",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "forwarded",
            "x-real-ip",
            "x-arr-clientcert",
            "x-zumo-auth",
            "x-rewrite-url",
            "proxy",
            "x-userinfo",
            "x-ms-version",
            "x-api-version",
            "x-api-key",
            "host",
            "origin",
            "referer",
            "mcp-session_id",
            "acceptance",
        ];
        let others = [
            "accept",
            "accept-language",
            "content-type",
            "user-agent",
            "mcp-protocol-version",
            "mcp-method",
            "mcp-name",
            "mcp-param-region",
            "last-event-id",
            "traceparent",
            "tracestate",
            "baggage",
            "x-request-id",
            "x-correlation-id",
        ];
        let headers: HeaderMap = identity
            .iter()
            .chain(&others)
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")))
            .collect();
        let dropped = to_drop(&settings, &headers);
        for name in identity {
            assert!(dropped.iter().any(|dropped| dropped == name), "{name}");
        }
        for name in others {
            assert!(!dropped.iter().any(|dropped| dropped == name), "{name}");
        }
        assert_eq!(to_drop(&settings, &HeaderMap::new()), [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION]);
    }
}
