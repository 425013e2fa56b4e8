use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::policy::{Name, Rule, TargetKind};
use crate::settings::ForwardAuthSettings;

/// The schema as it is published.
const SCHEMA: &str = "../../wit/settings.schema.json";

fn minimal() -> Value {
    json!({
        "client-type": "public-client",
        "tenant": "organizations",
        "client-id": "00000000-0000-0000-0000-000000000001",
    })
}

/// A document with every field, none of them at its default.
fn complete() -> Value {
    json!({
        "client-type": "confidential-client",
        "tenant": "contoso.example",
        "client-id": "00000000-0000-0000-0000-000000000001",
        "authority": "https://login.example",
        "graph": "https://graph.example",
        "graph-resource": "https://graph.microsoft.com",
        "sign-in": { "method": "device-code", "timeout-seconds": 7, "account": "alice@contoso.example", "broker": "require" },
        "token": {
            "audiences": ["api://mcp"],
            "allowed-tenants": ["11111111-0000-4000-a000-000000000001"],
            "clock-tolerance-seconds": 300,
        },
        "profile-cache-seconds": 11,
        "audit-usernames": true,
        "servers": [{
            "name": "crm",
            "path": "/crm/mcp",
            "kind": "upstream",
            "title": "CRM",
            "tools": ["list_records"],
            "permissions": [["https://graph.microsoft.com/Mail.Read"], ["api://crm/Read", "api://crm/Write"]],
            "identity": { "form": "token", "permissions": ["api://crm/Read", "api://crm/Write"] },
        }, {
            "name": "mail",
            "path": "/mcp",
            "kind": "tools",
        }, {
            "name": "signed",
            "path": "/signed",
            "kind": "upstream",
            "identity": { "form": "assertion", "audience": "https://signed.example" },
        }],
        "http": {
            "public-url": "https://mcp.example.com",
            "allowed-hosts": ["mcp.example.com"],
            "allowed-origins": ["https://app.example.com"],
            "client-address-header": "x-client-address",
            "legacy-sse": true,
            "clients": [{
                "client-id": "client",
                "name": "Client",
                "redirect-uris": ["https://client.example/callback"],
                "secret-hash": "x".repeat(43),
            }],
            "dynamic-registration": true,
            "allowed-redirect-schemes": ["cursor"],
            "client-id-metadata-documents": true,
            "token-mode": "both",
            "app-id-uri": "api://mcp",
            "required-scope": "Mcp.Access",
            "access": [{
                "server": "crm",
                "kind": "prompt",
                "tool": "listMyGroups",
                "tenants": ["11111111-0000-4000-a000-000000000001"],
                "kinds": ["user", "app", "agent"],
                "clients": ["client"],
                "roles": ["Mcp.Admin"],
                "groups": ["22222222-0000-4000-a000-000000000001"],
                "scopes": ["Mcp.Access"],
                "acrs": ["c1"],
            }],
            "deny-unlisted": true,
            "token-header": "x-forwarded-access-token",
            "rewrite-authority-metadata": true,
            "max-streams-per-caller": 5,
            "refresh-grace-seconds": 120,
            "forward-auth": { "server": "crm", "secret-hash": "x".repeat(43) },
        },
    })
}

fn refused(document: &Value) -> SettingsDocumentError {
    read(&document.to_string()).map(drop).expect_err("the document is refused")
}

fn schema() -> String {
    let schema = schemars::schema_for!(SettingsDocument);
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

fn published() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMA)
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    let (published, schema) = (published(), schema());
    if std::fs::read_to_string(&published).ok().as_ref() != Some(&schema) {
        let renewed = std::env::temp_dir().join("settings.schema.json");
        std::fs::write(&renewed, schema).expect("the renewed schema can be written");
        panic!("the schema is out of date: cp {} {}", renewed.display(), published.display());
    }
}

#[test]
fn a_minimal_document_has_the_defaults_of_the_schema() {
    let settings = read(&minimal().to_string()).expect("the document is accepted");
    assert_eq!(settings.authority, "https://login.microsoftonline.com");
    assert_eq!(
        (settings.graph.as_str(), settings.graph_resource.as_str()),
        (settings.graph_resource.as_str(), "https://graph.microsoft.com")
    );
    let Mode::Local(local) = settings.mode else { panic!("a public client is a local server") };
    assert_eq!((local.method, local.timeout, local.account), (SignInMethod::Automatic, Duration::from_secs(300), None));
    let token = TokenSettings { audiences: Vec::new(), allowed_tenants: Vec::new(), clock_tolerance: None };
    assert_eq!(settings.token, token);
    assert_eq!((settings.profile_cache, settings.audit_usernames), (Duration::ZERO, false));
}

