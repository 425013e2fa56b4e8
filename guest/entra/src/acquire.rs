//! Why there is no token for an API.

use world::once::{Failure, OnceError};
use world::{StoreError, Unrecorded};

use crate::oauth::OAuthError;
use crate::oauth::error::EntraRefusal;

/// Why a token could not be acquired without asking a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Only a person can bring what is missing, by signing in. Carries the claims challenge to sign in with, if any.
    #[error("{reason}")]
    NeedsPerson {
        /// One sentence.
        reason: String,
        /// A claims challenge.
        claims: Option<String>,
    },
    /// Only a person can bring what one resource wants, by signing in once more. The sign-in that there is stays good for
    /// all others.
    #[error("{reason}")]
    StepUp {
        /// One sentence.
        reason: String,
        /// A claims challenge to sign in with.
        claims: Option<String>,
    },
    /// Entra ID refused.
    #[error("{}", refused(.0))]
    Refused(EntraRefusal),
    /// Entra ID could not be asked.
    #[error("{0}")]
    Unavailable(OAuthError),
    /// The secret store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The security event could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

fn refused(refusal: &EntraRefusal) -> String {
    if refusal.is_declined() { "the sign-in was declined".to_owned() } else { refusal.advice() }
}

impl From<OAuthError> for AcquireError {
    fn from(error: OAuthError) -> Self {
        match error {
            OAuthError::Refused(refusal) => Self::Refused(refusal),
            OAuthError::Store(error) => Self::Store(error),
            other => Self::Unavailable(other),
        }
    }
}

impl From<Failure> for AcquireError {
    fn from(failure: Failure) -> Self {
        if failure.unrecorded { Self::Unrecorded(Unrecorded) } else { Self::Unavailable(OAuthError::NotAsked(failure)) }
    }
}

/// The calls that wait hear of every failure of Entra ID, of the pause that it asks for, and of a security event that could
/// not be recorded: Entra ID was asked then, and would be asked by each of them. Of the store they find out themselves.
impl OnceError for AcquireError {
    fn failure(&self, now: u64) -> Option<Failure> {
        let failure = Failure::new(self.to_string());
        match self {
            Self::Store(_) => None,
            Self::Unrecorded(_) => Some(Failure { unrecorded: true, ..failure }),
            Self::Unavailable(error) => Some(Failure { retry_at: error.retry_at(now), ..failure }),
            Self::NeedsPerson { .. } | Self::StepUp { .. } | Self::Refused(_) => Some(failure),
        }
    }
}

impl From<EntraRefusal> for AcquireError {
    fn from(refusal: EntraRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl AcquireError {
    /// The reason code of [`AcquireError::StepUp`].
    pub const STEP_UP: &str = "step-up-required";

    /// See [`OAuthError::at`].
    #[must_use]
    pub fn at(self, now: u64) -> Self {
        if let Self::Unavailable(error) = self { Self::Unavailable(error.at(now)) } else { self }
    }

    /// What may be said to the clients of a server ([`OAuthError::public`]).
    pub fn public(&self) -> String {
        match self {
            Self::Refused(refusal) if !refusal.is_declined() => refusal.public_advice(),
            Self::Unavailable(error) => error.public(),
            Self::Unrecorded(_) => Unrecorded::PUBLIC.to_owned(),
            other => other.to_string(),
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> String {
        match self {
            Self::NeedsPerson { .. } => "interaction-required".to_owned(),
            Self::StepUp { .. } => Self::STEP_UP.to_owned(),
            Self::Refused(refusal) if refusal.is_declined() => "declined".to_owned(),
            Self::Refused(refusal) => refusal.reason(),
            Self::Unavailable(_) => "entra-unavailable".to_owned(),
            Self::Store(_) => "store".to_owned(),
            Self::Unrecorded(_) => "audit".to_owned(),
        }
    }
}
