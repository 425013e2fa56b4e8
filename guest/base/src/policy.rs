//! Rules that say which caller may call which tool, and the reasons for a refusal. The server decides by them.

use std::borrow::Cow;
use std::fmt;

use crate::principal::PrincipalKind;

/// A name in a rule: a tool states it, or the settings do.
pub type Name = Cow<'static, str>;

/// What the caller of a tool has to be. Every requirement has to hold; of a list one entry is enough, except for
/// `scopes`. `None` means that the property does not matter; an empty list admits no caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The tenants that the rule is for. A rule that names the caller's tenant takes the place of those that name none.
    pub tenants: Option<Vec<Name>>,
    /// Lets people call, with whatever client.
    pub users: bool,
    /// Lets applications call for themselves (app-only tokens).
    pub apps: bool,
    /// Lets AI agents call, in whatever form: on behalf of a person, for themselves, or as users of their own. Neither
    /// `users` nor `apps` is about them.
    pub agents: bool,
    /// Client ids.
    pub clients: Option<Vec<Name>>,
    /// Application roles.
    pub roles: Option<Vec<Name>>,
    /// Object ids of groups.
    pub groups: Option<Vec<Name>>,
    /// Scopes in the short form, all of which a user's client needs. An application has none, and needs none: what it
    /// may do follows from its roles.
    pub scopes: Vec<Name>,
    /// Authentication contexts, such as `c1`, of which the person's sign-in has to satisfy one. With them, no application is
    /// let in that acts for itself.
    pub contexts: Option<Vec<Name>>,
}

impl Rule {
    /// Lets every user call, and no application and no agent.
    pub fn users() -> Self {
        Self {
            tenants: None,
            users: true,
            apps: false,
            agents: false,
            clients: None,
            roles: None,
            groups: None,
            scopes: Vec::new(),
            contexts: None,
        }
    }

    /// Lets users and applications call.
    pub fn users_and_apps() -> Self {
        Self { apps: true, ..Self::users() }
    }

    /// One of these application roles is needed as well.
    #[must_use]
    pub fn with_any_role(self, roles: &[&'static str]) -> Self {
        Self { roles: Some(names(roles)), ..self }
    }

    /// All of these scopes are needed as well, if a user calls.
    #[must_use]
    pub fn with_scopes(self, scopes: &[&'static str]) -> Self {
        Self { scopes: names(scopes), ..self }
    }

    /// Whether it names this tenant.
    pub fn is_for(&self, tenant_id: &str) -> bool {
        self.tenants.as_ref().is_some_and(|tenants| has(tenants, tenant_id))
    }
}

/// Names that a program states.
pub fn names(names: &[&'static str]) -> Vec<Name> {
    names.iter().copied().map(Cow::Borrowed).collect()
}

/// Whether a name is among these. Compared exactly.
pub fn has(names: &[Name], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

/// What a tool itself says about its callers.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The name that clients call it by.
    pub tool: &'static str,
    /// Whether guests of a tenant may call it. No rule and no role changes that.
    pub guests: bool,
    /// Which callers may call it, unless the settings have rules.
    pub rule: fn() -> Rule,
}

/// The name in a rule that stands for everything of its kind which has no rule of its own. Of servers behind the component
/// only.
pub const EVERYTHING: &str = "*";

/// What of an MCP server a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A tool, by its name.
    #[default]
    Tool,
    /// A resource, by its URI, or a template of resources, by its URI template.
    Resource,
    /// A prompt, by its name.
    Prompt,
    /// Completion of an argument, by the name of the prompt or the URI (template) of the resource that it is for.
    Completion,
    /// Something about tasks, by what is done: `get`, `list`, `result`, `cancel`, `update`.
    Task,
}

impl TargetKind {
    /// As in settings and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Completion => "completion",
            Self::Task => "task",
        }
    }

    /// As in a sentence about one of them.
    fn this(self) -> &'static str {
        match self {
            Self::Tool => "this tool",
            Self::Resource => "this resource",
            Self::Prompt => "this prompt",
            Self::Completion => "this completion",
            Self::Task => "this operation on tasks",
        }
    }

    /// What a caller that is denied it may not do, after "you may not".
    fn denied_use(self) -> &'static str {
        match self {
            Self::Tool => "call this tool",
            Self::Resource => "use this resource",
            Self::Prompt => "use this prompt",
            Self::Completion => "ask for this completion",
            Self::Task => "do this with tasks",
        }
    }
}

