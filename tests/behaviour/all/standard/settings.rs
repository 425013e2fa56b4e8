//! The variables mean the same to the artefact and to the program.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use entra_mcp_app::config::{BehindLayer, Environment, Layer, ServeLayer, Sources};
use entra_mcp_standard::settings::read;
use serde_json::Value;

use crate::support::{process, tests_dir};

const BASE: [(&str, &str); 6] = [
    ("ENTRA_MCP_TENANT_ID", "c0117050-0000-4000-a000-000000000001"),
    ("ENTRA_MCP_CLIENT_ID", "a0000000-0000-4000-a000-000000000002"),
    ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com/entra"),
    ("ENTRA_MCP_STORE", "/records"),
    ("AZURE_CLIENT_SECRET", "secret"),
    // No metadata documents.
    ("ENTRA_MCP_NO_CLIENT_ID_METADATA", "true"),
];

/// The document that the program hands to the component.
fn of_program(variables: &[(&str, &str)]) -> Result<Value, String> {
    // No configuration file of the machine.
    let mut variables = variables.to_vec();
    variables.push(("HOME", "/nonexistent"));
    let environment = Environment::of(&variables);
    let sources = Sources::read_serve(Layer::default(), ServeLayer::default(), BehindLayer::default(), environment);
    let config = sources.and_then(|sources| sources.serve()).map_err(|error| error.to_string())?;
    let settings = config.settings("192.0.2.1:443".parse().expect("an address"));
    Ok(serde_json::to_value(settings).expect("settings are JSON"))
}

/// The document of the artefact.
fn of_artefact(variables: &[(&str, &str)]) -> Result<Value, String> {
    let mut variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    variables.push(("ENTRA_MCP_STORE_KEY".to_owned(), super::host::KEY.to_owned()));
    let configuration = read(&variables).map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&configuration.document).expect("the document is JSON"))
}

/// Both leave fields out, or write the empty value of them.
fn plain(mut document: Value) -> Value {
    fn without_empty(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.values_mut().for_each(without_empty);
            fields.retain(|_, value| !value.is_null() && *value != Value::Array(Vec::new()));
        }
    }
    without_empty(&mut document);
    let fields = document.as_object_mut().expect("an object");
    // How people sign in at a machine of their own.
    fields.remove("sign-in");
    // The program has a header of its own for it.
    fields["http"].as_object_mut().expect("an object").remove("client-address-header");
    document
}

fn with(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut variables = BASE.to_vec();
    for (name, value) in changes {
        variables.retain(|(other, _)| other != name);
        variables.push((name, value));
    }
    variables
}

#[test]
fn variables_mean_the_same_to_the_artefact_and_to_the_program() {
    let cases: [&[(&str, &str)]; 13] = [
        &[],
        &[("ENTRA_MCP_CLOUD", "us-government")],
        &[("ENTRA_MCP_AUTHORITY", "https://login.partner.microsoftonline.cn")],
        &[("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/")],
        &[
            ("ENTRA_MCP_AUTHORITY", "http://127.0.0.1:8080"),
            ("ENTRA_MCP_GRAPH_URL", "http://127.0.0.1:8080/graph/v1.0"),
        ],
        &[("ENTRA_MCP_GRAPH_URL", "https://graph.example.com/v1.0/"), ("ENTRA_MCP_CLOCK_TOLERANCE", "7")],
        &[("ENTRA_MCP_TOKEN_MODE", "bearer"), ("ENTRA_MCP_REWRITE_AUTHORITY_METADATA", "true")],
        &[("ENTRA_MCP_TOKEN_MODE", "both"), ("ENTRA_MCP_APP_ID_URI", "api://mcp/")],
        &[("ENTRA_MCP_TENANT_ID", "common"), ("ENTRA_MCP_ALLOW_TENANT", "fab12ca0-0000-4000-a000-000000000002")],
        &[
            ("ENTRA_MCP_ALLOWED_HOST", "other.example.com:8443"),
            ("ENTRA_MCP_ALLOWED_ORIGIN", "https://app.example.com"),
        ],
        &[("ENTRA_MCP_NO_LEGACY_SSE", "true"), ("ENTRA_MCP_NO_DYNAMIC_REGISTRATION", "true")],
        &[("ENTRA_MCP_ALLOW_REDIRECT_SCHEME", "cursor, vscode"), ("ENTRA_MCP_REFRESH_GRACE_SECONDS", "0")],
        &[
            ("ENTRA_MCP_PROFILE_CACHE_SECONDS", "5"),
            ("ENTRA_MCP_MAX_STREAMS_PER_CALLER", "3"),
            ("ENTRA_MCP_REQUIRED_SCOPE", "Mcp.Call"),
            ("ENTRA_MCP_AUDIT_USERNAMES", "true"),
        ],
    ];
    for changes in cases {
        let variables = with(changes);
        let (program, artefact) = (of_program(&variables), of_artefact(&variables));
        assert_eq!(artefact.map(plain), program.map(plain), "{changes:?}");
    }
}

