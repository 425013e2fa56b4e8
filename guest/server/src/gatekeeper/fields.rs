//! Which header fields of a request go on to a server behind.
//!
//! Threat: a client tells the server behind that it is another person, or hands it the token that it has for this server.
//! Programs compare names of fields in their own ways (CGI and WSGI read `X_Remote_User` and `X-Remote-User` as one), so a
//! name with anything but letters, digits and hyphens in it never goes on.

use base::settings::HttpSettings;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};

/// Fields by which programs learn from a proxy who calls, or what the request was before.
const IDENTITY: [&str; 26] = [
    "authorization",
    "cookie",
    "cookie2",
    "proxy-authorization",
    "remote-user",
    "remote-name",
    "remote-email",
    "remote-group",
    "remote-groups",
    "x-remote-user",
    "x-remote-name",
    "x-remote-email",
    "x-remote-group",
    "x-remote-groups",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-user",
    "x-user-id",
    "x-webauth-user",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];
/// What names of such fields begin with.
const IDENTITY_PREFIXES: [&str; 16] = [
    "x-ms-client-principal",
    "x-ms-token-",
    "x-entra-mcp-",
    "x-auth-",
    "x-authenticated-",
    "x-authentik-",
    "x-original-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-amzn-oidc-",
    "x-ssl-client-",
    "x-client-cert",
    "ssl-client-",
    "cf-access-",
    "tailscale-",
    "x-pomerium-",
];

/// Names of fields that must not go on. What never may is among them, whether or not the request has it.
pub(super) fn to_drop(settings: &HttpSettings, headers: &HeaderMap) -> Vec<HeaderName> {
    let of_the_host = |name: &HeaderName| {
        let named = [&settings.client_address_header, &settings.token_header];
        named.into_iter().flatten().any(|of_the_host| name.as_str().eq_ignore_ascii_case(of_the_host))
    };
    let mut names = vec![AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
    names.extend(headers.keys().filter(|name| tells_of_identity(name.as_str()) || of_the_host(name)).cloned());
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

/// `name` is in lower case.
fn tells_of_identity(name: &str) -> bool {
    !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        || IDENTITY.contains(&name)
        || IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use world::testing::http_settings;

    use super::*;

    #[test]
    fn no_field_that_tells_of_an_identity_goes_on() {
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
        ];
        let others = [
            "accept",
            "content-type",
            "user-agent",
            "mcp-protocol-version",
            "mcp-method",
            "mcp-name",
            "last-event-id",
            "traceparent",
            "x-request-id",
            "x-forwarded-for",
            "x-ms-version",
            "x-api-version",
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
