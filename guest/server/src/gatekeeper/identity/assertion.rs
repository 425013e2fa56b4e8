//! The token that says who calls, for one request to one server: a JWT (RFC 7519) signed with ES256.
//!
//! It is good for a minute and for one audience, and names what was admitted: the method, the tool, and the digest of the
//! body. A server that checks these cannot be sent another request under it.

use base::Secret;
use base::encoding::{base64url, digest};
use base::principal::PrincipalKind;
use serde::Serialize;
use world::StoreError;
use world::provided_tools::ToolCaller;
use world::random::random_token;

use super::{ASSERTION_LIFETIME, Addressed, keys};
use crate::server_world::ServerWorld;

/// What keeps it apart from every other JWT (RFC 8725 section 3.11).
const TYPE: &str = "entra-mcp-assertion+jwt";

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    /// The server behind, by its name in the settings.
    server: &'a str,
    /// Tenant and object: stable for all clients and applications.
    sub: String,
    tid: &'a str,
    oid: &'a str,
    /// The client.
    azp: &'a str,
    /// `user` or `app`.
    idtyp: &'static str,
    /// Whether an AI agent calls, also on behalf of a person.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    agent: bool,
    /// Short forms, separated by spaces; none of an application.
    #[serde(skip_serializing_if = "String::is_empty")]
    scp: String,
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    /// SHA-256 of the body, as base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_sha256: Option<String>,
    /// As in the logs and audit records of this server.
    correlation_id: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
}

/// Signs an assertion for a server, by its name, and its audience.
pub(super) async fn sign(
    env: &ServerWorld<'_>,
    (server, audience): (&str, &str),
    caller: &ToolCaller,
    request: &Addressed<'_>,
) -> Result<Secret<String>, StoreError> {
    let now = env.entra.clock.now();
    let claims = Claims {
        iss: &env.site.settings.public_url,
        aud: audience,
        server,
        sub: [caller.tenant_id.as_str(), &caller.object_id].join("/"),
        tid: &caller.tenant_id,
        oid: &caller.object_id,
        azp: &caller.client_id,
        idtyp: match caller.kind {
            PrincipalKind::User => "user",
            PrincipalKind::App => "app",
        },
        agent: caller.agent,
        scp: caller.scopes.join(" "),
        roles: &caller.roles,
        mcp_method: request.method,
        tool: request.tool,
        body_sha256: request.body.map(digest),
        correlation_id: &caller.correlation_id,
        iat: now,
        exp: now + ASSERTION_LIFETIME.as_secs(),
        jti: random_token(env.entra.random),
    };
    let signer = keys::signer(&env.entra).await?;
    let header = Header { alg: "ES256", kid: &signer.key_id, typ: TYPE };
    let part =
        |json: Result<Vec<u8>, serde_json::Error>| json.map(|json| base64url(&json)).map_err(|_| StoreError::TooLarge);
    let signed = [part(serde_json::to_vec(&header))?, part(serde_json::to_vec(&claims))?].join(".");
    let signature = signer.sign(signed.as_bytes());
    Ok(Secret::new([signed, signature].join(".")))
}
