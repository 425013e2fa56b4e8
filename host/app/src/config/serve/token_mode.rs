//! Which access tokens the remote server admits.

use clap::ValueEnum;
use entra_mcp_plugin::environment::TokenMode;
use serde::Deserialize;
use url::Url;

use crate::config::{ConfigError, invalid};

/// The delegated permission, unless set otherwise: what Microsoft's documentation calls the one of an API.
pub(super) const DEFAULT_SCOPE: &str = "access_as_user";

/// Characters of the longest name of a permission.
const MAX_SCOPE: usize = 120;

/// Kinds of access tokens that the server admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenModeName {
    /// Those of sessions: clients sign people in at this server, which is their authorization server.
    Session,
    /// Those that clients get from Entra ID themselves.
    Bearer,
    /// Both.
    Both,
}

impl From<TokenModeName> for TokenMode {
    fn from(name: TokenModeName) -> Self {
        match name {
            TokenModeName::Session => Self::Session,
            TokenModeName::Bearer => Self::Bearer,
            TokenModeName::Both => Self::Both,
        }
    }
}

/// It becomes part of scopes, which are separated by spaces and quoted in challenges.
pub(super) fn check_app_id_uri(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    match Url::parse(text) {
        Ok(url) if plain && url.query().is_none() && url.fragment().is_none() => Ok(()),
        _ => Err(invalid(name, text, "a URI is expected, such as https://mcp.example.com/mcp or api://mcp")),
    }
}

/// Entra ID's own rule for the name of a permission.
pub(in crate::config) fn check_scope(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if !text.is_empty() && text.len() <= MAX_SCOPE && text.bytes().all(plain) {
        return Ok(());
    }
    let expected = "the short name of one permission is expected, such as access_as_user";
    Err(invalid(name, text, expected))
}
