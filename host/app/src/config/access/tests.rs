//! Tests of `config/access.rs`.

use super::*;
use crate::config::{BehindLayer, Environment, HostLayer, Layer, ServeConfig, ServeLayer, Sources};

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER: &str = "33333333-3333-3333-3333-333333333333";
const GROUP: &str = "44444444-4444-4444-4444-44444444aaaa";

fn load(file: &str, serve: ServeLayer) -> Result<ServeConfig, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, file).unwrap();
    let (tenant_id, client_id) = (Some(TENANT.into()), Some("22222222-2222-2222-2222-22222222aaaa".into()));
    let flags = Layer {
        host: HostLayer { config: Some(path), ..HostLayer::default() },
        tenant_id,
        client_id,
        ..Layer::default()
    };
    Sources::read_serve(flags, serve, BehindLayer::default(), Environment::of(&[("HOME", "/home/u")]))?.serve()
}

fn rules(file: &str) -> Result<Vec<ToolRule>, ConfigError> {
    let config = load(file, ServeLayer::default())?;
    Ok(config.settings("127.0.0.1:1".parse().unwrap()).http.unwrap().access.unwrap())
}

#[test]
fn without_rules_the_tools_keep_their_own() {
    let config = load("", ServeLayer::default()).unwrap();
    assert!(config.settings("127.0.0.1:1".parse().unwrap()).http.unwrap().access.is_none());
}

#[test]
fn a_rule_that_names_a_tool_only_is_for_every_user_and_no_application() {
    let rules = rules("[[access]]\ntool = 'a'").unwrap();
    let [
        ToolRule {
            server: None,
            kind: TargetKind::Tool,
            tool,
            tenants: None,
            kinds,
            clients: None,
            roles: None,
            groups: None,
            scopes,
            acrs: None,
        },
    ] = rules.as_slice()
    else {
        panic!("{rules:?}")
    };
    assert_eq!((tool.as_str(), kinds.as_slice(), scopes.len()), ("a", &[CallerKind::User][..], 0));
}

#[test]
fn every_part_of_a_rule_reaches_the_component() {
    let file = format!(
        "allow-tenant = ['{OTHER}']\n[[access]]\ntool = 'a'\ntenants = ['{OTHER}']\nkinds = ['app', 'user']\n\
         clients = ['https://client.example/metadata']\nroles = ['Mcp.Admin']\ngroups = ['{GROUP}']\nscopes = ['Mcp.All']\nacrs = ['c1', 'c99']\n\
         [[access]]\ntool = 'a'\n"
    );
    let rules = rules(&file).unwrap();
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].tenants.as_deref(), Some([OTHER.to_owned()].as_slice()));
    assert_eq!(rules[0].kinds, [CallerKind::App, CallerKind::User]);
    assert_eq!(rules[0].clients.as_deref(), Some(["https://client.example/metadata".to_owned()].as_slice()));
    assert_eq!(rules[0].roles.as_deref(), Some(["Mcp.Admin".to_owned()].as_slice()));
    assert_eq!(rules[0].groups.as_deref(), Some([GROUP.to_owned()].as_slice()));
    assert_eq!(rules[0].scopes, ["Mcp.All"]);
    assert_eq!(rules[0].acrs.as_deref(), Some(["c1".to_owned(), "c99".to_owned()].as_slice()));
}

#[test]
fn what_cannot_have_been_meant_is_refused_with_its_name() {
    for (line, name) in [
        ("tool = ''", "access.tool"),
        ("tool = 'a'\ntenants = []", "access.tenants"),
        ("tool = 'a'\ntenants = ['contoso.com']", "access.tenants"),
        ("tool = 'a'\ntenants = ['33333333-3333-3333-3333-333333333333']", "access.tenants"),
        ("tool = 'a'\nkinds = []", "access.kinds"),
        ("tool = 'a'\nclients = []", "access.clients"),
        ("tool = 'a'\nclients = ['']", "access.clients"),
        ("tool = 'a'\nroles = []", "access.roles"),
        ("tool = 'a'\nroles = ['Mcp Admin']", "access.roles"),
        ("tool = 'a'\ngroups = []", "access.groups"),
        ("tool = 'a'\ngroups = ['Administrators']", "access.groups"),
        ("tool = 'a'\ngroups = ['44444444-4444-4444-4444-44444444AAAA']", "access.groups"),
        ("tool = 'a'\nscopes = []", "access.scopes"),
        ("tool = 'a'\nscopes = ['api://mcp/Mcp.All']", "access.scopes"),
        ("tool = 'a'\nacrs = []", "access.acrs"),
        ("tool = 'a'\nacrs = ['c1', 'C2']", "access.acrs"),
        ("tool = 'a'\nacrs = ['c0']", "access.acrs"),
        ("tool = 'a'\nacrs = ['c01']", "access.acrs"),
        ("tool = 'a'\nacrs = ['c100']", "access.acrs"),
        ("tool = 'a'\nacrs = ['c+1']", "access.acrs"),
        ("tool = 'a'\nacrs = ['urn:microsoft:req1']", "access.acrs"),
    ] {
        match rules(&format!("[[access]]\n{line}")) {
            Err(ConfigError::Invalid { name: found, .. }) => assert_eq!(found, name, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    for line in ["tool = 'a'\nrole = ['x']", "tool = 'a'\nkinds = ['guest']", "roles = ['x']"] {
        assert!(matches!(rules(&format!("[[access]]\n{line}")), Err(ConfigError::File { .. })), "{line}");
    }
}

#[test]
fn agents_are_not_let_in_whichever_they_are_and_a_context_is_not_asked_of_applications_alone() {
    let refused =
        |rest: &str| matches!(rules(&format!("[[access]]\ntool = 'a'\n{rest}")), Err(ConfigError::Conflict(_)));
    assert!(refused("kinds = ['agent']") && refused("kinds = ['user', 'agent']\nscopes = ['x']"));
    let named = rules("[[access]]\ntool = 'a'\nkinds = ['agent']\nclients = ['x']").unwrap();
    assert_eq!(named[0].kinds, [CallerKind::Agent]);
    assert!(refused("kinds = ['app']\nroles = ['x']\nacrs = ['c1']"));
    assert!(!refused("kinds = ['user', 'app']\nroles = ['x']\nacrs = ['c1']"));
}

#[test]
fn applications_are_not_let_in_whichever_they_are() {
    assert!(matches!(rules("[[access]]\ntool = 'a'\nkinds = ['app']\nscopes = ['x']"), Err(ConfigError::Conflict(_))));
    for limit in ["roles = ['x']", "clients = ['x']", &format!("groups = ['{GROUP}']")] {
        assert!(rules(&format!("[[access]]\ntool = 'a'\nkinds = ['app']\n{limit}")).is_ok(), "{limit}");
    }
}

#[test]
fn rules_are_in_one_place_and_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.toml");
    let from_file = || ServeLayer { access_file: Some(path.clone()), ..ServeLayer::default() };
    assert!(matches!(load("", from_file()), Err(ConfigError::Unreadable { .. })));
    for text in ["", "[[rules]]\ntool = 'a'", "listen = '127.0.0.1:1'\n[[access]]\ntool = 'a'"] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(load("", from_file()), Err(ConfigError::File { .. })), "{text}");
    }
    std::fs::write(&path, "access = []").unwrap();
    assert!(matches!(load("", from_file()), Err(ConfigError::Conflict(_))));
    std::fs::write(&path, "[[access]]\ntool = 'a'").unwrap();
    assert!(load("", from_file()).is_ok());
    assert!(matches!(load("[[access]]\ntool = 'a'", from_file()), Err(ConfigError::Conflict(_))));
    assert!(matches!(rules("access = []"), Err(ConfigError::Conflict(_))));
}

