//! A token without asking anybody: from the cache, else by the refresh token.

use std::time::Duration;

use super::SignInError;
use super::accounts::{self, Account};
use crate::audit;
use crate::environment::{Environment, Outcome};
use crate::oauth::{OAuthError, TokenSet, refresh};
use crate::secret::Secret;
use crate::single_flight::Lease;

/// A token that expires sooner than this is refreshed first.
const EXPIRY_MARGIN_SECONDS: u64 = 300;
/// Added at random to the margin, so that many clients do not refresh in the same second.
const EXPIRY_JITTER_SECONDS: u64 = 30;
/// How long one call may hold the right to refresh. Longer than a slow refresh takes.
pub(crate) const LEASE: Duration = Duration::from_secs(70);
/// A call that waited this long for another one's refresh does its own: two refreshes do no harm.
pub(crate) const LEASE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at another call's refresh.
pub(crate) const LEASE_POLL: Duration = Duration::from_millis(100);

/// A token for a downstream API.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// Opaque.
    pub token: Secret<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// Whose it is.
    pub account: Account,
}

/// A token that the API refused, and the claims challenge it came back with.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// The refused token: whatever else is in the cache may be used.
    pub refused: Secret<String>,
    /// The challenge, as JSON. Absent when the API gave none.
    pub claims: Option<String>,
}

/// Returns a token for `scopes`. With a challenge, the refused token is not returned again.
pub async fn acquire(
    env: &Environment,
    account: &Account,
    scopes: &[String],
    challenge: Option<&Challenge>,
    correlation_id: &str,
) -> Result<AccessToken, SignInError> {
    let id = &account.home_account_id;
    let began = env.clock.monotonic();
    let lease_record = accounts::record(env, &format!("refreshing/{id}"));
    loop {
        let tokens = accounts::tokens(env, id)?;
        let cached = tokens
            .access
            .get(&accounts::scope_key(scopes))
            .filter(|cached| challenge.is_none_or(|challenge| challenge.refused.reveal() != cached.token.reveal()));
        let found = |cached: &accounts::CachedAccessToken| AccessToken {
            token: cached.token.clone(),
            expires_at: cached.expires_at,
            account: account.clone(),
        };
        if let Some(cached) = cached.filter(|cached| cached.expires_at > env.clock.now() + margin(env)) {
            return Ok(found(cached));
        }
        let Some(refresh_token) = &tokens.refresh_token else {
            return Err(SignInError::InteractionRequired {
                reason: "The session has ended: sign in again.".to_owned(),
                claims: challenge.and_then(|challenge| challenge.claims.clone()),
            });
        };
        let lease = Lease::take(env, &lease_record, LEASE)?;
        if lease.is_none() && env.clock.monotonic().saturating_sub(began) < LEASE_PATIENCE {
            env.clock.sleep(LEASE_POLL).await;
            continue;
        }
        // Another call may have refreshed between our look and our lease.
        if lease.is_some() && !accounts::tokens(env, id)?.has(refresh_token) {
            lease.into_iter().for_each(Lease::release);
            continue;
        }
        let refreshed = refresh(env, account, scopes, refresh_token, challenge, correlation_id).await;
        lease.into_iter().for_each(Lease::release);
        return match refreshed {
            Ok(Some(token)) => Ok(token),
            // Somebody has signed in, or refreshed, while Entra refused the token that we had.
            Ok(None) => continue,
            // Entra is out of reach, but the token at hand is still good for a while.
            Err(error) if !matches!(error, SignInError::InteractionRequired { .. } | SignInError::Audit) => {
                cached.filter(|cached| cached.expires_at > env.clock.now()).map(found).ok_or(error)
            }
            Err(error) => Err(error),
        };
    }
}

/// Uses the refresh token, and stores what comes back. `None` if Entra refused it and there is another one now.
async fn refresh(
    env: &Environment,
    account: &Account,
    scopes: &[String],
    refresh_token: &Secret<String>,
    challenge: Option<&Challenge>,
    correlation_id: &str,
) -> Result<Option<AccessToken>, SignInError> {
    let id = &account.home_account_id;
    let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
    match refresh::refresh(env, refresh_token, scopes, claims).await {
        Ok(set) => {
            audit::record(env, audit::account_event("token.refreshed", Outcome::Success, account, correlation_id))?;
            accounts::put_refreshed(env, id, scopes, refresh_token, &set)?;
            let TokenSet { access_token: token, expires_at, .. } = set;
            Ok(Some(AccessToken { token, expires_at, account: account.clone() }))
        }
        Err(OAuthError::Refused(refusal)) if refusal.needs_interaction() => {
            let event = audit::account_event("token.refreshed", Outcome::Failure, account, correlation_id);
            audit::record(env, audit::because(event, refusal.reason()))?;
            let now = accounts::tokens(env, id)?;
            if now.refresh_token.is_some() && !now.has(refresh_token) {
                return Ok(None);
            }
            accounts::forget_refresh_token(env, id, refresh_token)?;
            Err(SignInError::InteractionRequired {
                reason: refusal.advice(),
                claims: refusal.claims.or_else(|| claims.map(str::to_owned)),
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// How long before its end a token is refreshed, in seconds.
pub(crate) fn margin(env: &Environment) -> u64 {
    let mut byte = [0];
    env.random.fill(&mut byte);
    EXPIRY_MARGIN_SECONDS + u64::from(byte[0]) * EXPIRY_JITTER_SECONDS / 256
}
