//! What a tool may use: the caller, and tokens for what the tool has declared.

use async_trait::async_trait;
use base::principal::PrincipalKind;
use base::{Identity, Secret};
use caller::{Caller, Delegated, NoToken};
use entra::EntraWorld;
use entra::graph::{AppTokens, GraphChallenge, GraphError, TokenSource};

use super::error::ToolError;

/// A permission of Microsoft Graph that a tool asks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// Delegated: what a user's token carries, in the short form.
    delegated: &'static str,
    /// What an administrator has to grant the server's application, for callers that are applications themselves; none
    /// if the tool is about the user that calls it.
    application: Option<&'static str>,
}

impl Permission {
    /// For callers that are users. Graph is asked in their name.
    pub(crate) const fn delegated(permission: &'static str) -> Self {
        Self { delegated: permission, application: None }
    }

    /// For applications that call for themselves as well. Graph is asked with a token of the server's own application
    /// then, which carries all that an administrator has granted: what the tool answers with must be fit for every
    /// caller that its rule admits.
    pub(crate) const fn or_application(self, permission: &'static str) -> Self {
        Self { application: Some(permission), ..self }
    }
}

/// One call of a tool.
pub struct ToolContext<'a> {
    /// The protocol.
    pub env: &'a EntraWorld<'a>,
    /// The caller.
    pub caller: &'a dyn Caller,
    needs: &'static [Permission],
}

impl<'a> ToolContext<'a> {
    pub(super) fn new(env: &'a EntraWorld<'a>, caller: &'a dyn Caller, needs: &'static [Permission]) -> Self {
        Self { env, caller, needs }
    }

    /// Tenant, object and client of a caller of the remote server.
    pub(crate) fn identity(&self) -> Result<Identity<'a>, ToolError> {
        self.caller.identity().ok_or(ToolError::NoIdentity)
    }

    /// The caller's tokens with one of the permissions that the tool has declared.
    pub(crate) fn tokens(&self, permission: &Permission) -> Result<ToolTokens<'a>, ToolError> {
        if !self.needs.contains(permission) {
            return Err(ToolError::Undeclared { permission: permission.delegated });
        }
        match (self.caller.facts(), permission.application) {
            (Some(facts), None) if facts.kind == PrincipalKind::App => Err(ToolError::NoUser),
            (Some(facts), Some(_)) if facts.kind == PrincipalKind::App => {
                Ok(ToolTokens::App(AppTokens { env: self.env, tenant: facts.identity.tenant_id }))
            }
            _ => Ok(ToolTokens::User(Delegated::new(self.env, self.caller, permission.delegated))),
        }
    }
}

/// See [`ToolContext::tokens`].
pub(crate) enum ToolTokens<'a> {
    /// In the name of the user that calls.
    User(Delegated<'a>),
    /// Of the server's own application, in the tenant of the application that calls.
    App(AppTokens<'a>),
}

#[async_trait(?Send)]
impl TokenSource for ToolTokens<'_> {
    type Error = NoToken;

    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError<NoToken>> {
        match self {
            Self::User(tokens) => tokens.token(challenge).await,
            Self::App(tokens) => tokens.token(challenge).await.map_err(|error| match error.into_token() {
                Ok(error) => GraphError::Token(error.into()),
                Err(error) => error,
            }),
        }
    }

    async fn unsatisfied(&self, challenge: &GraphChallenge) -> Option<GraphError<NoToken>> {
        match self {
            Self::User(tokens) => tokens.unsatisfied(challenge).await,
            Self::App(_) => None,
        }
    }

    async fn forbidden(&self) {
        match self {
            Self::User(tokens) => tokens.forbidden().await,
            Self::App(tokens) => tokens.forbidden().await,
        }
    }
}
