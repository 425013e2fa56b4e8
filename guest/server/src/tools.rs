//! The MCP tools, one file each: see `docs/adding-a-tool.md`.

mod arguments;
#[macro_use]
mod catalog;
#[cfg(test)]
mod tests;

pub use arguments::ArgumentError;

use std::sync::Arc;

use async_trait::async_trait;
use base::Identity;
use base::audit::{AuditEvent, Outcome};
use base::policy::{Denial, Name, Rule};
use base::settings::HttpSettings;
use caller::local::interactive::{self, Presenter, Request};
use caller::local::silent::{self, AccessToken};
use caller::local::{PersonWorld, SignInError, accounts};
use entra::graph::error::Evidence;
use entra::graph::{AppTokens, Challenge, Delegated, GraphError, TokenSource, UserTokens};
use entra::{AcquireError, EntraWorld};
use rmcp::model::{JsonObject, Tool as Description, ToolAnnotations};
use serde::Serialize;
use serde_json::{Value, json};
use world::Unrecorded;

/// The audit event of a call.
const TOOL_CALLED: &str = "tool.called";

// A tool is a file and a line here: its module, its type, and the servers that have it, in the order of `tools/list`.
tools! {
    get_user_details::GetUserDetails => remote;
    get_user_details_from_graph::GetUserDetailsFromGraph => local remote;
    list_my_groups::ListMyGroups => remote;
    find_user::FindUser => remote;
}

/// One MCP tool.
pub trait Tool {
    /// The name that clients call it by.
    fn name(&self) -> &'static str;
    /// What `tools/list` says about it.
    fn describe(&self) -> Description;
}

/// What a tool is called where people read it.
pub fn title(tool: &dyn RemoteTool) -> String {
    let Description { title, name, .. } = tool.describe();
    title.unwrap_or_else(|| name.into_owned())
}

/// A tool for the person at this machine.
#[async_trait(?Send)]
pub trait LocalTool: Tool {
    /// Does the work. The answer is an object that fits the output schema, as JSON.
    async fn call(&self, call: &LocalCall<'_>, arguments: &JsonObject) -> Result<String, ToolError>;
}

/// A tool for a remote client. It gets who calls, and nothing of the sign-in of people at this machine: there is none.
#[async_trait(?Send)]
pub trait RemoteTool: Tool {
    /// Who may call it, unless the settings have rules. There is no default: every tool has to say.
    fn rule(&self) -> Rule;
    /// Does the work. The answer is an object that fits the output schema, as JSON.
    async fn call(&self, call: &RemoteCall<'_>, arguments: &JsonObject) -> Result<String, ToolError>;
}

/// Why a tool has no answer. Shown to the model as `isError`, except for a sign-in that a client goes on with:
/// [`SignInError::Deferred`] in a local call, [`AcquireError::NeedsPerson`] in a remote one.
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
    /// The tool is about a user, and an application calls for itself.
    #[error(
        "this tool is about the user who calls it, and the access token stands for an application (app-only): call it \
         with a token that the application got on behalf of a user"
    )]
    NoUser,
    /// The arguments are not what the input schema says.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// The caller may not call the tool.
    #[error("you may not call this tool: {0}")]
    Denied(#[from] Denial),
}

impl ToolError {
    /// The sign-in part of the error of a local call, if that is what it is.
    pub fn sign_in(&self) -> Option<&SignInError> {
        match self {
            Self::SignIn(error) => Some(error),
            Self::Graph(_) | Self::Unrecorded(_) | Self::NoUser | Self::Arguments(_) | Self::Denied(_) => None,
        }
    }

    /// Whether only the user of a remote call can bring what is missing; the claims challenge to sign in with, if any.
    pub fn needs_person(&self) -> Option<Option<&str>> {
        match self {
            Self::Graph(GraphError::Token(AcquireError::NeedsPerson { claims, .. })) => Some(claims.as_deref()),
            _ => None,
        }
    }

