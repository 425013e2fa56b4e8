//! Tests of `config/serve/gateway.rs`.

use super::*;
use crate::config::TokenModeName;

fn proxies(text: &str) -> Result<Vec<String>, ConfigError> {
    Ok(trusted_proxies(&[text.to_owned()])?.iter().map(ToString::to_string).collect())
}

fn header(name: &str, mode: TokenModeName, proxies: &[IpNet]) -> Result<Option<HeaderName>, ConfigError> {
    token_header(Some(name), mode.into(), proxies)
}

#[test]
fn an_ipv4_network_is_the_same_however_it_is_written() {
    for (text, network) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("fd00::/8", "fd00::/8"),
        ("::1", "::1/128"),
    ] {
        assert_eq!(proxies(text).unwrap(), [network]);
    }
}

#[test]
fn a_token_header_is_one_that_means_nothing_else() {
    let proxies = ["10.0.0.0/8".parse().unwrap()];
    for (name, lower) in [
        ("X-Forwarded-Access-Token", "x-forwarded-access-token"),
        ("X-MS-TOKEN-AAD-ACCESS-TOKEN", "x-ms-token-aad-access-token"),
    ] {
        assert_eq!(header(name, TokenModeName::Both, &proxies).unwrap().unwrap(), lower);
    }
    for name in ["", "X Token", "X-Token:", "Authorization", "Cookie", "HOST", "X-Forwarded-For", CLIENT_ADDRESS_HEADER]
    {
        let refused = header(name, TokenModeName::Bearer, &proxies);
        assert!(matches!(refused, Err(ConfigError::Invalid { name: "token-header", .. })), "{name}");
    }
}

#[test]
fn a_token_header_needs_a_gateway_and_a_mode_in_which_it_means_something() {
    let proxies = ["10.0.0.0/8".parse().unwrap()];
    assert!(header("x-token", TokenModeName::Bearer, &proxies).is_ok());
    assert!(matches!(header("x-token", TokenModeName::Bearer, &[]), Err(ConfigError::Conflict(_))));
    assert!(matches!(header("x-token", TokenModeName::Session, &proxies), Err(ConfigError::Conflict(_))));
    assert_eq!(token_header(None, TokenMode::Session, &[]).unwrap(), None);
}

#[test]
fn metadata_is_rewritten_only_where_the_public_url_is_no_issuer_yet() {
    let rewrite =
        |value: Option<bool>, mode: TokenModeName| rewrite_authority_metadata(value.unwrap_or_default(), mode.into());
    assert!(rewrite(Some(true), TokenModeName::Bearer).unwrap());
    for mode in [TokenModeName::Session, TokenModeName::Both] {
        assert!(matches!(rewrite(Some(true), mode), Err(ConfigError::Conflict(_))), "{mode:?}");
        assert!(!rewrite(Some(false), mode).unwrap());
        assert!(!rewrite(None, mode).unwrap());
    }
    assert!(!rewrite(None, TokenModeName::Bearer).unwrap());
}

#[test]
fn the_path_of_the_public_url_is_none_of_the_servers_own() {
    for path in ["", "/entra", "/mcp2", "/mcp/entra", "/tools/mcp", "/tokens"] {
        assert!(check_prefix("public-url", &format!("https://gw.example.com{path}")).is_ok(), "{path}");
    }
    for path in ["/mcp", "/sse", "/auth", "/auth/callback", "/token", "/healthz", "/.well-known", "/.well-known/x"] {
        let refused = check_prefix("public-url", &format!("https://gw.example.com{path}"));
        assert!(matches!(refused, Err(ConfigError::Invalid { name: "public-url", .. })), "{path}");
    }
}

#[test]
fn trusting_every_address_as_a_proxy_is_warned_about() {
    let advice = |text: &str| trust_advice(&["10.0.0.0/8".parse().unwrap(), text.parse().unwrap()]);
    assert!(advice("0.0.0.0/0").is_some_and(|advice| advice.contains("0.0.0.0/0")));
    assert!(advice("::/0").is_some());
    assert_eq!(advice("128.0.0.0/1"), None);
}
