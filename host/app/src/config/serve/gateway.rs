//! Settings for a gateway in front of the server: its addresses, the headers that it adds to a request, and the path
//! under which it publishes the server.

use clap::ValueEnum;
use entra_mcp_plugin::environment::{ForwardAuthSettings, TokenMode};
use entra_mcp_server::ForwardedHeader;
use http::HeaderName;
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use url::Url;

use crate::config::setting::choices;
use crate::config::{ConfigError, invalid};
use crate::http_handler::CLIENT_ADDRESS_HEADER;

/// Bits of an IPv6 address before the IPv4 address that it stands for (RFC 4291 section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Paths of the server's own. A public URL with one of them for its path would be read in two ways by a gateway that
/// takes it off: the MCP endpoint of `https://gw.example.com/mcp` is `/mcp/mcp`, and `/mcp` without the prefix.
pub(in crate::config) const OWN_PATHS: [&str; 12] = [
    "/mcp",
    "/sse",
    "/message",
    "/authorize",
    "/auth",
    "/auth/callback",
    "/token",
    "/register",
    "/revoke",
    "/healthz",
    "/readyz",
    "/.well-known",
];

/// Characters of SHA-256 as base64url without padding.
const HASH_LENGTH: usize = 43;

/// The header in which a gateway says where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeaderName {
    /// What most gateways write.
    #[value(alias = "X-Forwarded-For")]
    #[serde(alias = "X-Forwarded-For")]
    XForwardedFor,
    /// RFC 7239.
    #[value(alias = "Forwarded")]
    #[serde(alias = "Forwarded")]
    Forwarded,
}

choices!(ForwardedHeaderName);

impl From<ForwardedHeaderName> for ForwardedHeader {
    fn from(name: ForwardedHeaderName) -> Self {
        match name {
            ForwardedHeaderName::XForwardedFor => Self::XForwardedFor,
            ForwardedHeaderName::Forwarded => Self::Forwarded,
        }
    }
}

/// Whether this is the form of a hash.
pub(super) fn check_hash(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.len() == HASH_LENGTH && text.bytes().all(plain) {
        return Ok(());
    }
    Err(invalid(name, "…", "SHA-256 as base64url without padding is expected: 43 characters"))
}

/// The answers to a proxy that asks.
pub(super) fn forward_auth(
    server: Option<String>,
    secret_hash: Option<String>,
) -> Result<Option<ForwardAuthSettings>, ConfigError> {
    match (server, secret_hash) {
        (Some(server), secret_hash) => Ok(Some(ForwardAuthSettings { server, secret_hash })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(ConfigError::Conflict(
            "forward-auth-secret-hash is set, and forward-auth is not: name the server behind the proxy".into(),
        )),
    }
}

/// Header fields that have a meaning of their own to HTTP, MCP or this server.
const RESERVED_HEADERS: [&str; 22] = [
    "accept",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "origin",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "x-forwarded-for",
    CLIENT_ADDRESS_HEADER,
];

/// The proxies that the server believes about the client's address.
pub(super) fn trusted_proxies(given: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    given.iter().map(|text| network(text)).collect()
}

fn network(text: &str) -> Result<IpNet, ConfigError> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    let expected = "an address or a network such as 10.0.0.0/8 is expected";
    let network = network.map_err(|_| invalid("trusted-proxy", text, expected))?;
    // Addresses are compared in their IPv4 form, if they have one.
    let mapped = match network {
        IpNet::V6(network) => network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(MAPPED_BITS)),
        IpNet::V4(_) => None,
    };
    match mapped {
        Some((address, bits)) => {
            let network = Ipv4Net::new(address, bits);
            network.map(IpNet::from).map_err(|_| invalid("trusted-proxy", text, expected))
        }
        None => Ok(network),
    }
}

/// The warning for an operator who declared every address a proxy.
pub(super) fn trust_advice(trusted_proxies: &[IpNet]) -> Option<String> {
    let all = trusted_proxies.iter().find(|network| network.prefix_len() == 0)?;
    Some(format!(
        "--trusted-proxy {all} believes every client about its own address: rate limits count, and audit records name, \
         whatever address a client invents. Name the addresses of the gateway"
    ))
}

/// The header in which a gateway hands over a token, in lower case.
pub(super) fn token_header(
    given: Option<&str>,
    mode: TokenMode,
    trusted_proxies: &[IpNet],
) -> Result<Option<HeaderName>, ConfigError> {
    let Some(text) = given else { return Ok(None) };
    const NAME: &str = "token-header";
    let expected = "the name of a header is expected that means nothing else, such as X-Forwarded-Access-Token";
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| invalid(NAME, text, expected))?;
    if RESERVED_HEADERS.contains(&name.as_str()) {
        return Err(invalid(NAME, text, expected));
    }
    if !matches!(mode, TokenMode::Bearer | TokenMode::Both) {
        return Err(ConfigError::Conflict(
            "--token-header hands over tokens of Entra ID, which the server accepts only with --token-mode bearer or \
             both"
                .into(),
        ));
    }
    if trusted_proxies.is_empty() {
        return Err(ConfigError::Conflict(
            "the server reads --token-header from declared proxies only, and none is declared: name the gateway with \
             --trusted-proxy"
                .into(),
        ));
    }
    Ok(Some(name))
}

/// Whether Entra ID's metadata is published under the public URL.
pub(super) fn rewrite_authority_metadata(rewrite: bool, mode: TokenMode) -> Result<bool, ConfigError> {
    match mode {
        TokenMode::Bearer => Ok(rewrite),
        _ if !rewrite => Ok(false),
        TokenMode::Both => Err(ConfigError::Conflict(
            "--rewrite-authority-metadata publishes Entra ID's metadata under the public URL, which with --token-mode \
             both is the issuer of this server's own authorization server: use --token-mode bearer, or leave it out"
                .into(),
        )),
        TokenMode::Session => Err(ConfigError::Conflict(
            "--rewrite-authority-metadata needs --token-mode bearer: with session, clients never ask Entra ID".into(),
        )),
    }
}

/// Refuses a public URL whose path could be confused with one of the server's own paths.
pub(super) fn check_prefix(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let path = Url::parse(text).map(|url| url.path().to_owned()).unwrap_or_default();
    if OWN_PATHS.contains(&path.as_str()) || path.starts_with("/.well-known/") {
        let expected = format!(
            "a path other than {path:?} is expected, which is a path of the server's own: the MCP endpoint is \
             {{public-url}}/mcp"
        );
        return Err(invalid(name, text, expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
