//! What a caller can do where there is no token in its name.
//!
//! The server answers in several protocols: results of MCP, errors of OAuth, statuses of HTTP, errors for the host.
//! Each has words of its own for a failure, and all go by this reading of it: none knows the variants of the errors.

use std::time::Duration;

use entra::AcquireError;
use entra::graph::GraphError;
use entra::oauth::OAuthError;
use world::provided_tools::DelegationError;

use super::NoToken;
use crate::local::SignInError;

/// What a caller can do about a failure. Texts and reason codes are those of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy<'e> {
    /// Sign in, or sign in again: the sign-in that there was is over.
    SignIn {
        /// A claims challenge to sign in with.
        claims: Option<&'e str>,
    },
    /// Sign in once more for one resource. The sign-in that there is stays good for all others.
    StepUp {
        /// A claims challenge to sign in with.
        claims: Option<&'e str>,
    },
    /// Nothing: the same request is refused again.
    Refused,
    /// Ask less often. Time after which to try again.
    TooMany(Duration),
    /// Try again later; when, if that is known.
    Later(Option<RetryPause>),
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPause {
    /// This call was told to wait for so long.
    For(Duration),
    /// Another call was told to wait until this Unix time in seconds.
    Until(u64),
}

impl Remedy<'_> {
    /// The reason code of [`Remedy::StepUp`].
    pub const STEP_UP: &'static str = AcquireError::STEP_UP;
}

impl RetryPause {
    /// Seconds from this Unix time in seconds; 0 if the pause is over.
    pub fn seconds(self, now: u64) -> u64 {
        match self {
            Self::For(pause) => pause.as_secs(),
            Self::Until(at) => at.saturating_sub(now),
        }
    }

    fn of(error: &OAuthError) -> Option<Self> {
        match error {
            OAuthError::Throttled(pause) => Some(Self::For(*pause)),
            OAuthError::NotAsked(failure) => failure.retry_at.map(Self::Until),
            _ => None,
        }
    }
}

impl<'e> From<&'e AcquireError> for Remedy<'e> {
    fn from(error: &'e AcquireError) -> Self {
        match error {
            AcquireError::NeedsPerson { claims, .. } => Self::SignIn { claims: claims.as_deref() },
            AcquireError::StepUp { claims, .. } => Self::StepUp { claims: claims.as_deref() },
            AcquireError::Refused(_) => Self::Refused,
            AcquireError::Unavailable(error) => Self::Later(RetryPause::of(error)),
            AcquireError::Store(_) | AcquireError::Unrecorded(_) => Self::Later(None),
        }
    }
}

impl<'e> From<&'e SignInError> for Remedy<'e> {
    fn from(error: &'e SignInError) -> Self {
        match error {
            SignInError::InteractionRequired { claims, .. } => Self::SignIn { claims: claims.as_deref() },
            SignInError::Refused(_) | SignInError::Misconfigured { .. } => Self::Refused,
            SignInError::Unavailable(error) => Self::Later(RetryPause::of(error)),
            SignInError::Authority(_) | SignInError::Store(_) | SignInError::Unrecorded(_) => Self::Later(None),
            SignInError::Declined
            | SignInError::TimedOut(_)
            | SignInError::Deferred { .. }
            | SignInError::Untrusted(_)
            | SignInError::AccountSelection(_)
            | SignInError::JoinedFailed(_)
            | SignInError::TakenOver
            | SignInError::ClientGone
            | SignInError::NoBrowser(_)
            | SignInError::Broker(_) => Self::SignIn { claims: None },
        }
    }
}

/// Of a request to Graph that a tool has sent.
impl<'e> From<&'e GraphError> for Remedy<'e> {
    fn from(error: &'e GraphError) -> Self {
        match error {
            GraphError::Token(error) => error.into(),
            GraphError::TooMany(after) => Self::TooMany(*after),
            // The token is the server's own: no sign-in of the caller brings it.
            GraphError::NoToken(error) => match Self::from(error) {
                Self::Later(pause) => Self::Later(pause),
                Self::SignIn { .. } | Self::StepUp { .. } | Self::Refused | Self::TooMany(_) => Self::Refused,
            },
            GraphError::Throttled { after, .. } => Self::Later(after.map(RetryPause::For)),
            GraphError::NotAsked(failure) => Self::Later(failure.retry_at.map(RetryPause::Until)),
            GraphError::Unavailable { .. } | GraphError::Unreachable(_) => Self::Later(None),
            // Graph has refused a new token as well, and wants no claims.
            GraphError::Unauthorised(_)
            | GraphError::Forbidden(_)
            | GraphError::NotFound(_)
            | GraphError::Refused { .. }
            | GraphError::Malformed(_)
            | GraphError::NotConsented { .. } => Self::Refused,
        }
    }
}

impl<'e> From<&'e NoToken> for Remedy<'e> {
    fn from(error: &'e NoToken) -> Self {
        match error {
            NoToken::Acquire(error) | NoToken::Unavailable(GraphError::NoToken(error)) => error.into(),
            NoToken::SignIn(error) => error.into(),
            NoToken::Unavailable(GraphError::TooMany(after)) => Self::TooMany(*after),
            NoToken::Unavailable(_) => Self::Later(None),
        }
    }
}

impl NoToken {
    /// What the party that asked is told: the person at this machine everything, because the configuration is theirs,
    /// and all others what clients of a server may learn ([`AcquireError::public`]).
    pub fn told(&self) -> String {
        match self {
            Self::Acquire(error) | Self::Unavailable(GraphError::NoToken(error)) => error.public(),
            Self::SignIn(error) => sentence(&error.to_string()),
            Self::Unavailable(error @ GraphError::TooMany(_)) => sentence(&error.to_string()),
            Self::Unavailable(_) => "Microsoft Entra ID cannot be asked now: try again later".to_owned(),
        }
    }

    /// A stable reason code.
    pub fn reason(&self) -> String {
        match self {
            Self::Acquire(error) | Self::Unavailable(GraphError::NoToken(error)) => error.reason(),
            Self::SignIn(error) => error.reason(),
            Self::Unavailable(GraphError::TooMany(_)) => DelegationError::TOO_MANY.to_owned(),
            Self::Unavailable(_) => "entra-unavailable".to_owned(),
        }
    }
}

/// The text of an error as a sentence of its own.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase()).into_iter().flatten();
    let end = if text.ends_with(['.', ')']) { "" } else { "." };
    first.chain(letters).chain(end.chars()).collect()
}

#[cfg(test)]
mod tests;
