//! Which callers may call which tool: `[[access]]` in the configuration file, or in a file of its own.
//!
//! A condition that is left out restricts nothing, except `kinds`, which then means users only. An empty list is
//! refused, because it could mean "no caller" or "every caller". Only components know whether a tool exists: see
//! [`check_tools`].

use std::path::Path;

use entra_mcp_plugin::environment::{CallerKind, ServerKind, ServerSettings, Settings, TargetKind, ToolRule};
use serde::Deserialize;

use super::ids::check_guid;
use super::serve::token_mode::check_scope;
use super::{ConfigError, invalid};

/// Entra ID's own bound of the value of an application role, in characters.
const MAX_ROLE: usize = 120;
/// The number in the id of the last authentication context that Conditional Access can have.
const MAX_CONTEXT: u8 = 99;
/// What a rule names in place of a tool: those that have no rule of their own.
const ANY: &str = "*";
/// Characters of the longest client id: that of a Client ID Metadata Document is a URL.
const MAX_CLIENT: usize = 512;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccessEntry {
    /// The server behind; any, if it is left out.
    pub server: Option<String>,
    /// What the rule is about; a tool, if it is left out.
    pub kind: Option<TargetKindName>,
    /// The tool, or what else the kind says.
    pub tool: String,
    /// Tenants that the rule is for.
    pub tenants: Option<Vec<String>>,
    /// People, applications for themselves, AI agents, or several of them; people only if it is left out.
    pub kinds: Option<Vec<CallerKindName>>,
    /// Client ids. The caller has to use one of them.
    pub clients: Option<Vec<String>>,
    /// Application roles. The caller has to have one of them.
    pub roles: Option<Vec<String>>,
    /// Object ids of groups. The caller has to be in one of them.
    pub groups: Option<Vec<String>>,
    /// Scopes in the short form. A user's client has to have all of them.
    pub scopes: Option<Vec<String>>,
    /// Authentication contexts of Conditional Access. The person's sign-in has to satisfy one of them; another sign-in is asked
    /// for the first.
    pub acrs: Option<Vec<String>>,
}

/// What stands behind a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallerKindName {
    /// A person.
    User,
    /// An application for itself.
    App,
    /// An AI agent.
    Agent,
}

impl From<CallerKindName> for CallerKind {
    fn from(kind: CallerKindName) -> Self {
        match kind {
            CallerKindName::User => Self::User,
            CallerKindName::App => Self::App,
            CallerKindName::Agent => Self::Agent,
        }
    }
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKindName {
    /// A tool.
    Tool,
    /// A resource, by its URI.
    Resource,
    /// A prompt.
    Prompt,
    /// Completion for a prompt or a resource.
    Completion,
    /// A task.
    Task,
}

impl From<TargetKindName> for TargetKind {
    fn from(name: TargetKindName) -> Self {
        match name {
            TargetKindName::Tool => Self::Tool,
            TargetKindName::Resource => Self::Resource,
            TargetKindName::Prompt => Self::Prompt,
            TargetKindName::Completion => Self::Completion,
            TargetKindName::Task => Self::Task,
        }
    }
}

/// The rules in a file of their own.
fn read(path: &Path) -> Result<Vec<AccessEntry>, ConfigError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        access: Vec<AccessEntry>,
    }
    let unreadable =
        |error: std::io::Error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let file: File = toml::from_str(&text).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })?;
    Ok(file.access)
}

