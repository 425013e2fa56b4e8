//! The accounts that are signed in to a public client, and how it gets a token for an API: from the cache, else by the
//! refresh token, else by asking the person.

pub mod accounts;
pub mod attempt;
pub mod background;
mod broker;
pub mod interactive;
mod person_world;
pub mod profile;
pub mod silent;

use base::settings::Settings;
use entra::clock_offset::ClockOffset;
use entra::oauth::OAuthError;
use entra::oauth::authorization_code::RedeemError;
use entra::oauth::error::EntraRefusal;
use entra::token::stated::Contradiction;
use entra::token::{AuthorityFault, TokenError};
use world::{BrokerError, StoreError, Unrecorded, UserAgentError};

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
    /// Entra ID refused because of what is configured, here or in the app registration.
    #[error("{message}")]
    Misconfigured {
        /// What Entra ID has said.
        refusal: Box<EntraRefusal>,
        /// What to do about it, with the ids that are configured.
        message: String,
    },
    /// The metadata of the tenant cannot be read, so that no sign-in could succeed.
    #[error("{0}")]
    Authority(AuthorityFault),
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
    /// The connection to the client ended while its person was asked.
    #[error("the client has closed the connection")]
    ClientGone,
    /// No browser could be opened, or no redirect received.
    #[error("no browser can be used here: {0}")]
    NoBrowser(UserAgentError),
    /// The identity broker of the machine is needed, and gave nothing.
    #[error("{0}")]
    Broker(BrokerError),
    /// The secret store failed.
    #[error("{}", of_store(.0))]
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
    #[error("{}", id_token(.0))]
    IdToken(TokenError),
    /// The ID token is out of date by a clock that is wrong.
    #[error("the ID token is not valid now, because {offset}; correct the date and time of this machine")]
    Clock {
        /// What was found.
        error: TokenError,
        /// How wrong the clock is.
        offset: ClockOffset,
    },
    /// The identity broker has answered for another account than the one it was asked for.
    #[error("the identity broker answered for another account")]
    AnotherAccount,
    /// The identity broker has given an access token that is not what it was asked for.
    #[error("{}", contradicted(.0))]
    AccessToken(Contradiction),
    /// No attempt waits for this answer.
    #[error("no sign-in is waiting for this answer")]
    UnknownAttempt,
}

fn id_token(error: &TokenError) -> &'static str {
    match error {
        TokenError::KeysUnavailable { .. } => {
            "the signing keys of Microsoft Entra ID cannot be read now; try again later"
        }
        _ => "the ID token is not valid",
    }
}

fn contradicted(contradiction: &Contradiction) -> &'static str {
    match contradiction {
        Contradiction::Client => "the identity broker gave a token of another application",
        Contradiction::Account => "the identity broker gave a token of another account",
        Contradiction::Resource => "the identity broker gave a token for another service",
    }
}

/// What helps against a damaged record: the next sign-in replaces it.
const DAMAGED: &str = "a record of a sign-in is damaged (`entra-mcp store check` counts such records): sign in again with \
                       `entra-mcp login`, which replaces it";

/// A failure of the store, in words.
fn of_store(error: &StoreError) -> String {
    match error {
        StoreError::Unreadable => DAMAGED.to_owned(),
        other => other.to_string(),
    }
}

impl From<AuthorityFault> for SignInError {
    fn from(fault: AuthorityFault) -> Self {
        match fault {
            AuthorityFault::Refused(refusal) => Self::Refused(*refusal),
            AuthorityFault::Unreachable(error) => Self::Unavailable(OAuthError::Unreachable(error)),
            other => Self::Authority(other),
        }
    }
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
    /// The same error; names the ids that are configured, if one of them may be wrong.
    #[must_use]
    pub fn naming_ids(self, settings: &Settings) -> Self {
        match self {
            Self::Refused(refusal) if refusal.is_configuration() => {
                let message = refusal.advice_for(settings);
                Self::Misconfigured { refusal: Box::new(refusal), message }
            }
            other => other,
        }
    }

    /// What Entra has refused with.
    pub fn refusal(&self) -> Option<&EntraRefusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Misconfigured { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// What may be said to the clients of a server ([`OAuthError::public`]).
    pub fn public(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.public_advice(),
            Self::Misconfigured { refusal, .. } => refusal.public_advice(),
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
            Self::Misconfigured { refusal, .. } => refusal.reason(),
            Self::Authority(fault) => fault.reason(),
            Self::Unavailable(_) => "entra-unavailable".to_owned(),
            Self::Untrusted(Untrusted::IdToken(error) | Untrusted::Clock { error, .. }) => {
                format!("id-token-{}", error.reason())
            }
            Self::Untrusted(_) => "untrusted-response".to_owned(),
            Self::AccountSelection(_) => "account-selection".to_owned(),
            Self::JoinedFailed(_) => "joined-failed".to_owned(),
            Self::TakenOver => "taken-over".to_owned(),
            Self::ClientGone => "client-gone".to_owned(),
            Self::NoBrowser(_) => "no-browser".to_owned(),
            Self::Broker(_) => "broker".to_owned(),
            Self::Store(StoreError::Unreadable) => "store-damaged".to_owned(),
            Self::Store(_) => "store".to_owned(),
            Self::Unrecorded(_) => "audit".to_owned(),
        }
    }
}