#[test]
fn the_document_that_the_documentation_shows_is_that_of_a_validator() {
    let page = include_str!("../../../../docs/src/how-to/another-host.md");
    let block = page
        .split_once("```json input\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .expect("the page has a document");
    let settings = read(block.0).expect("the document is accepted");
    assert!(matches!(settings.mode, Mode::Validator), "{settings:?}");
    assert_eq!(settings.token.audiences, [settings.client_id]);
}

#[test]
fn every_field_of_a_complete_document_is_taken_over() {
    let settings = read(&complete().to_string()).expect("the document is accepted");
    assert_eq!(settings.tenant, "contoso.example");
    assert_eq!(settings.client_id, "00000000-0000-0000-0000-000000000001");
    assert_eq!(settings.authority, "https://login.example");
    assert_eq!(settings.graph, "https://graph.example");
    assert_eq!(settings.graph_resource, "https://graph.microsoft.com");
    let token = TokenSettings {
        audiences: vec!["api://mcp".to_owned()],
        allowed_tenants: vec!["11111111-0000-4000-a000-000000000001".to_owned()],
        clock_tolerance: Some(Duration::from_secs(300)),
    };
    assert_eq!(settings.token, token);
    assert_eq!((settings.profile_cache, settings.audit_usernames), (Duration::from_secs(11), true));
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let crm = texts(&["api://crm/Read", "api://crm/Write"]);
    let mail = ServerSettings {
        name: "mail".to_owned(),
        path: "/mcp".to_owned(),
        kind: ServerKind::Tools,
        title: None,
        tools: Vec::new(),
        permissions: Vec::new(),
        identity: ServerIdentity::None,
    };
    assert_eq!(
        settings.servers,
        [
            ServerSettings {
                name: "crm".to_owned(),
                path: "/crm/mcp".to_owned(),
                kind: ServerKind::Upstream,
                title: Some("CRM".to_owned()),
                tools: texts(&["list_records"]),
                permissions: vec![texts(&["https://graph.microsoft.com/Mail.Read"]), crm.clone()],
                identity: ServerIdentity::Token { permissions: crm },
            },
            mail.clone(),
            ServerSettings {
                name: "signed".to_owned(),
                path: "/signed".to_owned(),
                kind: ServerKind::Upstream,
                identity: ServerIdentity::Assertion { audience: "https://signed.example".to_owned() },
                ..mail
            },
        ]
    );
    let names = |name: &'static str| vec![Name::Borrowed(name)];
    let expected = HttpSettings {
        public_url: "https://mcp.example.com".to_owned(),
        allowed_hosts: vec!["mcp.example.com".to_owned()],
        allowed_origins: vec!["https://app.example.com".to_owned()],
        client_address_header: Some("x-client-address".to_owned()),
        legacy_sse: true,
        clients: vec![RegisteredClient {
            client_id: "client".to_owned(),
            name: "Client".to_owned(),
            redirect_uris: vec!["https://client.example/callback".to_owned()],
            secret_hash: Some("x".repeat(43)),
        }],
        dynamic_registration: true,
        allowed_redirect_schemes: vec!["cursor".to_owned()],
        client_id_metadata_documents: true,
        token_mode: TokenMode::Both,
        app_id_uri: Some("api://mcp".to_owned()),
        required_scope: "Mcp.Access".to_owned(),
        access: Some(vec![ToolRule {
            server: Some(Name::Borrowed("crm")),
            kind: TargetKind::Prompt,
            tool: Name::Borrowed("listMyGroups"),
            rule: Rule {
                tenants: Some(names("11111111-0000-4000-a000-000000000001")),
                users: true,
                apps: true,
                agents: true,
                clients: Some(names("client")),
                roles: Some(names("Mcp.Admin")),
                groups: Some(names("22222222-0000-4000-a000-000000000001")),
                scopes: names("Mcp.Access"),
                contexts: Some(names("c1")),
            },
        }]),
        deny_unlisted: true,
        token_header: Some("x-forwarded-access-token".to_owned()),
        rewrite_authority_metadata: true,
        max_streams_per_caller: 5,
        refresh_grace: Duration::from_secs(120),
        forward_auth: Some(ForwardAuthSettings { server: "crm".to_owned(), secret_hash: Some("x".repeat(43)) }),
    };
    let Mode::Remote(http) = settings.mode else { panic!("the document has http") };
    assert_eq!(*http, expected);
}

#[test]
fn a_complete_document_without_http_and_of_a_public_client_is_that_of_a_local_server() {
    let mut document = complete();
    document["client-type"] = json!("public-client");
    document.as_object_mut().expect("an object").remove("http");
    document["servers"] = json!([{ "name": "mail", "path": "", "kind": "tools" }]);
    let settings = read(&document.to_string()).expect("the document is accepted");
    let Mode::Local(local) = settings.mode else { panic!("a public client is a local server") };
    assert_eq!(local.method, SignInMethod::DeviceCode);
    assert_eq!(local.timeout, Duration::from_secs(7));
    assert_eq!(local.account.as_deref(), Some("alice@contoso.example"));
}

#[test]
fn a_confidential_client_without_http_validates_tokens_and_nothing_else() {
    let mut document = minimal();
    document["client-type"] = json!("confidential-client");
    let settings = read(&document.to_string()).expect("the document is accepted");
    assert!(matches!(settings.mode, Mode::Validator));
}

#[test]
fn a_complete_document_has_every_field_of_the_schema() {
    fn objects<'a>(schema: &'a Value, all: &mut Vec<&'a Value>) {
        match schema {
            Value::Object(members) => {
                if members.contains_key("properties") {
                    all.push(schema);
                }
                members.values().for_each(|member| objects(member, all));
            }
            Value::Array(members) => members.iter().for_each(|member| objects(member, all)),
            _ => {}
        }
    }
    let schema: Value = serde_json::from_str(&schema()).expect("a schema is JSON");
    let mut all = Vec::new();
    objects(&schema, &mut all);
    assert_eq!(all.len(), 12, "settings, server, four forms of identity, sign-in, token, http, client, rule, /auth");
    let text = complete().to_string();
    for object in all {
        assert_eq!(object["additionalProperties"], false, "unknown fields are refused: {object}");
        for (name, property) in object["properties"].as_object().expect("an object") {
            assert!(text.contains(&format!("\"{name}\":")), "{name}");
            // What tells forms apart is documented by each of them.
            let documented = if property["const"].is_string() { object } else { property };
            assert!(documented["description"].is_string(), "{name} is not documented");
        }
    }
}

