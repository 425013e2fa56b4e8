//! Authorization codes (RFC 6749 section 4.1.2): what a client gets by way of the browser, and exchanges once.
//!
//! A code's record outlives its use. A caller that presents it again, with all that it is bound to, has stolen it, or was
//! stolen from, and the server cannot tell which: what the code gave is taken back (RFC 6749 section 10.5). A caller that
//! presents it without the verifier or with another redirect URI has only seen the code, in a log for instance, and must not
//! be able to end a session with it. All changes of the record are compare-and-swap, so two uses at once are seen for what
//! they are.

use std::time::Duration;

use base::Secret;
use base::encoding::{digest, same_secret};
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
/// Length of a code verifier (RFC 7636 section 4.1).
const VERIFIER: std::ops::RangeInclusive<usize> = 43..=128;
/// The longest code that this server can have issued, in characters.
const MAX_LENGTH: usize = 64;

/// What a code is bound to, besides its client. It outlives the [`CodeGrant`].
#[derive(Clone, Serialize, Deserialize)]
struct Binding {
    redirect_uri: Option<String>,
    code_challenge: String,
}

/// A code as a client presents it.
#[derive(Clone, Copy)]
pub(super) struct PresentedWith<'a> {
    pub(super) code: &'a str,
    pub(super) client_id: &'a str,
    pub(super) redirect_uri: Option<&'a str>,
    pub(super) verifier: &'a str,
}

impl Binding {
    /// Why the code is not for this request, as a stable code for the audit record.
    fn mismatch(&self, owner: &Owner, presented: &PresentedWith<'_>) -> Option<&'static str> {
        let challenge = digest(presented.verifier.as_bytes());
        let same_secret = same_secret(challenge.as_bytes(), self.code_challenge.as_bytes());
        if owner.client_id != presented.client_id {
            Some("other-client")
        } else if self.redirect_uri.is_some() && self.redirect_uri.as_deref() != presented.redirect_uri {
            Some("other-redirect-uri")
        } else if !is_verifier(presented.verifier) || !same_secret {
            Some("wrong-verifier")
        } else {
            None
        }
    }
}

fn is_verifier(verifier: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    VERIFIER.contains(&verifier.len()) && verifier.bytes().all(allowed)
}

/// What a code stands for, and what it is bound to.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct CodeGrant {
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
    Given(Box<CodeGrant>),
    /// A client uses it now.
    InUse { owner: Owner, binding: Binding },
    /// It became this session. Earlier versions did not keep what it was bound to.
    Used {
        session: String,
        owner: Owner,
        #[serde(default)]
        binding: Option<Binding>,
    },
    /// It was presented again while it was in use.
    Replayed,
}

impl CodeState {
    /// How long the record is kept.
    fn ttl(&self, now: u64) -> Duration {
        match self {
            Self::Given(grant) => Duration::from_secs(grant.expires_at.saturating_sub(now).max(1)),
            Self::InUse { .. } | Self::Used { .. } | Self::Replayed => MEMORY,
        }
    }
}

/// Codes by themselves.
const CODES: Namespace<CodeState> =
    Namespace::json(Partition::AuthorizationServer, "code", Ttl::Computed(CodeState::ttl))
        .hashed()
        .absent_if_unreadable();

/// Gives a code for `grant`.
pub(super) async fn give(env: &ServerWorld<'_>, mut grant: CodeGrant) -> Result<Secret<String>, StoreError> {
    grant.expires_at = env.entra.clock.now() + LIFETIME.as_secs();
    let code = Secret::new(random_token(env.entra.random));
    // There is no such record: the code is 256 random bits.
    env.entra.records.put(&CODES, code.reveal(), &CodeState::Given(Box::new(grant))).await?;
    Ok(code)
}

