//! Authorization codes (RFC 6749 section 4.1.2): what a client gets by way of the browser, and exchanges once.
//!
//! A code's record outlives its use. Whoever presents it again has stolen it, or was stolen from, and nobody can say
//! which: what it gave is taken back (RFC 6749 section 10.5). All changes of the record are compare-and-swap, so two
//! uses at once are seen for what they are.

use std::time::Duration;

use base::Secret;
use base::encoding::digest;
use caller::session::Owner;
use caller::session::entra_tokens::EntraTokens;
use serde::{Deserialize, Serialize};
use world::StoreError;
use world::random::random_token;
use zeroize::Zeroizing;

use crate::server_world::ServerWorld;

#[cfg(test)]
mod tests;

/// How long a code may be exchanged. Clients do it at once; RFC 6749 section 4.1.2 allows ten minutes at most.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long a use is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// How far the clocks of two servers may be apart, in seconds.
const CLOCK_DIFFERENCE_SECONDS: u64 = 60;
/// How often a code is looked at that changes at the same moment. It changes three times at most in a use.
const MAX_LOOKS: usize = 8;
/// The longest code that can be one of ours, in characters.
const MAX_LENGTH: usize = 64;

/// What a code stands for, and what it is bound to.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Grant {
    pub(super) owner: Owner,
    /// As the client sent it; none if it did not.
    pub(super) redirect_uri: Option<String>,
    pub(super) code_challenge: String,
    pub(super) resource: String,
    pub(super) scopes: Vec<String>,
    pub(super) tokens: EntraTokens,
    /// Kept only if audit records name people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    /// Unix time in seconds.
    pub(super) expires_at: u64,
}

#[derive(Clone, Serialize, Deserialize)]
enum State {
    /// Nobody has used it.
    Given(Box<Grant>),
    /// Somebody uses it now.
    InUse(Owner),
    /// It became this session.
    Used { session: String, owner: Owner },
    /// It was presented again while it was in use.
    Replayed,
}

/// Gives a code for `grant`.
pub(super) fn give(env: &ServerWorld<'_>, mut grant: Grant) -> Result<Secret<String>, StoreError> {
    grant.expires_at = env.entra.clock.now() + LIFETIME.as_secs();
    let code = Secret::new(random_token(env.entra.random));
    let bytes = bytes(&State::Given(Box::new(grant)))?;
    // Nobody has this record: the code is 256 random bits.
    env.entra.store.put(&name(env, code.reveal()), &bytes, Some(LIFETIME))?;
    Ok(code)
}

/// What a presented code turned out to be.
pub(super) enum Presented {
    /// Good, and not used so far.
    Good(Box<GoodCode>),
    /// It became this session, which has to end.
    Replayed { session: String, owner: Owner },
    /// Unknown, expired, or just being used.
    Unknown,
}

/// A code that may be used.
pub(super) struct GoodCode {
    pub(super) grant: Grant,
    name: String,
    raw: Secret<Vec<u8>>,
}

/// Looks at a code that `client_id` presents. A client that it was not given to cannot spoil it for the one it was.
pub(super) fn present(env: &ServerWorld<'_>, code: &str, client_id: &str) -> Result<Presented, StoreError> {
    if code.len() > MAX_LENGTH {
        return Ok(Presented::Unknown);
    }
    let name = name(env, code);
    for _ in 0..MAX_LOOKS {
        let raw = match env.entra.store.get(&name) {
            Ok(Some(raw)) => raw,
            Ok(None) | Err(StoreError::Unreadable) => return Ok(Presented::Unknown),
            Err(error) => return Err(error),
        };
        return Ok(match serde_json::from_slice(raw.reveal()) {
            Ok(State::Given(grant)) if grant.is_current(env.entra.clock.now()) => {
                Presented::Good(Box::new(GoodCode { grant: *grant, name, raw }))
            }
            Ok(State::InUse(owner)) if owner.client_id == client_id => {
                let replayed = bytes(&State::Replayed)?;
                if !env.entra.store.compare_and_swap(&name, Some(raw.reveal()), &replayed, Some(MEMORY))? {
                    // That use has ended in this moment: what became of it is seen now.
                    continue;
                }
                Presented::Unknown
            }
            Ok(State::Used { session, owner }) if owner.client_id == client_id => {
                Presented::Replayed { session, owner }
            }
            _ => Presented::Unknown,
        });
    }
    Err(StoreError::Unavailable("the code is changed all the time by others".to_owned()))
}

impl Grant {
    /// Whether the code may be exchanged. One that seems to live longer than any is given was given before the clock
    /// was set back, and how much of its time has passed cannot be said.
    fn is_current(&self, now: u64) -> bool {
        now < self.expires_at && self.expires_at <= now + LIFETIME.as_secs() + CLOCK_DIFFERENCE_SECONDS
    }
}

impl GoodCode {
    /// Claims the code; false if somebody else was faster.
    pub(super) fn claim(&mut self, env: &ServerWorld<'_>) -> Result<bool, StoreError> {
        let in_use = bytes(&State::InUse(self.grant.owner.clone()))?;
        let claimed = env.entra.store.compare_and_swap(&self.name, Some(self.raw.reveal()), &in_use, Some(MEMORY))?;
        self.raw = Secret::new(in_use.to_vec());
        Ok(claimed)
    }

    /// Notes what the code became. False if it was presented again meanwhile: then the session has to end.
    pub(super) fn became(&self, env: &ServerWorld<'_>, session: &str) -> Result<bool, StoreError> {
        let used = bytes(&State::Used { session: session.to_owned(), owner: self.grant.owner.clone() })?;
        env.entra.store.compare_and_swap(&self.name, Some(self.raw.reveal()), &used, Some(MEMORY))
    }

    /// Makes the code usable again, because nothing came of its use. If that fails, or if the code was presented again
    /// meanwhile, the person signs in again.
    pub(super) fn restore(&self, env: &ServerWorld<'_>) {
        let left = Duration::from_secs(self.grant.expires_at.saturating_sub(env.entra.clock.now()).max(1));
        if let Ok(given) = bytes(&State::Given(Box::new(self.grant.clone()))) {
            let _ = env.entra.store.compare_and_swap(&self.name, Some(self.raw.reveal()), &given, Some(left));
        }
    }
}

fn bytes(state: &State) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    serde_json::to_vec(state).map(Zeroizing::new).map_err(|_| StoreError::TooLarge)
}

fn name(env: &ServerWorld<'_>, code: &str) -> String {
    env.site.record(&format!("code/{}", digest(code.as_bytes())))
}
