//! Tokens are renewed before a call has to wait for that.
//!
//! A host that runs for long asks for it again and again. Of several processes that share the store, one renews a token.
//! What no call has asked for since it was renewed, or since it ended, is left to the call that does.

use std::time::Duration;

use world::{BodyOnce, StoreError};

use super::accounts::{self, Account};
use super::{PersonWorld, SignInError, broker, silent};
use crate::renewal::margin;

/// The longest pause: another process may sign in meanwhile.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The pause after a renewal that failed, in which Entra ID or the store may come back.
pub const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Renews the tokens that end within some five minutes. Returns how long there is nothing to do then.
#[inline(never)]
pub fn renew<'f>(person: &'f PersonWorld<'_>) -> BodyOnce<'f, Result<Duration, StoreError>> {
    Box::pin(async move {
        let mut pause = MAX_PAUSE;
        for account in accounts::list(&person.entra.records).await? {
            pause = pause.min(renew_account(person, &account).await?);
        }
        Ok(pause)
    })
}

async fn renew_account(person: &PersonWorld<'_>, account: &Account) -> Result<Duration, StoreError> {
    let env = &person.entra;
    let (mut pause, margin) = (MAX_PAUSE, margin(env.random));
    let tokens = accounts::tokens(&env.records, &account.home_account_id).await?;
    if tokens.refresh_token.is_none() && !(tokens.by_broker && broker::is_used(person)) {
        return Ok(pause);
    }
    for (scopes, cached) in &tokens.access {
        let left = cached.expires_at.saturating_sub(env.clock.now());
        if left == 0 || !cached.asked_for {
            continue;
        }
        if left > margin {
            pause = pause.min(Duration::from_secs(left - margin));
            continue;
        }
        let scopes: Vec<String> = scopes.split(' ').map(str::to_owned).collect();
        // The audit record says why it fails; the call that needs the token hears of it.
        let renewed = silent::ahead_of_calls(person, account, &scopes, margin).await;
        if matches!(renewed, Err(SignInError::InteractionRequired { .. })) {
            accounts::note_asked_for(&env.records, &account.home_account_id, &scopes, false).await?;
            continue;
        }
        let lives = renewed.is_ok_and(|token| token.expires_at > env.clock.now() + margin);
        if !lives {
            pause = pause.min(PAUSE_AFTER_FAILURE);
        }
    }
    Ok(pause)
}
