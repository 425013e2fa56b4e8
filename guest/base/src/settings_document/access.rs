//! Rules about callers, `access` of the document.

use serde::Deserialize;

use crate::policy::{Name, Rule, TargetKind, ToolRule};

/// A condition under which a caller may call a tool. Every present field has to hold; one entry of a list is enough,
/// except for `scopes`. All comparisons are exact. A missing field has no effect; an empty list fits no caller.
///
/// Of several rules for one tool, one has to hold. Rules that name the caller's tenant replace rules that name no tenant,
/// so that a tenant's own rules can be stricter or laxer than the general ones.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ToolRuleDocument {
    /// The server in `servers` of the rule. Left out: any of them, and the component's own tools.
    #[serde(default)]
    server: Option<String>,
    /// The kind of thing that the rule names. Only rules of the kind `tool` concern the component's own tools.
    #[serde(default)]
    kind: TargetKindName,
    /// Name of the tool, as in `tools/list`. A name that no tool has permits nothing; the export `tool-catalog` lists
    /// the names. For a server in `servers`, `*` stands for everything of the kind that has no rule of its own.
    tool: String,
    /// Tenants that the rule is for, as GUIDs. Left out: all accepted tenants that no other rule for the tool names.
    #[serde(default)]
    tenants: Option<Vec<String>>,
    /// Kinds of callers that the rule admits. An empty list admits no caller.
    kinds: Vec<CallerKindName>,
    /// Client ids: of applications in tokens of Entra ID, of MCP clients in sessions.
    #[serde(default)]
    clients: Option<Vec<String>>,
    /// Application roles (`roles` claim), of which the caller needs one.
    #[serde(default)]
    roles: Option<Vec<String>>,
    /// Object ids of groups, of which the caller has to be in one. The component reads groups that do not fit into a
    /// token from Microsoft Graph; if Graph does not answer, it denies the call.
    #[serde(default)]
    groups: Option<Vec<String>>,
    /// Scopes in the short form. A person's client needs all of them; a rule need not repeat `required-scope`. An
    /// application has no scopes: its roles say what it may do.
    #[serde(default)]
    scopes: Vec<String>,
    /// Authentication contexts of Conditional Access, `c1` to `c99`, of which the person's sign-in has to satisfy one (`acrs`
    /// claim). A caller without gets a claims challenge for the first. An application that acts for itself can satisfy none.
    #[serde(default)]
    acrs: Option<Vec<String>>,
}

/// The kind of thing that a rule names.
#[derive(Default, Deserialize, Clone, Copy)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum TargetKindName {
    /// A tool, by its name.
    #[default]
    Tool,
    /// A resource by its URI, or a template of resources by its URI template.
    Resource,
    /// A prompt, by its name.
    Prompt,
    /// Completion of an argument, by the name of the prompt or the URI template of the resource that it is for.
    Completion,
    /// A task, by the operation on it: `get`, `list`, `result`, `cancel`, `update`.
    Task,
}

impl From<TargetKindName> for TargetKind {
    fn from(from: TargetKindName) -> Self {
        match from {
            TargetKindName::Tool => Self::Tool,
            TargetKindName::Resource => Self::Resource,
            TargetKindName::Prompt => Self::Prompt,
            TargetKindName::Completion => Self::Completion,
            TargetKindName::Task => Self::Task,
        }
    }
}

/// A kind of caller.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum CallerKindName {
    /// A person with any client: sessions, and delegated tokens of Entra ID.
    User,
    /// An application that acts for itself: app-only tokens of Entra ID.
    App,
    /// An AI agent (Microsoft Entra Agent ID): tokens of Entra ID with the facet of an agent identity or of an agent's
    /// user, also on behalf of a person. Denied unless a rule names it.
    Agent,
}

impl From<ToolRuleDocument> for ToolRule {
    fn from(from: ToolRuleDocument) -> Self {
        let names = |names: Vec<String>| names.into_iter().map(Name::Owned).collect::<Vec<_>>();
        Self {
            server: from.server.map(Name::Owned),
            kind: from.kind.into(),
            tool: from.tool.into(),
            rule: Rule {
                tenants: from.tenants.map(names),
                users: from.kinds.contains(&CallerKindName::User),
                apps: from.kinds.contains(&CallerKindName::App),
                agents: from.kinds.contains(&CallerKindName::Agent),
                clients: from.clients.map(names),
                roles: from.roles.map(names),
                groups: from.groups.map(names),
                scopes: names(from.scopes),
                contexts: from.acrs.map(names),
            },
        }
    }
}
