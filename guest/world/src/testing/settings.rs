//! Settings for unit tests.

use std::time::Duration;

use base::settings::{BrokerUse, HttpSettings, LocalSettings, Mode, Settings, SignInMethod, TokenMode, TokenSettings};

/// The tenant of the default settings.
pub const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
/// The application of the default settings.
pub const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

/// What a record of the application is called in the store.
pub fn record(settings: &Settings, name: &str) -> String {
    let Settings { authority, tenant, client_id, .. } = settings;
    ["account", authority, tenant, client_id, name].join("/")
}

/// A public client of one tenant.
pub fn settings() -> Settings {
    Settings {
        tenant: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        authority: "https://login.microsoftonline.com".to_owned(),
        graph: "https://graph.microsoft.com".to_owned(),
        graph_resource: "https://graph.microsoft.com".to_owned(),
        token: TokenSettings { audiences: vec![CLIENT.to_owned()], allowed_tenants: Vec::new(), clock_tolerance: None },
        profile_cache: Duration::from_secs(60),
        audit_usernames: false,
        servers: Vec::new(),
        mode: Mode::Local(local_settings()),
    }
}

/// How people sign in.
pub fn local_settings() -> LocalSettings {
    LocalSettings {
        method: SignInMethod::Automatic,
        timeout: Duration::from_secs(300),
        account: None,
        broker: BrokerUse::Off,
    }
}

/// How long a replaced refresh token gets the same answer again, unless a test changes it.
pub const REFRESH_GRACE: Duration = Duration::from_secs(30);

/// Where the remote server of the tests is.
pub const PUBLIC_URL: &str = "https://mcp.example.com";

/// How the remote server is reached.
pub fn http_settings() -> HttpSettings {
    HttpSettings {
        public_url: PUBLIC_URL.to_owned(),
        allowed_hosts: vec!["mcp.example.com".to_owned()],
        allowed_origins: vec!["https://app.example.com".to_owned()],
        client_address_header: Some("x-entra-mcp-client-address".to_owned()),
        legacy_sse: true,
        clients: Vec::new(),
        dynamic_registration: true,
        allowed_redirect_schemes: Vec::new(),
        client_id_metadata_documents: true,
        token_mode: TokenMode::Session,
        app_id_uri: None,
        required_scope: "access_as_user".to_owned(),
        access: None,
        deny_unlisted: false,
        token_header: None,
        rewrite_authority_metadata: false,
        max_streams_per_caller: 16,
        refresh_grace: REFRESH_GRACE,
        forward_auth: None,
    }
}

/// A confidential client of the same tenant, served at [`PUBLIC_URL`].
pub fn remote_settings() -> Settings {
    Settings { mode: Mode::Remote(Box::new(http_settings())), ..settings() }
}