/// Something that a server behind the component has, and that a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The server, by its name in the settings.
    pub server: &'a str,
    /// What it is.
    pub kind: TargetKind,
    /// Its name, as the request has it.
    pub name: &'a str,
}

/// A rule of the settings. Of several for one tool one has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRule {
    /// The server behind the component that it is about. `None`: any, and the component's own tools.
    pub server: Option<Name>,
    /// What it is about. The component's own tools look at [`TargetKind::Tool`] only.
    pub kind: TargetKind,
    /// The tool, or what else has that kind. One that does not exist permits nothing.
    pub tool: Name,
    /// What its callers have to be.
    pub rule: Rule,
}

/// Why a caller may not call a tool, or use what else a server behind the component has. The texts are for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The settings have rules, and none for this tool.
    NotListed,
    /// All rules are for other tenants.
    TenantNotAllowed {
        /// The caller's.
        tenant_id: String,
    },
    /// Only people may call, or only applications.
    KindNotAllowed {
        /// The caller's.
        actual: PrincipalKind,
    },
    /// The caller is an AI agent, and no rule names agents.
    AgentNotAllowed,
    /// Another client has to be used.
    ClientNotAllowed {
        /// The caller's.
        client_id: String,
    },
    /// The caller is a guest of the tenant, and the tool is closed to guests.
    GuestNotAllowed,
    /// No role fits.
    RoleMissing {
        /// Those of which one is needed.
        any_of: Vec<Name>,
    },
    /// No group fits.
    GroupMissing {
        /// Object ids of those of which one is needed.
        any_of: Vec<Name>,
    },
    /// What the session knows of roles and groups is too old, and Entra ID does not say now what they are.
    MembershipUnconfirmed {
        /// For the log.
        reason: String,
    },
    /// The token does not list the groups, and Microsoft Graph does not say now which they are.
    GroupsUnavailable {
        /// For the log, which has it.
        reason: String,
    },
    /// Only scopes are missing: the client can ask for them.
    ScopesMissing {
        /// All that are needed, in the short form.
        required: Vec<Name>,
    },
    /// Only an authentication context is missing: the person can satisfy it by another sign-in.
    ContextMissing {
        /// Those of which one is needed; another sign-in is asked for the first.
        any_of: Vec<Name>,
    },
    /// The name is not one that has a rule, and a server may take it for one that has.
    NameAmbiguous,
    /// Entra ID was asked for roles and groups, and wants the person again.
    SessionEnded,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about(TargetKind::Tool))
    }
}

