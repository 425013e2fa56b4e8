//! Tests of `config/serve.rs`.

use std::time::Duration;

use entra_mcp_plugin::environment::{ServerIdentity, ServerKind, ServerSettings};
use entra_mcp_plugin::secret_store::SecretBytes;

use super::*;
use crate::config::{BehindLayer, Environment, HostLayer, Layer, StoreLocation};

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-22222222aaaa";

fn load(serve: ServeLayer, variables: &[(&str, &str)], file: Option<&str>) -> Result<ServeConfig, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, file.unwrap_or_default()).unwrap();
    let (tenant_id, client_id) = (Some(TENANT.into()), Some(CLIENT.into()));
    let flags = Layer {
        host: HostLayer { config: Some(path), ..HostLayer::default() },
        tenant_id,
        client_id,
        ..Layer::default()
    };
    let variables = [variables, &[("HOME", "/home/u")]].concat();
    Sources::read_serve(flags, serve, BehindLayer::default(), Environment::of(&variables))?.serve()
}

fn with(change: impl FnOnce(&mut ServeLayer)) -> Result<ServeConfig, ConfigError> {
    let mut layer = ServeLayer::default();
    change(&mut layer);
    load(layer, &[], None)
}

fn invalid<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> &'static str {
    match result.unwrap_err() {
        ConfigError::Invalid { name, .. } => name,
        error => panic!("{error}"),
    }
}

