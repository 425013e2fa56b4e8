//! How a server behind the component learns who calls: header fields that only the component sets.
//!
//! Threat: a client sends these fields itself, and the server behind takes them for the truth. So whatever a client sends
//! under one of their names is removed, in each form that a server might read as that name (`super::fields`), also where the
//! server is told of no identity at all.
//!
//! The client's own token is never passed on. What `token` sets is another one, of Entra ID, for the server's own API.

mod assertion;
mod easy_auth;
mod error;
mod keys;

#[cfg(test)]
mod tests;

pub use error::IdentityError;
pub use keys::key_set;

use std::collections::BTreeMap;
use std::time::Duration;

use base::audit::{AuditEvent, Outcome};
use base::decision::Fact;
use base::policy::Target;
use base::principal::PrincipalKind;
use base::settings::{ServerIdentity, ServerSettings, Settings};
use caller::Caller;
use caller::session::Unconfirmed;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use world::provided_tools::ToolCaller;

use super::callers::tool_caller;
use crate::server_world::ServerWorld;

/// The token of [`ServerIdentity::Assertion`].
pub const ASSERTION: HeaderName = HeaderName::from_static("x-entra-mcp-assertion");

/// How long an assertion is good for: as long as a request may take to arrive.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);

/// The fields that tell of an identity, in any form. A proxy that asks the component clears them all.
pub const NAMES: [HeaderName; 10] = [
    AUTHORIZATION,
    easy_auth::PRINCIPAL,
    easy_auth::ID,
    easy_auth::NAME,
    easy_auth::PROVIDER,
    HeaderName::from_static("x-ms-token-aad-access-token"),
    HeaderName::from_static("x-ms-token-aad-id-token"),
    HeaderName::from_static("x-ms-token-aad-refresh-token"),
    HeaderName::from_static("x-ms-token-aad-expires-on"),
    ASSERTION,
];

/// The request that goes on to a server behind.
#[derive(Clone, Copy)]
pub struct Addressed<'a> {
    /// Gets tokens in the caller's name.
    pub caller: &'a dyn Caller,
    /// The method of the MCP message, if the request carries one.
    pub method: Option<&'a str>,
    /// The tool that is called, if one is.
    pub tool: Option<&'a str>,
    /// The whole body; `None` if it is not known.
    pub body: Option<&'a [u8]>,
}

/// The caller as `server` learns of it. A server that is told of roles may decide by them, so they are not older than those
/// that rules go by.
pub async fn told_of(
    env: &ServerWorld<'_>,
    server: &ServerSettings,
    caller: &dyn Caller,
) -> Result<ToolCaller, IdentityError> {
    let told = tool_caller(env.entra.trail, caller);
    let has_roles = match &server.identity {
        ServerIdentity::None | ServerIdentity::Token { .. } => false,
        ServerIdentity::EasyAuth | ServerIdentity::Assertion { .. } => true,
    };
    match caller.facts().map(|facts| facts.roles) {
        Some(Fact::Unknown | Fact::Unavailable(_)) if has_roles => match caller.confirm().await {
            Ok(membership) => Ok(ToolCaller { roles: membership.roles, ..told }),
            Err(Unconfirmed::Ended) => Err(IdentityError::SignInAgain),
            Err(Unconfirmed::Unavailable { retry_at, .. }) => {
                let now = env.entra.clock.now();
                Err(IdentityError::Unavailable { retry_after: retry_at.map(|at| at.saturating_sub(now).max(1)) })
            }
        },
        Some(_) => Ok(told),
        // The person at this machine is no caller of a server behind.
        None => Err(IdentityError::SignInAgain),
    }
}

/// Records that a request does not go on, because the server cannot be told who calls. It is refused whether or not that can
/// be recorded.
pub(crate) async fn record_refusal(
    env: &ServerWorld<'_>,
    caller: &dyn Caller,
    target: &Target<'_>,
    error: &IdentityError,
) {
    let event = AuditEvent::new("tool.denied", Outcome::Failure).because(error.reason().to_owned()).about(target);
    let event = caller.identity().iter().fold(event, |event, who| who.attribute(event));
    let _ = env.entra.trail.record(event).await;
}

/// The fields that tell `server` of the caller. All of its form, or an error: never some of them.
pub async fn headers(
    env: &ServerWorld<'_>,
    server: &ServerSettings,
    caller: &ToolCaller,
    request: &Addressed<'_>,
) -> Result<HeaderMap, IdentityError> {
    match &server.identity {
        ServerIdentity::None => Ok(HeaderMap::new()),
        ServerIdentity::EasyAuth => easy_auth::headers(caller),
        ServerIdentity::Assertion { audience } => {
            let assertion = assertion::sign(env, (&server.name, audience), caller, request).await?;
            Ok(HeaderMap::from_iter([(ASSERTION, sensitive(assertion.reveal())?)]))
        }
        ServerIdentity::Token { permissions } => {
            if caller.kind == PrincipalKind::App {
                return Err(IdentityError::NoUser);
            }
            // Entra ID takes several permissions of one resource in one request.
            let token = request.caller.delegated(&permissions.join(" "), None).await;
            let token =
                token.map_err(|error| IdentityError::of(&error, request.caller.kind(), env.entra.clock.now()))?;
            Ok(HeaderMap::from_iter([(AUTHORIZATION, sensitive(&["Bearer ", token.reveal()].concat())?)]))
        }
    }
}

fn sensitive(value: &str) -> Result<HeaderValue, IdentityError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| IdentityError::Unavailable { retry_after: None })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether assertions are signed, and with them keys published.
pub fn signs(settings: &Settings) -> bool {
    settings.servers.iter().any(|server| matches!(server.identity, ServerIdentity::Assertion { .. }))
}

/// What an operator has to correct: sentences.
pub fn problems(settings: &Settings) -> Vec<String> {
    settings.servers.iter().filter_map(problem).chain(shared_audiences(settings)).collect()
}

/// An assertion for one of them would be one for the other.
fn shared_audiences(settings: &Settings) -> Vec<String> {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for server in &settings.servers {
        let ServerIdentity::Assertion { audience } = &server.identity else { continue };
        let name = server.name.as_str();
        if let Some(other) = known.insert(audience, name).filter(|_| !audience.is_empty()) {
            problems.push(format!(
                "the servers {other:?} and {name:?} have the same audience {audience:?}, so that each could send assertions on \
                 to the other: give each server an `audience` of its own"
            ));
        }
    }
    problems
}

fn problem(server: &ServerSettings) -> Option<String> {
    let name = &server.name;
    match &server.identity {
        ServerIdentity::Assertion { audience } if audience.is_empty() => {
            Some(format!("the server {name:?} has the identity `assertion` and no audience: name the one it accepts"))
        }
        ServerIdentity::None
        | ServerIdentity::EasyAuth
        | ServerIdentity::Assertion { .. }
        | ServerIdentity::Token { .. } => None,
    }
}
