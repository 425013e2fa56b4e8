//! The settings that a component has which `entra-mcp wrap` has made: those of the standard artefact, and what the
//! configuration file of the program says of a tool (`[[tools]]`, `[[access]]`), as JSON in variables.

use serde_json::{Map, Value, json};

use super::urls::{self, Clouds};
use super::{Artefact, Configuration, SettingsError, Variables, read_for, rules};

/// Where the requests of the tool may go: `egress` of a `[[tools]]`.
pub const EGRESS: &str = "ENTRA_MCP_EGRESS";
/// Which callers may call what: `[[access]]`.
pub const ACCESS: &str = "ENTRA_MCP_ACCESS";
/// How the tool learns who calls: `identity` of an `[[upstream]]`.
pub const IDENTITY: &str = "ENTRA_MCP_TOOL_IDENTITY";
/// What people read on the consent page: `title` of a `[[tools]]`.
pub const TITLE: &str = "ENTRA_MCP_TOOL_TITLE";

pub(super) const OWN: [&str; 4] = [EGRESS, ACCESS, IDENTITY, TITLE];
/// The setting of the program that only such a component has.
pub(super) const SUPPORTED: [&str; 1] = ["deny-unlisted"];

/// The name of the tool in rules and audit records, and the path at which its clients reach it.
const NAME: &str = "tool";
const PATH: &str = "/mcp";

/// What tools call Microsoft Graph, in every cloud.
const GRAPH: &str = "https://graph.microsoft.com";

/// Characters of the longest identifier of a resource: Entra ID's own bound of an App ID URI.
const MAX_RESOURCE: usize = 255;
/// Characters of the longest title: it is one line.
const MAX_TITLE: usize = 128;

/// Where requests may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Scheme, host, port and the beginning of the path, with a slash at the end.
    pub to: String,
    /// In the qualified form. Empty: requests get no token.
    pub permissions: Vec<String>,
}

/// What the variables come to.
#[derive(Debug)]
pub struct Wrapped {
    /// As in the standard artefact. The document has the tool in `servers`.
    pub configuration: Configuration,
    /// Where requests of the tool may go.
    pub destinations: Vec<Destination>,
    /// Where Microsoft Graph is.
    pub graph: String,
}

/// Reads the variables of the process.
pub fn read(variables: &[(String, String)]) -> Result<Wrapped, SettingsError> {
    let own = [super::OWN.as_slice(), &OWN].concat();
    let supported = [super::SUPPORTED.as_slice(), &SUPPORTED].concat();
    let artefact = Artefact { name: "a component that entra-mcp wrap has made", own: &own, supported: &supported };
    let (mut configuration, mut document) = read_for(variables, &artefact)?;
    let variables = Variables(variables);
    let clouds = urls::clouds(&variables)?;
    let destinations = egress(&variables, &clouds)?;
    let permissions: Vec<_> = destinations.iter().map(|to| &to.permissions).filter(|all| !all.is_empty()).collect();
    let mut server = json!({
        "name": NAME,
        "path": PATH,
        "kind": "upstream",
        "permissions": permissions,
        "identity": { "form": identity(&variables)? },
    });
    if let Some(title) = title(&variables)? {
        set(&mut server, "title", json!(title));
    }
    set(&mut document, "servers", json!([server]));
    let mut http = document.get("http").cloned().unwrap_or_default();
    set(&mut http, "deny-unlisted", json!(variables.is_on("deny-unlisted")?));
    if let Some(rules) = access(&variables)? {
        set(&mut http, "access", rules);
    }
    set(&mut document, "http", http);
    configuration.document = document.to_string();
    Ok(Wrapped { configuration, destinations, graph: clouds.graph })
}

/// Sets a field of an object.
fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

fn invalid(variable: &'static str, expected: &str) -> SettingsError {
    SettingsError::Invalid { variable, expected: expected.to_owned() }
}