fn bound(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_defaults_serve_on_loopback() {
    let config = load(ServeLayer::default(), &[], None).unwrap();
    assert_eq!(config.listen, bound("127.0.0.1:3001"));
    assert_eq!((config.isolation, config.max_queue, config.max_connections), (Isolation::Shared, 512, 1_024));
    assert!(matches!(config.credential.secret, SecretSource::Store));
    assert_eq!(config.common.store.location, StoreLocation::File("/home/u/.local/share/entra-mcp/server.db".into()));
    let settings = config.settings(bound("127.0.0.1:4000"));
    assert_eq!(settings.client_type, ClientType::ConfidentialClient);
    let http = settings.http.unwrap();
    assert_eq!(http.public_url, "http://localhost:4000");
    assert_eq!(http.allowed_hosts, ["localhost:4000", "127.0.0.1:4000", "[::1]:4000"]);
    assert_eq!(http.client_address_header.as_deref(), Some(CLIENT_ADDRESS_HEADER));
    assert_eq!((http.token_mode, http.app_id_uri.as_deref()), (TokenMode::Session, None));
    assert_eq!(settings.token.audiences, [CLIENT]);
    assert!(http.legacy_sse && http.dynamic_registration && http.client_id_metadata_documents);
    let rate = |count, seconds| Rate { count, per: Duration::from_secs(seconds) };
    assert_eq!(config.rates["address:authorize"], rate(100, 900));
    assert_eq!(config.rates["address:token"], rate(50, 900));
    assert_eq!(config.rates["address:register"], rate(20, 3_600));
    assert_eq!(config.rates["address:callback"], rate(100, 900));
    assert_eq!(config.rates["address:revoke"], rate(50, 900));
    assert_eq!(config.rates["token"], rate(5_000, 900));
    assert_eq!(config.rates["refused-token"], rate(60, 60));
    assert_eq!(config.rates["called-records"], rate(600, 900));
    assert_eq!(config.rates["denied-records"], rate(60, 900));
    assert_eq!(config.rates["refresh-records"], rate(60, 900));
    assert_eq!(config.rates["stranger-records"], rate(2_000, 900));
    assert_eq!(config.rates["call"], rate(600, 60));
    assert_eq!(config.rates["graph-request"], rate(600, 60));
    assert_eq!(config.rates["client-metadata-by-address"], rate(20, 60));
    assert_eq!((config.rates.len(), config.rate_limits_in), (19, RateLimitsIn::Process));
}

#[test]
fn every_setting_comes_from_the_file_and_every_one_but_tables_from_the_environment() {
    let file = "listen = '0.0.0.0:1'\npublic-url = 'https://mcp.example.com/entra'\ntls-cert = 'c'\ntls-key = 'k'\n\
        trusted-proxy = ['10.0.0.0/8', '::1']\nforwarded-header = 'Forwarded'\ntoken-header = 'X-Token'\nallowed-host = ['a:1', 'b']\nallowed-origin = ['https://app.example']\n\
        allow-tenant = ['33333333-3333-3333-3333-333333333333']\nclient-secret-file = 's'\ncredential = 'secret'\ncertificate-file = ['old.pem', 'new.pem']\nfederated-token-file = 'token'\nmanaged-identity-id = 'b0000000-0000-4000-a000-000000000002'\nno-legacy-sse = true\n\
        no-dynamic-registration = true\nno-client-id-metadata = true\nclient-metadata-allow = ['localhost:8443']\n\
        token-mode = 'both'\napp-id-uri = 'api://mcp'\nrequired-scope = 'Mcp.Use'\naccess-file = '{}'\nrewrite-authority-metadata = false\ndeny-unlisted = false\nforward-auth = 'crm'\nforward-auth-secret-hash = '0000000000000000000000000000000000000000000'\nallow-redirect-scheme = ['cursor', 'vscode']\ncheck = 'fail'\nisolation = 'per-request'\nmax-queue = 1\nmax-connections = 2\nmax-streams-per-caller = 3\nrefresh-grace-seconds = 4\nrate-limit = ['token=1/1s', 'register=off', 'refused-token=2/1h']\nrate-limits-in = 'store'\n";
    let folder = tempfile::tempdir().unwrap();
    let access_file = folder.path().join("access.toml").display().to_string();
    std::fs::write(&access_file, "[[access]]\ntool = 'aTool'\nroles = ['Mcp.Reader']\n").unwrap();
    let file = &file.replace("{}", &access_file);
    let variables = [
        ("ENTRA_MCP_LISTEN", "0.0.0.0:1"),
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com/entra"),
        ("ENTRA_MCP_TLS_CERT", "c"),
        ("ENTRA_MCP_TLS_KEY", "k"),
        ("ENTRA_MCP_TRUSTED_PROXY", "10.0.0.0/8,::1"),
        ("ENTRA_MCP_FORWARDED_HEADER", "forwarded"),
        ("ENTRA_MCP_TOKEN_HEADER", "X-Token"),
        ("ENTRA_MCP_ALLOWED_HOST", "a:1, b"),
        ("ENTRA_MCP_ALLOWED_ORIGIN", "https://app.example"),
        ("ENTRA_MCP_ALLOW_TENANT", "33333333-3333-3333-3333-333333333333"),
        ("ENTRA_MCP_CREDENTIAL", "secret"),
        ("ENTRA_MCP_CERTIFICATE_FILE", "old.pem,new.pem"),
        ("ENTRA_MCP_FEDERATED_TOKEN_FILE", "token"),
        ("ENTRA_MCP_MANAGED_IDENTITY_ID", "b0000000-0000-4000-a000-000000000002"),
        ("ENTRA_MCP_CLIENT_SECRET_FILE", "s"),
        ("ENTRA_MCP_NO_LEGACY_SSE", "true"),
        ("ENTRA_MCP_NO_DYNAMIC_REGISTRATION", "true"),
        ("ENTRA_MCP_NO_CLIENT_ID_METADATA", "true"),
        ("ENTRA_MCP_CLIENT_METADATA_ALLOW", "localhost:8443"),
        ("ENTRA_MCP_TOKEN_MODE", "both"),
        ("ENTRA_MCP_APP_ID_URI", "api://mcp"),
        ("ENTRA_MCP_REQUIRED_SCOPE", "Mcp.Use"),
        ("ENTRA_MCP_ACCESS_FILE", &access_file),
        ("ENTRA_MCP_REWRITE_AUTHORITY_METADATA", "false"),
        ("ENTRA_MCP_DENY_UNLISTED", "false"),
        ("ENTRA_MCP_FORWARD_AUTH", "crm"),
        ("ENTRA_MCP_FORWARD_AUTH_SECRET_HASH", "0000000000000000000000000000000000000000000"),
        ("ENTRA_MCP_ALLOW_REDIRECT_SCHEME", "cursor,vscode"),
        ("ENTRA_MCP_CHECK", "fail"),
        ("ENTRA_MCP_ISOLATION", "per-request"),
        ("ENTRA_MCP_MAX_QUEUE", "1"),
        ("ENTRA_MCP_MAX_CONNECTIONS", "2"),
        ("ENTRA_MCP_MAX_STREAMS_PER_CALLER", "3"),
        ("ENTRA_MCP_REFRESH_GRACE_SECONDS", "4"),
        ("ENTRA_MCP_RATE_LIMIT", "token=1/1s,register=off,refused-token=2/1h"),
        ("ENTRA_MCP_RATE_LIMITS_IN", "store"),
    ];
    let of_audit = AuditLayer::settings();
    let (own, _): (Vec<_>, Vec<_>) =
        ServeLayer::settings().into_iter().filter(|setting| setting.has_key).partition(|key| !of_audit.contains(key));
    // All but `clients` and `access`, which are tables, and `certificate-vault-url`, which `certificate-file` excludes.
    assert_eq!(variables.len() + 3, own.len());
    for config in [load(ServeLayer::default(), &[], Some(file)), load(ServeLayer::default(), &variables, None)] {
        let config = config.unwrap();
        assert_eq!(config.listen, bound("0.0.0.0:1"));
        assert_eq!(config.tls, Some(("c".into(), "k".into())));
        assert_eq!((config.trusted_proxies.len(), config.forwarded_header), (2, ForwardedHeader::Forwarded));
        assert_eq!(config.token_header.as_ref().map(HeaderName::as_str), Some("x-token"));
        assert!(matches!(&config.credential.secret, SecretSource::File(file) if file == Path::new("s")));
        assert_eq!(config.credential.name, CredentialName::Secret);
        assert_eq!(config.credential.certificates, [Path::new("old.pem"), Path::new("new.pem")]);
        assert_eq!(config.credential.federated_token.as_deref(), Some(Path::new("token")));
        assert_eq!(config.credential.managed_identity.as_deref(), Some("b0000000-0000-4000-a000-000000000002"));
        assert_eq!(config.client_metadata_allow, ["localhost:8443"]);
        assert_eq!((config.isolation, config.max_queue, config.max_connections), (Isolation::PerRequest, 1, 2));
        assert_eq!(config.check, StartCheck::Fail);
        assert_eq!(config.rates["address:token"], Rate { count: 1, per: Duration::from_secs(1) });
        assert_eq!(config.rates.get("address:register"), None);
        assert_eq!(config.rate_limits_in, RateLimitsIn::Store);
        assert_eq!(config.rates["refused-token"], Rate { count: 2, per: Duration::from_secs(3_600) });
        assert_eq!(config.path_prefix(), "/entra");
        let settings = config.settings(bound("0.0.0.0:1"));
        assert_eq!(settings.token.allowed_tenants, ["33333333-3333-3333-3333-333333333333"]);
        let http = settings.http.unwrap();
        assert_eq!(http.public_url, "https://mcp.example.com/entra");
        assert_eq!(http.allowed_hosts, ["mcp.example.com", "a:1", "b"]);
        assert_eq!(http.allowed_origins, ["https://app.example"]);
        assert_eq!((http.token_mode, http.app_id_uri.as_deref()), (TokenMode::Both, Some("api://mcp")));
        assert_eq!(http.required_scope, "Mcp.Use");
        assert_eq!(http.allowed_redirect_schemes, ["cursor", "vscode"]);
        assert_eq!(http.access.unwrap()[0].tool, "aTool");
        assert_eq!((http.token_header.as_deref(), http.rewrite_authority_metadata), (Some("x-token"), false));
        assert_eq!((http.max_streams_per_caller, http.refresh_grace_seconds), (3, 4));
        assert!(!http.legacy_sse && !http.dynamic_registration && !http.client_id_metadata_documents);
    }
}

#[test]
fn the_way_to_the_public_internet_is_of_no_use_without_documents_of_clients_and_without_sessions() {
    let reads =
        |change: fn(&mut ServeLayer)| with(change).unwrap().settings(bound("127.0.0.1:1")).reads_client_metadata();
    assert!(reads(|_| {}));
    assert!(reads(|layer| layer.token_mode = Some(TokenModeName::Both)));
    assert!(!reads(|layer| layer.token_mode = Some(TokenModeName::Bearer)));
    assert!(!reads(|layer| layer.no_client_id_metadata = Some(true)));
}

#[test]
fn the_metadata_of_entra_is_rewritten_wherever_that_is_set() {
    let file = "token-mode = 'bearer'\nrewrite-authority-metadata = true";
    let variables = [("ENTRA_MCP_TOKEN_MODE", "bearer"), ("ENTRA_MCP_REWRITE_AUTHORITY_METADATA", "true")];
    let flag = |layer: &mut ServeLayer| {
        (layer.token_mode, layer.rewrite_authority_metadata) = (Some(TokenModeName::Bearer), Some(true));
    };
    for config in
        [load(ServeLayer::default(), &[], Some(file)), load(ServeLayer::default(), &variables, None), with(flag)]
    {
        assert!(config.unwrap().settings(bound("127.0.0.1:1")).http.unwrap().rewrite_authority_metadata);
    }
}

#[test]
fn the_file_may_hold_the_settings_of_all_commands_and_no_unknown_ones() {
    let file = "listen = '127.0.0.1:1'\naccount = 'a'";
    let config = load(ServeLayer::default(), &[], Some(file)).unwrap();
    assert_eq!(config.common.settings.sign_in.account.as_deref(), Some("a"));
    let ConfigError::File { reason, .. } = load(ServeLayer::default(), &[], Some("listn = 1")).unwrap_err() else {
        panic!()
    };
    assert!(reason.contains("unknown field `listn`"), "{reason}");
    let unknown = "[[clients]]\nclient-id = 'a'\nname = 'A'\nredirect-uris = ['https://a.example']\nsecret = 'x'";
    assert!(matches!(load(ServeLayer::default(), &[], Some(unknown)), Err(ConfigError::File { .. })));
}

#[test]
fn the_public_url_is_https_and_written_as_clients_compare_it() {
    let public_url = |url: &str| with(|layer| layer.public_url = Some(url.to_owned()));
    for url in [
        "https://mcp.example.com",
        "https://mcp.example.com:8443",
        "https://mcp.example.com/a/b",
        "http://localhost:3001",
        "http://127.0.0.1:3001",
    ] {
        assert_eq!(public_url(url).unwrap().settings(bound("127.0.0.1:1")).http.unwrap().public_url, url);
    }
    for url in [
        "",
        "mcp.example.com",
        "http://mcp.example.com",
        "http://10.0.0.1",
        "ftp://mcp.example.com",
        "https://mcp.example.com/",
        "https://mcp.example.com/a/",
        "https://MCP.example.com",
        "https://mcp.example.com:443",
        "https://mcp.example.com/a/../b",
        "https://mcp.example.com?a",
        "https://mcp.example.com#a",
        "https://user@mcp.example.com",
    ] {
        assert_eq!(invalid(public_url(url)), "public-url", "{url}");
    }
    let other = with(|layer| layer.listen = Some(bound("0.0.0.0:3001"))).unwrap_err();
    assert!(matches!(&other, ConfigError::Conflict(text) if text.contains("--public-url")), "{other}");
}

#[test]
fn the_public_url_is_among_the_hosts_and_the_loopback_names_only_on_loopback() {
    let config = with(|layer| {
        layer.public_url = Some("https://mcp.example.com:8443".into());
        layer.listen = Some(bound("0.0.0.0:80"));
    });
    assert_eq!(config.unwrap().settings(bound("0.0.0.0:80")).http.unwrap().allowed_hosts, ["mcp.example.com:8443"]);
    let config = with(|layer| layer.listen = Some(bound("127.0.0.1:80"))).unwrap();
    let http = config.settings(bound("127.0.0.1:80")).http.unwrap();
    assert_eq!((http.public_url.as_str(), http.allowed_hosts.len()), ("http://localhost", 3));
    assert_eq!(http.allowed_hosts, ["localhost", "127.0.0.1", "[::1]"]);
}

#[test]
fn values_of_a_wrong_form_are_refused() {
    type Change = fn(&mut ServeLayer, String);
    let cases: [(&str, Change, &[&str]); 6] = [
        ("trusted-proxy", |layer, text| layer.trusted_proxy = Some(vec![text]), &["", "x", "10.0.0.0/33", "a.example"]),
        (
            "allowed-host",
            |layer, text| layer.allowed_host = Some(vec![text]),
            &["", "A.example", "https://a", "a/b", "u@a"],
        ),
        (
            "allowed-origin",
            |layer, text| layer.allowed_origin = Some(vec![text]),
            &["", "*", "null", "a.example", "https://a.example/", "https://A.example", "https://a.example:443"],
        ),
        ("client-metadata-allow", |layer, text| layer.client_metadata_allow = Some(vec![text]), &["", "https://a"]),
        ("allow-tenant", |layer, text| layer.allow_tenant = Some(vec![text]), &["", "contoso.com"]),
        (
            "rate-limit",
            |layer, text| layer.rate_limit = Some(vec![text]),
            &["", "token", "token=", "token=1", "token=0/1s", "token=1/0s", "token=1/1d", "token=-1/1s", "other=1/1s"],
        ),
    ];
    for (name, change, values) in cases {
        for value in values {
            assert_eq!(invalid(with(|layer| change(layer, (*value).to_owned()))), name, "{value:?}");
        }
    }
    assert_eq!(invalid(with(|layer| layer.max_queue = Some(70_000))), "max-queue");
    assert_eq!(invalid(with(|layer| layer.max_connections = Some(0))), "max-connections");
    let half = with(|layer| layer.tls_cert = Some("c".into()));
    assert!(matches!(half, Err(ConfigError::Conflict(_))));
}

#[test]
fn many_tenants_have_to_be_named() {
    let of = |tenant: &str, allowed: Option<Vec<String>>| {
        let flags = Layer { tenant_id: Some(tenant.into()), client_id: Some(CLIENT.into()), ..Layer::default() };
        let serve = ServeLayer { allow_tenant: allowed, ..ServeLayer::default() };
        Sources::read_serve(flags, serve, BehindLayer::default(), Environment::of(&[("HOME", "/home/u")]))
            .unwrap()
            .serve()
    };
    for tenant in ["common", "organizations"] {
        assert!(matches!(of(tenant, None), Err(ConfigError::Conflict(text)) if text.contains("--allow-tenant")));
        assert_eq!(of(tenant, Some(vec![TENANT.into()])).unwrap().common.settings.token.allowed_tenants, [TENANT]);
    }
    assert!(of("contoso.com", None).is_ok());
}

#[test]
fn what_is_missing_is_named() {
    let error = Sources::read_serve(
        Layer::default(),
        ServeLayer::default(),
        BehindLayer::default(),
        Environment::of(&[("HOME", "/h")]),
    );
    let error = error.unwrap().serve().unwrap_err();
    assert!(matches!(error, ConfigError::Missing { names, .. } if names == ["the tenant id", "the client id"]));
}

#[test]
fn the_client_secret_of_the_environment_is_used_but_never_shown() {
    let variables = [("AZURE_CLIENT_SECRET", "recognisable")];
    let config = load(ServeLayer::default(), &variables, None).unwrap();
    assert!(matches!(&config.credential.secret, SecretSource::Given(secret) if secret.reveal() == b"recognisable"));
    assert!(!format!("{config:?}").contains("recognisable"));
    let named = ServeLayer { client_secret_file: Some("s".into()), ..ServeLayer::default() };
    assert!(matches!(load(named, &variables, None).unwrap().credential.secret, SecretSource::File(_)));
}

#[test]
fn a_credential_without_what_it_needs_is_refused() {
    let chosen = |name: CredentialName| move |layer: &mut ServeLayer| layer.credential = Some(name);
    for name in [CredentialName::Certificate, CredentialName::WorkloadIdentity] {
        assert!(matches!(with(chosen(name)), Err(ConfigError::Conflict(_))), "{name:?}");
    }
    assert_eq!(with(chosen(CredentialName::ManagedIdentity)).unwrap().credential.name, CredentialName::ManagedIdentity);
    let half = [("IDENTITY_ENDPOINT", "http://localhost:1/x")];
    let layer = || ServeLayer { credential: Some(CredentialName::ManagedIdentity), ..ServeLayer::default() };
    assert!(matches!(load(layer(), &half, None), Err(ConfigError::Conflict(_))));
    assert_eq!(invalid(with(|layer| layer.managed_identity_id = Some("mcp".into()))), "managed-identity-id");
}

#[test]
fn a_certificate_is_in_a_file_or_in_a_key_vault_and_not_in_both() {
    let url = "https://contoso.vault.azure.net/certificates/mcp";
    let in_vault = |layer: &mut ServeLayer| {
        layer.credential = Some(CredentialName::Certificate);
        layer.certificate_vault_url = Some(url.to_owned());
    };
    let config = with(in_vault).unwrap().credential;
    let (object, _) = config.vault_certificate.unwrap();
    assert_eq!((object.to_string().as_str(), config.certificates.len()), (url, 0));
    let both = with(|layer| {
        in_vault(layer);
        layer.certificate_file = Some(vec!["client.pem".to_owned()]);
    });
    assert!(matches!(both, Err(ConfigError::Conflict(_))));
    for wrong in ["mcp", "https://contoso.vault.azure.net/keys/mcp", "https://vault.example/certificates/mcp"] {
        let named = with(|layer| layer.certificate_vault_url = Some(wrong.to_owned()));
        assert_eq!(invalid(named), "certificate-vault-url", "{wrong}");
    }
}

#[test]
fn the_azure_cli_serves_this_machine_only() {
    let cli = |url: Option<&str>| {
        with(|layer| {
            layer.credential = Some(CredentialName::AzureCli);
            layer.public_url = url.map(str::to_owned);
        })
    };
    for url in [None, Some("http://localhost:3001")] {
        assert_eq!(cli(url).unwrap().credential.name, CredentialName::AzureCli);
    }
    assert!(matches!(cli(Some("https://mcp.example.com")), Err(ConfigError::Conflict(_))));
}

#[test]
fn a_key_vault_is_asked_by_the_azure_cli_for_this_machine_only() {
    let cli = [("ENTRA_MCP_VAULT_IDENTITY", "azure-cli")];
    let key = [cli[0], ("ENTRA_MCP_STORE_KEY_VAULT", "https://contoso.vault.azure.net/keys/store")];
    let certificate = ("ENTRA_MCP_CERTIFICATE_VAULT_URL", "https://contoso.vault.azure.net/certificates/mcp");
    let at = |url: &str, variables: &[(&str, &str)]| {
        let layer = ServeLayer { public_url: Some(url.to_owned()), ..ServeLayer::default() };
        load(layer, variables, None)
    };
    for variables in [&key[..], &[cli[0], certificate]] {
        at("http://localhost:3001", variables).unwrap();
        let refused = at("https://mcp.example.com", variables);
        assert!(matches!(&refused, Err(ConfigError::Conflict(text)) if text.contains("azure-cli")), "{variables:?}");
    }
    at("https://mcp.example.com", &cli).unwrap();
}

#[test]
fn a_data_key_that_a_vault_wraps_is_no_credential_of_systemd_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().to_str().unwrap();
    let variables = [
        ("ENTRA_MCP_STORE_KEY_VAULT", "https://contoso.vault.azure.net/keys/store"),
        ("CREDENTIALS_DIRECTORY", credentials),
    ];
    load(ServeLayer::default(), &variables, None).unwrap();
    std::fs::write(folder.path().join("entra-mcp-store-key"), [7; 32]).unwrap();
    let both = load(ServeLayer::default(), &variables, None);
    assert!(matches!(&both, Err(ConfigError::Conflict(text)) if text.contains("systemd")));
}