    /// What may be said to the clients of a server: not why it cannot reach another one.
    pub fn public(&self) -> String {
        match self {
            Self::Graph(GraphError::Token(error)) => error.public(),
            Self::SignIn(error) => error.public(),
            Self::Unrecorded(_) => Unrecorded::PUBLIC.to_owned(),
            Self::Graph(GraphError::Unreachable(_) | GraphError::NoToken(_) | GraphError::NotAsked(_)) => {
                "Microsoft Graph cannot be asked now. Try again later.".to_owned()
            }
            Self::NoUser | Self::Arguments(_) | Self::Denied(_) => self.to_string(),
            Self::Graph(error) => error.to_string(),
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> String {
        match self {
            Self::Graph(GraphError::Token(error)) => error.reason(),
            Self::SignIn(error) => error.reason(),
            Self::Unrecorded(_) => "audit".to_owned(),
            Self::Graph(GraphError::Throttled { .. }) => "graph-throttled".to_owned(),
            Self::Graph(GraphError::Unauthorised(_)) => "graph-unauthorised".to_owned(),
            Self::Graph(GraphError::Forbidden(_)) => "graph-forbidden".to_owned(),
            Self::Graph(GraphError::NotFound(_)) => "graph-not-found".to_owned(),
            Self::Graph(GraphError::Refused { .. }) => "graph-refused".to_owned(),
            Self::Graph(GraphError::Unavailable { .. }) => "graph-unavailable".to_owned(),
            Self::Graph(GraphError::Unreachable(_)) => "graph-unreachable".to_owned(),
            Self::Graph(GraphError::Malformed(_)) => "graph-malformed".to_owned(),
            Self::Graph(GraphError::NoToken(_)) => "graph-no-token".to_owned(),
            Self::Graph(GraphError::NotAsked(_)) => "graph-unavailable".to_owned(),
            Self::Graph(GraphError::NotConsented { .. }) => "graph-not-consented".to_owned(),
            Self::NoUser => "no-user".to_owned(),
            Self::Arguments(_) => "arguments".to_owned(),
            Self::Denied(denial) => denial.reason().to_owned(),
        }
    }
}

impl From<GraphError<SignInError>> for ToolError {
    fn from(error: GraphError<SignInError>) -> Self {
        match error.into_token() {
            Ok(error) => Self::SignIn(error),
            Err(error) => Self::Graph(error),
        }
    }
}

/// One call of a remote tool.
pub struct RemoteCall<'a> {
    /// The world.
    pub env: &'a EntraWorld<'a>,
    /// Who calls.
    pub who: Identity<'a>,
    /// The user who calls; none if no user does, but an application for itself.
    pub user: Option<&'a dyn Delegated>,
}

impl<'a> RemoteCall<'a> {
    /// Tokens of the user who calls that carry a delegated permission of Graph (`User.Read` …), for a tool that is
    /// about that user.
    pub fn user_tokens(&self, permission: &'static str) -> Result<UserTokens<'a>, ToolError> {
        let user = self.user.ok_or(ToolError::NoUser)?;
        Ok(UserTokens::new(user, &self.env.settings.graph_resource, permission))
    }

    /// Tokens of our own application in the tenant of whoever calls, for a tool that applications may call for
    /// themselves. They carry all that an administrator of that tenant has granted: what the tool answers with must be
    /// fit for everybody whom it lets in.
    pub fn app_tokens(&self) -> AppTokens<'a> {
        AppTokens { env: self.env, tenant: self.who.tenant_id }
    }
}

/// One call of a local tool.
pub struct LocalCall<'a> {
    /// The world.
    pub person: &'a PersonWorld<'a>,
    /// How the person behind the client is reached.
    pub presenter: &'a dyn Presenter,
    /// The sign-in attempt that the client has shown its user before it repeated the call.
    pub resumes: Option<&'a str>,
}

impl LocalCall<'_> {
    /// Tokens for an API, by whichever way works: silently, else by asking the person.
    pub fn tokens(&self, scopes: Vec<String>) -> CallTokens<'_> {
        CallTokens { call: self, scopes }
    }

    /// The account that a token would be for, if that is clear without asking.
    pub async fn account(&self) -> Option<String> {
        accounts::choose(self.person, None).await.ok().map(|account| account.home_account_id)
    }
}

/// See [`LocalCall::tokens`].
pub struct CallTokens<'a> {
    call: &'a LocalCall<'a>,
    scopes: Vec<String>,
}

#[async_trait(?Send)]
impl TokenSource for CallTokens<'_> {
    type Token = AccessToken;
    type Error = SignInError;

    async fn token(&self, challenge: Option<&Challenge>) -> Result<AccessToken, GraphError<SignInError>> {
        Ok(self.acquire(challenge).await?)
    }
}

impl CallTokens<'_> {
    async fn acquire(&self, challenge: Option<&Challenge>) -> Result<AccessToken, SignInError> {
        let LocalCall { person, presenter, resumes } = *self.call;
        let env = &person.entra;
        let silent = match accounts::choose(person, None).await {
            Ok(account) => silent::acquire(env, &account, &self.scopes, challenge).await,
            Err(error) => Err(error),
        };
        let Err(SignInError::InteractionRequired { claims, .. }) = silent else {
            return silent;
        };
        let request = Request { scopes: self.scopes.clone(), login_hint: None, claims, select_account: false, resumes };
        let account = interactive::sign_in(person, &request, presenter).await?;
        if let Some(wanted) = person.settings.account.as_deref()
            && wanted != account.home_account_id
            && wanted != account.username
        {
            return Err(SignInError::AccountSelection(
                "Another account than the one in the setting `account` signed in: sign in with that one, or change \
                 the setting."
                    .to_owned(),
            ));
        }
        silent::acquire(env, &account, &self.scopes, challenge).await
    }
}

