//! A token without asking anybody: from the cache, else by the refresh token.

use base::Secret;
use base::audit::Outcome;
use entra::EntraWorld;
use entra::graph::Challenge;
use entra::oauth::{OAuthError, TokenSet, refresh};
use world::single_flight::Lease;

use super::SignInError;
use super::accounts::{self, Account};
use crate::renewal::{LEASE, LEASE_PATIENCE, LEASE_POLL, margin};

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

/// Returns a token for `scopes`. With a challenge, the refused token is not returned again.
pub async fn acquire(
    env: &EntraWorld<'_>,
    account: &Account,
    scopes: &[String],
    challenge: Option<&Challenge>,
) -> Result<AccessToken, SignInError> {
    let id = &account.home_account_id;
    let began = env.clock.monotonic();
    let lease_record = env.settings.record(&format!("refreshing/{id}"));
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
        if let Some(cached) = cached.filter(|cached| cached.expires_at > env.clock.now() + margin(env.random)) {
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
        let refreshed = refresh(env, account, scopes, refresh_token, challenge).await;
        lease.into_iter().for_each(Lease::release);
        return match refreshed {
            Ok(Some(token)) => Ok(token),
            // Somebody has signed in, or refreshed, while Entra refused the token that we had.
            Ok(None) => continue,
            // Entra is out of reach, but the token at hand is still good for a while.
            Err(error) if !matches!(error, SignInError::InteractionRequired { .. } | SignInError::Unrecorded(_)) => {
                cached.filter(|cached| cached.expires_at > env.clock.now()).map(found).ok_or(error)
            }
            Err(error) => Err(error),
        };
    }
}

/// Uses the refresh token, and stores what comes back. `None` if Entra refused it and there is another one now.
async fn refresh(
    env: &EntraWorld<'_>,
    account: &Account,
    scopes: &[String],
    refresh_token: &Secret<String>,
    challenge: Option<&Challenge>,
) -> Result<Option<AccessToken>, SignInError> {
    let id = &account.home_account_id;
    let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
    match refresh::refresh(env, refresh_token, scopes, claims).await {
        Ok(set) => {
            env.trail.record(account.event("token.refreshed", Outcome::Success))?;
            accounts::put_refreshed(env, id, scopes, refresh_token, &set)?;
            let TokenSet { access_token: token, expires_at, .. } = set;
            Ok(Some(AccessToken { token, expires_at, account: account.clone() }))
        }
        Err(OAuthError::Refused(refusal)) if refusal.needs_interaction() => {
            let event = account.event("token.refreshed", Outcome::Failure);
            env.trail.record(event.because(refusal.reason()))?;
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