#[test]
fn the_password_of_a_certificate_is_used_but_never_shown() {
    let variables = [("AZURE_CLIENT_CERTIFICATE_PASSWORD", "recognisable"), ("AZURE_CLIENT_CERTIFICATE_PATH", "c.p12")];
    let config = load(ServeLayer::default(), &variables, None).unwrap();
    let password = config.credential.certificate_password.as_ref().map(SecretBytes::reveal);
    assert_eq!((password, config.credential.certificates.len()), (Some(&b"recognisable"[..]), 1));
    assert!(!format!("{config:?}").contains("recognisable"));
}

#[test]
fn the_audience_of_an_exchange_is_that_of_the_cloud() {
    let audience = |cloud: &str| {
        let variables = [("ENTRA_MCP_CLOUD", cloud)];
        load(ServeLayer::default(), &variables, None).unwrap().credential.exchange_audience
    };
    assert_eq!(audience("public"), "api://AzureADTokenExchange");
    assert_eq!(audience("us-government"), "api://AzureADTokenExchangeUSGov");
    assert_eq!(audience("china"), "api://AzureADTokenExchangeChina");
}

fn clients(text: &str) -> Result<Vec<RegisteredClient>, ConfigError> {
    let config = load(ServeLayer::default(), &[], Some(text))?;
    Ok(config.settings(bound("127.0.0.1:1")).http.unwrap().clients)
}