/// What a presented code turned out to be.
pub(super) enum PresentedCode {
    /// Good, for this request, and not used so far.
    Good(Box<GoodCode>),
    /// It is not for this request, whether or not it was used.
    Refused { owner: Owner, reason: &'static str },
    /// It became this session, which has to end.
    Replayed { session: String, owner: Owner },
    /// Unknown, expired, or just being used.
    Unknown,
}

/// A code that may be used.
pub(super) struct GoodCode {
    pub(super) grant: CodeGrant,
    code: Secret<String>,
    version: Version,
}

/// Looks at a code that a client presents. A client that it was not given to, or that does not have the verifier, cannot
/// spoil it for the one that has.
pub(super) async fn present(env: &ServerWorld<'_>, presented: PresentedWith<'_>) -> Result<PresentedCode, StoreError> {
    let code = presented.code;
    if code.len() > MAX_LENGTH {
        return Ok(PresentedCode::Unknown);
    }
    for _ in 0..MAX_LOOKS {
        let Some(Stored { value, version }) = env.entra.records.read(&CODES, code).await? else {
            return Ok(PresentedCode::Unknown);
        };
        if let Some((owner, reason)) = value.mismatch(&presented) {
            return Ok(PresentedCode::Refused { owner: owner.clone(), reason });
        }
        return Ok(match value {
            CodeState::Given(grant) if grant.is_current(env.entra.clock.now()) => {
                PresentedCode::Good(Box::new(GoodCode { grant: *grant, code: Secret::from(code), version }))
            }
            CodeState::InUse { .. } => {
                if env.entra.records.replace(&CODES, code, &version, &CodeState::Replayed).await?.is_none() {
                    // That use has ended in this moment: what became of it is seen now.
                    continue;
                }
                PresentedCode::Unknown
            }
            CodeState::Used { session, owner, .. } => PresentedCode::Replayed { session, owner },
            CodeState::Given(_) | CodeState::Replayed => PresentedCode::Unknown,
        });
    }
    Err(StoreError::Contended)
}

impl CodeState {
    /// Whose the code is, and why it is not for this request; none if it is.
    fn mismatch(&self, presented: &PresentedWith<'_>) -> Option<(&Owner, &'static str)> {
        let (owner, binding) = match self {
            Self::Given(grant) => (&grant.owner, Some(grant.binding())),
            Self::InUse { owner, binding } => (owner, Some(binding.clone())),
            Self::Used { owner, binding, .. } => (owner, binding.clone()),
            Self::Replayed => return None,
        };
        let reason = match binding {
            Some(binding) => binding.mismatch(owner, presented),
            None => (owner.client_id != presented.client_id).then_some("other-client"),
        };
        reason.map(|reason| (owner, reason))
    }
}

impl CodeGrant {
    fn binding(&self) -> Binding {
        Binding { redirect_uri: self.redirect_uri.clone(), code_challenge: self.code_challenge.clone() }
    }

    /// Whether the code may be exchanged. One that seems to live longer than any is given was given before the clock
    /// was set back, and how much of its time has passed cannot be said.
    fn is_current(&self, now: u64) -> bool {
        now < self.expires_at && self.expires_at <= now + LIFETIME.as_secs() + CLOCK_DIFFERENCE_SECONDS
    }
}

impl GoodCode {
    /// Claims the code; false if another request was faster.
    pub(super) async fn claim(&mut self, env: &ServerWorld<'_>) -> Result<bool, StoreError> {
        let in_use = CodeState::InUse { owner: self.grant.owner.clone(), binding: self.grant.binding() };
        let Some(version) = self.replace(env, &in_use).await? else { return Ok(false) };
        self.version = version;
        Ok(true)
    }

    /// Notes what the code became. False if it was presented again meanwhile: then the session has to end.
    pub(super) async fn became(&self, env: &ServerWorld<'_>, session: &str) -> Result<bool, StoreError> {
        let (owner, binding) = (self.grant.owner.clone(), Some(self.grant.binding()));
        let used = CodeState::Used { session: session.to_owned(), owner, binding };
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
