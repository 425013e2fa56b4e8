//! Clients that bring an access token which Entra ID has issued for this server: the principal of the token, and tokens
//! for Microsoft Graph on its behalf.
//!
//! The token is validated and goes no further. Microsoft Graph is asked with a token of the server's own, which Entra
//! ID gives in exchange (on-behalf-of): see [`graph`].

pub mod graph;

use std::rc::Rc;
use std::time::Duration;

use base::audit::{AuditEvent, Outcome};
use base::principal::{Principal, PrincipalKind};
use base::{Identity, Secret};
use entra::token::{Requirements, TokenError, ValidatedToken, validate_access_token_with};
use entra::{EntraWorld, token};
use world::{RateLimiter, Trail, Unrecorded, limits};

/// The operation of the rate limiter that counts refused tokens, by address, or by caller if they are genuine. Good ones
/// are never counted: many people may have one address.
const REFUSED_TOKEN: &str = "refused-token";
/// Header, claims and signature.
const PARTS: usize = 3;

/// A token that was accepted, and its principal.
#[derive(Debug, Clone)]
pub struct Bearer {
    validated: Rc<ValidatedToken>,
    token: Secret<String>,
}

impl Bearer {
    /// The principal of the token.
    pub fn principal(&self) -> &Principal {
        self.validated.principal()
    }

    /// The caller and its client.
    pub fn identity(&self) -> Identity<'_> {
        let Principal { tenant_id, object_id, client_id, .. } = self.principal();
        Identity { tenant_id, object_id, client_id }
    }

    /// The token itself: to be exchanged at Entra ID, and to be looked at again. For nothing else.
    pub fn token(&self) -> &Secret<String> {
        &self.token
    }
}

/// Why the caller is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedBearer {
    /// What the validator says.
    Token(TokenError),
    /// The token is bad, after too many other bad tokens from the same address, or of the same caller. Holds the time
    /// until the server tells the reason for the next one.
    TooMany(Duration),
}

/// Whether a token has the form of a token of Entra ID: three parts (RFC 7515 section 7.1). A session's token has one
/// part.
pub fn looks_signed(token: &Secret<String>) -> bool {
    token.reveal().split('.').count() == PARTS
}

/// Accepts a token for this server, or says why not. A person's has to carry the required scope; an application has
/// none, and what it may do follows from its roles. A refusal is recorded, as [`record_refusal`] says.
pub async fn authenticate(
    env: &EntraWorld<'_>,
    limiter: &dyn RateLimiter,
    token: Secret<String>,
    required_scope: &str,
) -> Result<Bearer, RefusedBearer> {
    let validated = validate_access_token_with(env, token.reveal(), &Requirements::default(), None).await;
    let validated = match validated {
        Ok(validated) => validated,
        Err(error) => return Err(refused(env.trail, limiter, error, None).await),
    };
    env.trail.set_token(validated.principal().token_id.as_deref());
    env.trail.set_user(validated.username());
    env.trail.set_agent(validated.agent());
    let bearer = Bearer { validated, token };
    let Principal { kind, scopes, .. } = bearer.principal();
    if *kind == PrincipalKind::User && !scopes.iter().any(|scope| scope == required_scope) {
        let required = vec![required_scope.to_owned()];
        let error = TokenError::ScopesMissing { missing: required.clone(), required };
        return Err(refused(env.trail, limiter, error, Some(bearer.identity())).await);
    }
    Ok(bearer)
}

/// Records that a token was accepted: once for each token and instance, because every use of it has records of its own.
pub async fn record_acceptance(env: &EntraWorld<'_>, bearer: &Bearer) -> Result<(), Unrecorded> {
    if !bearer.validated.is_first_seen() {
        return Ok(());
    }
    let event = AuditEvent::new("token.accepted", Outcome::Success);
    let recorded = env.trail.record(bearer.identity().attribute(event)).await;
    if recorded.is_err() {
        // The next use of it is a first one again.
        token::forget(env.settings, bearer.token.reveal());
    }
    recorded
}

/// Accepts a token again that was accepted in an earlier call. Nothing is recorded.
pub async fn again(env: &EntraWorld<'_>, token: Secret<String>) -> Result<Bearer, TokenError> {
    let validated = validate_access_token_with(env, token.reveal(), &Requirements::default(), None).await?;
    Ok(Bearer { validated, token })
}

/// Whether a token that was accepted before still is. What cannot be decided now says nothing against it.
pub async fn is_still_good(env: &EntraWorld<'_>, token: &Secret<String>) -> bool {
    match validate_access_token_with(env, token.reveal(), &Requirements::default(), None).await {
        Ok(_) => true,
        Err(error) => !error.is_refusal(),
    }
}

async fn refused(
    trail: &Trail<'_>,
    limiter: &dyn RateLimiter,
    error: TokenError,
    who: Option<Identity<'_>>,
) -> RefusedBearer {
    // An undecided validation refuses no caller. An expired genuine token always gets its usual answer: its client has
    // to renew it, whatever strangers at the same address send.
    if error.is_refusal()
        && let Err(after) = record_refusal(trail, limiter, error.reason(), who).await
        && !matches!(error, TokenError::Expired { .. })
    {
        return RefusedBearer::TooMany(after);
    }
    RefusedBearer::Token(error)
}

/// Records that a token was refused; its principal only if that is proven. A record that cannot be written changes
/// nothing: the token is refused anyway.
///
/// Too many from one address, or of one caller, have no records of their own, or a stranger could fill the files until the
/// records that matter are gone. An error says how long that lasts.
pub async fn record_refusal(
    trail: &Trail<'_>,
    limiter: &dyn RateLimiter,
    reason: &str,
    who: Option<Identity<'_>>,
) -> Result<(), Duration> {
    // A caller with a genuine token has a count of its own: a flood from the caller's address must not hide its
    // attempts.
    let subject = match &who {
        Some(who) => Some(who.principal()),
        None => trail.address(),
    };
    if let Some(subject) = subject {
        limits::admit(limiter, trail, REFUSED_TOKEN, &subject, None).await?;
    }
    let event = AuditEvent::new("token.refused", Outcome::Failure).because(reason.to_owned());
    let _ = trail.record(if let Some(who) = who { who.attribute(event) } else { event }).await;
    Ok(())
}

#[cfg(test)]
mod tests;