/// Calls a local tool and records that it was called.
pub async fn call_local(
    tool: &dyn LocalTool,
    call: &LocalCall<'_>,
    arguments: &JsonObject,
) -> Result<String, ToolError> {
    let env = &call.person.entra;
    let began = env.clock.monotonic();
    let result = tool.call(call, arguments).await;
    let (outcome, reason) = match &result {
        Ok(_) => (Outcome::Success, None),
        Err(error) if matches!(error.sign_in(), Some(SignInError::Deferred { .. })) => {
            (Outcome::Started, Some(error.reason()))
        }
        Err(error) => (Outcome::Failure, Some(error.reason())),
    };
    let event = env.trail.event(TOOL_CALLED, outcome);
    let event = AuditEvent { tool: Some(tool.name().to_owned()), reason, ..event };
    env.trail.record(event.lasting(env.clock.monotonic().saturating_sub(began))).await?;
    result
}

/// Calls a remote tool and records that it was called, by whom and with which client.
pub async fn call_remote(
    tool: &dyn RemoteTool,
    call: &RemoteCall<'_>,
    arguments: &JsonObject,
) -> Result<String, ToolError> {
    let env = call.env;
    let began = env.clock.monotonic();
    let result = tool.call(call, arguments).await;
    let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Failure };
    let event = AuditEvent {
        reason: result.as_ref().err().map(ToolError::reason),
        tool: Some(tool.name().to_owned()),
        ..AuditEvent::new(TOOL_CALLED, outcome)
    };
    let took = env.clock.monotonic().saturating_sub(began);
    env.trail.record(call.who.attribute(event).lasting(took)).await?;
    result
}

/// The tools that people may be let call, whatever else it takes: what a client that acts in somebody's name may use.
pub fn of_users(settings: &HttpSettings) -> Vec<&'static dyn RemoteTool> {
    let lets_people = |tool: &&dyn RemoteTool| match &settings.access {
        Some(rules) => rules.iter().any(|rule| rule.tool == tool.name() && rule.rule.users),
        None => tool.rule().users,
    };
    remote().into_iter().filter(lets_people).collect()
}

/// All scopes that a rule asks for besides that of the server, in the short form: what a client may ask our
/// authorization server for. In the order of the rules.
pub fn scopes(settings: &HttpSettings) -> Vec<Name> {
    let mut scopes = Vec::new();
    let mut add = |rule: &Rule| {
        for scope in rule.scopes.iter().filter(|scope| **scope != settings.required_scope) {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
    };
    match &settings.access {
        Some(rules) => rules.iter().for_each(|rule| add(&rule.rule)),
        None => remote().iter().for_each(|tool| add(&tool.rule())),
    }
    scopes
}

/// A string, or null. Not a list of types: some clients map schemas to a dialect that knows only one.
fn nullable_string() -> Value {
    json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] })
}

/// The schema of a list of directory objects, with their `id` and these properties, that may be a part of it only.
fn list_of(name: &str, at_most: usize, properties: &[&str]) -> Arc<JsonObject> {
    let mut of_item: JsonObject =
        properties.iter().map(|property| ((*property).to_owned(), nullable_string())).collect();
    of_item.insert("id".to_owned(), json!({ "type": "string" }));
    let required: Vec<&String> = of_item.keys().collect();
    let item = json!({ "type": "object", "required": required, "properties": of_item });
    let truncated = json!({ "type": "boolean", "description": "There are more than these." });
    object(json!({
        "type": "object",
        "properties": { name: { "type": "array", "maxItems": at_most, "items": item }, "truncated": truncated },
        "required": [name, "truncated"],
    }))
}

/// The annotations of a tool that reads from Microsoft Graph and changes nothing.
fn reads(title: &str) -> ToolAnnotations {
    ToolAnnotations::with_title(title).read_only(true).destructive(false).idempotent(true).open_world(true)
}

/// What a tool answers with, as JSON.
fn answer(value: &impl Serialize) -> Result<String, ToolError> {
    serde_json::to_string(value).map_err(|_| ToolError::Graph(GraphError::Malformed(Evidence::default())))
}

/// An object of a schema.
fn object(value: Value) -> Arc<JsonObject> {
    match value {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}
