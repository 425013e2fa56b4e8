//! What a tool may use: the caller, and tokens for what the tool has declared.

use std::time::Duration;

use async_trait::async_trait;
use base::principal::PrincipalKind;
use base::{Identity, Secret};
use caller::{Caller, Delegated, NoToken};
use entra::EntraWorld;
use entra::graph::{AppTokens, GraphChallenge, GraphError, TokenSource};
use world::Clock;

use super::error::ToolError;
use super::graph_bounds::GraphBounds;

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
    bounds: Option<GraphBounds<'a>>,
    needs: &'static [Permission],
}

impl<'a> ToolContext<'a> {
    pub(super) fn new(
        env: &'a EntraWorld<'a>,
        caller: &'a dyn Caller,
        bounds: Option<GraphBounds<'a>>,
        needs: &'static [Permission],
    ) -> Self {
        Self { env, caller, bounds, needs }
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
        let whose = match (self.caller.facts(), permission.application) {
            (Some(facts), None) if facts.kind == PrincipalKind::App => return Err(ToolError::NoUser),
            (Some(facts), Some(_)) if facts.kind == PrincipalKind::App => {
                Whose::App(AppTokens { env: self.env, tenant: facts.identity.tenant_id })
            }
            _ => Whose::User(Delegated::new(self.env.settings, self.caller, permission.delegated)),
        };
        Ok(ToolTokens { whose, bounds: self.bounds })
    }
}

/// See [`ToolContext::tokens`].
pub(crate) struct ToolTokens<'a> {
    whose: Whose<'a>,
    /// None of the person at this machine.
    bounds: Option<GraphBounds<'a>>,
}

enum Whose<'a> {
    /// In the name of the user that calls.
    User(Delegated<'a>),
    /// Of the server's own application, in the tenant of the application that calls.
    App(AppTokens<'a>),
}

#[async_trait(?Send)]
impl TokenSource for ToolTokens<'_> {
    type Error = NoToken;

    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError<NoToken>> {
        match &self.whose {
            Whose::User(tokens) => tokens.token(challenge).await,
            Whose::App(tokens) => tokens.token(challenge).await.map_err(|error| match error.into_token() {
                Ok(error) => GraphError::Token(error.into()),
                Err(error) => error,
            }),
        }
    }

    async fn unsatisfied(&self, challenge: &GraphChallenge) -> Option<GraphError<NoToken>> {
        match &self.whose {
            Whose::User(tokens) => tokens.unsatisfied(challenge).await,
            Whose::App(_) => None,
        }
    }

    async fn forbidden(&self) {
        match &self.whose {
            Whose::User(tokens) => tokens.forbidden().await,
            Whose::App(tokens) => tokens.forbidden().await,
        }
    }

    async fn admit(&self) -> Result<(), GraphError<NoToken>> {
        match &self.bounds {
            Some(bounds) => bounds.admit().await.map_err(GraphError::TooMany),
            None => Ok(()),
        }
    }

    async fn wait(&self, clock: &dyn Clock, pause: Duration) -> bool {
        match &self.bounds {
            Some(bounds) => bounds.wait(clock, pause).await,
            None => {
                clock.sleep(pause).await;
                true
            }
        }
    }
}
