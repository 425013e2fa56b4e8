//! Tests of `config.rs`.

use super::*;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-22222222aaaa";

fn flags() -> Layer {
    Layer { tenant_id: Some(TENANT.into()), client_id: Some(CLIENT.into()), ..Layer::default() }
}

fn load(flags: Layer, variables: &[(&str, &str)], file: Option<&str>) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    if let Some(file) = file {
        std::fs::write(&path, file).unwrap();
    }
    let variables = [variables, &[("HOME", "/home/u")]].concat();
    let flags = Layer { host: HostLayer { config: file.map(|_| path), ..flags.host }, ..flags };
    Sources::read(flags, Environment::of(&variables))?.public_client()
}

fn invalid(error: ConfigError) -> (&'static str, String) {
    match error {
        ConfigError::Invalid { name, value, .. } => (name, value),
        error => panic!("{error}"),
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = format!("tenant-id = '{TENANT}'\nclient-id = '{CLIENT}'\naccount = 'file'\nsign-in-timeout = 1");
    let environment = [("ENTRA_MCP_ACCOUNT", "environment"), ("ENTRA_MCP_SIGN_IN_TIMEOUT", "2")];
    let flags = Layer { account: Some("flag".into()), ..Layer::default() };

    let all = load(flags, &environment, Some(&file)).unwrap().settings.sign_in;
    assert_eq!((all.account.as_deref(), all.timeout_seconds), (Some("flag"), 2));
    let two = load(Layer::default(), &environment, Some(&file)).unwrap().settings.sign_in;
    assert_eq!((two.account.as_deref(), two.timeout_seconds), (Some("environment"), 2));
    let one = load(Layer::default(), &[], Some(&file)).unwrap().settings.sign_in;
    assert_eq!((one.account.as_deref(), one.timeout_seconds), (Some("file"), 1));
}

#[test]
fn our_variables_win_over_the_common_ones() {
    let common = [("AZURE_TENANT_ID", "common.example"), ("AZURE_CLIENT_ID", CLIENT)];
    assert_eq!(load(Layer::default(), &common, None).unwrap().settings.tenant, "common.example");
    let both = [&common[..], &[("ENTRA_MCP_TENANT_ID", TENANT)]].concat();
    assert_eq!(load(Layer::default(), &both, None).unwrap().settings.tenant, TENANT);
}

#[test]
fn every_setting_can_come_from_the_environment() {
    let config = load(
        Layer::default(),
        &[
            ("ENTRA_MCP_TENANT_ID", "organizations"),
            ("ENTRA_MCP_CLIENT_ID", CLIENT),
            ("ENTRA_MCP_CLOUD", "us-government"),
            ("ENTRA_MCP_SIGN_IN", "device-code"),
            ("ENTRA_MCP_PROFILE_CACHE_SECONDS", "0"),
            ("ENTRA_MCP_STORE", "memory"),
            ("ENTRA_MCP_CA_FILE", "/ca.pem"),
            ("ENTRA_MCP_LOG_FORMAT", "json"),
            ("ENTRA_MCP_MAX_MESSAGE_BYTES", "65536"),
            ("ENTRA_MCP_MAX_INSTANCES", "2"),
            ("ENTRA_MCP_NO_CODE_CACHE", "true"),
        ],
        None,
    )
    .unwrap();
    assert_eq!(config.settings.authority, "https://login.microsoftonline.us");
    assert_eq!(config.settings.sign_in.method, SignInMethod::DeviceCode);
    assert_eq!(config.settings.profile_cache_seconds, 0);
    assert_eq!(config.store.location, StoreLocation::Memory);
    assert_eq!(config.ca_file, Some("/ca.pem".into()));
    assert_eq!((config.max_message_bytes, config.max_instances), (65_536, 2));
    let host = HostConfig { log_format: LogFormat::Json, log_filter: None, code_cache: CodeCache::Off };
    assert_eq!(config.host, host);
}

#[test]
fn the_defaults_are_the_public_cloud_and_this_users_folders() {
    let config = load(flags(), &[("XDG_CONFIG_HOME", "/nowhere")], None).unwrap();
    assert_eq!(config.settings.authority, "https://login.microsoftonline.com");
    assert_eq!(config.settings.graph, "https://graph.microsoft.com");
    assert_eq!(config.settings.graph_resource, "https://graph.microsoft.com");
    assert_eq!(config.settings.sign_in.method, SignInMethod::Automatic);
    assert_eq!(config.settings.token.audiences, [CLIENT]);
    assert!(!config.display);
    if cfg!(target_os = "linux") {
        assert_eq!(config.store.location, StoreLocation::File("/home/u/.local/share/entra-mcp/secrets.db".into()));
        assert_eq!(config.host.code_cache, CodeCache::Folder("/home/u/.cache/entra-mcp/code".into()));
    }
}

#[test]
fn what_is_missing_is_named_with_the_place_to_find_it() {
    let error = load(Layer::default(), &[], Some("")).unwrap_err();
    assert!(matches!(&error, ConfigError::Missing { names, .. } if names == &["the tenant id", "the client id"]));
    let text = error.to_string();
    assert!(text.contains("App registrations > your app > Overview"), "{text}");
    assert!(text.starts_with("the tenant id and the client id are not set."), "{text}");

    let only = Layer { client_id: None, ..flags() };
    let text = load(only, &[], Some("")).unwrap_err().to_string();
    assert!(text.starts_with("the client id is not set."), "{text}");
}

#[test]
fn an_unknown_key_in_the_file_is_refused_with_the_known_ones() {
    let ConfigError::File { reason, .. } = load(flags(), &[], Some("tenant = 'x'")).unwrap_err() else { panic!() };
    assert!(reason.contains("unknown field `tenant`") && reason.contains("`tenant-id`"), "{reason}");
}

#[test]
fn a_file_that_was_named_must_exist() {
    let config = Some("/does/not/exist.toml".into());
    let missing = Layer { host: HostLayer { config, ..HostLayer::default() }, ..flags() };
    let error = Sources::read(missing, Environment::of(&[])).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
}

#[test]
fn ids_of_a_wrong_form_are_refused() {
    for client in ["", "x", "22222222222222222222222222222222", "{22222222-2222-2222-2222-222222222222}"] {
        let error = load(Layer { client_id: Some(client.into()), ..flags() }, &[], None).unwrap_err();
        assert_eq!(invalid(error), ("client-id", client.to_owned()));
    }
    let upper = CLIENT.to_uppercase();
    let error = load(Layer { client_id: Some(upper.clone()), ..flags() }, &[], None).unwrap_err();
    assert_eq!(invalid(error), ("client-id", upper));
    for tenant in ["", "x", "Contoso.com", "a..b", "contoso.com/", "../x", "a b.c", "common/v2.0"] {
        let error = load(Layer { tenant_id: Some(tenant.into()), ..flags() }, &[], None).unwrap_err();
        assert_eq!(invalid(error), ("tenant-id", tenant.to_owned()));
    }
    for tenant in ["contoso.com", "contoso.onmicrosoft.com", "common", "organizations", "consumers"] {
        let config = load(Layer { tenant_id: Some(tenant.into()), ..flags() }, &[], None).unwrap();
        assert_eq!(config.settings.tenant, tenant);
    }
}

fn authority(text: &str, tenant: Option<&str>) -> Result<(String, String), ConfigError> {
    let tenant_id = tenant.map(Into::into);
    let config = load(Layer { authority: Some(text.into()), tenant_id, ..flags() }, &[], None)?;
    Ok((config.settings.authority, config.settings.tenant))
}

#[test]
fn an_authority_may_come_with_a_slash_or_its_tenant() {
    let expected = ("https://login.example".to_owned(), TENANT.to_owned());
    for (text, tenant) in [
        ("https://login.example".to_owned(), Some(TENANT)),
        ("https://login.example/".to_owned(), Some(TENANT)),
        (format!("https://login.example/{TENANT}"), None),
        (format!("https://login.example/{TENANT}/"), Some(TENANT)),
        (format!("https://login.example/{TENANT}/v2.0"), None),
    ] {
        assert_eq!(authority(&text, tenant), Ok(expected.clone()), "{text}");
    }
    let conflict = authority("https://login.example/common", Some(TENANT)).unwrap_err();
    assert!(matches!(conflict, ConfigError::Conflict(_)));
}

#[test]
fn endpoints_that_are_not_safe_are_refused() {
    for text in [
        "login.example",
        "ftp://login.example",
        "http://login.example",
        "http://10.0.0.1",
        "https://login.example/a/b",
        "https://login.example/?a=b",
        "https://login.example/#a",
    ] {
        assert_eq!(invalid(authority(text, Some(TENANT)).unwrap_err()).0, "authority", "{text}");
    }
    let error = authority("https://user:password@login.example", Some(TENANT)).unwrap_err();
    assert!(!error.to_string().contains("password@"), "{error}");
    for text in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
        assert_eq!(authority(text, Some(TENANT)).unwrap().0, text);
    }
}

