//! Checks `servers`, and the rules about them: what would be two things at one place, or a rule about nothing, is refused
//! at the start and not found out by a caller.

use crate::settings::{Mode, ServerIdentity, ServerKind, ServerSettings, Settings};

/// Characters of the name of a server.
const MAX_NAME: usize = 64;
/// Characters of the path of a server.
const MAX_PATH: usize = 256;
/// Bytes of the name of a tool, and how many are named for one server.
const MAX_TOOL: usize = 128;
const MAX_TOOLS: usize = 100;
/// Characters of one permission.
const MAX_PERMISSION: usize = 512;
/// Paths that the component or its host serves itself. What lies below `/auth` and below the well-known names is theirs as
/// well.
const OWN_PATHS: [&str; 8] =
    ["/authorize", "/auth", "/token", "/register", "/revoke", "/healthz", "/readyz", "/metrics"];

/// Why `servers` are refused. Servers and rules are counted from 1: no value of the document is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServersError {
    /// A name has another form.
    #[error("servers: the name of number {0} is not 1 to {MAX_NAME} characters of a-z 0-9 -")]
    Name(usize),
    /// Two servers have one name.
    #[error("servers: number {0} has the name of another server")]
    SameName(usize),
    /// A path has another form.
    #[error(
        "servers: the path of number {0} is not a path of A-Z a-z 0-9 - _ . ~ /, at most {MAX_PATH} characters, with a \
         slash at its beginning, none at its end, and no empty or dotted segment"
    )]
    Path(usize),
    /// Two servers have one path.
    #[error("servers: number {0} has the path of another server")]
    SamePath(usize),
    /// The component serves something else there.
    #[error("servers: the path of number {0} is one of the component's own")]
    OwnPath(usize),
    /// A local server has no upstream.
    #[error("servers: number {0} is an upstream, which needs the setting http")]
    LocalUpstream(usize),
    /// Tools are told of their callers in another way.
    #[error("servers: number {0} has an identity, which is for the kind upstream only")]
    IdentityOfTools(usize),
    /// Other servers say themselves which tools they have.
    #[error("servers: number {0} names tools, which is for the kind upstream only")]
    ToolsOfTools(usize),
    /// The name of a tool has another form, or there are too many.
    #[error(
        "servers: the tools of number {0} are not at most {MAX_TOOLS} names of 1 to {MAX_TOOL} visible ASCII characters"
    )]
    Tools(usize),
    /// A combination of permissions is empty.
    #[error("servers: a list in the permissions of number {0} is empty")]
    NoPermission(usize),
    /// A permission has another form.
    #[error(
        "servers: a permission of number {0} is not in the qualified form, such as https://graph.microsoft.com/Mail.Read"
    )]
    Permission(usize),
    /// Entra ID gives tokens for one resource.
    #[error("servers: a list in the permissions of number {0} is for more than one resource")]
    Resources(usize),
    /// The token for the upstream is not among the granted ones.
    #[error("servers: identity.permissions of number {0} is not one of its permissions")]
    IdentityPermissions(usize),
    /// A misspelt name would leave open what the rule is to protect.
    #[error("http.access: rule number {0} is about a server that is not in servers")]
    RuleServer(usize),
}

