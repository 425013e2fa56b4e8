//! Tokens for Microsoft Graph, of one session.

use async_trait::async_trait;

use super::entra::{self, Scope, Wanted};
use super::{Session, lifecycle};
use crate::environment::Environment;
use crate::graph::{Delegated, GraphError, TokenSource};
use crate::secret::Secret;
use crate::sign_in::silent::Challenge;

/// The person of a session, as one whom tokens for Graph can be got for.
///
/// The tokens are the session's own, refreshed when they are about to expire or were refused. They fail with
/// `GraphError::SignIn(SignInError::InteractionRequired { .. })` when Entra wants the person again. The session has ended
/// then, and its client has to sign in: answer 401 with a challenge.
pub struct Person<'a> {
    /// The world.
    pub env: &'a Environment,
    /// Whose session it is.
    pub session: &'a Session,
    /// Names the call in logs and audit records.
    pub correlation_id: &'a str,
}

impl Delegated for Person<'_> {
    fn tokens(&self, scope: String) -> Box<dyn TokenSource<Token = Secret<String>> + '_> {
        Box::new(SessionTokens { person: self, scope: Scope::of(self.env, scope) })
    }
}

struct SessionTokens<'a> {
    person: &'a Person<'a>,
    scope: Scope,
}

#[async_trait(?Send)]
impl TokenSource for SessionTokens<'_> {
    type Token = Secret<String>;

    async fn token(&self, challenge: Option<&Challenge>) -> Result<Secret<String>, GraphError> {
        let Person { env, session, correlation_id } = *self.person;
        let (owner, wanted) = (session.owner(), challenge.map_or(Wanted::Live, Wanted::Other));
        let live = entra::live_for(env, &session.id, &owner, &self.scope, wanted, correlation_id).await?;
        lifecycle::note(env, session, &live.membership);
        Ok(live.access_token)
    }
}