/// The rules of one of the two places, checked; none if neither has any.
pub(super) fn rules(
    entries: Option<&[AccessEntry]>,
    file: Option<&Path>,
    tenant: &str,
    allowed_tenants: &[String],
) -> Result<Option<Vec<ToolRule>>, ConfigError> {
    let entries = match (entries, file) {
        (None, None) => return Ok(None),
        (Some(entries), None) => entries.to_vec(),
        (None, Some(path)) => read(path)?,
        (Some(_), Some(_)) => {
            let both = "access-file is set, and the configuration file has [[access]]: keep one of them";
            return Err(ConfigError::Conflict(both.to_owned()));
        }
    };
    if entries.is_empty() {
        return Err(ConfigError::Conflict(
            "access has no rule, which would deny every tool to every caller: leave it out to use each tool's own rule"
                .to_owned(),
        ));
    }
    let own = [tenant.to_owned()];
    // Which tenant a domain stands for is known to Entra ID.
    let tenants = match allowed_tenants {
        [] if check_guid("tenant-id", tenant).is_ok() => Some(own.as_slice()),
        [] => None,
        allowed => Some(allowed),
    };
    entries.iter().map(|entry| rule(entry, tenants)).collect::<Result<_, _>>().map(Some)
}

/// `tenants` are the admitted ones, as far as they are known.
fn rule(entry: &AccessEntry, tenants: Option<&[String]>) -> Result<ToolRule, ConfigError> {
    let AccessEntry { server, kind, tool, tenants: of, kinds, clients, roles, groups, scopes, acrs } = entry;
    if tool.is_empty() {
        return Err(invalid("access.tool", tool, "the name of a tool, or of what kind says, is expected"));
    }
    for tenant in some("access.tenants", of)? {
        check_guid("access.tenants", tenant)?;
        // A rule for a tenant is often stricter than the one for all. Misspelt, it would be no rule at all.
        if tenants.is_some_and(|known| !known.contains(tenant)) {
            let expected = "an admitted tenant is expected: that of --tenant-id, or one of --allow-tenant";
            return Err(invalid("access.tenants", tenant, expected));
        }
    }
    for group in some("access.groups", groups)? {
        check_guid("access.groups", group)?;
    }
    for client in some("access.clients", clients)? {
        let expected = "a client id of at most 512 characters is expected";
        check_text("access.clients", client, MAX_CLIENT, expected)?;
    }
    for role in some("access.roles", roles)? {
        check_text("access.roles", role, MAX_ROLE, "the value of an application role is expected, such as Mcp.Admin")?;
    }
    for scope in some("access.scopes", scopes)? {
        check_scope("access.scopes", scope)?;
    }
    for context in some("access.acrs", acrs)? {
        check_context(context)?;
    }
    let kinds = match kinds.as_deref() {
        None => vec![CallerKind::User],
        Some([]) => return Err(invalid("access.kinds", "[]", EMPTY)),
        Some(kinds) => kinds.iter().map(|kind| CallerKind::from(*kind)).collect(),
    };
    if kinds.contains(&CallerKind::App) && clients.is_none() && roles.is_none() && groups.is_none() {
        return Err(ConfigError::Conflict(format!(
            "a rule for the tool {tool:?} lets every application call for itself: name roles or clients, because \
             applications have no scopes"
        )));
    }
    if kinds.contains(&CallerKind::Agent) && clients.is_none() && roles.is_none() && groups.is_none() {
        return Err(ConfigError::Conflict(format!(
            "a rule for the tool {tool:?} lets every AI agent call: name roles, or the agent identities as clients, because \
             agents that act for themselves have no scopes"
        )));
    }
    if kinds == [CallerKind::App] && acrs.is_some() {
        return Err(ConfigError::Conflict(format!(
            "a rule for the tool {tool:?} has acrs and is for applications alone, which can satisfy no authentication context: \
             only people sign in"
        )));
    }
    Ok(ToolRule {
        server: server.clone(),
        kind: kind.map(TargetKind::from).unwrap_or_default(),
        tool: tool.clone(),
        tenants: of.clone(),
        kinds,
        clients: clients.clone(),
        roles: roles.clone(),
        groups: groups.clone(),
        scopes: scopes.clone().unwrap_or_default(),
        acrs: acrs.clone(),
    })
}

const EMPTY: &str = "at least one entry is expected; left out, it does not matter";

/// The entries of a list that may be left out, but not be empty.
fn some<'a>(name: &'static str, list: &'a Option<Vec<String>>) -> Result<&'a [String], ConfigError> {
    match list.as_deref() {
        Some([]) => Err(invalid(name, "[]", EMPTY)),
        list => Ok(list.unwrap_or_default()),
    }
}