#[test]
fn what_the_program_refuses_the_artefact_refuses() {
    for change in [
        ("ENTRA_MCP_TENANT_ID", ""),
        ("ENTRA_MCP_TENANT_ID", "common"),
        ("ENTRA_MCP_TENANT_ID", "Contoso.com"),
        ("ENTRA_MCP_CLIENT_ID", "x"),
        ("ENTRA_MCP_PUBLIC_URL", "http://mcp.example.com"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com/"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com:443"),
        ("ENTRA_MCP_TOKEN_MODE", "any"),
        ("ENTRA_MCP_REFRESH_GRACE_SECONDS", "121"),
        ("ENTRA_MCP_CLOUD", "mars"),
        ("ENTRA_MCP_REWRITE_AUTHORITY_METADATA", "true"),
        ("ENTRA_MCP_RATE_LIMIT", "token"),
        ("ENTRA_MCP_RATE_LIMIT", "unknown=1/1m"),
        ("ENTRA_MCP_ALLOW_TENANT", "x"),
        ("ENTRA_MCP_AUTHORITY", "http://login.example.com"),
    ] {
        let variables = with(&[change]);
        assert!(of_program(&variables).is_err(), "{change:?}");
        assert!(of_artefact(&variables).is_err(), "{change:?}");
    }
}

/// What the program declares of its settings.
fn declarations() -> Value {
    let program = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested")).arg("settings").output();
    serde_json::from_slice(&program.expect("the program runs").stdout).expect("JSON")
}

#[test]
fn the_artefact_and_the_program_know_the_same_clouds() {
    let declared = declarations();
    let settings = declared.as_array().expect("a list");
    let accepted = settings.iter().find(|setting| setting["name"] == "cloud").expect("a setting")["accepted"].as_str();
    let names: Vec<_> = accepted.expect("a list of names").split(", ").collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        let with_name = |variable: (&str, &str)| {
            let variables = [&BASE[..], &[variable]].concat();
            let (program, artefact) = (of_program(&variables).map(plain), of_artefact(&variables).map(plain));
            assert_eq!(artefact, program, "{variable:?}");
            program.expect("the settings are good")
        };
        let named = with_name(("ENTRA_MCP_CLOUD", name));
        // The authority of a cloud implies the rest.
        let authority = named["authority"].as_str().expect("a URL");
        assert_eq!(with_name(("ENTRA_MCP_AUTHORITY", authority)), named, "{name}");
    }
}

/// `guest/standard/src/settings/declared.rs`, as the program's declarations have it.
#[test]
fn the_artefact_knows_the_settings_as_the_program_declares_them() {
    let settings = declarations();
    let quoted = |value: &Value| format!("{:?}", value.as_str().expect("a text"));
    let optional = |value: &Value| if value.is_null() { "None".to_owned() } else { format!("Some({})", quoted(value)) };
    let mut expected =
        "//! Made by a test from the declarations in the program: what it says of its settings.\n\nuse super::\
                        Declared;\n\n#[rustfmt::skip]\npub(super) const DECLARED: &[Declared] = &[\n"
            .to_owned();
    for setting in settings.as_array().expect("a list") {
        let commands = setting["commands"].as_array().expect("a list");
        let variables = setting["variables"].as_array().expect("a list");
        if variables.is_empty() || !commands.contains(&Value::from("serve")) {
            continue;
        }
        let variables: Vec<_> = variables.iter().map(quoted).collect();
        writeln!(
            expected,
            "    Declared {{ name: {}, variables: &[{}], default: {}, accepted: {} }},",
            quoted(&setting["name"]),
            variables.join(", "),
            optional(&setting["default"]),
            optional(&setting["accepted"])
        )
        .expect("a text takes everything");
    }
    expected.push_str("];\n");
    let is = tests_dir().join("../guest/standard/src/settings/declared.rs");
    if fs::read_to_string(&is).unwrap_or_default() != expected {
        let renewed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("declared.rs");
        fs::write(&renewed, &expected).expect("the file can be written");
        panic!("the settings have changed: cp {} {}", renewed.display(), is.display());
    }
}
