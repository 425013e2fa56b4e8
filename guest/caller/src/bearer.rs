//! Clients that bring an access token which Entra ID has issued for us: who they are, and what they may have of
//! Microsoft Graph.
//!
//! The token is validated and goes no further. Microsoft Graph is asked with a token of our own, which Entra ID gives
//! in exchange (on-behalf-of): see [`graph`].

pub mod graph;

use std::rc::Rc;
use std::time::Duration;

use crate::audit;
use crate::environment::{AuditEvent, Environment, Outcome};
use crate::identity::Identity;
use crate::secret::Secret;
use crate::sign_in::SignInError;
use crate::token::{
    self, Principal, PrincipalKind, Requirements, TokenError, ValidatedToken, validate_access_token_with,
};

/// The operation of the rate limiter that counts refused tokens, by address, or by caller if they are genuine. Good ones
/// are never counted: many people may have one address.
const REFUSED_TOKEN: &str = "refused-token";
/// Header, claims and signature.
const PARTS: usize = 3;

/// A token that was accepted, and who it stands for.
#[derive(Debug, Clone)]
pub struct Bearer {
    validated: Rc<ValidatedToken>,
    token: Secret<String>,
}

impl Bearer {
    /// Who the token stands for.
    pub fn principal(&self) -> &Principal {
        self.validated.principal()
    }

    /// Who calls, with which client.
    pub fn identity(&self) -> Identity<'_> {
        let Principal { tenant_id, object_id, client_id, .. } = self.principal();
        Identity { tenant_id, object_id, client_id }
    }

    /// The token itself: to be exchanged at Entra ID, and to be looked at again. For nothing else.
    pub(crate) fn token(&self) -> &Secret<String> {
        &self.token
    }
}

/// Why nobody is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// What the validator says.
    Token(TokenError),
    /// It is a bad token, after too many others from the same address, or of the same caller. How long it takes until the next one is told why.
    TooMany(Duration),
}

/// Whether a token has the form of Entra's: three parts (RFC 7515 section 7.1). A session's has one.
pub fn looks_signed(token: &Secret<String>) -> bool {
    token.reveal().split('.').count() == PARTS
}

/// Accepts a token for us, or says why not. A person's has to carry the required scope; an application has none, and
/// what it may do follows from its roles. A refusal is recorded, as [`record_refusal`] says.
pub async fn authenticate(
    env: &Environment,
    token: Secret<String>,
    required_scope: &str,
    correlation_id: &str,
) -> Result<Bearer, Refused> {
    let validated = validate_access_token_with(env, token.reveal(), &Requirements::default(), None).await;
    let validated = validated.map_err(|error| refused(env, error, None, correlation_id))?;
    env.call.brings_token(validated.principal().token_id.as_deref());
    env.call.is_about_user(validated.username());
    let bearer = Bearer { validated, token };
    let Principal { kind, scopes, .. } = bearer.principal();
    if *kind == PrincipalKind::User && !scopes.iter().any(|scope| scope == required_scope) {
        let required = vec![required_scope.to_owned()];
        let error = TokenError::ScopesMissing { missing: required.clone(), required };
        return Err(refused(env, error, Some(bearer.identity()), correlation_id));
    }
    Ok(bearer)
}

/// Records that a token was accepted: once for each token and instance, because every use of it has records of its own.
pub fn record_acceptance(env: &Environment, bearer: &Bearer, correlation_id: &str) -> Result<(), SignInError> {
    if !bearer.validated.is_first_seen() {
        return Ok(());
    }
    let event = AuditEvent::new("token.accepted", Outcome::Success, correlation_id);
    audit::record(env, bearer.identity().attribute(event)).inspect_err(|_| {
        // The next use of it is a first one again.
        token::forget(&env.settings, bearer.token.reveal());
    })
}

/// Whether a token that was accepted before still is. What cannot be decided now says nothing against it.
pub async fn is_still_good(env: &Environment, token: &Secret<String>) -> bool {
    match validate_access_token_with(env, token.reveal(), &Requirements::default(), None).await {
        Ok(_) => true,
        Err(error) => !error.is_refusal(),
    }
}

fn refused(env: &Environment, error: TokenError, who: Option<Identity<'_>>, correlation_id: &str) -> Refused {
    // Where it could not be decided, nobody was refused. A genuine token that has expired is answered as ever: its client
    // has to renew it, whatever strangers at the same address send.
    if error.is_refusal()
        && let Err(after) = record_refusal(env, error.reason(), who, correlation_id)
        && !matches!(error, TokenError::Expired { .. })
    {
        return Refused::TooMany(after);
    }
    Refused::Token(error)
}

/// Records that a token was refused; who it stands for only if that is proven. A record that cannot be written changes
/// nothing: the token is refused anyway.
///
/// Too many from one address, or of one caller, have no records of their own, or a stranger could fill the files until the
/// records that matter are gone. An error says how long that lasts.
pub(crate) fn record_refusal(
    env: &Environment,
    reason: &str,
    who: Option<Identity<'_>>,
    correlation_id: &str,
) -> Result<(), Duration> {
    // Whose token is genuine answers for themselves: a flood from their address must not hide what they try.
    let subject = match &who {
        Some(Identity { tenant_id, object_id, .. }) => Some([*tenant_id, *object_id].join("/")),
        None => env.call.address(),
    };
    if let Some(subject) = subject {
        audit::admit(env, REFUSED_TOKEN, &subject, None)?;
    }
    let event = AuditEvent {
        reason: Some(reason.to_owned()),
        ..AuditEvent::new("token.refused", Outcome::Failure, correlation_id)
    };
    let _ = audit::record(env, if let Some(who) = who { who.attribute(event) } else { event });
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
