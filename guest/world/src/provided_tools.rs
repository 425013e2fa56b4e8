//! The port of tools that the component offers and does not have itself.

use async_trait::async_trait;
use base::principal::PrincipalKind;

/// A tool, as its author describes it. Texts are as `wit/tool-types.wit` bounds them; the host has checked that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvidedTool {
    /// The name that clients call it by.
    pub name: String,
    /// For people.
    pub title: Option<String>,
    /// For the model.
    pub description: String,
    /// JSON Schema, as JSON.
    pub input_schema: String,
    /// JSON Schema, as JSON.
    pub output_schema: Option<String>,
    /// Its effects.
    pub hints: ToolHints,
}

/// What a tool says about its effects. Nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolHints {
    /// It changes nothing.
    pub read_only: bool,
    /// It may delete or overwrite something.
    pub destructive: bool,
    /// To call it twice changes nothing more.
    pub idempotent: bool,
    /// It reaches something outside of itself.
    pub open_world: bool,
}

/// The caller, as a tool or a server behind the component learns of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCaller {
    /// Directory (tenant) id.
    pub tenant_id: String,
    /// Object id within the tenant.
    pub object_id: String,
    /// The client that calls for it.
    pub client_id: String,
    /// Person or application.
    pub kind: PrincipalKind,
    /// Whether it is an AI agent, for itself or on behalf of a person.
    pub agent: bool,
    /// Scopes in the short form.
    pub scopes: Vec<String>,
    /// Application roles, as far as they are known.
    pub roles: Vec<String>,
    /// Names the call.
    pub correlation_id: String,
}

/// The answer of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolContent {
    /// For the model.
    Text(String),
    /// A JSON object.
    Json(String),
    /// The array `content` of a result, as JSON.
    Blocks(String),
}

/// Why a call of a tool has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The tool refuses the arguments.
    #[error("{0}")]
    InvalidArguments(String),
    /// The tool failed, and says so itself.
    #[error("{0}")]
    Failed(String),
    /// The instance ended. For the log.
    #[error("the tool's instance ended: {0}")]
    Ended(String),
    /// No answer in time.
    #[error("the tool did not answer in time")]
    TimedOut,
    /// The answer is longer than this, in bytes.
    #[error("the tool's answer is longer than {0} bytes")]
    TooLarge(u64),
    /// The tool was refused a token.
    #[error(transparent)]
    Delegation(DelegationError),
    /// No such server, or no place. For the log.
    #[error("the tool cannot be called now: {0}")]
    Unavailable(String),
}

/// What to do about a token that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegationErrorCategory {
    /// The handle is not genuine, or its time is up.
    HandleInvalid,
    /// The settings do not grant it.
    NotGranted,
    /// Entra ID refuses.
    Refused,
    /// The person, or the client, has to bring another token.
    NeedsPerson,
    /// Not known now.
    Unavailable,
}

/// Why there is no token in a caller's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DelegationError {
    /// What to do.
    pub category: DelegationErrorCategory,
    /// Stable reason code.
    pub code: String,
    /// For the caller.
    pub message: String,
    /// What the next token has to have, as JSON.
    pub claims: Option<String>,
    /// When to try again, in seconds.
    pub retry_after: Option<u32>,
}

impl DelegationError {
    /// The code where the caller itself has asked too often: the same as of requests to Graph.
    pub const TOO_MANY: &str = "graph-too-many";
}

/// A call of a provided tool.
#[derive(Debug, Clone, Copy)]
pub struct ToolCall<'a> {
    /// The server that has the tool.
    pub server: &'a str,
    /// The tool.
    pub name: &'a str,
    /// A JSON object.
    pub arguments: &'a str,
    /// The caller.
    pub caller: &'a ToolCaller,
    /// What the host asks for tokens with.
    pub handle: &'a str,
}

/// Tools that the host runs.
#[async_trait(?Send)]
pub trait ProvidedTools {
    /// The tools of a server. They never change.
    async fn list(&self, server: &str) -> Result<Vec<ProvidedTool>, ProviderError>;
    /// Calls one of them.
    async fn call(&self, call: ToolCall<'_>) -> Result<ToolContent, ProviderError>;
}
