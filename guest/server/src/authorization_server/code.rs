//! Authorization codes (RFC 6749 section 4.1.2): what a client gets by way of the browser, and exchanges once.
//!
//! A code's record outlives its use. A caller that presents it again has stolen it, or was stolen from, and the server
//! cannot tell which: what the code gave is taken back (RFC 6749 section 10.5). All changes of the record are
//! compare-and-swap, so two uses at once are seen for what they are.

use std::time::Duration;

use base::Secret;
use caller::session::Owner;
use caller::session::entra_tokens::EntraTokens;
use serde::{Deserialize, Serialize};
use world::StoreError;
use world::random::random_token;
use world::records::{Namespace, Partition, Stored, Ttl, Version};

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
/// The longest code that this server can have issued, in characters.
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
enum CodeState {
    /// No client has used it.
    Given(Box<Grant>),
    /// A client uses it now.
    InUse(Owner),
    /// It became this session.
    Used { session: String, owner: Owner },
    /// It was presented again while it was in use.
    Replayed,
}

impl CodeState {
    /// How long the record is kept.
    fn ttl(&self, now: u64) -> Duration {
        match self {
            Self::Given(grant) => Duration::from_secs(grant.expires_at.saturating_sub(now).max(1)),
            Self::InUse(_) | Self::Used { .. } | Self::Replayed => MEMORY,
        }
    }
}

/// Codes by themselves.
const CODES: Namespace<CodeState> =
    Namespace::json(Partition::AuthorizationServer, "code", Ttl::Computed(CodeState::ttl))
        .hashed()
        .absent_if_unreadable();

/// Gives a code for `grant`.
pub(super) async fn give(env: &ServerWorld<'_>, mut grant: Grant) -> Result<Secret<String>, StoreError> {
    grant.expires_at = env.entra.clock.now() + LIFETIME.as_secs();
    let code = Secret::new(random_token(env.entra.random));
    // There is no such record: the code is 256 random bits.
    env.entra.records.put(&CODES, code.reveal(), &CodeState::Given(Box::new(grant))).await?;
    Ok(code)
}

/// What a presented code turned out to be.
pub(super) enum PresentedCode {
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
    code: Secret<String>,
    version: Version,
}

/// Looks at a code that `client_id` presents. A client that it was not given to cannot spoil it for the one it was.
pub(super) async fn present(env: &ServerWorld<'_>, code: &str, client_id: &str) -> Result<PresentedCode, StoreError> {
    if code.len() > MAX_LENGTH {
        return Ok(PresentedCode::Unknown);
    }
    for _ in 0..MAX_LOOKS {
        let Some(Stored { value, version }) = env.entra.records.read(&CODES, code).await? else {
            return Ok(PresentedCode::Unknown);
        };
        return Ok(match value {
            CodeState::Given(grant) if grant.is_current(env.entra.clock.now()) => {
                PresentedCode::Good(Box::new(GoodCode { grant: *grant, code: Secret::from(code), version }))
            }
            CodeState::InUse(owner) if owner.client_id == client_id => {
                if env.entra.records.replace(&CODES, code, &version, &CodeState::Replayed).await?.is_none() {
                    // That use has ended in this moment: what became of it is seen now.
                    continue;
                }
                PresentedCode::Unknown
            }
            CodeState::Used { session, owner } if owner.client_id == client_id => {
                PresentedCode::Replayed { session, owner }
            }
            _ => PresentedCode::Unknown,
        });
    }
    Err(StoreError::Contended)
}

impl Grant {
    /// Whether the code may be exchanged. One that seems to live longer than any is given was given before the clock
    /// was set back, and how much of its time has passed cannot be said.
    fn is_current(&self, now: u64) -> bool {
        now < self.expires_at && self.expires_at <= now + LIFETIME.as_secs() + CLOCK_DIFFERENCE_SECONDS
    }
}

impl GoodCode {
    /// Claims the code; false if another request was faster.
    pub(super) async fn claim(&mut self, env: &ServerWorld<'_>) -> Result<bool, StoreError> {
        let in_use = CodeState::InUse(self.grant.owner.clone());
        let Some(version) = self.replace(env, &in_use).await? else { return Ok(false) };
        self.version = version;
        Ok(true)
    }

    /// Notes what the code became. False if it was presented again meanwhile: then the session has to end.
    pub(super) async fn became(&self, env: &ServerWorld<'_>, session: &str) -> Result<bool, StoreError> {
        let used = CodeState::Used { session: session.to_owned(), owner: self.grant.owner.clone() };
        Ok(self.replace(env, &used).await?.is_some())
    }

    /// Makes the code usable again, because nothing came of its use. If that fails, or if the code was presented again
    /// meanwhile, the person signs in again.
    pub(super) async fn restore(&self, env: &ServerWorld<'_>) {
        let _ = self.replace(env, &CodeState::Given(Box::new(self.grant.clone()))).await;
    }

    async fn replace(&self, env: &ServerWorld<'_>, state: &CodeState) -> Result<Option<Version>, StoreError> {
        env.entra.records.replace(&CODES, self.code.reveal(), &self.version, state).await
    }
}
