//! `entra-mcp inspect` of a tool component.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{process, tool_components};

fn run(file: &Path, arguments: &[&str]) -> Output {
    let mut command = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested"));
    command.arg("inspect").arg(file).args(arguments).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.output().expect("the program starts")
}

fn inspect(file: &Path) -> Value {
    inspect_with(file, &[])
}

fn inspect_with(file: &Path, arguments: &[&str]) -> Value {
    let output = run(file, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn inspect_shows_the_tools_of_a_component_what_it_is_granted_and_what_to_configure() {
    let report = inspect(&tool_components::file(tool_components::MAIL));
    assert_eq!(report["shape"], "tool-provider");
    let names: Vec<&str> =
        report["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["list_mail", "who_am_i", "read_profile"]);
    assert_eq!(report["tools"][0]["read_only"], true);
    assert_eq!(report["grants"].as_array().unwrap()[..2], [json!("no requests"), json!("no variables")]);
    assert_eq!(report.get("configured"), None);
    let table: toml::Table = report["configuration"].as_str().unwrap().parse().unwrap();
    assert_eq!(table["tools"][0]["name"].as_str(), Some("mail"));
    assert_eq!(table["tools"][0]["egress"].as_array().map(Vec::len), Some(0));
}

#[test]
fn inspect_tells_a_whole_server_and_what_a_component_asks_for_in_vain() {
    let server = inspect(&tool_components::file(tool_components::HTTP_SERVER));
    assert_eq!((&server["shape"], &server["wasi"]), (&json!("wasi:http"), &json!("0.2")));
    let sockets = inspect(&tool_components::file(tool_components::SOCKETS));
    let imports = sockets["imports"].as_array().unwrap();
    let denied = imports.iter().filter(|import| import["name"].as_str().unwrap().starts_with("wasi:sockets/"));
    let mut denied = denied.peekable();
    assert!(denied.peek().is_some(), "{sockets}");
    for import in denied {
        assert_eq!(import["granted"], "nothing: every use is denied");
    }
    let service = inspect(&tool_components::file(tool_components::HTTP_SERVICE));
    assert_eq!((&service["shape"], &service["wasi"]), (&json!("wasi:http"), &json!("0.3")));
    let imports = service["imports"].as_array().unwrap();
    let sends = imports.iter().find(|import| import["name"].as_str().unwrap().starts_with("wasi:http/client@0.3."));
    assert_eq!(sends.unwrap_or_else(|| panic!("{service}"))["granted"], "requests to the configured destinations only");
    assert!(service["configuration"].as_str().unwrap().contains("egress = []"), "{service}");
    assert_eq!(inspect(&tool_components::file(tool_components::HOSTILE))["tools"].as_array().unwrap().len(), 26);
}

#[test]
fn inspect_shows_what_a_configuration_grants_a_component_and_no_value_of_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("entra-mcp.toml");
    let (mail, hostile) =
        (tool_components::file(tool_components::MAIL), tool_components::file(tool_components::HOSTILE));
    let table = format!(
        "[[tools]]\nname = \"post\"\nfile = {mail:?}\nvariables = [\"LEVEL=recognisable-value\"]\nmax-seconds = 5\n\
         egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }},\n\
         {{ to = \"https://api.contoso.com/v1/\", resource = \"api://contoso\", scopes = [\"Orders.Read\"] }},\n\
         {{ to = \"https://public.example\", token = \"none\" }}]\n\
         [[tools]]\nname = \"hostile\"\nfile = {hostile:?}\nreuse = true\n"
    );
    std::fs::write(&config, table).unwrap();
    let with_config = ["--config", config.to_str().unwrap()];
    let report = inspect_with(&mail, &with_config);
    let granted = json!([{
        "name": "post",
        "path": "/post/mcp",
        "grants": [
            "requests to https://graph.microsoft.com/, with a token in the caller's name for \
             https://graph.microsoft.com/Mail.Read",
            "requests to https://api.contoso.com/v1/, with a token in the caller's name for api://contoso/Orders.Read",
            "requests to https://public.example/, without a token",
            "the variables LEVEL",
            "no files, no sockets, no standard input",
            "at most 64 MiB of memory, 5 s, an answer of 1024 KiB, 64 calls at the same time, 32 of them of one \
             caller",
            "an instance of its own for each call",
        ],
    }]);
    assert_eq!(report["configured"], granted);
    let text = String::from_utf8(run(&mail, &with_config).stdout).unwrap();
    assert!(
        text.contains("Granted by the configuration, as post at /post/mcp:\n  requests to https://graph"),
        "{text}"
    );
    assert!(!text.contains("recognisable-value") && !report.to_string().contains("recognisable-value"), "{text}");
    let other = inspect_with(&hostile, &with_config);
    let grants = other["configured"][0]["grants"].as_array().unwrap();
    assert_eq!(
        (&grants[0], grants.last().unwrap()),
        (&json!("no requests"), &json!("an instance may serve one caller after another"))
    );
    let server = tool_components::file(tool_components::HTTP_SERVER);
    let refused = run(&server, &with_config);
    let message = String::from_utf8(refused.stderr).unwrap();
    let expected = format!("entra-mcp: no [[tools]] of the configuration has the file {}\n", server.display());
    assert_eq!((refused.status.code(), message), (Some(2), expected));
}
