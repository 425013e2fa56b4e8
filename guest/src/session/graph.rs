//! Tokens for Microsoft Graph, of one session.

use async_trait::async_trait;

use super::entra::{self, Wanted};
use super::{Session, lifecycle};
use crate::environment::Environment;
use crate::graph::{GraphError, TokenSource};
use crate::secret::Secret;
use crate::sign_in::silent::Challenge;

/// Gives the session's own token for Graph, refreshed when it is about to expire or was refused.
///
/// Fails with `GraphError::SignIn(SignInError::InteractionRequired { .. })` when Entra wants the person again. The
/// session has ended then, and its client has to sign in: answer 401 with a challenge.
pub fn tokens<'a>(env: &'a Environment, session: &'a Session, correlation_id: &'a str) -> SessionTokens<'a> {
    SessionTokens { env, session, correlation_id }
}

/// See [`tokens`].
pub struct SessionTokens<'a> {
    env: &'a Environment,
    session: &'a Session,
    correlation_id: &'a str,
}

#[async_trait(?Send)]
impl TokenSource for SessionTokens<'_> {
    type Token = Secret<String>;

    async fn token(&self, challenge: Option<&Challenge>) -> Result<Secret<String>, GraphError> {
        let Self { env, session, correlation_id } = *self;
        let wanted = challenge.map_or(Wanted::Live, Wanted::Other);
        let tokens = entra::live(env, &session.id, &session.owner(), wanted, correlation_id).await?;
        lifecycle::note(env, session, &tokens.membership);
        Ok(tokens.access_token)
    }

    async fn unsatisfied(&self, challenge: &Challenge) -> Option<GraphError> {
        let Self { env, session, correlation_id } = *self;
        let ended = entra::unsatisfied(env, &session.id, &session.owner(), challenge, correlation_id);
        Some(ended.unwrap_or_else(|error| error).into())
    }
}
