//! The principal of a token. Data only: the `ValidatedToken` around it is the proof.

use std::fmt;

/// Whether a person or an application stands behind a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A delegated token: an application acts for a person.
    User,
    /// An app-only token: an application acts for itself.
    App,
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "a user",
            Self::App => "an application",
        })
    }
}

/// A kind of caller, as rules and requirements name it. Each token is of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerKind {
    /// A person, and no agent.
    User,
    /// An application for itself, and no agent.
    App,
    /// An AI agent, in whatever form: on behalf of a person, for itself, or as a user account of its own.
    Agent,
}

impl CallerKind {
    /// As in settings and output.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::App => "app",
            Self::Agent => "agent",
        }
    }
}

impl From<PrincipalKind> for CallerKind {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::User => Self::User,
            PrincipalKind::App => Self::App,
        }
    }
}

impl fmt::Display for CallerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "a user",
            Self::App => "an application",
            Self::Agent => "an AI agent",
        })
    }
}

/// Security groups of a principal.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Groups {
    /// The token says nothing about groups.
    #[default]
    Absent,
    /// Object ids of the groups.
    Listed(Vec<String>),
    /// More than fit into a token: Microsoft Graph has to be asked.
    Overage,
}

/// How an AI agent (Microsoft Entra Agent ID) takes part in a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AgentRole {
    /// The agent acts on behalf of a person: the token stands for that person.
    OnBehalfOfUser,
    /// The agent acts for itself, with application roles.
    Autonomous,
    /// The token stands for a user account that belongs to an agent, not to a person.
    AgentUser,
    /// The token names an agent's blueprint, and says nothing else of the agent.
    Unknown,
}

impl AgentRole {
    /// As in audit records.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnBehalfOfUser => "on-behalf-of-user",
            Self::Autonomous => "autonomous",
            Self::AgentUser => "agent-user",
            Self::Unknown => "unknown",
        }
    }
}

/// The AI agent that a token was issued to, for records. Of it, [`Principal`] has how the agent takes part, and not the
/// blueprint, so that no rule can look at that.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Agent {
    /// How the agent takes part.
    pub role: AgentRole,
    /// `xms_par_app_azp`: the application that the agent was made from. A GUID.
    pub blueprint: Option<String>,
}

/// The user or application that a token stands for. Tenant id and object id identify a user; nothing else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// `tid`.
    pub tenant_id: String,
    /// `oid`.
    pub object_id: String,
    /// `sub`; differs from application to application.
    pub subject: String,
    /// `azp`, or `appid` in version 1: the application that obtained the token.
    pub client_id: String,
    /// Person or application.
    pub kind: PrincipalKind,
    /// `scp`, split; empty for an application.
    pub scopes: Vec<String>,
    /// `roles`.
    pub roles: Vec<String>,
    /// `groups`, or their overage.
    pub groups: Groups,
    /// `uti`, else `jti`: what Entra ID calls the token in its own logs.
    pub token_id: Option<String>,
    /// `iat`, Unix time in seconds.
    pub issued_at: u64,
    /// `exp`, Unix time in seconds.
    pub expires_at: u64,
    /// The user's home is another identity provider.
    pub guest: bool,
    /// How an AI agent takes part, by the facets in the token alone. Never [`AgentRole::Unknown`]: a token that names no more
    /// than a blueprint is judged like any other.
    pub agent: Option<AgentRole>,
    /// `acrs`: the authentication contexts that the person's sign-in has satisfied.
    pub contexts: Vec<String>,
    /// 1 or 2.
    pub token_version: u8,
}

impl Principal {
    /// The kind by which rules name the caller.
    pub fn caller_kind(&self) -> CallerKind {
        if self.agent.is_some() { CallerKind::Agent } else { self.kind.into() }
    }
}
