//! Tokens for Graph in the name of a user who calls a remote server, whichever way they came.

use async_trait::async_trait;
use base::Secret;

use super::client::{Challenge, Source, TokenSource};
use super::error::GraphError;
use crate::acquire::AcquireError;

/// A user, whom tokens for Graph can be got for.
pub trait Delegated {
    /// Tokens that carry a permission of Graph. `scope` is qualified by the resource, as Entra wants it.
    fn tokens(&self, scope: String) -> Box<Source<'_>>;
}

/// A user's tokens with one permission. Where nobody has consented to it, that is said with its name.
pub struct UserTokens<'a> {
    user: &'a dyn Delegated,
    resource: &'a str,
    permission: &'static str,
}

impl<'a> UserTokens<'a> {
    /// Tokens of `user`. `permission` is in the short form, and `resource` is what scopes of Graph are qualified with.
    pub fn new(user: &'a dyn Delegated, resource: &'a str, permission: &'static str) -> Self {
        Self { user, resource, permission }
    }

    fn source(&self) -> Box<Source<'a>> {
        self.user.tokens([self.resource, self.permission].join("/"))
    }
}

#[async_trait(?Send)]
impl TokenSource for UserTokens<'_> {
    type Token = Secret<String>;
    type Error = AcquireError;

    async fn token(&self, challenge: Option<&Challenge>) -> Result<Secret<String>, GraphError> {
        self.source().token(challenge).await.map_err(|error| match error {
            GraphError::Token(AcquireError::Refused(refusal)) if refusal.needs_consent() => {
                GraphError::NotConsented { permission: self.permission, code: refusal.code }
            }
            other => other,
        })
    }

    async fn unsatisfied(&self, challenge: &Challenge) -> Option<GraphError> {
        self.source().unsatisfied(challenge).await
    }
}
