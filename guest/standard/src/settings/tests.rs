use super::*;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";

fn of(changes: &[(&str, &str)]) -> Result<Configuration, SettingsError> {
    let mut variables = vec![
        ("ENTRA_MCP_TENANT_ID", TENANT),
        ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-555555555555"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com"),
        ("ENTRA_MCP_STORE", "/records"),
        (STORE_KEY, "x"),
        ("AZURE_CLIENT_SECRET", "secret"),
    ];
    for (name, value) in changes {
        variables.retain(|(other, _)| other != name);
        variables.push((name, value));
    }
    read(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
}

fn refusal(changes: &[(&str, &str)]) -> String {
    of(changes).map(|_| "nothing").unwrap_err().to_string()
}

#[test]
fn the_settings_that_this_artefact_has_are_declared_by_the_program() {
    for name in SUPPORTED {
        assert!(declared(name).is_some(), "{name}");
    }
    // Of what is read here in a way of its own, the program has the key of the store, under the same names.
    let shared = OWN.into_iter().filter(|own| DECLARED.iter().any(|declared| declared.variables.contains(own)));
    assert!(shared.eq([STORE_KEY, STORE_KEY_FILE]));
}

#[test]
fn the_document_is_one_that_the_component_reads() {
    let document = of(&[("ENTRA_MCP_TOKEN_MODE", "both"), (CLIENT_ADDRESS_HEADER, "X-Real-IP")]).unwrap().document;
    let settings = base::settings_document::read(&document).unwrap();
    assert_eq!(settings.tenant, TENANT);
    let base::settings::Mode::Remote(http) = settings.mode else { panic!("a remote server") };
    assert_eq!(http.client_address_header.as_deref(), Some("x-real-ip"));
    assert_eq!(http.allowed_hosts, ["mcp.example.com"]);
    assert!(!http.client_id_metadata_documents);
}

#[test]
fn a_variable_that_has_no_effect_here_is_refused() {
    assert_eq!(
        refusal(&[("ENTRA_MCP_TLS_CERT", "cert.pem")]),
        "ENTRA_MCP_TLS_CERT has no effect in entra_mcp.standard.wasm: unset it"
    );
    assert_eq!(refusal(&[("ENTRA_MCP_TENANTID", "x")]), "ENTRA_MCP_TENANTID is not a setting: unset it");
    assert!(refusal(&[("ENTRA_MCP_TRUSTED_PROXY", "10.0.0.1")]).contains(CLIENT_ADDRESS_HEADER));
    assert!(refusal(&[("ENTRA_MCP_NO_CLIENT_ID_METADATA", "false")]).contains("Client ID Metadata"));
    of(&[("ENTRA_MCP_TLS_CERT", ""), ("OTHER", "x")]).unwrap();
}

#[test]
fn what_is_missing_is_named() {
    for name in ["ENTRA_MCP_TENANT_ID", "ENTRA_MCP_CLIENT_ID", "ENTRA_MCP_PUBLIC_URL", "ENTRA_MCP_STORE"] {
        assert_eq!(refusal(&[(name, "")]), format!("{name} is not set"));
    }
    assert_eq!(refusal(&[(STORE_KEY, "")]), format!("{STORE_KEY} is not set"));
    assert_eq!(refusal(&[("AZURE_CLIENT_SECRET", "")]), "AZURE_CLIENT_SECRET is not set");
    assert!(refusal(&[("ENTRA_MCP_CLIENT_SECRET_FILE", "/secret")]).contains("keep one of them"));
}

#[test]
fn values_that_cannot_be_right_are_refused() {
    for (name, value) in [
        ("ENTRA_MCP_TENANT_ID", "Contoso"),
        ("ENTRA_MCP_TENANT_ID", "common"),
        ("ENTRA_MCP_CLIENT_ID", "22222222-2222-3333-4444-55555555555A"),
        ("ENTRA_MCP_PUBLIC_URL", "http://mcp.example.com"),
        ("ENTRA_MCP_PUBLIC_URL", "http://127.example.com"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com/"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com:443"),
        ("ENTRA_MCP_PUBLIC_URL", "https://MCP.example.com"),
        ("ENTRA_MCP_PUBLIC_URL", "https://user@mcp.example.com"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com/.well-known/x"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com?x"),
        ("ENTRA_MCP_AUTHORITY", "http://login.example.com"),
        ("ENTRA_MCP_AUTHORITY", "https://login.microsoftonline.com/tenant"),
        ("ENTRA_MCP_TOKEN_MODE", "none"),
        ("ENTRA_MCP_REFRESH_GRACE_SECONDS", "121"),
        ("ENTRA_MCP_REFRESH_GRACE_SECONDS", "-1"),
        ("ENTRA_MCP_NO_LEGACY_SSE", "yes"),
        ("ENTRA_MCP_REWRITE_AUTHORITY_METADATA", "true"),
        ("ENTRA_MCP_RATE_LIMIT", "token"),
        (CLIENT_ADDRESS_HEADER, "X-Forwarded-For"),
        (CLIENT_ADDRESS_HEADER, "not a header"),
    ] {
        assert!(of(&[(name, value)]).is_err(), "{name}={value}");
    }
}

#[test]
fn a_key_is_32_bytes_in_either_alphabet_with_or_without_padding() {
    let key = |text: &str| store_key(&Secret::from(text));
    let standard = base64::engine::general_purpose::STANDARD.encode([0xfb; 32]);
    for text in [
        standard.clone(),
        standard.replace('=', ""),
        standard.replace('+', "-").replace('/', "_"),
        format!("{standard}\n"),
    ] {
        assert_eq!(key(&text).unwrap().reveal(), &vec![0xfb; 32], "{text}");
    }
    for wrong in ["", "x", "AAAA", &base64::engine::general_purpose::STANDARD.encode([1; 31])] {
        assert!(matches!(key(wrong), Err(SettingsError::Invalid { variable: STORE_KEY, .. })), "{wrong}");
    }
}

#[test]
fn a_secret_is_in_no_debug_output() {
    let configuration = of(&[("AZURE_CLIENT_SECRET", "hush")]).unwrap();
    assert!(!format!("{configuration:?} {:?}", configuration.credential).contains("hush"));
}