#[test]
fn clients_are_known_by_the_hash_of_their_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "abc\n").unwrap();
    // SHA-256 of "abc" (FIPS 180-2).
    let hash = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
    let text = format!(
        "[[clients]]\nclient-id = 'a'\nname = 'A'\nredirect-uris = ['http://127.0.0.1/cb', 'https://a.example/cb']\n\
         [[clients]]\nclient-id = 'b'\nname = 'B'\nredirect-uris = ['https://b.example']\nsecret-hash = '{hash}'\n\
         [[clients]]\nclient-id = 'c'\nname = 'C'\nredirect-uris = ['app:/cb']\nsecret-file = {file:?}\n"
    );
    let clients = clients(&text).unwrap();
    let hashes: Vec<_> = clients.iter().map(|client| client.secret_hash.as_deref()).collect();
    assert_eq!(hashes, [None, Some(hash), Some(hash)]);
    assert_eq!(clients[0].redirect_uris, ["http://127.0.0.1/cb", "https://a.example/cb"]);
}

#[test]
fn clients_that_cannot_be_are_refused() {
    let client = |fields: &str| clients(&format!("[[clients]]\n{fields}"));
    let whole = "client-id = 'a'\nname = 'A'\nredirect-uris = ['https://a.example']\n";
    assert!(client(whole).is_ok());
    assert_eq!(invalid(client("client-id = ''\nname = 'A'\nredirect-uris = ['https://a.example']")), "clients");
    assert_eq!(invalid(client("client-id = 'a'\nname = ''\nredirect-uris = ['https://a.example']")), "clients");
    assert_eq!(invalid(client("client-id = 'a'\nname = 'A'\nredirect-uris = []")), "clients");
    assert_eq!(invalid(client("client-id = 'a'\nname = 'A'\nredirect-uris = ['/cb']")), "clients.redirect-uris");
    assert_eq!(invalid(client(&format!("{whole}secret-hash = 'abc'"))), "clients.secret-hash");
    let both = client(&format!("{whole}secret-hash = 'abc'\nsecret-file = 'f'"));
    assert!(matches!(both, Err(ConfigError::Conflict(_))));
    assert!(matches!(client(&format!("{whole}secret-file = '/none'")), Err(ConfigError::Unreadable { .. })));
    let twice = clients(&format!("[[clients]]\n{whole}[[clients]]\n{whole}"));
    assert!(matches!(twice, Err(ConfigError::Conflict(text)) if text.contains("twice")));
}