/// Conditional Access names its authentication contexts `c1` to `c99`.
fn check_context(context: &str) -> Result<(), ConfigError> {
    let number = context.strip_prefix('c').filter(|number| !number.starts_with('0') && !number.starts_with('+'));
    match number.and_then(|number| number.parse::<u8>().ok()).filter(|number| (1..=MAX_CONTEXT).contains(number)) {
        Some(_) => Ok(()),
        None => Err(invalid("access.acrs", context, "the id of an authentication context is expected, c1 to c99")),
    }
}

fn check_text(name: &'static str, text: &str, longest: usize, expected: &str) -> Result<(), ConfigError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && !text.is_empty() && text.len() <= longest { Ok(()) } else { Err(invalid(name, text, expected)) }
}

/// Refuses rules for servers that there are not: a misspelt name would leave open what the rule is to protect.
pub(super) fn check_servers(rules: &[ToolRule], servers: &[ServerSettings]) -> Result<(), ConfigError> {
    let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
    let mut named = rules.iter().filter_map(|rule| rule.server.as_deref());
    match (named.find(|name| !names.contains(name)), servers) {
        (None, _) => Ok(()),
        (Some(name), []) => {
            let expected = "no server is configured: write [[tools]] or [[upstream]] for it, or remove server";
            Err(invalid("access.server", name, expected))
        }
        (Some(name), _) => Err(invalid("access.server", name, format!("one of {} is expected", names.join(", ")))),
    }
}

/// Refuses rules for tools that there are not, and for what servers of tools have not.
pub fn check_tools(settings: &Settings, tools: &KnownTools) -> Result<(), ConfigError> {
    let rules = settings.http.iter().flat_map(|http| http.access.iter().flatten());
    rules.into_iter().try_for_each(|rule| match tools {
        KnownTools::Own(_) if rule.kind != TargetKind::Tool => Err(only_tools(rule)),
        KnownTools::Own(tools) if tools.contains(&rule.tool) => Ok(()),
        KnownTools::Own(tools) => Err(unknown_tool(rule, tools.iter().map(String::as_str))),
        KnownTools::Behind(known) => check_behind(rule, &settings.servers, known),
    })
}

fn check_behind(
    rule: &ToolRule,
    servers: &[ServerSettings],
    known: &[(String, Vec<String>)],
) -> Result<(), ConfigError> {
    let is_about = |name: &str| rule.server.as_deref().is_none_or(|of| of == name);
    // What whole MCP servers have, they say to their callers only.
    if servers.iter().any(|server| server.kind == ServerKind::Upstream && is_about(&server.name)) {
        return Ok(());
    }
    if rule.kind != TargetKind::Tool {
        return Err(only_tools(rule));
    }
    let tools = || known.iter().filter(|(name, _)| is_about(name)).flat_map(|(_, tools)| tools.iter());
    if rule.tool == ANY || tools().any(|tool| *tool == rule.tool) {
        return Ok(());
    }
    Err(unknown_tool(rule, tools().map(String::as_str).chain([ANY])))
}

fn only_tools(rule: &ToolRule) -> ConfigError {
    ConfigError::Conflict(format!(
        "the rule for {:?} is of another kind than tool, and there are only tools: MCP servers behind alone have resources, \
         prompts, completion and tasks",
        rule.tool
    ))
}

fn unknown_tool<'a>(rule: &ToolRule, known: impl Iterator<Item = &'a str>) -> ConfigError {
    let known: Vec<_> = known.collect();
    invalid("access.tool", &rule.tool, format!("one of {} is expected", known.join(", ")))
}

/// The tools that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownTools {
    /// The component's own.
    Own(Vec<String>),
    /// Those of each server of tools, by its name.
    Behind(Vec<(String, Vec<String>)>),
}

#[cfg(test)]
mod tests;
