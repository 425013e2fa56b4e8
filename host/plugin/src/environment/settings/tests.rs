use serde_json::Value;

use super::*;

/// Settings with every field.
fn complete() -> Settings {
    let some = |text: &str| Some(vec![text.to_owned()]);
    Settings {
        client_type: ClientType::ConfidentialClient,
        tenant: "t".to_owned(),
        client_id: "c".to_owned(),
        authority: "a".to_owned(),
        graph: "g".to_owned(),
        graph_resource: "r".to_owned(),
        sign_in: SignInSettings {
            method: SignInMethod::DeviceCode,
            timeout_seconds: 1,
            account: Some("alice@contoso.example".to_owned()),
            broker: BrokerUse::Require,
        },
        token: TokenSettings { audiences: Vec::new(), allowed_tenants: Vec::new(), clock_tolerance_seconds: Some(0) },
        profile_cache_seconds: 0,
        audit_usernames: true,
        servers: vec![
            ServerSettings {
                name: "mail".to_owned(),
                path: "/mail/mcp".to_owned(),
                kind: ServerKind::Tools,
                title: Some("Mail".to_owned()),
                tools: vec!["list_mail".to_owned()],
                permissions: vec![vec!["https://graph.microsoft.com/Mail.Read".to_owned()]],
                identity: ServerIdentity::EasyAuth,
            },
            ServerSettings {
                name: "crm".to_owned(),
                path: "/crm/mcp".to_owned(),
                kind: ServerKind::Upstream,
                title: Some("CRM".to_owned()),
                tools: vec!["list_records".to_owned()],
                permissions: vec![vec!["api://crm/Crm.Access".to_owned()]],
                identity: ServerIdentity::Assertion { audience: "https://crm.example.com".to_owned() },
            },
        ],
        http: Some(HttpSettings {
            public_url: "u".to_owned(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            client_address_header: Some("h".to_owned()),
            legacy_sse: true,
            clients: vec![RegisteredClient {
                client_id: "c".to_owned(),
                name: "n".to_owned(),
                redirect_uris: Vec::new(),
                secret_hash: Some("s".to_owned()),
            }],
            dynamic_registration: true,
            allowed_redirect_schemes: vec!["cursor".to_owned()],
            client_id_metadata_documents: true,
            token_mode: TokenMode::Both,
            app_id_uri: Some("i".to_owned()),
            required_scope: "s".to_owned(),
            access: Some(vec![ToolRule {
                server: Some("crm".to_owned()),
                kind: TargetKind::Prompt,
                tool: "t".to_owned(),
                tenants: some("t"),
                kinds: vec![CallerKind::User, CallerKind::App, CallerKind::Agent],
                clients: some("c"),
                roles: some("r"),
                groups: some("g"),
                scopes: Vec::new(),
                acrs: some("c1"),
            }]),
            deny_unlisted: true,
            token_header: Some("h".to_owned()),
            rewrite_authority_metadata: true,
            max_streams_per_caller: 1,
            refresh_grace_seconds: 7,
            forward_auth: Some(ForwardAuthSettings { server: "crm".to_owned(), secret_hash: Some("x".repeat(43)) }),
        }),
    }
}

/// The schema that a property refers to.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let object = alternatives.iter().find(|schema| schema["type"] != "null").unwrap();
        return resolved(root, object);
    }
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// That `value` has all properties of its schema and no other.
fn assert_fits(root: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = resolved(root, schema);
    match value {
        // Of an enumeration, the form whose constants are those of the value.
        Value::Object(members) if schema.get("oneOf").is_some() => {
            let forms = schema["oneOf"].as_array().unwrap();
            let form = forms.iter().find(|form| form["properties"]["form"]["const"] == members["form"]);
            assert_fits(root, form.unwrap_or_else(|| panic!("{path}: {value}")), value, path);
        }
        Value::Object(members) => {
            let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{path}: {schema}"));
            let names = |names: Vec<&String>| names.into_iter().cloned().collect::<std::collections::BTreeSet<_>>();
            assert_eq!(names(members.keys().collect()), names(properties.keys().collect()), "{path}");
            for (name, value) in members {
                assert_fits(root, &properties[name], value, &format!("{path}/{name}"));
            }
        }
        Value::Array(entries) => entries.iter().for_each(|entry| assert_fits(root, &schema["items"], entry, path)),
        Value::String(text) => {
            let allowed = schema.get("oneOf").and_then(Value::as_array);
            if let Some(allowed) = allowed {
                assert!(allowed.iter().any(|name| name["const"] == text.as_str()), "{path}: {text} of {schema}");
            }
        }
        _ => {}
    }
}

#[test]
fn the_document_has_exactly_what_the_published_schema_has() {
    let schema: Value = serde_json::from_str(include_str!("../../../../../wit/settings.schema.json")).unwrap();
    assert_fits(&schema, &schema, &serde_json::to_value(complete()).unwrap(), "");
}

/// What is written for values of an enumeration.
fn written<T: Serialize>(values: &[T]) -> Vec<Value> {
    values.iter().map(|value| serde_json::to_value(value).unwrap()).collect()
}

#[test]
fn every_name_of_an_enumeration_is_in_the_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../../../../wit/settings.schema.json")).unwrap();
    for (name, expected) in [
        ("ClientTypeName", written(&[ClientType::PublicClient, ClientType::ConfidentialClient])),
        ("SignInMethodName", written(&[SignInMethod::Automatic, SignInMethod::Browser, SignInMethod::DeviceCode])),
        ("TokenModeName", written(&[TokenMode::Session, TokenMode::Bearer, TokenMode::Both])),
        ("CallerKindName", written(&[CallerKind::User, CallerKind::App, CallerKind::Agent])),
    ] {
        let names = schema["$defs"][name]["oneOf"].as_array().unwrap_or_else(|| panic!("{name}: {schema}"));
        assert_eq!(names.iter().map(|name| name["const"].clone()).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn debug_shows_no_account() {
    assert!(!format!("{:?}", complete()).contains("alice"));
}