#[test]
fn an_unknown_field_is_refused_wherever_it_is() {
    for pointer in ["", "/servers/0", "/sign-in", "/token", "/http", "/http/clients/0", "/http/access/0"] {
        let mut document = complete();
        document.pointer_mut(pointer).expect("it exists")["audience"] = json!("x");
        let SettingsDocumentError::Mismatch { fault, .. } = refused(&document) else { panic!("{pointer}") };
        assert!(fault.starts_with("unknown field `audience`, expected "), "{pointer}: {fault}");
    }
}

#[test]
fn a_missing_field_is_named() {
    for (pointer, name) in [
        ("", "tenant"),
        ("", "client-id"),
        ("", "client-type"),
        ("/http", "public-url"),
        ("/http", "allowed-hosts"),
        ("/http", "required-scope"),
        ("/http/access/0", "kinds"),
        ("/servers/0", "name"),
        ("/servers/0", "path"),
        ("/servers/0", "kind"),
        ("/servers/0/identity", "permissions"),
        ("/servers/2/identity", "audience"),
    ] {
        let mut document = complete();
        document.pointer_mut(pointer).and_then(Value::as_object_mut).expect("it exists").remove(name);
        let SettingsDocumentError::Mismatch { fault, .. } = refused(&document) else { panic!("{name}") };
        assert_eq!(fault, format!("missing field `{name}`"));
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    let mut document = minimal();
    document["token"]["clock-tolerance-seconds"] = json!(301);
    assert_eq!(refused(&document), SettingsDocumentError::ClockTolerance);
    let mut document = minimal();
    document["sign-in"]["timeout-seconds"] = json!(0);
    assert!(matches!(refused(&document), SettingsDocumentError::Mismatch { .. }));
    let mut document = complete();
    document["http"]["refresh-grace-seconds"] = json!(121);
    assert_eq!(refused(&document), SettingsDocumentError::RefreshGrace);
    let mut document = complete();
    document["client-type"] = json!("public-client");
    assert_eq!(refused(&document), SettingsDocumentError::HttpForPublicClient);
}

#[test]
fn a_refusal_quotes_no_value() {
    let mut document = minimal();
    document["sign-in"]["timeout-seconds"] = json!("alice@contoso.example");
    let text = refused(&document).to_string();
    assert!(!text.contains("alice") && text.contains("expected a nonzero u32"), "{text}");
    assert_eq!(
        refused(&json!("alice@contoso.example")).to_string(),
        "the settings do not match settings.schema.json at line 1, column 23: a value is invalid, expected struct Document"
    );
    assert_eq!(
        read("{alice}").unwrap_err().to_string(),
        "the settings do not match settings.schema.json at line 1, column 2: not JSON"
    );
}