fn list(names: &[Name]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

impl ToolRule {
    /// A rule for a tool, of whatever server.
    pub fn for_tool(tool: impl Into<Name>, rule: Rule) -> Self {
        Self { server: None, kind: TargetKind::Tool, tool: tool.into(), rule }
    }

    /// Whether the rule is about things of this server and kind.
    pub fn is_about(&self, server: &str, kind: TargetKind) -> bool {
        self.kind == kind && self.server.as_ref().is_none_or(|named| named == server)
    }
}

impl Denial {
    /// What the caller is told that asked for something of this kind.
    pub fn told(&self, kind: TargetKind) -> String {
        format!("you may not {}: {}", kind.denied_use(), self.about(kind))
    }

    /// The reason, about something of this kind.
    fn about(&self, kind: TargetKind) -> String {
        let this = kind.this();
        match self {
            Self::NotListed => format!("{this} is not offered"),
            Self::TenantNotAllowed { tenant_id } => {
                format!("{this} is not open to your organisation (tenant {tenant_id})")
            }
            Self::KindNotAllowed { actual: PrincipalKind::User } => {
                format!("{this} is for applications or AI agents, and the caller is a user")
            }
            Self::AgentNotAllowed => {
                format!(
                    "{this} is not open to AI agents, and the access token is one of an agent (Microsoft Entra Agent ID)"
                )
            }
            Self::KindNotAllowed { actual: PrincipalKind::App } => format!(
                "{this} is for users, and the access token stands for an application (app-only): come with a token that the \
                 application got on behalf of a user"
            ),
            Self::ClientNotAllowed { client_id } => format!("{this} is not open to the client {client_id:?}"),
            Self::GuestNotAllowed => format!("{this} is not open to guests of an organisation, whatever their role"),
            Self::RoleMissing { any_of } => {
                format!("{this} needs one of the application roles {}: ask an administrator to assign it", list(any_of))
            }
            Self::GroupMissing { any_of } => {
                format!("{this} is for members of one of the groups {}: ask an administrator to add you", list(any_of))
            }
            Self::MembershipUnconfirmed { .. } => format!(
                "your roles and groups cannot be confirmed by Microsoft Entra ID now, and {this} needs certain ones: try \
                 again later"
            ),
            Self::GroupsUnavailable { .. } => format!(
                "your groups cannot be read from Microsoft Graph now, and {this} is for members of certain groups: try \
                 again later"
            ),
            Self::ScopesMissing { required } => format!("{this} needs the scopes {}", list(required)),
            Self::ContextMissing { any_of } => format!(
                "{this} needs a sign-in with the authentication context {}: sign in once more",
                any_of.first().map_or_else(String::new, |context| list(std::slice::from_ref(context)))
            ),
            Self::NameAmbiguous => {
                "this name may be taken for another one, which has rules of its own: use the exact name".to_owned()
            }
            Self::SessionEnded => "the session has ended: sign in again".to_owned(),
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotListed => "tool-not-listed",
            Self::TenantNotAllowed { .. } => "tenant-not-allowed",
            Self::KindNotAllowed { .. } => "kind-not-allowed",
            Self::AgentNotAllowed => "agent-not-allowed",
            Self::ClientNotAllowed { .. } => "client-not-allowed",
            Self::GuestNotAllowed => "guest-not-allowed",
            Self::RoleMissing { .. } => "role-missing",
            Self::GroupMissing { .. } => "group-missing",
            Self::MembershipUnconfirmed { .. } => "membership-unconfirmed",
            Self::GroupsUnavailable { .. } => "groups-unavailable",
            Self::ScopesMissing { .. } => "scope-missing",
            Self::ContextMissing { .. } => "authentication-context-missing",
            Self::NameAmbiguous => "name-ambiguous",
            Self::SessionEnded => "session-ended",
        }
    }

    /// How close the caller came. Of several rules the closest is what the caller hears of.
    pub fn closeness(&self) -> u8 {
        match self {
            Self::NotListed | Self::NameAmbiguous => 0,
            Self::TenantNotAllowed { .. } => 1,
            Self::KindNotAllowed { .. } | Self::AgentNotAllowed => 2,
            Self::ClientNotAllowed { .. } => 3,
            Self::GuestNotAllowed => 4,
            Self::RoleMissing { .. } => 5,
            Self::GroupMissing { .. } => 6,
            Self::MembershipUnconfirmed { .. } => 7,
            Self::GroupsUnavailable { .. } => 8,
            Self::ScopesMissing { .. } => 9,
            Self::ContextMissing { .. } => 10,
            Self::SessionEnded => 11,
        }
    }

    /// Whether it says nothing of what the caller is: that is not known now, or the session that knew it is gone.
    pub fn is_undecided(&self) -> bool {
        match self {
            Self::MembershipUnconfirmed { .. } | Self::GroupsUnavailable { .. } | Self::SessionEnded => true,
            Self::NotListed
            | Self::NameAmbiguous
            | Self::TenantNotAllowed { .. }
            | Self::KindNotAllowed { .. }
            | Self::AgentNotAllowed
            | Self::ClientNotAllowed { .. }
            | Self::GuestNotAllowed
            | Self::RoleMissing { .. }
            | Self::GroupMissing { .. }
            | Self::ScopesMissing { .. }
            | Self::ContextMissing { .. } => false,
        }
    }

    /// Whether a list shows the thing nevertheless: a call of it leads to what is missing. In a list that hides it, no client
    /// would ever make that call.
    pub fn is_shown(&self) -> bool {
        matches!(self, Self::ContextMissing { .. })
    }
}