/// Checks the servers of the settings.
pub(super) fn check(settings: &Settings) -> Result<(), ServersError> {
    for (index, server) in settings.servers.iter().enumerate() {
        let (number, others) = (index + 1, settings.servers.iter().take(index));
        let ServerSettings { name, path, kind, title: _, tools, permissions, identity } = server;
        if !is_name(name) {
            return Err(ServersError::Name(number));
        }
        if others.clone().any(|other| other.name == *name) {
            return Err(ServersError::SameName(number));
        }
        match (&settings.mode, kind) {
            (Mode::Local(_), ServerKind::Upstream) => return Err(ServersError::LocalUpstream(number)),
            (Mode::Local(_) | Mode::Validator, _) => {}
            (Mode::Remote(_), _) if !is_path(path) => return Err(ServersError::Path(number)),
            (Mode::Remote(_), _) if is_own(path) => return Err(ServersError::OwnPath(number)),
            (Mode::Remote(_), _) if others.clone().any(|other| other.path == *path) => {
                return Err(ServersError::SamePath(number));
            }
            (Mode::Remote(_), _) => {}
        }
        if *kind == ServerKind::Tools && *identity != ServerIdentity::None {
            return Err(ServersError::IdentityOfTools(number));
        }
        if *kind == ServerKind::Tools && !tools.is_empty() {
            return Err(ServersError::ToolsOfTools(number));
        }
        if tools.len() > MAX_TOOLS || !tools.iter().all(|tool| is_tool(tool)) {
            return Err(ServersError::Tools(number));
        }
        permissions.iter().try_for_each(|combination| check_permissions(combination, number))?;
        if let ServerIdentity::Token { permissions: wanted } = identity
            && !permissions.contains(wanted)
        {
            return Err(ServersError::IdentityPermissions(number));
        }
    }
    let Mode::Remote(http) = &settings.mode else { return Ok(()) };
    for (index, rule) in http.access.iter().flatten().enumerate() {
        if rule.server.as_ref().is_some_and(|named| !settings.servers.iter().any(|server| server.name == **named)) {
            return Err(ServersError::RuleServer(index + 1));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_tool(name: &str) -> bool {
    (1..=MAX_TOOL).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_path(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else { return false };
    path.len() <= MAX_PATH
        && segments.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
        })
}

/// A proxy in front may ignore the case of paths.
fn is_own(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    OWN_PATHS.contains(&path.as_str())
        || path.starts_with("/auth/")
        || path.split('/').any(|segment| segment == ".well-known")
}

/// A combination of permissions has one resource.
fn check_permissions(combination: &[String], number: usize) -> Result<(), ServersError> {
    let mut resources =
        combination.iter().map(|permission| resource(permission).ok_or(ServersError::Permission(number)));
    let first = resources.next().ok_or(ServersError::NoPermission(number))??;
    for other in resources {
        if other? != first {
            return Err(ServersError::Resources(number));
        }
    }
    Ok(())
}

/// The resource that a permission is qualified with.
fn resource(permission: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',');
    if permission.len() > MAX_PERMISSION || !permission.bytes().all(is_plain) {
        return None;
    }
    let (resource, short) = permission.rsplit_once('/')?;
    // `https://host` alone is a resource without a permission.
    (!short.is_empty() && !resource.is_empty() && !resource.ends_with(['/', ':'])).then_some(resource)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{SettingsDocumentError, read};
    use super::*;

    /// A remote server with two servers behind it.
    fn document() -> Value {
        json!({
            "client-type": "confidential-client",
            "tenant": "organizations",
            "client-id": "00000000-0000-0000-0000-000000000001",
            "servers": [
                { "name": "mail", "path": "/mcp", "kind": "tools", "permissions": [["https://graph.microsoft.com/Mail.Read"]] },
                { "name": "crm", "path": "/crm/mcp", "kind": "upstream" },
            ],
            "http": {
                "public-url": "https://mcp.example.com",
                "allowed-hosts": ["mcp.example.com"],
                "required-scope": "Mcp.Access",
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Option<ServersError> {
        let mut document = document();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[name] = value;
        match read(&document.to_string()) {
            Ok(_) => None,
            Err(SettingsDocumentError::Servers(error)) => Some(error),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_server_has_a_name_and_a_path_of_its_own() {
        let second = |field: &str, value: &str| with(&format!("/servers/1/{field}"), json!(value));
        for name in ["a", "crm-2", &"x".repeat(64)] {
            assert_eq!(second("name", name), None, "{name}");
        }
        for name in ["", "CRM", "c r", "c/r", "*", "ü", &"x".repeat(65)] {
            assert_eq!(second("name", name), Some(ServersError::Name(2)), "{name}");
        }
        assert_eq!(second("name", "mail"), Some(ServersError::SameName(2)));
        for path in ["/a", "/sse", "/message", "/token/mcp", "/Crm_1.x~/mcp", "/mcp/x"] {
            assert_eq!(second("path", path), None, "{path}");
        }
        let long = format!("/{}", "x".repeat(256));
        for path in ["", "/", "mcp", "//", "/a//b", "/a/", "/./a", "/a/..", "/a?b", "/a#b", "/%61", "/a b", "/ü", &long]
        {
            assert_eq!(second("path", path), Some(ServersError::Path(2)), "{path}");
        }
        for path in [
            "/authorize",
            "/auth",
            "/auth/callback",
            "/auth/x",
            "/token",
            "/Token",
            "/register",
            "/revoke",
            "/healthz",
            "/readyz",
            "/metrics",
            "/.well-known/jwks.json",
            "/crm/.well-known",
            "/.Well-Known/x",
        ] {
            assert_eq!(second("path", path), Some(ServersError::OwnPath(2)), "{path}");
        }
        assert_eq!(second("path", "/mcp"), Some(ServersError::SamePath(2)));
    }

    #[test]
    fn permissions_are_qualified_and_of_one_resource_in_each_combination() {
        let permissions = |lists: Value| with("/servers/0/permissions", lists);
        for good in [json!([]), json!([["api://a/B"]]), json!([["https://a/b/C", "https://a/b/D"], ["https://x/Y"]])] {
            assert_eq!(permissions(good.clone()), None, "{good}");
        }
        assert_eq!(permissions(json!([["api://a/B"], []])), Some(ServersError::NoPermission(1)));
        for bad in ["", "Mail.Read", "/Mail.Read", "https://a", "api://a/", "api://a/b c", "api://a/b,c", "api://a/\"b"]
        {
            assert_eq!(permissions(json!([[bad]])), Some(ServersError::Permission(1)), "{bad}");
        }
        assert_eq!(permissions(json!([["api://a/B", "api://b/B"]])), Some(ServersError::Resources(1)));
    }

    #[test]
    fn an_identity_is_for_upstreams_and_its_permissions_are_granted_ones() {
        let mut server = json!({ "name": "crm", "path": "/crm", "kind": "upstream", "permissions": [["api://a/B"]] });
        for (wanted, error) in
            [(json!(["api://a/B"]), None), (json!(["api://a/C"]), Some(ServersError::IdentityPermissions(1)))]
        {
            server["identity"] = json!({ "form": "token", "permissions": wanted });
            assert_eq!(with("/servers", json!([server])), error);
        }
        server["identity"] = json!({ "form": "easy-auth" });
        server["kind"] = json!("tools");
        assert_eq!(with("/servers", json!([server])), Some(ServersError::IdentityOfTools(1)));
    }

    #[test]
    fn tools_for_the_consent_page_are_named_for_upstreams_only_and_bounded() {
        for good in [json!([]), json!(["list_records", "Read.Record-2/x"]), json!(vec!["x".repeat(128); 100])] {
            assert_eq!(with("/servers/1/tools", good.clone()), None, "{good}");
        }
        for bad in ["", "a b", "a\n", "\u{fc}", "\u{202e}", &"x".repeat(129)] {
            assert_eq!(with("/servers/1/tools", json!(["a", bad])), Some(ServersError::Tools(2)), "{bad}");
        }
        assert_eq!(with("/servers/1/tools", json!(vec!["x"; 101])), Some(ServersError::Tools(2)));
        assert_eq!(with("/servers/0/tools", json!(["send"])), Some(ServersError::ToolsOfTools(1)));
    }

    #[test]
    fn a_rule_about_a_server_that_is_not_there_is_refused() {
        let rule =
            |server: &str| json!([{ "tool": "a", "kinds": ["user"] }, { "server": server, "tool": "a", "kinds": [] }]);
        assert_eq!(with("/http/access", rule("crm")), None);
        assert_eq!(with("/http/access", rule("crn")), Some(ServersError::RuleServer(2)));
    }

    #[test]
    fn a_local_server_has_no_upstream_and_no_paths() {
        let mut document = document();
        document["client-type"] = json!("public-client");
        document.as_object_mut().unwrap().remove("http");
        let error = read(&document.to_string()).map(drop);
        assert_eq!(error, Err(SettingsDocumentError::Servers(ServersError::LocalUpstream(2))));
        document["servers"][1]["kind"] = json!("tools");
        document["servers"][1]["path"] = json!("/mcp");
        assert!(read(&document.to_string()).is_ok());
    }
}
