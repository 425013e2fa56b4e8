//! The MCP tools, one file each. A tool is one file and one line in [`all`].

mod get_user_details_from_graph;

use async_trait::async_trait;
use rmcp::model::{JsonObject, Tool as Description};
use serde_json::Value;

use crate::environment::{Environment, Outcome};
use crate::graph::{GraphError, TokenSource};
use crate::sign_in::interactive::{self, Presenter, Request};
use crate::sign_in::silent::{self, AccessToken, Challenge};
use crate::sign_in::{SignInError, accounts};
use crate::{audit, graph};

/// Every tool.
pub fn all() -> Vec<Box<dyn Tool>> {
    vec![Box::new(get_user_details_from_graph::GetUserDetailsFromGraph)]
}

/// One MCP tool.
#[async_trait(?Send)]
pub trait Tool {
    /// The name that clients call it by.
    fn name(&self) -> &'static str;
    /// What `tools/list` says about it.
    fn describe(&self) -> Description;
    /// Does the work. The answer is an object that fits the output schema.
    async fn call(&self, call: &Call<'_>, arguments: &JsonObject) -> Result<Value, ToolError>;
}

/// Why a tool has no answer. Shown to the model as `isError`, except for a sign-in that the client goes on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// Graph, or the sign-in that a token for it needs.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl ToolError {
    /// The sign-in part of the error, if that is what it is.
    pub fn sign_in(&self) -> Option<&SignInError> {
        match self {
            Self::Graph(GraphError::SignIn(error)) => Some(error),
            Self::Graph(_) => None,
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> String {
        match self {
            Self::Graph(GraphError::SignIn(error)) => error.reason(),
            Self::Graph(graph::GraphError::Throttled { .. }) => "graph-throttled".to_owned(),
            Self::Graph(graph::GraphError::Unauthorised(_)) => "graph-unauthorised".to_owned(),
            Self::Graph(graph::GraphError::Forbidden(_)) => "graph-forbidden".to_owned(),
            Self::Graph(graph::GraphError::NotFound(_)) => "graph-not-found".to_owned(),
            Self::Graph(graph::GraphError::Refused { .. }) => "graph-refused".to_owned(),
            Self::Graph(graph::GraphError::Unavailable { .. }) => "graph-unavailable".to_owned(),
            Self::Graph(graph::GraphError::Unreachable(_)) => "graph-unreachable".to_owned(),
            Self::Graph(graph::GraphError::Malformed(_)) => "graph-malformed".to_owned(),
            Self::Graph(graph::GraphError::NoToken(_)) => "graph-no-token".to_owned(),
        }
    }
}

/// One call of a tool.
pub struct Call<'a> {
    /// The world.
    pub env: &'a Environment,
    /// How the person behind the client is reached.
    pub presenter: &'a dyn Presenter,
    /// The sign-in attempt that the client has shown its user before it repeated the call.
    pub resumes: Option<&'a str>,
    /// Names the call in logs and audit records.
    pub correlation_id: &'a str,
}

impl Call<'_> {
    /// Tokens for an API, by whichever way works: silently, else by asking the person.
    pub fn tokens(&self, scopes: Vec<String>) -> CallTokens<'_> {
        CallTokens { call: self, scopes }
    }

    /// The account that a token would be for, if that is clear without asking.
    pub fn account(&self) -> Option<String> {
        accounts::choose(self.env, None).ok().map(|account| account.home_account_id)
    }
}

/// See [`Call::tokens`].
pub struct CallTokens<'a> {
    call: &'a Call<'a>,
    scopes: Vec<String>,
}

#[async_trait(?Send)]
impl TokenSource for CallTokens<'_> {
    type Token = AccessToken;

    async fn token(&self, challenge: Option<&Challenge>) -> Result<AccessToken, GraphError> {
        Ok(self.acquire(challenge).await?)
    }
}

impl CallTokens<'_> {
    async fn acquire(&self, challenge: Option<&Challenge>) -> Result<AccessToken, SignInError> {
        let Call { env, presenter, resumes, correlation_id } = *self.call;
        let silent = match accounts::choose(env, None) {
            Ok(account) => silent::acquire(env, &account, &self.scopes, challenge, correlation_id).await,
            Err(error) => Err(error),
        };
        let Err(SignInError::InteractionRequired { claims, .. }) = silent else {
            return silent;
        };
        let request = Request {
            scopes: self.scopes.clone(),
            login_hint: None,
            claims,
            select_account: false,
            correlation_id,
            resumes,
        };
        let account = interactive::sign_in(env, &request, presenter).await?;
        if let Some(wanted) = env.settings.sign_in.account.as_deref()
            && wanted != account.home_account_id
            && wanted != account.username
        {
            return Err(SignInError::AccountSelection(
                "Another account than the one in the setting `account` signed in: sign in with that one, or change \
                 the setting."
                    .to_owned(),
            ));
        }
        silent::acquire(env, &account, &self.scopes, challenge, correlation_id).await
    }
}

/// Calls a tool and records that it was called.
pub async fn call(tool: &dyn Tool, call: &Call<'_>, arguments: &JsonObject) -> Result<Value, ToolError> {
    let result = tool.call(call, arguments).await;
    let (outcome, reason) = match &result {
        Ok(_) => (Outcome::Success, None),
        Err(error) if matches!(error.sign_in(), Some(SignInError::Deferred { .. })) => {
            (Outcome::Started, Some(error.reason()))
        }
        Err(error) => (Outcome::Failure, Some(error.reason())),
    };
    let event = audit::event(call.env, "tool.called", outcome, call.correlation_id);
    let event = crate::environment::AuditEvent { tool: Some(tool.name().to_owned()), reason, ..event };
    audit::record(call.env, event).map_err(GraphError::SignIn)?;
    result
}
