//! Tests of `config/behind.rs`.

use std::path::PathBuf;
use std::time::Duration;

use entra_mcp_plugin::environment::ServerIdentity;
use tempfile::TempDir;

use super::*;
use crate::config::{Config, HostLayer, Layer, ServeConfig, ServeLayer, Sources};

mod flags;

const CRM: &str = "[[upstream]]\nname = 'crm'\nurl = 'http://127.0.0.1:8000/mcp'\n";

/// A folder with a configuration file and two components. `{}` in the file stands for the folder.
struct Setup {
    folder: TempDir,
    flags: Layer,
    behind: BehindLayer,
    variables: Vec<(&'static str, &'static str)>,
}

impl Setup {
    fn new(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["mail.wasm", "Order_Tools.wasm", "Ä.wasm"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let config = folder.path().join("config.toml");
        std::fs::write(&config, file.replace("{}", folder.path().to_str().unwrap())).unwrap();
        let flags = Layer {
            host: HostLayer { config: Some(config), ..HostLayer::default() },
            tenant_id: Some("11111111-1111-1111-1111-111111111111".into()),
            client_id: Some("22222222-2222-2222-2222-22222222aaaa".into()),
            ..Layer::default()
        };
        Self { folder, flags, behind: BehindLayer::default(), variables: vec![("HOME", "/home/u")] }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sources(&self) -> Result<Sources, ConfigError> {
        let environment = Environment::of(&self.variables);
        Sources::read_serve(self.flags.clone(), ServeLayer::default(), self.behind.clone(), environment)
    }

    fn serve(&self) -> Result<ServeConfig, ConfigError> {
        self.sources()?.serve()
    }

    fn stdio(&self) -> Result<Config, ConfigError> {
        let environment = Environment::of(&self.variables);
        Sources::read_stdio(self.flags.clone(), self.behind.clone(), environment)?.local_server()
    }
}

fn load(file: &str) -> Result<BehindConfig, ConfigError> {
    Ok(Setup::new(file).serve()?.common.behind)
}

/// The message for the operator.
fn refusal(file: &str) -> String {
    match load(file).unwrap_err() {
        ConfigError::File { reason, .. } => {
            let is_fault = |line: &&str| line.starts_with("unknown ") || line.starts_with("missing ");
            reason.lines().find(is_fault).unwrap_or(&reason).to_owned()
        }
        error => error.to_string(),
    }
}

fn mail(lines: &str) -> String {
    format!("[[tools]]\nfile = '{{}}/mail.wasm'\n{lines}")
}

fn crm(lines: &str) -> String {
    format!("{CRM}{lines}")
}

fn command(lines: &str) -> String {
    format!("[[upstream]]\nname = 'crm'\ncommand = ['python', 'server.py']\n{lines}")
}

#[test]
fn without_servers_the_component_serves_its_own_tools() {
    let config = Setup::new("").serve().unwrap();
    assert!(config.common.behind.is_empty() && config.common.settings.servers.is_empty());
}

#[test]
fn servers_come_from_flags_or_variables_or_the_file() {
    let setup =
        Setup::new("[[tools]]\nfile = '{}/mail.wasm'\n[[upstream]]\nname = 'crm'\nurl = 'https://crm.example/mcp'");
    let file = setup.serve().unwrap().common.behind;
    assert_eq!(file.settings().iter().map(|server| server.name.as_str()).collect::<Vec<_>>(), ["mail", "crm"]);

    let tools = setup.file("Order_Tools.wasm").display().to_string();
    let variables = [
        ("ENTRA_MCP_TOOLS", tools.leak() as &str),
        ("ENTRA_MCP_UPSTREAM", "http://127.0.0.1:1/mcp, https://b.example/mcp"),
        ("ENTRA_MCP_UPSTREAM_COMMAND", "python 'my server.py'\nnode a.js\n"),
    ];
    let mut setup = setup;
    setup.variables.extend(variables);
    let behind = setup.serve().unwrap().common.behind;
    let names: Vec<_> = behind.settings().into_iter().map(|server| (server.name, server.path)).collect();
    let named = |name: &str| (name.to_owned(), format!("/{name}/mcp"));
    assert_eq!(names, ["order-tools", "upstream", "upstream-2", "upstream-3", "upstream-4"].map(named));
    let UpstreamTarget::Process(process) = &behind.upstreams[2].target else { panic!("{behind:?}") };
    assert_eq!(process.command, ["python", "my server.py"]);

    // A flag takes the place of what the variable and the file say.
    setup.behind.upstream = Some(vec![UpstreamEntry::bare("https://c.example/mcp")]);
    let behind = setup.serve().unwrap().common.behind;
    assert_eq!(behind.upstreams[0].target, UpstreamTarget::Http { url: "https://c.example/mcp".into() });
    assert_eq!(behind.upstreams.len(), 3);
}

#[test]
fn every_setting_of_tools_reaches_the_component_and_the_runtime() {
    let file = "[[tools]]\nname = 'mail'\nfile = '{}/mail.wasm'\npath = '/post/mcp'\ntitle = 'Mail'\nreuse = true\n\
        variables = ['LOG_LEVEL=debug', 'TZ', 'EMPTY=', 'A=b=c']\n\
        max-memory-mib = 1\nmax-seconds = 2\nmax-answer-kib = 3\nmax-concurrent = 4\n\
        egress = [\n  { to = 'https://graph.microsoft.com', scopes = ['Mail.Read', 'User.Read'] },\n  \
        { to = 'https://api.contoso.com/v1/', resource = 'api://contoso', scopes = ['Orders.Read'] },\n  \
        { to = 'https://public.example', token = 'none' },\n]\n";
    let mut setup = Setup::new(file);
    setup.variables.push(("TZ", "UTC"));
    let config = setup.serve().unwrap();
    let [tools] = config.common.behind.tools.as_slice() else { panic!() };
    let egress = |to: &str, permissions: &[&str]| EgressConfig {
        to: to.to_owned(),
        permissions: permissions.iter().map(|permission| permission.to_string()).collect(),
    };
    let graph = ["https://graph.microsoft.com/Mail.Read", "https://graph.microsoft.com/User.Read"];
    assert_eq!(
        tools.egress,
        [
            egress("https://graph.microsoft.com/", &graph),
            egress("https://api.contoso.com/v1/", &["api://contoso/Orders.Read"]),
            egress("https://public.example/", &[]),
        ]
    );
    let variables = [("LOG_LEVEL", "debug"), ("TZ", "UTC"), ("EMPTY", ""), ("A", "b=c")];
    assert_eq!(tools.variables, Variables(variables.map(|(name, value)| (name.into(), value.into())).to_vec()));
    assert!(!format!("{tools:?}").contains("debug") && !format!("{:?}", setup.sources().unwrap()).contains("debug"));
    assert_eq!((tools.reuse, tools.max_memory_bytes, tools.max_time), (true, 1024 * 1024, Duration::from_secs(2)));
    assert_eq!((tools.max_answer_bytes, tools.max_concurrent), (3 * 1024, 4));
    let expected = ServerSettings {
        name: "mail".to_owned(),
        path: "/post/mcp".to_owned(),
        kind: ServerKind::Tools,
        title: Some("Mail".to_owned()),
        tools: Vec::new(),
        permissions: vec![graph.map(str::to_owned).to_vec(), vec!["api://contoso/Orders.Read".to_owned()]],
        identity: ServerIdentity::None,
    };
    assert_eq!(config.common.settings.servers, std::slice::from_ref(&expected));
    // The same file serves the person at this machine.
    assert_eq!(setup.stdio().unwrap().settings.servers, [expected]);
}

#[test]
fn the_graph_of_other_clouds_and_of_an_emulator_is_graph() {
    let permissions = |change: fn(&mut Layer), to: &str| {
        let mut setup = Setup::new(&mail(&format!("egress = [{{ to = '{to}', scopes = ['User.Read'] }}]")));
        change(&mut setup.flags);
        setup.serve().map(|config| config.common.behind.tools[0].egress[0].permissions.clone())
    };
    let us = |flags: &mut Layer| flags.cloud = Some(crate::config::Cloud::UsGovernment);
    let emulated = |flags: &mut Layer| flags.graph_url = Some("http://127.0.0.1:1/graph".into());
    for to in ["https://graph.microsoft.com", "https://graph.microsoft.us/v1.0"] {
        assert_eq!(permissions(us, to).unwrap(), ["https://graph.microsoft.us/User.Read"]);
    }
    for to in ["https://graph.microsoft.com", "http://127.0.0.1:1/graph/v1.0/"] {
        assert_eq!(permissions(emulated, to).unwrap(), ["https://graph.microsoft.com/User.Read"]);
    }
    for to in ["http://127.0.0.1:1/", "http://127.0.0.1:1/graphs", "https://graph.microsoft.de"] {
        assert!(matches!(permissions(emulated, to), Err(ConfigError::Conflict(_))), "{to}");
    }
}

#[test]
fn an_egress_that_cannot_have_been_meant_is_refused_with_what_to_change() {
    for (entry, expected) in [
        (
            "to = 'https://api.contoso.com', scopes = ['Orders.Read']",
            r#"the egress of "mail" to "https://api.contoso.com" needs the API that the token is for, such as resource = "api://contoso"; without a token, write token = "none""#,
        ),
        (
            "to = 'https://graph.microsoft.com'",
            r#"the egress of "mail" to "https://graph.microsoft.com" needs the permissions of the token, such as scopes = ["Orders.Read"]; without a token, write token = "none""#,
        ),
        (
            "to = 'https://api.contoso.com', resource = 'api://contoso', scopes = []",
            r#"the egress of "mail" to "https://api.contoso.com" needs the permissions of the token, such as scopes = ["Orders.Read"]; without a token, write token = "none""#,
        ),
        (
            "to = 'https://api.contoso.com', token = 'none', scopes = ['Orders.Read']",
            r#"the egress of "mail" to "https://api.contoso.com" has token = "none", so resource and scopes have no effect: remove them, or remove token"#,
        ),
        (
            "to = 'https://graph.microsoft.com', resource = 'api://contoso', scopes = ['User.Read']",
            r#"the egress of "mail" to "https://graph.microsoft.com" goes to Microsoft Graph, which takes no token for "api://contoso": remove resource"#,
        ),
        (
            "to = 'http://api.contoso.com', token = 'none'",
            r#"tools.egress.to is "http://api.contoso.com", but http is accepted on loopback only, an https URL is expected"#,
        ),
        (
            "to = 'https://api.contoso.com?a=b', token = 'none'",
            r#"tools.egress.to is "https://api.contoso.com?a=b", but a URL without query and fragment is expected"#,
        ),
        (
            "to = 'https://u:p@api.contoso.com', token = 'none'",
            r#"tools.egress.to is "…", but a URL without user name and password is expected"#,
        ),
        (
            "to = 'https://api.contoso.com/a/../b', token = 'none'",
            r#"tools.egress.to is "https://api.contoso.com/a/../b", but it is expected in the form "https://api.contoso.com/b""#,
        ),
        (
            "to = 'https://10.0.0.1', token = 'none'",
            r#"tools.egress.to is "https://10.0.0.1", but https://10.0.0.1 is refused: it is an address of a private or special network"#,
        ),
        (
            "to = 'https://*.contoso.com', token = 'none'",
            r#"tools.egress.to is "https://*.contoso.com", but a host is expected, and not a pattern for hosts"#,
        ),
        (
            "to = 'https://api.contoso.com', resource = 'contoso', scopes = ['Orders.Read']",
            r#"tools.egress.resource is "contoso", but the App ID URI or the client id of one API is expected, without a slash at its end, such as api://contoso"#,
        ),
        (
            "to = 'https://api.contoso.com', resource = 'api://contoso api://b', scopes = ['Orders.Read']",
            r#"tools.egress.resource is "api://contoso api://b", but the App ID URI or the client id of one API is expected, without a slash at its end, such as api://contoso"#,
        ),
        (
            "to = 'https://graph.microsoft.com', scopes = ['https://graph.microsoft.com/User.Read']",
            r#"tools.egress.scopes is "https://graph.microsoft.com/User.Read", but the short name of one permission is expected, such as access_as_user"#,
        ),
    ] {
        assert_eq!(refusal(&mail(&format!("egress = [{{ {entry} }}]"))), expected, "{entry}");
    }
    let twice =
        "egress = [{ to = 'https://a.example', token = 'none' }, { to = 'https://a.example/', token = 'none' }]";
    assert_eq!(
        refusal(&mail(twice)),
        r#"the egress of "mail" has two entries for "https://a.example/": a request gets one token, for one resource, so write one entry, or entries for different paths"#
    );
}

#[test]
fn limits_and_variables_of_tools_are_checked() {
    for (line, expected) in [
        ("max-memory-mib = 0", "tools.max-memory-mib is \"0\", but 1 to 1024 is expected"),
        ("max-seconds = 61", "tools.max-seconds is \"61\", but 1 to 60 is expected"),
        ("max-answer-kib = 4097", "tools.max-answer-kib is \"4097\", but 1 to 4096 is expected"),
        ("max-concurrent = 0", "tools.max-concurrent is \"0\", but 1 to 1024 is expected"),
        (
            "variables = ['UNSET']",
            "tools.variables is \"UNSET\", but that variable is not set: set it, or write UNSET=value",
        ),
        (
            "variables = ['1A=b']",
            "tools.variables is \"1A\", but NAME=value is expected, or NAME for the variable of this process",
        ),
        ("variables = ['A=1', 'A=2']", "tools.variables is \"A\", but each variable is expected once"),
        (
            "variables = ['AZURE_CLIENT_SECRET']",
            "tools.variables is \"AZURE_CLIENT_SECRET\", but the client secret is for Entra ID only: no server behind gets it",
        ),
        (
            "variables = ['ENTRA_MCP_CALLER=x']",
            "tools.variables is \"ENTRA_MCP_CALLER\", but names that begin with ENTRA_MCP_ are this program's own",
        ),
        ("title = ''", "tools.title is \"\", but one line of 1 to 128 characters is expected"),
    ] {
        assert_eq!(refusal(&mail(line)), expected, "{line}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_known_ones() {
    for (file, key) in [
        (mail("egres = []"), "`egres`, expected one of `file`, `name`, `path`, `title`, `tools`, `egress`"),
        (mail("egress = [{ to = 'https://a.example', scope = 'x' }]"), "`scope`, expected one of `to`, `resource`"),
        (crm("uri = 'x'"), "`uri`, expected one of `name`, `url`, `command`"),
        (crm("is-bare = true"), "`is-bare`, expected one of `name`"),
    ] {
        let refusal = refusal(&file);
        assert!(refusal.starts_with("unknown field ") && refusal.contains(key), "{refusal}");
    }
    assert_eq!(refusal("[[tools]]\nname = 'mail'"), "missing field `file`");
    assert_eq!(
        refusal(&crm("identity = 'basic'")),
        "unknown variant `basic`, expected one of `none`, `easy-auth`, `assertion`, `token`"
    );
}

#[test]
fn names_and_paths_belong_to_one_server_and_to_none_of_the_programs_own() {
    let two = |first: &str, second: &str| {
        refusal(&format!("{}\n{}\n", crm(first), crm(second).replace("'crm'\nurl", "'erp'\nurl")))
    };
    for path in ["/a/mcp", "/A/mcp", "/a/MCP"] {
        assert_eq!(
            two("path = '/a/mcp'", &format!("path = '{path}'")),
            format!(
                "two servers have the path {path:?}, in whatever case, and the second of them is \"erp\": give it another path"
            )
        );
    }
    assert_eq!(
        refusal(&format!("{CRM}{CRM}")),
        r#"two servers are called "crm": give each a name of its own in [[tools]] or [[upstream]]"#
    );
    assert_eq!(
        refusal("[[upstream]]\nurl = 'https://a.example/mcp'"),
        "an [[upstream]] has no name, such as name = \"crm\": rules, records and its path name it"
    );
    for name in ["", "CRM", "c_rm", "c rm", &"a".repeat(65)] {
        let expected = format!("upstream.name is {name:?}, but 1 to 64 characters of a-z, 0-9 and - are expected");
        assert_eq!(refusal(&CRM.replace("'crm'", &format!("'{name}'"))), expected);
    }
    for path in ["", "/", "mcp", "/mcp/", "//mcp", "/a//b", "/../mcp", "/.well-known/x", "/a b", "/a%20b", "/a?b"] {
        let expected = format!(
            "upstream.path is {path:?}, but a path such as /crm/mcp is expected: at most 128 characters, without a slash at \
             its end, and no segment begins with a dot"
        );
        assert_eq!(refusal(&crm(&format!("path = '{path}'"))), expected);
    }
    for path in ["/authorize", "/token", "/Token", "/sse", "/message", "/healthz", "/auth", "/auth/x", "/metrics"] {
        let expected = format!(
            "upstream.path is {path:?}, but the server serves that path itself: another one is expected, such as /crm/mcp"
        );
        assert_eq!(refusal(&crm(&format!("path = '{path}'"))), expected);
    }
    // The program's own tools are not served any more.
    assert_eq!(load(&crm("path = '/mcp'")).unwrap().upstreams[0].place.path, "/mcp");
}

#[test]
fn the_tools_of_the_consent_page_are_names_that_people_can_see() {
    let tools = |file: &str| Ok::<_, ConfigError>(load(file)?.settings().remove(0).tools);
    assert_eq!(tools(CRM).unwrap(), [""; 0]);
    assert_eq!(tools(&crm("tools = ['list_records', 'read']")).unwrap(), ["list_records", "read"]);
    assert_eq!(tools(&mail("tools = ['list_mail']")).unwrap(), ["list_mail"]);
    let expected = "at most 100 names of 1 to 128 visible ASCII characters are expected";
    for (list, shown) in [("['a', '']", "a, "), ("['a b']", "a b"), ("[\"\\u202e\"]", "\u{202e}")] {
        assert_eq!(refusal(&crm(&format!("tools = {list}"))), format!("upstream.tools is {shown:?}, but {expected}"));
    }
    let many = format!("tools = {:?}", vec!["x"; 101]);
    assert_eq!(refusal(&mail(&many)), format!("tools.tools is {:?}, but {expected}", vec!["x"; 101].join(", ")));
}

#[test]
fn a_component_that_cannot_be_read_or_gives_no_name_is_refused() {
    let mut setup = Setup::new("");
    let missing = setup.file("missing.wasm");
    setup.behind.tools = Some(vec![ToolsEntry::bare(&missing)]);
    let text = setup.serve().unwrap_err().to_string();
    assert!(text.starts_with(&format!("the tool component {} cannot be read: ", missing.display())), "{text}");

    setup.behind.tools = Some(vec![ToolsEntry { name: Some("a".into()), ..ToolsEntry::bare(setup.folder.path()) }]);
    let reason = "it is no file".to_owned();
    assert_eq!(setup.serve().unwrap_err(), ConfigError::ToolsFile { path: setup.folder.path().to_owned(), reason });

    let file = setup.file("Ä.wasm");
    setup.behind.tools = Some(vec![ToolsEntry::bare(&file)]);
    let expected = format!(
        "the file {} gives no name for a server, which is of a-z, 0-9 and -: rename it, or write a [[tools]] with a name \
         (its file name gives \"Ä\")",
        file.display()
    );
    assert_eq!(setup.serve().unwrap_err(), ConfigError::Conflict(expected));
}

#[test]
fn an_upstream_is_reached_by_url_or_by_command() {
    let behind = load(&command("variables = ['A=b']\nidle-seconds = 1\nmax-processes = 3\nmax-seconds-to-answer = 5"));
    let behind = behind.unwrap();
    let [UpstreamConfig { target, max_time_to_answer, identity, place }] = behind.upstreams.as_slice() else {
        panic!("{behind:?}")
    };
    let expected = UpstreamTarget::Process(ProcessConfig {
        command: vec!["python".into(), "server.py".into()],
        search_path: None,
        folder: None,
        private_folders: std::env::temp_dir(),
        variables: Variables(vec![("A".into(), "b".into())]),
        idle: Duration::from_secs(1),
        max_processes: 3,
        max_processes_per_person: 3,
    });
    assert_eq!((target, *max_time_to_answer, place.path.as_str()), (&expected, Duration::from_secs(5), "/mcp"));
    assert_eq!(*identity, ServerIdentity::None);

    for (file, expected) in [
        (crm("command = ['x']"), r#"the upstream "crm" has both url and command: keep one of them"#),
        (
            "[[upstream]]\nname = 'crm'".to_owned(),
            r#"the upstream "crm" has neither url nor command: write url = "https://…/mcp" or command = ["program"]"#,
        ),
        (
            crm("idle-seconds = 5"),
            r#"the upstream "crm" has idle-seconds, which is for a command, and a url: remove idle-seconds"#,
        ),
        (crm("folder = '/'"), r#"the upstream "crm" has folder, which is for a command, and a url: remove folder"#),
        (
            command("folder = '/no/such/folder'"),
            r#"upstream.folder is "/no/such/folder", but a folder that exists is expected, in which the processes are started"#,
        ),
        (
            crm("variables = []"),
            r#"the upstream "crm" has variables, which is for a command, and a url: remove variables"#,
        ),
        (
            CRM.replace("http:", "ftp:"),
            r#"upstream.url is "ftp://127.0.0.1:8000/mcp", but an https URL is expected, or an http one on this machine or in a private network"#,
        ),
        (CRM.replace("127", "u:p@127"), r#"upstream.url is "…", but a URL without user name and password is expected"#),
        (
            "[[upstream]]\nname = 'crm'\ncommand = []".to_owned(),
            r#"upstream.command is "", but a program and its arguments are expected, such as ["python", "server.py"]"#,
        ),
        (command("idle-seconds = 0"), r#"upstream.idle-seconds is "0", but 1 to 86400 is expected"#),
        (command("max-processes = 1025"), r#"upstream.max-processes is "1025", but 1 to 1024 is expected"#),
        (
            command("max-processes = 2\nmax-processes-per-person = 3"),
            r#"upstream.max-processes-per-person is "3", but 1 to 2 is expected"#,
        ),
        (crm("max-seconds-to-answer = 0"), r#"upstream.max-seconds-to-answer is "0", but 1 to 540 is expected"#),
        (crm("max-seconds-to-answer = 541"), r#"upstream.max-seconds-to-answer is "541", but 1 to 540 is expected"#),
    ] {
        assert_eq!(refusal(&file), expected, "{file}");
    }
}

#[test]
fn the_longest_wait_for_an_answer_leaves_a_minute_of_the_permission_for_the_answer() {
    let behind = load(&crm("max-seconds-to-answer = 540")).unwrap();
    let rest = entra_mcp_gate::gate::PERMITTED.saturating_sub(behind.upstreams[0].max_time_to_answer);
    assert_eq!(rest, Duration::from_secs(60));
}

#[test]
fn the_identity_for_an_upstream_is_complete_and_fits() {
    let identity = |lines: &str| load(&crm(lines)).unwrap().settings().remove(0).identity;
    assert_eq!(identity(""), ServerIdentity::None);
    assert_eq!(identity("identity = 'easy-auth'"), ServerIdentity::EasyAuth);
    let assertion = |audience: &str| ServerIdentity::Assertion { audience: audience.to_owned() };
    assert_eq!(identity("identity = 'assertion'"), assertion("http://127.0.0.1:8000/mcp"));
    assert_eq!(identity("identity = 'assertion'\naudience = 'crm'"), assertion("crm"));
    let permissions = vec!["api://crm/Records.Read".to_owned()];
    let token = "identity = 'token'\nresource = 'api://crm'\nscopes = ['Records.Read']";
    assert_eq!(identity(token), ServerIdentity::Token { permissions: permissions.clone() });
    for file in [crm(token), command(token)] {
        assert_eq!(load(&file).unwrap().settings()[0].permissions, std::slice::from_ref(&permissions));
    }
    for (file, expected) in [
        (
            crm("audience = 'crm'"),
            r#"the upstream "crm" has audience, which is for identity = "assertion": set that, or remove audience"#,
        ),
        (
            crm("identity = 'assertion'\nscopes = ['a']"),
            r#"the upstream "crm" has resource or scopes, which are for identity = "token": set that, or remove them"#,
        ),
        (
            crm("identity = 'token'\nresource = 'api://crm'"),
            r#"the upstream "crm" has identity = "token": write the API that the token is for and its permissions, such as resource = "api://crm" and scopes = ["access_as_user"]"#,
        ),
        (
            crm(token).replace("127.0.0.1", "crm"),
            r#"the upstream "crm" gets access tokens, which http would show to the network: its url has to be https"#,
        ),
        (
            crm("identity = 'assertion'\naudience = 'a b'"),
            r#"upstream.audience is "a b", but 1 to 512 printable characters without spaces are expected"#,
        ),
        (
            command("identity = 'easy-auth'"),
            r#"the upstream "crm" is a command, which gets no headers: its variables name the caller, so remove identity, or use identity = "token""#,
        ),
    ] {
        assert_eq!(refusal(&file), expected, "{file}");
    }
}

#[test]
fn a_local_server_has_tools_only_and_other_commands_do_not_look() {
    let setup = Setup::new(CRM);
    assert_eq!(
        setup.stdio().unwrap_err().to_string(),
        "stdio serves tool components only (--tools, [[tools]]), and the server \"crm\" is an MCP server of its own: use \
         entra-mcp serve for it, or name a configuration file without [[upstream]] with --config"
    );
    assert!(setup.sources().unwrap().public_client().unwrap().behind.is_empty());
}

#[test]
fn rules_name_servers_that_there_are() {
    let rule = |server: &str| format!("[[access]]\nserver = '{server}'\ntool = 'x'\n");
    assert!(load(&crm(&rule("crm"))).is_ok());
    assert_eq!(refusal(&crm(&rule("cmr"))), r#"access.server is "cmr", but one of crm is expected"#);
    assert_eq!(
        refusal(&rule("crm")),
        r#"access.server is "crm", but no server is configured: write [[tools]] or [[upstream]] for it, or remove server"#
    );
}

#[test]
fn what_is_not_listed_is_denied_only_where_there_are_servers() {
    let config = Setup::new(&format!("deny-unlisted = true\n{CRM}")).serve().unwrap();
    assert!(config.settings("127.0.0.1:1".parse().unwrap()).http.unwrap().deny_unlisted);
    assert_eq!(
        refusal("deny-unlisted = true"),
        "--deny-unlisted is about the tools of servers behind this one, and there is none: name one with --tools, --upstream \
         or --upstream-command, or leave it out. A rule for one of the program's own tools closes all others of them already"
    );
}

#[test]
fn the_start_says_which_servers_are_open() {
    let lines = |rules: &str, deny_unlisted: bool| {
        let file = format!("deny-unlisted = {deny_unlisted}\n{}\n{CRM}{rules}", mail(""));
        let settings = Setup::new(&file).serve().unwrap().settings("127.0.0.1:1".parse().unwrap());
        openness(&settings.servers, settings.http.unwrap().access.as_deref().unwrap_or_default(), deny_unlisted)
    };
    let open = |what: &str| {
        format!(
            "every admitted person and application, but no AI agent, may use {what}: write [[access]] rules, or set \
             deny-unlisted"
        )
    };
    let (mail_is, crm_is) = (open("every tool of mail"), open("every tool, every resource and every prompt of crm"));
    assert_eq!(lines("", false), [&*mail_is, &*crm_is]);
    // A rule for one tool leaves the others open, and says nothing of resources and prompts.
    let rest = open("every tool that no rule names, every resource and every prompt of crm");
    assert_eq!(lines("[[access]]\nserver = 'crm'\ntool = 'x'", false), [&*mail_is, &*rest]);
    let rest = open("every resource and every prompt of crm");
    assert_eq!(lines("[[access]]\nserver = 'crm'\ntool = '*'", false), [&*mail_is, &*rest]);
    assert_eq!(lines("[[access]]\ntool = '*'", false), [rest]);
    let all = ["tool", "resource", "prompt"].map(|kind| format!("[[access]]\nkind = '{kind}'\ntool = '*'\n")).concat();
    assert_eq!(lines(&all, false), [""; 0]);
    assert_eq!(
        lines("[[access]]\nserver = 'crm'\ntool = 'x'", true),
        ["no caller may use any tool of mail: deny-unlisted is set, and no [[access]] rule is for it"]
    );
}