#[test]
fn a_rule_for_a_tool_that_there_is_not_is_refused() {
    let config = load("[[access]]\ntool = 'a'\n[[access]]\ntool = 'b'", ServeLayer::default()).unwrap();
    let settings = config.settings("127.0.0.1:1".parse().unwrap());
    let own = |tools: &[&str]| KnownTools::Own(tools.iter().map(|tool| tool.to_string()).collect());
    assert_eq!(check_tools(&settings, &own(&["b", "a"])), Ok(()));
    let Err(ConfigError::Invalid { name, value, .. }) = check_tools(&settings, &own(&["a"])) else { panic!() };
    assert_eq!((name, value.as_str()), ("access.tool", "b"));
}

fn settings(rules: &str) -> Settings {
    let servers = "[[upstream]]\nname = 'crm'\nurl = 'https://crm.example/mcp'\n[[upstream]]\nname = 'mail'\nurl = \
                   'https://mail.example/mcp'\n";
    let config = load(&format!("{servers}{rules}"), ServeLayer::default()).unwrap();
    let mut settings = config.settings("127.0.0.1:1".parse().unwrap());
    // As if it were a tool component, which needs a file.
    settings.servers[1].kind = ServerKind::Tools;
    settings
}

#[test]
fn a_rule_may_name_a_server_and_a_kind() {
    let settings = settings("[[access]]\nserver = 'crm'\nkind = 'resource'\ntool = 'crm://records'\nroles = ['a']");
    let rules = settings.http.unwrap().access.unwrap();
    assert_eq!((rules[0].server.as_deref(), rules[0].kind), (Some("crm"), TargetKind::Resource));
}

#[test]
fn rules_for_tools_of_components_are_checked_against_the_tools() {
    let check = |rule: &str| {
        let known = KnownTools::Behind(vec![("mail".to_owned(), vec!["read".to_owned(), "send".to_owned()])]);
        check_tools(&settings(&format!("[[access]]\n{rule}")), &known).map_err(|error| error.to_string())
    };
    for rule in [
        "server = 'mail'\ntool = 'read'",
        "server = 'mail'\ntool = '*'",
        // What these servers have is not known.
        "server = 'crm'\ntool = 'anything'",
        "server = 'crm'\nkind = 'prompt'\ntool = 'anything'",
        "tool = 'anything'",
    ] {
        assert_eq!(check(rule), Ok(()), "{rule}");
    }
    assert_eq!(
        check("server = 'mail'\ntool = 'raed'"),
        Err("access.tool is \"raed\", but one of read, send, * is expected".to_owned())
    );
    assert_eq!(
        check("server = 'mail'\nkind = 'prompt'\ntool = 'x'"),
        Err(
            "the rule for \"x\" is of another kind than tool, and there are only tools: MCP servers behind alone have \
             resources, prompts, completion and tasks"
                .to_owned()
        )
    );
}

#[test]
fn rules_for_the_programs_own_tools_stay_as_they_are() {
    let check = |rule: &str| {
        let config = load(&format!("[[access]]\n{rule}"), ServeLayer::default()).unwrap();
        check_tools(&config.settings("127.0.0.1:1".parse().unwrap()), &KnownTools::Own(vec!["a".to_owned()]))
    };
    assert_eq!(check("tool = 'a'"), Ok(()));
    assert!(matches!(check("tool = '*'"), Err(ConfigError::Invalid { name: "access.tool", .. })));
    assert!(matches!(check("tool = 'a'\nkind = 'prompt'"), Err(ConfigError::Conflict(_))));
}