#[test]
fn fetches_from_one_host_are_bounded_even_where_nothing_else_is() {
    for given in [&[][..], &["off"], &["token=off"]] {
        let given: Vec<_> = given.iter().map(|text| (*text).to_owned()).collect();
        let rates = rates(&given).unwrap();
        assert_eq!(rates["client-metadata"], Rate { count: 1_000, per: Duration::from_secs(900) }, "{given:?}");
    }
}

#[test]
fn bad_tokens_are_bounded_by_address_alone_unless_that_is_turned_off() {
    for (given, expected) in [
        (&[][..], Some((60, 60))),
        (&["token=1/1s"], Some((60, 60))),
        (&["refused-token=5/1h"], Some((5, 3_600))),
        (&["refused-token=off"], None),
        (&["off"], None),
        (&["off", "refused-token=5/30"], Some((5, 30))),
    ] {
        let given: Vec<_> = given.iter().map(|text| (*text).to_owned()).collect();
        let rates = rates(&given).unwrap();
        let expected = expected.map(|(count, seconds)| Rate { count, per: Duration::from_secs(seconds) });
        assert_eq!(rates.get("refused-token").copied(), expected, "{given:?}");
        assert_eq!(rates.get("address:refused-token"), None);
    }
}

fn in_mode(mode: TokenModeName, change: impl FnOnce(&mut ServeLayer)) -> Result<ServeConfig, ConfigError> {
    with(|layer| {
        layer.token_mode = Some(mode);
        layer.public_url = Some("https://mcp.example.com".to_owned());
        change(layer);
    })
}

