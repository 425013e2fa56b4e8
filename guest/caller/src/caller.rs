//! Callers, and what a tool gets of them: the person at this machine, the client of a session, or the bearer of a
//! token.
//!
//! A caller hands out tokens in its own name and says what is known of it. It decides nothing: see `base::decision`.

mod bearer;
mod person;
mod remedy;
mod session;

use async_trait::async_trait;
use base::decision::{Fact, Facts};
use base::secret::reveal;
use base::settings::Settings;
use base::{Identity, Secret};
use entra::graph::{GraphChallenge, GraphError, Source, TokenSource};
use entra::{AcquireError, EntraWorld};
use serde::{Deserialize, Serialize};

use crate::local::SignInError;
use crate::session::{Membership, Unconfirmed};

pub use bearer::BearerCaller;
pub use person::PersonCaller;
pub use remedy::{Remedy, RetryPause};
pub use session::SessionCaller;

/// By what a caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerAuthentication {
    /// It is the person at this machine.
    Person,
    /// A session. It ends where Entra ID wants the person again; the client signs in then.
    Session,
    /// A token of Entra ID. The client brings another one that satisfies a claims challenge.
    Bearer,
}

impl CallerAuthentication {
    /// Its name in sealed state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "local",
            Self::Session => "session",
            Self::Bearer => "bearer",
        }
    }
}

/// What leads back to a caller in a later call of the host. It can hold the token that the client was admitted with: it goes
/// to the host alone, which has seen that token, sealed in a handle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum CallerReference {
    /// The person at this machine.
    Person,
    /// A client with a session.
    Session {
        /// Names the session in the store.
        id: String,
        /// Those of the access token, which may be fewer than the session has.
        scopes: Vec<String>,
        /// When the access token expires, in Unix seconds.
        expires_at: u64,
    },
    /// A client with a token of Entra ID.
    Bearer(#[serde(serialize_with = "reveal")] Secret<String>),
}

/// One caller, during one call.
#[async_trait(?Send)]
pub trait Caller {
    /// By what the caller is known.
    fn kind(&self) -> CallerAuthentication;

    /// What leads back to the caller.
    fn reference(&self) -> CallerReference;

    /// Tenant, object and client; none for the person at this machine, who may have to sign in first.
    fn identity(&self) -> Option<Identity<'_>> {
        self.facts().map(|facts| facts.identity)
    }

    /// What rules look at; none for the person at this machine, who may do everything.
    fn facts(&self) -> Option<Facts<'_>>;

    /// Application roles, as far as they are known without asking.
    fn known_roles(&self) -> &[String] {
        match self.facts().map(|facts| facts.roles) {
            Some(Fact::Known(roles)) => roles,
            Some(Fact::Unknown | Fact::Unavailable(_)) | None => &[],
        }
    }

    /// Roles and groups, and whether the caller is a guest, where the facts say that they are not known. Asks Entra ID if
    /// what it said is too old.
    async fn confirm(&self) -> Result<Membership, Unconfirmed>;

    /// A token in the caller's name for one `scope`, which is qualified by its resource. With a challenge it is another
    /// one than the refused, and Entra ID hears of the claims that it has to have; or the error names the party that
    /// has to bring them.
    async fn delegated(&self, scope: &str, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, NoToken>;

    /// An API wants claims that the token which answered its challenge does not have either: what that means for the caller,
    /// if more than that the API has refused.
    async fn unsatisfied(&self, _scope: &str, _challenge: &GraphChallenge) -> Option<NoToken> {
        None
    }

    /// An API wants these claims of the person, whatever token the caller has: they are part of the next sign-in, where this
    /// server knows of it.
    async fn want(&self, _claims: &str) {}

    /// The caller's whole profile of Microsoft Graph, as JSON. It is remembered for a while, for this user only.
    async fn profile(&self, env: &EntraWorld<'_>, tokens: &Source<'_, NoToken>) -> Result<String, GraphError<NoToken>>;
}

/// Why there is no token in the caller's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// It cannot be acquired.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The person at this machine has not signed in.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// Entra ID cannot be asked now. Never [`GraphError::Token`].
    #[error(transparent)]
    Unavailable(GraphError),
}

impl From<GraphError> for NoToken {
    fn from(error: GraphError) -> Self {
        match error.into_token::<AcquireError>() {
            Ok(error) => Self::Acquire(error),
            Err(error) => Self::Unavailable(error),
        }
    }
}

impl NoToken {
    /// The same as an error of a request to Graph with this permission. If consent to the permission is missing, the
    /// error names the permission.
    fn for_permission(self, permission: &'static str) -> GraphError<Self> {
        match self {
            Self::Acquire(AcquireError::Refused(refusal)) if refusal.needs_consent() => {
                GraphError::NotConsented { permission, code: refusal.code }
            }
            Self::Unavailable(error) => {
                error.into_token().map_or_else(|error| error, |error| GraphError::Token(Self::Acquire(error)))
            }
            other => GraphError::Token(other),
        }
    }
}

/// A caller's tokens for Microsoft Graph with one delegated permission.
pub struct Delegated<'a> {
    caller: &'a dyn Caller,
    /// What scopes of Graph are qualified with.
    resource: &'a str,
    permission: &'static str,
}

impl<'a> Delegated<'a> {
    /// Tokens of `caller`. The permission is in the short form.
    pub fn new(settings: &'a Settings, caller: &'a dyn Caller, permission: &'static str) -> Self {
        Self { caller, resource: &settings.graph_resource, permission }
    }

    fn scope(&self) -> String {
        [self.resource, self.permission].join("/")
    }
}

#[async_trait(?Send)]
impl TokenSource for Delegated<'_> {
    type Error = NoToken;

    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError<NoToken>> {
        let token = self.caller.delegated(&self.scope(), challenge).await;
        token.map_err(|error| error.for_permission(self.permission))
    }

    async fn unsatisfied(&self, challenge: &GraphChallenge) -> Option<GraphError<NoToken>> {
        self.caller.unsatisfied(&self.scope(), challenge).await.map(GraphError::Token)
    }
}