fn array(variables: &Variables<'_>, variable: &'static str) -> Result<Option<Vec<Map<String, Value>>>, SettingsError> {
    let Some(text) = variables.own(variable) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| SettingsError::Invalid {
        variable,
        expected: format!("a JSON array of objects is expected ({error})"),
    })
}

fn identity<'v>(variables: &Variables<'v>) -> Result<&'v str, SettingsError> {
    match variables.own(IDENTITY) {
        None => Ok("none"),
        Some(form @ ("none" | "easy-auth")) => Ok(form),
        Some(_) => Err(invalid(IDENTITY, "`none` or `easy-auth` is expected")),
    }
}

fn title<'v>(variables: &Variables<'v>) -> Result<Option<&'v str>, SettingsError> {
    let Some(title) = variables.own(TITLE) else { return Ok(None) };
    let is_line =
        !title.trim().is_empty() && title.chars().count() <= MAX_TITLE && !title.chars().any(char::is_control);
    if is_line { Ok(Some(title)) } else { Err(invalid(TITLE, "one line of 1 to 128 characters is expected")) }
}

/// The rules.
fn access(variables: &Variables<'_>) -> Result<Option<Value>, SettingsError> {
    let Some(rules) = array(variables, ACCESS)? else { return Ok(None) };
    let rules = rules.into_iter().map(|mut rule| {
        rules::check(&rule).map_err(|expected| invalid(ACCESS, expected))?;
        rule.entry("kinds").or_insert_with(|| json!(["user"]));
        Ok(Value::Object(rule))
    });
    Ok(Some(Value::Array(rules.collect::<Result<_, _>>()?)))
}

fn egress(variables: &Variables<'_>, clouds: &Clouds) -> Result<Vec<Destination>, SettingsError> {
    let mut found: Vec<Destination> = Vec::new();
    for entry in array(variables, EGRESS)?.unwrap_or_default() {
        let destination = one(&entry, clouds)?;
        if found.iter().any(|known| known.to == destination.to) {
            return Err(invalid(EGRESS, "one entry for each destination is expected: a request gets one token"));
        }
        found.push(destination);
    }
    Ok(found)
}

fn one(entry: &Map<String, Value>, clouds: &Clouds) -> Result<Destination, SettingsError> {
    const FORM: &str = "entries such as {\"to\": \"https://graph.microsoft.com\", \"scopes\": [\"Mail.Read\"]}, \
                        {\"to\": \"https://api.contoso.com\", \"resource\": \"api://contoso\", \"scopes\": [\"Orders.Read\"]} or \
                        {\"to\": \"https://public.example\", \"token\": \"none\"} are expected";
    let form = || invalid(EGRESS, FORM);
    if entry.keys().any(|key| !["to", "resource", "scopes", "token"].contains(&key.as_str())) {
        return Err(form());
    }
    let text = |key: &str| entry.get(key).map(|value| value.as_str().ok_or_else(form)).transpose();
    let to = destination(text("to")?.ok_or_else(form)?)?;
    let (resource, scopes) = (text("resource")?, entry.get("scopes"));
    match text("token")? {
        Some("none") if resource.is_none() && scopes.is_none() => {
            return Ok(Destination { to, permissions: Vec::new() });
        }
        None | Some("caller") => {}
        Some(_) => return Err(form()),
    }
    let resource = match resource {
        Some(resource)
            if is_graph(&to, &clouds.graph) && ![clouds.graph_resource.as_str(), GRAPH].contains(&resource) =>
        {
            return Err(invalid(EGRESS, "Microsoft Graph takes no token for another resource: leave `resource` out"));
        }
        _ if is_graph(&to, &clouds.graph) => &clouds.graph_resource,
        Some(resource) if is_resource(resource) => resource,
        _ => return Err(form()),
    };
    let scopes = scopes.and_then(Value::as_array).filter(|scopes| !scopes.is_empty()).ok_or_else(form)?;
    let permissions = scopes.iter().map(|scope| {
        let scope = scope.as_str().filter(|scope| is_scope(scope));
        scope.map(|scope| format!("{resource}/{scope}")).ok_or_else(form)
    });
    Ok(Destination { to, permissions: permissions.collect::<Result<_, _>>()? })
}

