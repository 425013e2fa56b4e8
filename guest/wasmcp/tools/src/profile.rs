//! How the person who calls is called and reached, from Microsoft Graph, in the person's name.
//!
//! Threat: what is handed in as the caller's token was judged by another component, or by none. So it is judged here, and
//! exchanged at Entra ID: Graph never sees it.

use std::time::Duration;

use base::Secret;
use base::principal::CallerKind;
use caller::bearer::{self, Bearer, RefusedBearer, graph};
use entra::EntraWorld;
use entra::graph::profile::{self, profile_scope};
use entra::token::TokenError;
use world::RateLimiter;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A code, for the log.
    pub reason: String,
    /// What the caller may know.
    pub told: String,
}

impl Failure {
    /// Of a token.
    pub fn of_token(error: &TokenError) -> Self {
        Self { reason: error.reason().to_owned(), told: error.public_text().to_owned() }
    }
}

/// Bounds are for a host that knows the addresses of clients: wasmcp's interfaces name none that can be relied on.
struct NoLimit;

impl RateLimiter for NoLimit {
    fn admit(&self, _: &str, _: &str) -> Result<(), Duration> {
        Ok(())
    }
}

/// The answer of the tool, as JSON. Only people call it: it is about the person who calls.
pub async fn read(env: &EntraWorld<'_>, token: Secret<String>, required_scope: &str) -> Result<String, Failure> {
    let bearer = admit(env, token, required_scope).await.map_err(|error| Failure::of_token(&error))?;
    let tokens = graph::tokens(env, &bearer, profile_scope(env.settings));
    let answer = profile::contact(env, bearer.identity(), &tokens).await;
    answer.map_err(|error| Failure { reason: error.reason(), told: error.public() })
}

async fn admit(env: &EntraWorld<'_>, token: Secret<String>, required_scope: &str) -> Result<Bearer, TokenError> {
    let bearer = match bearer::authenticate(env, &NoLimit, token, required_scope).await {
        Ok(bearer) => bearer,
        Err(RefusedBearer::Token(error)) => return Err(error),
        // Not without a bound.
        Err(RefusedBearer::TooMany(_)) => return Err(TokenError::NoPermissions),
    };
    match bearer.principal().caller_kind() {
        CallerKind::User => Ok(bearer),
        actual => Err(TokenError::PrincipalKindMismatch { required: CallerKind::User, actual }),
    }
}
