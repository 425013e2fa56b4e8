//! Why a server behind cannot be told who calls.

use std::time::Duration;

use caller::{CallerAuthentication, NoToken, Remedy};
use world::StoreError;

/// Why a request does not go on: what the client is answered, and no detail of why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The sign-in behind the caller has ended. 401 with a challenge.
    #[error("sign in again")]
    SignInAgain,
    /// The server's API wants the person to sign in once more; the session goes on for everything else. 403 with a challenge.
    #[error("an API wants the person to sign in once more")]
    StepUp,
    /// The client has to come with a token that satisfies these claims, which are JSON. 401 with them in the challenge.
    #[error("another access token is needed")]
    ClaimsChallenge(String),
    /// Entra ID gives no token for the server's API. 403.
    #[error("{public}")]
    Refused {
        /// For the caller.
        public: String,
        /// For the audit record.
        reason: String,
    },
    /// The server is told of callers by a token in a person's name, and an application calls for itself. 403.
    #[error(
        "this server is for users, and the access token stands for an application (app-only): call it with a token that \
         the application got on behalf of a user"
    )]
    NoUser,
    /// The caller has asked for too much. 429.
    #[error("too many requests: wait a while")]
    TooMany(Duration),
    /// The store, the audit log or Entra ID cannot be reached. 503.
    #[error("the identity of the caller cannot be passed on now: try again later")]
    Unavailable {
        /// In seconds, if it is known.
        retry_after: Option<u64>,
    },
}

impl From<StoreError> for IdentityError {
    fn from(_: StoreError) -> Self {
        Self::Unavailable { retry_after: None }
    }
}

impl IdentityError {
    /// That of a caller that gets no token, at this Unix time in seconds.
    pub(super) fn of(error: &NoToken, kind: CallerAuthentication, now: u64) -> Self {
        // More than the remedy counts: the person at this machine is no caller of a server behind, and not asked here.
        if let NoToken::SignIn(_) = error {
            return Self::SignInAgain;
        }
        match Remedy::from(error) {
            Remedy::SignIn { claims: Some(claims) } if kind == CallerAuthentication::Bearer => {
                Self::ClaimsChallenge(claims.to_owned())
            }
            // A session that needs more of its person has ended; the next sign-in brings the claims.
            Remedy::SignIn { .. } => Self::SignInAgain,
            Remedy::StepUp { .. } => Self::StepUp,
            Remedy::Refused => Self::Refused { public: error.told(), reason: error.reason() },
            Remedy::TooMany(after) => Self::TooMany(after),
            Remedy::Later(pause) => Self::Unavailable { retry_after: pause.map(|pause| pause.seconds(now).max(1)) },
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> &str {
        match self {
            Self::SignInAgain | Self::ClaimsChallenge(_) => "interaction-required",
            Self::StepUp => Remedy::STEP_UP,
            Self::Refused { reason, .. } => reason,
            Self::NoUser => "no-user",
            Self::TooMany(_) => "too-many",
            Self::Unavailable { .. } => "identity-unavailable",
        }
    }
}
