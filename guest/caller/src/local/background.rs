//! Tokens are renewed before a call has to wait for that.
//!
//! A host that runs for long asks for it again and again. Of several processes that share the store, one renews a token.
//! What nothing has asked for since it ended is left to the call that does.

use std::time::Duration;

use entra::EntraWorld;
use world::StoreError;

use super::accounts::{self, Account};
use super::silent;
use crate::renewal::margin;

/// The longest pause: another process may sign in meanwhile.
pub const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The pause after a renewal that failed, in which Entra ID may come back.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Renews the tokens that end within some five minutes. Returns how long there is nothing to do then.
pub async fn renew(env: &EntraWorld<'_>) -> Result<Duration, StoreError> {
    let mut pause = MAX_PAUSE;
    for account in accounts::list(env).await? {
        pause = pause.min(renew_account(env, &account).await?);
    }
    Ok(pause)
}

async fn renew_account(env: &EntraWorld<'_>, account: &Account) -> Result<Duration, StoreError> {
    let (mut pause, margin) = (MAX_PAUSE, margin(env.random));
    let tokens = accounts::tokens(env, &account.home_account_id).await?;
    if tokens.refresh_token.is_none() {
        return Ok(pause);
    }
    for (scopes, cached) in &tokens.access {
        let left = cached.expires_at.saturating_sub(env.clock.now());
        if left == 0 {
            continue;
        }
        if left > margin {
            pause = pause.min(Duration::from_secs(left - margin));
            continue;
        }
        let scopes: Vec<String> = scopes.split(' ').map(str::to_owned).collect();
        // The audit record says why it fails; the call that needs the token hears of it.
        let renewed = silent::with_margin(env, account, &scopes, None, margin).await;
        let lives = renewed.is_ok_and(|token| token.expires_at > env.clock.now() + margin);
        if !lives {
            pause = pause.min(PAUSE_AFTER_FAILURE);
        }
    }
    Ok(pause)
}
