//! Why a tool has no answer.

use std::time::Duration;

use base::policy::{Denial, TargetKind};
use caller::local::SignInError;
use caller::{NoToken, Remedy};
use entra::graph::GraphError;
use world::provided_tools::{DelegationError, DelegationErrorCategory, ProviderError};
use world::{StoreError, Unrecorded};

use super::answer_fault::AnswerFault;
use super::arguments::ArgumentError;

/// The code of a delegation where an API wants claims that the newest token does not have either: the host says it.
const CLAIMS_CHALLENGE: &str = "claims-challenge";

/// Why a tool has no answer. Shown to the model as `isError`, except for a sign-in that a client goes on with:
/// [`SignInError::Deferred`] of the person at this machine, [`Remedy::SignIn`] of a remote caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// Graph, or the token for it.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The sign-in of the person at this machine.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The security event could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
    /// What leads a later call back to the caller could not be sealed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tool is about a user, and an application calls for itself.
    #[error(
        "this tool is about the user who calls it, and the access token stands for an application (app-only): call it \
         with a token that the application got on behalf of a user"
    )]
    NoUser,
    /// The tool is about a caller of the remote server, and this is the person at this machine.
    #[error("this tool is about the caller of a remote server")]
    NoIdentity,
    /// The tool asks for a permission that is not among those it has declared.
    #[error("this tool does not declare that it needs the permission {permission}")]
    Undeclared {
        /// In the short form.
        permission: &'static str,
    },
    /// The arguments are not what the input schema says.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// The tool is of a server behind the component, which did not answer.
    #[error(transparent)]
    Provided(#[from] ProviderError),
    /// The same, and what the server answered breaks the contract.
    #[error(transparent)]
    Answer(#[from] AnswerFault),
    /// The caller may not call the tool.
    #[error("{}", .0.told(TargetKind::Tool))]
    Denied(#[from] Denial),
}

impl ToolError {
    /// The sign-in part of the error of a local call, if that is what it is.
    pub fn sign_in(&self) -> Option<&SignInError> {
        match self {
            Self::SignIn(error) => Some(error),
            Self::Graph(_)
            | Self::Unrecorded(_)
            | Self::Store(_)
            | Self::NoUser
            | Self::NoIdentity
            | Self::Undeclared { .. }
            | Self::Arguments(_)
            | Self::Provided(_)
            | Self::Answer(_)
            | Self::Denied(_) => None,
        }
    }

    /// Whether only the user of a remote call can bring what is missing; the claims challenge to sign in with, if any.
    pub fn needs_person(&self) -> Option<Option<&str>> {
        match self {
            Self::Graph(error) => match Remedy::from(error) {
                Remedy::SignIn { claims } => Some(claims),
                Remedy::StepUp { .. } | Remedy::Refused | Remedy::TooMany(_) | Remedy::Later(_) => None,
            },
            Self::Provided(ProviderError::Delegation(error))
                if error.category == DelegationErrorCategory::NeedsPerson =>
            {
                Some(error.claims.as_deref())
            }
            _ => None,
        }
    }

    /// Whether an API wants more of the person, and the sign-in behind the call is good for everything else.
    pub fn is_step_up(&self) -> bool {
        match self {
            Self::Graph(error) => matches!(Remedy::from(error), Remedy::StepUp { .. }),
            Self::Provided(ProviderError::Delegation(error)) => {
                error.category == DelegationErrorCategory::NeedsPerson
                    && [Remedy::STEP_UP, CLAIMS_CHALLENGE].contains(&error.code.as_str())
            }
            _ => false,
        }
    }

    /// What a tool of a server behind the component says itself.
    pub fn own_words(&self) -> Option<&str> {
        match self {
            Self::Provided(ProviderError::InvalidArguments(text) | ProviderError::Failed(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether the caller has asked for too much; the time after which to try again.
    pub fn too_many(&self) -> Option<Duration> {
        match self {
            Self::Graph(error) => match Remedy::from(error) {
                Remedy::TooMany(after) => Some(after),
                Remedy::SignIn { .. } | Remedy::StepUp { .. } | Remedy::Refused | Remedy::Later(_) => None,
            },
            Self::Provided(ProviderError::Delegation(DelegationError { code, retry_after: Some(after), .. }))
                if code == DelegationError::TOO_MANY =>
            {
                Some(Duration::from_secs((*after).into()))
            }
            _ => None,
        }
    }

    /// What may be said to the clients of a server: not why it cannot reach another one.
    pub fn public(&self) -> String {
        match self {
            Self::Graph(error) => error.public(),
            Self::SignIn(error) => error.public(),
            Self::Unrecorded(_) => Unrecorded::PUBLIC.to_owned(),
            Self::Store(_) => "The server cannot reach its store now. Try again later.".to_owned(),
            Self::Provided(error) => provided(error),
            Self::Answer(_) => {
                "The tool answered with something that is no answer of a tool. The operator of the server \
                                finds the reason in its log."
                    .to_owned()
            }
            Self::NoUser | Self::NoIdentity | Self::Undeclared { .. } | Self::Arguments(_) | Self::Denied(_) => {
                self.to_string()
            }
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> String {
        match self {
            Self::Graph(error) => error.reason(),
            Self::SignIn(error) => error.reason(),
            Self::Unrecorded(_) => "audit".to_owned(),
            Self::Store(_) => "store".to_owned(),
            Self::NoUser => "no-user".to_owned(),
            Self::NoIdentity => "no-identity".to_owned(),
            Self::Undeclared { .. } => "undeclared-permission".to_owned(),
            Self::Arguments(_) => "arguments".to_owned(),
            Self::Provided(error) => match error {
                ProviderError::InvalidArguments(_) => "arguments".to_owned(),
                ProviderError::Failed(_) => "tool-failed".to_owned(),
                ProviderError::Ended(_) => "tool-ended".to_owned(),
                ProviderError::TimedOut => "tool-timed-out".to_owned(),
                ProviderError::TooLarge(_) => "tool-too-large".to_owned(),
                ProviderError::Unavailable(_) => "tool-unavailable".to_owned(),
                ProviderError::Delegation(error) => error.code.clone(),
            },
            Self::Answer(_) => "tool-malformed".to_owned(),
            Self::Denied(denial) => denial.reason().to_owned(),
        }
    }
}

/// What the caller of a tool of a server behind the component is told: what the tool says itself, what the delegation says,
/// and otherwise what the caller can do.
fn provided(error: &ProviderError) -> String {
    match error {
        ProviderError::InvalidArguments(text) | ProviderError::Failed(text) => text.clone(),
        ProviderError::Ended(_) => "The tool ended before it answered. The operator of the server finds the reason in \
                                    its log."
            .to_owned(),
        ProviderError::TimedOut => "The tool did not answer in time. Try again, or ask it for less.".to_owned(),
        ProviderError::TooLarge(bytes) => {
            format!("The answer of the tool is longer than {bytes} bytes: ask it for less.")
        }
        ProviderError::Unavailable(_) => "The tool cannot be called now. Try again later.".to_owned(),
        ProviderError::Delegation(DelegationError { message, retry_after: Some(seconds), .. }) => {
            format!("{message} Try again in {seconds} seconds.")
        }
        ProviderError::Delegation(error) => error.message.clone(),
    }
}

impl From<GraphError<NoToken>> for ToolError {
    fn from(error: GraphError<NoToken>) -> Self {
        match error.into_token() {
            Ok(NoToken::SignIn(error)) => Self::SignIn(error),
            Ok(NoToken::Acquire(error)) => Self::Graph(error.into()),
            Ok(NoToken::Unavailable(error)) => Self::Graph(error),
            Err(error) => Self::Graph(error),
        }
    }
}
