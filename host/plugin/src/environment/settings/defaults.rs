//! Settings with defaults for everything that can have one. All fields are public: change what differs.

use url::Url;

use super::{
    BrokerUse, ClientType, DEFAULT_MAX_STREAMS_PER_CALLER, HttpSettings, Settings, SignInMethod, SignInSettings,
    TokenMode, TokenSettings,
};
use crate::error::Error;

/// How long a sign-in waits for the person, in seconds: the lifetime of a device code is three times that.
const SIGN_IN_TIMEOUT_SECONDS: u32 = 300;

/// How long a profile may be returned again, in seconds. For this time, a revoked caller still gets its own profile.
const PROFILE_CACHE_SECONDS: u32 = 60;

/// How long a replaced refresh token gets the same answer again, in seconds: clients that get no answer ask again within
/// this time.
const REFRESH_GRACE_SECONDS: u32 = 30;

/// The delegated permission that a token of Entra ID has to carry, as the portal suggests it.
const REQUIRED_SCOPE: &str = "access_as_user";

impl Settings {
    /// A local server in the public cloud: it signs in the person at this machine, through the browser or a device code.
    ///
    /// `tenant` is a tenant id, a verified domain, `common`, `organizations` or `consumers`; `client_id` is the id of
    /// the application.
    ///
    /// ```
    /// use entra_mcp_plugin::environment::Settings;
    ///
    /// let mut settings = Settings::local("organizations", "00000000-0000-0000-0000-000000000001");
    /// settings.sign_in.timeout_seconds = 120;
    /// ```
    pub fn local(tenant: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            client_type: ClientType::PublicClient,
            tenant: tenant.into(),
            client_id: client_id.into(),
            authority: "https://login.microsoftonline.com".to_owned(),
            graph: "https://graph.microsoft.com".to_owned(),
            graph_resource: "https://graph.microsoft.com".to_owned(),
            sign_in: SignInSettings {
                method: SignInMethod::Automatic,
                timeout_seconds: SIGN_IN_TIMEOUT_SECONDS,
                account: None,
                broker: BrokerUse::Off,
            },
            token: TokenSettings { audiences: Vec::new(), allowed_tenants: Vec::new(), clock_tolerance_seconds: None },
            profile_cache_seconds: PROFILE_CACHE_SECONDS,
            audit_usernames: false,
            servers: Vec::new(),
            http: None,
        }
    }

    /// A remote server in the public cloud, through which MCP clients sign their users in. `public_url` is the address
    /// at which clients reach it: `https`, or `http` on loopback, without a path. The server only answers requests for
    /// this host.
    ///
    /// The server needs a client credential
    /// ([`PluginBuilder::client_credential`](crate::PluginBuilder::client_credential)).
    ///
    /// ```
    /// use entra_mcp_plugin::Error;
    /// use entra_mcp_plugin::environment::Settings;
    ///
    /// let id = "00000000-0000-0000-0000-000000000001";
    /// let settings = Settings::remote("contoso.example", id, "https://mcp.example.com")?;
    /// assert_eq!(settings.http.unwrap().allowed_hosts, ["mcp.example.com"]);
    ///
    /// let refused = Settings::remote("contoso.example", id, "http://mcp.example.com");
    /// assert!(matches!(refused, Err(Error::PublicUrl(_))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn remote(tenant: impl Into<String>, client_id: impl Into<String>, public_url: &str) -> Result<Self, Error> {
        let http = HttpSettings::new(public_url)?;
        let confidential = Self { client_type: ClientType::ConfidentialClient, ..Self::local(tenant, client_id) };
        Ok(Self { http: Some(http), ..confidential })
    }

    /// A validator of access tokens in the public cloud, without a server. It accepts tokens of `tenant` whose `aud` is
    /// `audience`, which is the id of the application or its App ID URI.
    ///
    /// ```
    /// use entra_mcp_plugin::environment::Settings;
    ///
    /// let id = "00000000-0000-0000-0000-000000000001";
    /// let settings = Settings::validator("contoso.example", id, id);
    /// assert_eq!(settings.token.audiences, [id]);
    /// ```
    pub fn validator(tenant: impl Into<String>, client_id: impl Into<String>, audience: impl Into<String>) -> Self {
        let mut settings = Self::local(tenant, client_id);
        settings.client_type = ClientType::ConfidentialClient;
        settings.token.audiences.push(audience.into());
        settings
    }
}

impl HttpSettings {
    /// A server at `public_url` that admits the tokens of its own sessions, and clients that register themselves or
    /// publish a metadata document.
    fn new(public_url: &str) -> Result<Self, Error> {
        let refused = || Error::PublicUrl(public_url.to_owned());
        let url = Url::parse(public_url).map_err(|_| refused())?;
        let host = url.host_str().ok_or_else(refused)?;
        let secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        let more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        if !secure || more || !url.username().is_empty() || url.password().is_some() {
            return Err(refused());
        }
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            public_url: format!("{}://{host}", url.scheme()),
            allowed_hosts: vec![host],
            allowed_origins: Vec::new(),
            client_address_header: None,
            legacy_sse: false,
            clients: Vec::new(),
            dynamic_registration: true,
            allowed_redirect_schemes: Vec::new(),
            client_id_metadata_documents: true,
            token_mode: TokenMode::Session,
            app_id_uri: None,
            required_scope: REQUIRED_SCOPE.to_owned(),
            access: None,
            deny_unlisted: false,
            token_header: None,
            rewrite_authority_metadata: false,
            max_streams_per_caller: DEFAULT_MAX_STREAMS_PER_CALLER,
            refresh_grace_seconds: REFRESH_GRACE_SECONDS,
            forward_auth: None,
        })
    }
}

/// Whether the host is this machine: its name, or an address of the loopback interface.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn a_remote_server_answers_for_the_host_of_its_url_only() {
        for (url, public_url, host) in [
            ("https://mcp.example.com", "https://mcp.example.com", "mcp.example.com"),
            ("https://mcp.example.com/", "https://mcp.example.com", "mcp.example.com"),
            ("https://mcp.example.com:8443", "https://mcp.example.com:8443", "mcp.example.com:8443"),
            ("http://localhost:3001", "http://localhost:3001", "localhost:3001"),
            ("http://127.0.0.1:3001", "http://127.0.0.1:3001", "127.0.0.1:3001"),
            ("http://[::1]:3001", "http://[::1]:3001", "[::1]:3001"),
        ] {
            let settings = Settings::remote("contoso.example", ID, url).unwrap();
            assert_eq!(settings.client_type, ClientType::ConfidentialClient);
            let http = settings.http.unwrap();
            assert_eq!((http.public_url.as_str(), http.allowed_hosts), (public_url, vec![host.to_owned()]));
        }
    }

    #[test]
    fn a_url_that_is_no_origin_or_not_secure_is_refused() {
        for url in [
            "mcp.example.com",
            "http://mcp.example.com",
            "http://localhost.example.com",
            "ftp://localhost",
            "https://mcp.example.com/mcp",
            "https://mcp.example.com?a",
            "https://mcp.example.com#a",
            "https://a:b@mcp.example.com",
        ] {
            let refused = Settings::remote("contoso.example", ID, url).unwrap_err();
            assert!(matches!(&refused, Error::PublicUrl(named) if named == url), "{url}: {refused}");
        }
    }
}
