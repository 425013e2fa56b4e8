//! Servers that a flag or a variable names.

use clap::{Args as _, FromArgMatches as _};

use super::*;

/// What the command line says.
fn flags(arguments: &[&str]) -> Result<BehindLayer, clap::Error> {
    let command = BehindLayer::augment_args(clap::Command::new("test").no_binary_name(true));
    BehindLayer::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

#[test]
fn a_component_of_a_flag_is_the_only_server_and_is_granted_nothing() {
    let mut setup = Setup::new("");
    setup.behind.tools = Some(vec![ToolsEntry::bare(setup.file("Order_Tools.wasm"))]);
    let behind = setup.serve().unwrap().common.behind;
    let [tools] = behind.tools.as_slice() else { panic!("{behind:?}") };
    assert_eq!((tools.place.name.as_str(), tools.place.path.as_str()), ("order-tools", "/mcp"));
    assert_eq!((tools.egress.len(), tools.reuse, tools.is_bare), (0, false, true));
    assert_eq!((tools.max_memory_bytes, tools.max_answer_bytes), (64 * 1024 * 1024, 1024 * 1024));
    assert_eq!((tools.max_time, tools.max_concurrent), (Duration::from_secs(30), 64));
    let (line, block) = tools.bare_advice().unwrap();
    assert_eq!(
        line,
        format!(
            "the tools of order-tools get no token and reach nothing, because {} is named without its destinations: add \
             them, such as --egress 'https://graph.microsoft.com=User.Read', or write into the configuration file",
            tools.file.display()
        )
    );
    // The block is what it says: a configuration that gives the tools a destination.
    let of_block = load(&block).unwrap();
    assert_eq!(of_block.tools[0].egress[0].permissions, ["https://graph.microsoft.com/User.Read"]);
    assert_eq!((&of_block.tools[0].file, of_block.tools[0].bare_advice()), (&tools.file, None));
}

#[test]
fn a_flag_grants_the_only_component_its_destinations_and_no_others() {
    let mut setup = Setup::new("[[tools]]\nfile = '{}/Order_Tools.wasm'\n");
    let mail = setup.file("mail.wasm").display().to_string();
    let graph = "https://graph.microsoft.com=Mail.Read, User.Read";
    let api = "https://api.contoso.com/v1/=api://contoso/Orders.Read";
    setup.behind = flags(&["--tools", &mail, "--egress", graph, "--egress", api]).unwrap();
    let egress = |to: &str, permissions: &[&str]| EgressConfig {
        to: to.to_owned(),
        permissions: permissions.iter().map(|permission| permission.to_string()).collect(),
    };
    let expected = [
        egress(
            "https://graph.microsoft.com/",
            &["https://graph.microsoft.com/Mail.Read", "https://graph.microsoft.com/User.Read"],
        ),
        egress("https://api.contoso.com/v1/", &["api://contoso/Orders.Read"]),
    ];
    for behind in [setup.serve().unwrap().common.behind, setup.stdio().unwrap().behind] {
        let [tools] = behind.tools.as_slice() else { panic!("{behind:?}") };
        assert_eq!((tools.place.name.as_str(), tools.egress.as_slice()), ("mail", &expected[..]));
        assert_eq!(tools.bare_advice(), None);
    }

    setup.behind = flags(&["--tools", &mail]).unwrap();
    setup.variables.push(("ENTRA_MCP_EGRESS", r#"[{"to": "https://public.example", "token": "none"}]"#));
    assert_eq!(setup.serve().unwrap().common.behind.tools[0].egress, [egress("https://public.example/", &[])]);
}

#[test]
fn destinations_of_a_flag_are_refused_where_they_are_unclear() {
    for text in ["https://graph.microsoft.com", "=Mail.Read", "https://graph.microsoft.com=", "https://a.example=A,,B"]
    {
        let error = flags(&["--egress", text]).unwrap_err();
        assert!(error.to_string().contains("URL=SCOPE[,SCOPE] is expected"), "{text}: {error}");
    }
    let error = flags(&["--egress", "https://a.example=api://a/A,api://b/B"]).unwrap_err();
    assert!(error.to_string().contains("permissions of one API are expected"), "{error}");

    let mut setup = Setup::new("");
    let refusal = |setup: &Setup| setup.serve().unwrap_err().to_string();
    let graph = "https://graph.microsoft.com=Mail.Read";
    setup.behind = flags(&["--egress", graph]).unwrap();
    assert_eq!(
        refusal(&setup),
        "--egress says where the requests of a tool component may go, and there is none: name one with --tools"
    );
    let files = ["mail.wasm", "Order_Tools.wasm"].map(|name| setup.file(name).display().to_string());
    setup.behind = flags(&["--tools", &files[0], "--tools", &files[1], "--egress", graph]).unwrap();
    assert_eq!(
        refusal(&setup),
        "--egress is for the only tool component, and there are 2: write egress into the [[tools]] of each"
    );
    // What a configuration file may not say, a flag may not either.
    setup.behind = flags(&["--tools", &files[0], "--egress", "https://a.example=Mail.Read"]).unwrap();
    assert_eq!(
        refusal(&setup),
        r#"the egress of "mail" to "https://a.example" needs the API that the token is for, such as resource = "api://contoso"; without a token, write token = "none""#
    );
    setup.behind = BehindLayer::default();
    setup.variables.push(("ENTRA_MCP_EGRESS", graph));
    assert_eq!(
        refusal(&setup),
        r#"ENTRA_MCP_EGRESS is "https://graph.microsoft.com=Mail.Read", but a JSON list is expected, such as [{"to": "https://graph.microsoft.com", "scopes": ["Mail.Read"]}]"#
    );
}

#[test]
fn a_file_that_a_flag_names_keeps_what_the_configuration_file_says_about_it() {
    let graph = "egress = [{ to = 'https://graph.microsoft.com', scopes = ['Mail.Read'] }]\n";
    let file = format!("{}\n[[tools]]\nfile = '{{}}/Order_Tools.wasm'\n", mail(&format!("name = 'post'\n{graph}")));
    let mut setup = Setup::new(&file);
    // Written in another way, it is the same file.
    let folder = setup.folder.path().file_name().unwrap().to_owned();
    let named = setup.folder.path().join("..").join(folder).join("mail.wasm");
    setup.behind.tools = Some(vec![ToolsEntry::bare(named)]);
    let behind = setup.stdio().unwrap().behind;
    let [tools] = behind.tools.as_slice() else { panic!("{behind:?}") };
    assert_eq!((tools.place.name.as_str(), tools.place.path.as_str(), tools.is_bare), ("post", "/mcp", false));
    assert_eq!(tools.egress[0].permissions, ["https://graph.microsoft.com/Mail.Read"]);

    setup.behind.tools = Some(vec![ToolsEntry::bare(setup.file("Order_Tools.wasm"))]);
    assert!(setup.stdio().unwrap().behind.tools[0].egress.is_empty(), "another file's destinations are not its own");
    setup.behind = flags(&[
        "--tools",
        &setup.file("mail.wasm").display().to_string(),
        "--egress",
        "https://graph.microsoft.com=User.Read",
    ])
    .unwrap();
    assert_eq!(
        setup.stdio().unwrap().behind.tools[0].egress[0].permissions,
        ["https://graph.microsoft.com/User.Read"],
        "a flag takes the place of what the file says"
    );
}

#[test]
fn a_command_of_a_flag_works_in_the_current_directory_and_one_of_the_file_where_it_says() {
    let folder = |behind: BehindConfig| match behind.upstreams.into_iter().next().map(|upstream| upstream.target) {
        Some(UpstreamTarget::Process(process)) => process.folder,
        target => panic!("{target:?}"),
    };
    let mut setup = Setup::new("");
    setup.behind.upstream_command = Some(CommandLines(vec!["python server.py".into()]));
    let here = std::env::current_dir().unwrap();
    assert_eq!(folder(setup.serve().unwrap().common.behind), Some(here));

    let setup = Setup::new(&command("folder = '{}'"));
    let given = setup.folder.path().to_owned();
    assert_eq!(folder(setup.serve().unwrap().common.behind), Some(given));
    assert_eq!(folder(load(&command("")).unwrap()), None);
}

#[test]
fn a_command_of_a_flag_is_split_as_by_a_shell() {
    let mut setup = Setup::new("");
    setup.behind.upstream_command = Some(CommandLines(vec![r#"python "my server.py" --name='a b' c\ d"#.into()]));
    let behind = setup.serve().unwrap().common.behind;
    let UpstreamTarget::Process(process) = &behind.upstreams[0].target else { panic!("{behind:?}") };
    assert_eq!(process.command, ["python", "my server.py", "--name=a b", "c d"]);
    // An argument may be a secret.
    assert!(!format!("{behind:?}").contains("my server"));

    setup.behind.upstream_command = Some(CommandLines(vec!["python 'server.py".into()]));
    assert_eq!(
        setup.serve().unwrap_err().to_string(),
        r#"upstream-command is "python 'server.py", but a command is expected whose quotation marks are closed"#
    );
}
