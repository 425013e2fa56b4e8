//! `http.forward-auth` of the document.

use serde::Deserialize;

use crate::settings::ForwardAuthSettings;

/// How a proxy asks whether it may let a request through.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ForwardAuthDocument {
    /// The server behind the proxy: the name of one of `servers`, of the kind `upstream`. Its path is the resource, and its
    /// rules and its identity hold. The component sees no bodies here, so only rules for all tools (`*`) are possible.
    server: String,
    /// SHA-256, as base64url without padding, of the secret that the proxy sends in `X-Entra-Mcp-Proxy-Secret`. The
    /// component answers requests without it as if `/auth` did not exist. Required if the identity of the server is
    /// `assertion` or `token`: a client that reaches `/auth` itself would get what is for the server only.
    #[serde(default)]
    secret_hash: Option<String>,
}

impl From<ForwardAuthDocument> for ForwardAuthSettings {
    fn from(from: ForwardAuthDocument) -> Self {
        let ForwardAuthDocument { server, secret_hash } = from;
        Self { server, secret_hash }
    }
}