/// A destination in the canonical form, with a slash at its end.
fn destination(text: &str) -> Result<String, SettingsError> {
    let url = urls::url(EGRESS, text)?;
    let path = url.path.trim_end_matches('/');
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let is_lower = !url.host.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'*');
    let port_is_implied = text.starts_with("https://") && url.host.ends_with(":443");
    if !is_lower || port_is_implied || !(path.is_empty() || path.split('/').skip(1).all(plain)) {
        return Err(invalid(
            EGRESS,
            "a host in lower case, without the port that the scheme implies, and a plain path are expected",
        ));
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

/// Whether it is Microsoft Graph: by its name in the public cloud, or where it is configured to be.
fn is_graph(to: &str, configured: &str) -> bool {
    let below = |base: &str| to.strip_prefix(base.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
    below(GRAPH) || below(configured)
}

/// It becomes part of scopes, which are separated by spaces.
fn is_resource(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,".contains(&byte);
    let is_identifier = text.contains("://") || super::is_guid(text);
    !text.is_empty() && text.len() <= MAX_RESOURCE && text.bytes().all(plain) && is_identifier && !text.ends_with('/')
}

/// The short name of one permission.
fn is_scope(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use base::settings::{ServerIdentity, ServerKind};

    use super::*;

    fn of(changes: &[(&str, &str)]) -> Result<Wrapped, SettingsError> {
        let mut variables = vec![
            ("ENTRA_MCP_TENANT_ID", "11111111-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-555555555555"),
            ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com"),
            ("ENTRA_MCP_STORE", "/records"),
            (super::super::STORE_KEY, "x"),
            ("AZURE_CLIENT_SECRET", "secret"),
        ];
        variables.extend_from_slice(changes);
        read(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn the_document_has_the_tool_and_its_rules_and_is_one_that_the_component_reads() {
        let wrapped = of(&[
            (
                EGRESS,
                r#"[{"to": "https://graph.microsoft.com", "scopes": ["Mail.Read", "User.Read"]},
                    {"to": "https://api.contoso.com/v1/", "resource": "api://contoso", "scopes": ["Orders.Read"]},
                    {"to": "https://public.example", "token": "none"}]"#,
            ),
            (ACCESS, r#"[{"tool": "delete", "roles": ["Admin"]}]"#),
            (IDENTITY, "easy-auth"),
            (TITLE, "Mail"),
            ("ENTRA_MCP_DENY_UNLISTED", "true"),
        ]);
        let wrapped = wrapped.unwrap();
        let to: Vec<_> =
            wrapped.destinations.iter().map(|entry| (entry.to.as_str(), entry.permissions.join(" "))).collect();
        let graph = "https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/User.Read".to_owned();
        let expected = [
            ("https://graph.microsoft.com/", graph),
            ("https://api.contoso.com/v1/", "api://contoso/Orders.Read".to_owned()),
            ("https://public.example/", String::new()),
        ];
        assert_eq!(to, expected);
        let settings = base::settings_document::read(&wrapped.configuration.document).unwrap();
        let [server] = settings.servers.as_slice() else { panic!("one server") };
        assert_eq!(
            (server.kind, server.path.as_str(), server.title.as_deref()),
            (ServerKind::Upstream, "/mcp", Some("Mail"))
        );
        assert_eq!((server.permissions.len(), &server.identity), (2, &ServerIdentity::EasyAuth));
        let base::settings::Mode::Remote(http) = settings.mode else { panic!("a remote server") };
        assert!(http.deny_unlisted);
        assert_eq!(http.access.map(|rules| rules.len()), Some(1));
    }

    #[test]
    fn without_settings_of_its_own_the_tool_reaches_nothing_and_every_caller_may_call_it() {
        let wrapped = of(&[]).unwrap();
        assert_eq!((wrapped.destinations.len(), wrapped.graph.as_str()), (0, "https://graph.microsoft.com"));
        assert_eq!(base::settings_document::read(&wrapped.configuration.document).unwrap().servers.len(), 1);
    }

    #[test]
    fn the_graph_of_other_clouds_and_of_an_emulator_is_graph() {
        let permissions = |changes: &[(&str, &str)], to: &str| {
            let egress = format!(r#"[{{"to": "{to}", "scopes": ["User.Read"]}}]"#);
            let changes = [changes, &[(EGRESS, egress.as_str())]].concat();
            of(&changes).map(|wrapped| wrapped.destinations[0].permissions[0].clone())
        };
        let us = [("ENTRA_MCP_CLOUD", "us-government")];
        for to in ["https://graph.microsoft.com", "https://graph.microsoft.us/v1.0"] {
            assert_eq!(permissions(&us, to).as_deref(), Ok("https://graph.microsoft.us/User.Read"));
        }
        let emulated = [("ENTRA_MCP_GRAPH_URL", "http://127.0.0.1:1/graph")];
        assert_eq!(
            permissions(&emulated, "http://127.0.0.1:1/graph/v1.0").as_deref(),
            Ok("https://graph.microsoft.com/User.Read")
        );
        assert!(permissions(&emulated, "http://127.0.0.1:1/graphs").is_err());
    }

    #[test]
    fn what_cannot_have_been_meant_is_refused() {
        for egress in [
            "x",
            "{}",
            r#"["https://a.example"]"#,
            r#"[{}]"#,
            r#"[{"to": "https://a.example"}]"#,
            r#"[{"to": "https://a.example", "scopes": ["A"]}]"#,
            r#"[{"to": "https://graph.microsoft.com"}]"#,
            r#"[{"to": "https://graph.microsoft.com", "scopes": []}]"#,
            r#"[{"to": "https://graph.microsoft.com", "scopes": ["https://graph.microsoft.com/A"]}]"#,
            r#"[{"to": "https://graph.microsoft.com", "resource": "api://contoso", "scopes": ["A"]}]"#,
            r#"[{"to": "https://a.example", "token": "none", "scopes": ["A"]}]"#,
            r#"[{"to": "https://a.example", "token": "mine"}]"#,
            r#"[{"to": "https://a.example", "token": "none", "scope": "A"}]"#,
            r#"[{"to": "http://a.example", "token": "none"}]"#,
            r#"[{"to": "http://127.evil.example", "token": "none"}]"#,
            r#"[{"to": "https://A.example", "token": "none"}]"#,
            r#"[{"to": "https://*.example", "token": "none"}]"#,
            r#"[{"to": "https://a.example:443", "token": "none"}]"#,
            r#"[{"to": "https://a.example/a/../b", "token": "none"}]"#,
            r#"[{"to": "https://a.example?x", "token": "none"}]"#,
            r#"[{"to": "https://u@a.example", "token": "none"}]"#,
            r#"[{"to": "https://a.example", "token": "none"}, {"to": "https://a.example/", "token": "none"}]"#,
            r#"[{"to": "https://a.example", "resource": "contoso", "scopes": ["A"]}]"#,
        ] {
            assert!(matches!(of(&[(EGRESS, egress)]), Err(SettingsError::Invalid { .. })), "{egress}");
        }
        for (name, value) in [
            (ACCESS, "x"),
            (ACCESS, r#"[{"tool": "a", "roles": []}]"#),
            (ACCESS, r#"[{"tool": "*", "kinds": ["agent"]}]"#),
            (ACCESS, r#"[{"tool": "*", "acrs": ["C1"]}]"#),
            (IDENTITY, "token"),
            (TITLE, "a\nb"),
            ("ENTRA_MCP_TLS_CERT", "x"),
            ("ENTRA_MCP_TOOLS", "x"),
        ] {
            assert!(of(&[(name, value)]).is_err(), "{name}={value}");
        }
        assert!(matches!(
            super::super::read(&[(EGRESS.to_owned(), "[]".to_owned())]),
            Err(SettingsError::Unsupported { variable, .. }) if variable == EGRESS
        ));
    }
}