#[test]
fn the_authority_of_a_cloud_brings_its_graph() {
    let us = Layer { authority: Some("https://login.microsoftonline.us".into()), ..flags() };
    assert_eq!(load(us.clone(), &[], None).unwrap().settings.graph, "https://graph.microsoft.us");
    let contradiction = Layer { cloud: Some(Cloud::China), ..us };
    assert!(matches!(load(contradiction, &[], None).unwrap_err(), ConfigError::Conflict(_)));
}

#[test]
fn an_emulated_graph_keeps_the_resource_of_the_real_one() {
    let graph = |url: &str| {
        let config = load(Layer { graph_url: Some(url.into()), ..flags() }, &[], None).unwrap();
        (config.settings.graph, config.settings.graph_resource)
    };
    let real = "https://graph.microsoft.com".to_owned();
    assert_eq!(graph("http://127.0.0.1:1/graph/v1.0/"), ("http://127.0.0.1:1/graph".to_owned(), real));
    let other = "https://graph.example".to_owned();
    assert_eq!(graph("https://graph.example/"), (other.clone(), other));
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (layer, name) in [
        (Layer { sign_in_timeout: Some(0), ..flags() }, "sign-in-timeout"),
        (Layer { sign_in_timeout: Some(86_401), ..flags() }, "sign-in-timeout"),
        (Layer { profile_cache_seconds: Some(86_401), ..flags() }, "profile-cache-seconds"),
        (Layer { max_message_bytes: Some(1), ..flags() }, "max-message-bytes"),
        (Layer { max_instances: Some(0), ..flags() }, "max-instances"),
    ] {
        assert_eq!(invalid(load(layer, &[], None).unwrap_err()).0, name);
    }
    let error = load(flags(), &[("ENTRA_MCP_SIGN_IN_TIMEOUT", "5m")], None).unwrap_err();
    assert_eq!(invalid(error), ("ENTRA_MCP_SIGN_IN_TIMEOUT", "5m".into()));
    let error = load(flags(), &[("ENTRA_MCP_CLOUD", "mars")], None).unwrap_err();
    assert_eq!(error.to_string(), r#"ENTRA_MCP_CLOUD is "mars", but one of public, us-government, china is expected"#);
}

#[test]
fn without_a_home_the_store_has_to_be_named() {
    let sources = Sources::read(flags(), Environment::of(&[])).unwrap();
    assert!(matches!(sources.public_client().unwrap_err(), ConfigError::NoHome("sign-ins", _)));
    assert_eq!(sources.host().unwrap().code_cache, CodeCache::Off);
}

/// The only file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = entries.filter(|path| !path.ends_with("target")).filter_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => path.ends_with(name).then_some(path),
    });
    found.next()
}

/// The host and the component know different things about a cloud, so each has a table, on its side of the border.
#[test]
fn the_clouds_are_those_that_the_component_knows() {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("guest"));
    let guest = folders.find(|folder| folder.is_dir()).unwrap();
    let table = std::fs::read_to_string(find(&guest, "clouds.rs").unwrap()).unwrap();
    let entries = table.split("authority: \"").skip(1);
    let known: Vec<_> = entries.filter_map(|entry| Some(entry.split_once('"')?.0)).collect();
    assert_eq!(known, Cloud::ALL.map(Cloud::authority));
}

#[test]
fn the_tolerance_of_clocks_is_left_to_the_use_of_a_token_unless_set() {
    let tolerance = |variables: &[(&str, &str)]| {
        load(flags(), variables, None).map(|config| config.settings.token.clock_tolerance_seconds)
    };
    assert_eq!(tolerance(&[]).unwrap(), None);
    assert_eq!(tolerance(&[("ENTRA_MCP_CLOCK_TOLERANCE", "0")]).unwrap(), Some(0));
    assert_eq!(invalid(tolerance(&[("ENTRA_MCP_CLOCK_TOLERANCE", "301")]).unwrap_err()).0, "clock-tolerance");
}
