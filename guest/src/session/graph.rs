//! Tokens for Microsoft Graph, of one session.

use async_trait::async_trait;

use super::Session;
use crate::environment::Environment;
use crate::graph::{GraphError, TokenSource};
use crate::secret::Secret;
use crate::sign_in::SignInError;
use crate::sign_in::silent::Challenge;

/// Gives the session's own token for Graph.
pub fn tokens<'a>(_env: &'a Environment, _session: &'a Session, _correlation_id: &'a str) -> SessionTokens<'a> {
    SessionTokens(std::marker::PhantomData)
}

/// See [`tokens`].
pub struct SessionTokens<'a>(std::marker::PhantomData<&'a ()>);

#[async_trait(?Send)]
impl TokenSource for SessionTokens<'_> {
    type Token = Secret<String>;

    async fn token(&self, _challenge: Option<&Challenge>) -> Result<Secret<String>, GraphError> {
        let reason = "The session has ended: sign in again.".to_owned();
        Err(SignInError::InteractionRequired { reason, claims: None }.into())
    }
}
