//! The accounts that are signed in to a public client, and how it gets a token for an API: from the cache, else by the
//! refresh token, else by asking the person.

pub mod accounts;
pub mod attempt;
pub mod interactive;
mod person_world;
pub mod profile;
pub mod silent;

use entra::oauth::OAuthError;
use entra::oauth::authorization_code::RedeemError;
use entra::oauth::error::EntraRefusal;
use entra::token::TokenError;
use world::{StoreError, Unrecorded, UserAgentError};

#[cfg(test)]
mod tests;

pub use accounts::Account;
pub use attempt::Instruction;
pub use person_world::PersonWorld;
pub use silent::AccessToken;

/// Why there is no account, or no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// No account is signed in, or the session has ended. Carries the claims challenge to sign in with, if any.
    #[error("{reason}")]
    InteractionRequired {
        /// One sentence.
        reason: String,
        /// A claims challenge.
        claims: Option<String>,
    },
    /// The person declined.
    #[error("the sign-in was declined")]
    Declined,
    /// The person did not finish in time. What they have to do still stands.
    #[error("the sign-in was not finished in time")]
    TimedOut(Option<Instruction>),
    /// The client shows the person what to do and calls again.
    #[error("the sign-in continues in the client")]
    Deferred {
        /// Names the attempt that the next call resumes.
        attempt: String,
        /// What the person has to do.
        instruction: Instruction,
    },
    /// Entra ID refused.
    #[error("{}", .0.advice())]
    Refused(EntraRefusal),
    /// Entra ID could not be asked.
    #[error("{0}")]
    Unavailable(OAuthError),
    /// The answer was not for this sign-in, or not genuine. Nothing was stored.
    #[error("the sign-in was not accepted: {0}")]
    Untrusted(Untrusted),
    /// No such account, or several and none chosen.
    #[error("{0}")]
    AccountSelection(String),
    /// A sign-in that this call waited for failed.
    #[error("{0}")]
    JoinedFailed(String),
    /// Another call leads the sign-in now: this one was silent for too long.
    #[error("another call has taken the sign-in over")]
    TakenOver,
    /// No browser could be opened, or no redirect received.
    #[error("no browser can be used here: {0}")]
    NoBrowser(UserAgentError),
    /// The secret store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The security event could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// What was wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// The authorization response.
    #[error("{0}")]
    Response(&'static str),
    /// The ID token is missing.
    #[error("there is no ID token")]
    NoIdToken,
    /// The ID token.
    #[error("the ID token is not valid")]
    IdToken(TokenError),
    /// No attempt waits for this answer.
    #[error("no sign-in is waiting for this answer")]
    UnknownAttempt,
}

impl From<OAuthError> for SignInError {
    fn from(error: OAuthError) -> Self {
        match error {
            OAuthError::Refused(refusal) if refusal.is_declined() => Self::Declined,
            OAuthError::Refused(refusal) => Self::Refused(refusal),
            OAuthError::Store(error) => Self::Store(error),
            OAuthError::Expired => Self::TimedOut(None),
            other => Self::Unavailable(other),
        }
    }
}

impl From<RedeemError> for SignInError {
    fn from(error: RedeemError) -> Self {
        match error {
            RedeemError::Untrusted(reason) => Self::Untrusted(Untrusted::Response(reason)),
            RedeemError::OAuth(error) => error.into(),
        }
    }
}

impl SignInError {
    /// What may be said to the clients of a server ([`OAuthError::public`]).
    pub fn public(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.public_advice(),
            Self::Unavailable(error) => error.public(),
            // Some things are done all the same: a session ends even if that cannot be recorded.
            Self::Unrecorded(_) => Unrecorded::PUBLIC.to_owned(),
            other => other.to_string(),
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> String {
        match self {
            Self::InteractionRequired { .. } => "interaction-required".to_owned(),
            Self::Declined => "declined".to_owned(),
            Self::TimedOut(_) => "timed-out".to_owned(),
            Self::Deferred { .. } => "deferred".to_owned(),
            Self::Refused(refusal) => refusal.reason(),
            Self::Unavailable(_) => "entra-unavailable".to_owned(),
            Self::Untrusted(Untrusted::IdToken(error)) => format!("id-token-{}", error.reason()),
            Self::Untrusted(_) => "untrusted-response".to_owned(),
            Self::AccountSelection(_) => "account-selection".to_owned(),
            Self::JoinedFailed(_) => "joined-failed".to_owned(),
            Self::TakenOver => "taken-over".to_owned(),
            Self::NoBrowser(_) => "no-browser".to_owned(),
            Self::Store(_) => "store".to_owned(),
            Self::Unrecorded(_) => "audit".to_owned(),
        }
    }
}