#[test]
fn the_app_id_uri_is_the_url_of_the_mcp_endpoint_unless_set_and_an_audience_of_version_1_tokens() {
    for mode in [TokenModeName::Bearer, TokenModeName::Both] {
        let settings = in_mode(mode, |_| {}).unwrap().settings(bound("127.0.0.1:1"));
        let mcp = "https://mcp.example.com/mcp";
        assert_eq!(settings.token.audiences, [CLIENT, "https://mcp.example.com/mcp/", mcp]);
        assert_eq!(ServeConfig::app_id_uri_advice(&settings), None);
        let own = in_mode(mode, |layer| layer.app_id_uri = Some("api://mcp".to_owned())).unwrap();
        let settings = own.settings(bound("127.0.0.1:1"));
        assert_eq!(settings.token.audiences, [CLIENT, "api://mcp/", "api://mcp"]);
        assert!(ServeConfig::app_id_uri_advice(&settings).unwrap().contains("AADSTS9010010"));
    }
    let session = in_mode(TokenModeName::Session, |layer| layer.app_id_uri = Some("api://mcp".to_owned())).unwrap();
    let settings = session.settings(bound("127.0.0.1:1"));
    assert_eq!(settings.token.audiences, [CLIENT]);
    assert_eq!(ServeConfig::app_id_uri_advice(&settings), None);
}

#[test]
fn each_server_behind_has_its_own_url_as_an_app_id_uri() {
    let with_servers = |app_id_uri: Option<&str>| {
        let layer = |layer: &mut ServeLayer| layer.app_id_uri = app_id_uri.map(str::to_owned);
        let mut config = in_mode(TokenModeName::Bearer, layer).unwrap();
        let server = |name: &str| ServerSettings {
            name: name.to_owned(),
            path: format!("/{name}/mcp"),
            kind: ServerKind::Upstream,
            title: None,
            tools: Vec::new(),
            permissions: Vec::new(),
            identity: ServerIdentity::None,
        };
        config.common.settings.servers = vec![server("crm"), server("wiki")];
        config.settings(bound("127.0.0.1:1"))
    };
    let settings = with_servers(None);
    let (crm, wiki) = ("https://mcp.example.com/crm/mcp", "https://mcp.example.com/wiki/mcp");
    let slash = |uri: &str| format!("{uri}/");
    assert_eq!(settings.token.audiences, [CLIENT, &slash(crm), crm, &slash(wiki), wiki]);
    assert_eq!(ServeConfig::app_id_uri_advice(&settings), None);
    let advice = ServeConfig::app_id_uri_advice(&with_servers(Some(crm))).unwrap();
    assert!(advice.contains(wiki) && advice.contains("identifierUris"), "{advice}");
}

#[test]
fn an_app_id_uri_and_a_scope_are_what_entra_takes() {
    for uri in ["", "mcp", "https://mcp.example.com/ mcp", "https://mcp.example.com/\"", "https://mcp.example.com/?a"] {
        let result = in_mode(TokenModeName::Bearer, |layer| layer.app_id_uri = Some(uri.to_owned()));
        assert_eq!(invalid(result), "app-id-uri", "{uri}");
    }
    for scope in ["", "a b", "https://mcp.example.com/a", "a\"", &"a".repeat(121)] {
        let result = in_mode(TokenModeName::Bearer, |layer| layer.required_scope = Some(scope.to_owned()));
        assert_eq!(invalid(result), "required-scope", "{scope}");
    }
}

#[test]
fn entra_as_the_authorization_server_takes_the_tenants_guid() {
    let tenant = |tenant: &str, mode| {
        let (tenant_id, client_id) = (Some(tenant.to_owned()), Some(CLIENT.into()));
        let serve =
            ServeLayer { token_mode: Some(mode), allow_tenant: Some(vec![TENANT.to_owned()]), ..ServeLayer::default() };
        let environment = Environment::of(&[("HOME", "/home/u")]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "").unwrap();
        let flags = Layer {
            host: HostLayer { config: Some(path), ..HostLayer::default() },
            tenant_id,
            client_id,
            ..Layer::default()
        };
        Sources::read_serve(flags, serve, BehindLayer::default(), environment)?.serve()
    };
    assert!(matches!(tenant("contoso.example", TokenModeName::Bearer), Err(ConfigError::Conflict(_))));
    assert!(tenant("contoso.example", TokenModeName::Session).is_ok());
    assert!(tenant(TENANT, TokenModeName::Bearer).is_ok() && tenant("organizations", TokenModeName::Both).is_ok());
}

#[test]
fn a_certificate_in_a_vault_comes_from_the_file_or_the_environment_and_excludes_one_in_a_file() {
    let url = "https://contoso.vault.azure.net/certificates/mcp";
    let file = format!(
        "public-url = 'https://mcp.example.com'\ncredential = 'certificate'\ncertificate-vault-url = '{url}'\n"
    );
    let variables = [
        ("ENTRA_MCP_PUBLIC_URL", "https://mcp.example.com"),
        ("ENTRA_MCP_CREDENTIAL", "certificate"),
        ("ENTRA_MCP_CERTIFICATE_VAULT_URL", url),
    ];
    for config in [load(ServeLayer::default(), &[], Some(&file)), load(ServeLayer::default(), &variables, None)] {
        assert!(config.unwrap().credential.vault_certificate.is_some());
    }
    let both = load(ServeLayer::default(), &[("ENTRA_MCP_CERTIFICATE_FILE", "c.pem")], Some(&file));
    assert!(matches!(both, Err(ConfigError::Conflict(_))), "{both:?}");
}
