//! The settings of the remote server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use entra_mcp_plugin::environment::{ClientType, HttpSettings, RegisteredClient, Settings, TokenMode};
use entra_mcp_plugin::rate_limiter::Rate;
use entra_mcp_plugin::secret_store::SecretBytes;
use http::HeaderName;
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use self::gateway::{check_prefix, rewrite_authority_metadata, token_header, trust_advice, trusted_proxies};
use self::rates::rates;
use self::token_mode::{DEFAULT_SCOPE, check_app_id_uri};
use super::access::{self, AccessEntry};
use super::endpoints::{check_guid, is_loopback};
use super::{AuditConfig, AuditLayer, Config, ConfigError, Environment, OtlpConfig, Sources, within};
use crate::http_handler::CLIENT_ADDRESS_HEADER;

pub use self::token_mode::TokenModeName;
pub(super) use self::token_mode::check_scope;

mod gateway;
mod rates;
mod token_mode;

/// The address that is listened on, unless set otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3001);

/// Requests that wait for an instance, unless set otherwise: a few milliseconds of work.
const DEFAULT_MAX_QUEUE: usize = 512;

/// Connections at the same time, unless set otherwise.
const DEFAULT_MAX_CONNECTIONS: usize = 1_024;

const QUEUE: RangeInclusive<usize> = 0..=65_536;
const CONNECTIONS: RangeInclusive<usize> = 1..=65_536;

/// Multi-tenant authorities: which tenants they stand for has to be said.
const MULTI_TENANT: [&str; 2] = ["common", "organizations"];

/// Whether requests share instances of the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Warm instances are reused; they hold only caches.
    Shared,
    /// Every request has an instance of its own.
    PerRequest,
}

/// What one source says about the remote server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Settings of the remote server (each also as ENTRA_MCP_… variable, and in the file)")]
pub struct ServeLayer {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:3001]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where clients reach the server: https, without a slash at its end [default: http(s)://localhost:{port} on loopback]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Certificate chain (PEM); read again when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Proxies that terminate TLS and say who the client is, as addresses or networks; may be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Option<Vec<String>>,
    /// Header in which a declared proxy hands over the person's access token of Entra ID; counts instead of Authorization
    #[arg(long, value_name = "NAME")]
    pub token_header: Option<String>,
    /// A value of Host that is answered besides that of the public URL; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub allowed_host: Option<Vec<String>>,
    /// An origin of web pages that may call the server; may be repeated
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub allowed_origin: Option<Vec<String>>,
    /// A tenant whose people may sign in, with a multi-tenant authority; may be repeated
    #[arg(long, value_name = "GUID", value_delimiter = ',')]
    pub allow_tenant: Option<Vec<String>>,
    /// File with the client secret [also: AZURE_CLIENT_SECRET, or `entra-mcp client-secret set`]
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// Do not serve the deprecated HTTP+SSE transport
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_legacy_sse: Option<bool>,
    /// Do not let clients register themselves (RFC 7591)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_dynamic_registration: Option<bool>,
    /// Do not accept Client ID Metadata Documents
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_client_id_metadata: Option<bool>,
    /// Which access tokens are let in [default: session]
    #[arg(long)]
    pub token_mode: Option<TokenModeName>,
    /// App ID URI of the application, for tokens of Entra ID [default: the URL of the MCP endpoint]
    #[arg(long, value_name = "URI")]
    pub app_id_uri: Option<String>,
    /// Delegated permission (scope) that people's tokens of Entra ID have to carry [default: access_as_user]
    #[arg(long, value_name = "NAME")]
    pub required_scope: Option<String>,
    /// File with `[[access]]` rules that say who may call which tool [default: those of the configuration file, else each
    /// tool's own]
    #[arg(long, value_name = "FILE")]
    pub access_file: Option<PathBuf>,
    /// The rules themselves. Only in the configuration file
    #[arg(skip)]
    pub access: Option<Vec<AccessEntry>>,
    /// With --token-mode bearer: publish Entra ID's metadata under the public URL, for clients that refuse Entra's own
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub rewrite_authority_metadata: Option<bool>,
    /// For development: a host whose Client ID Metadata Documents are read wherever it is; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub client_metadata_allow: Option<Vec<String>>,
    /// Clients that are known without registration. Only in the configuration file
    #[arg(skip)]
    pub clients: Option<Vec<ClientEntry>>,
    /// Whether requests share warm instances [default: shared]
    #[arg(long)]
    pub isolation: Option<Isolation>,
    /// Requests that may wait for an instance [default: 512]
    #[arg(long, value_name = "NUMBER")]
    pub max_queue: Option<usize>,
    /// Connections at the same time [default: 1024]
    #[arg(long, value_name = "NUMBER")]
    pub max_connections: Option<usize>,
    /// Bound per client address, such as token=50/15m; `off` for none. Operations: authorize, token, register,
    /// callback, revoke, refused-token (access tokens that are not good); may be repeated
    /// [default: authorize=100/15m,token=50/15m,register=20/1h,callback=100/15m,revoke=50/15m,refused-token=60/1m]
    #[arg(long, value_name = "OPERATION=COUNT/TIME", value_delimiter = ',')]
    pub rate_limit: Option<Vec<String>>,
    /// Audit records and metrics.
    #[command(flatten)]
    #[serde(skip)]
    pub audit: AuditLayer,
}

/// A client in the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClientEntry {
    /// Its id.
    pub client_id: String,
    /// What people see on the consent page.
    pub name: String,
    /// Where it may be sent back to.
    pub redirect_uris: Vec<String>,
    /// SHA-256 of its secret as base64url without padding; without it, the client is a public one.
    pub secret_hash: Option<String>,
    /// A file with its secret, instead of the hash.
    pub secret_file: Option<PathBuf>,
}

impl ServeLayer {
    /// The names in the configuration file.
    pub(super) const KEYS: [&str; 25] = [
        "listen",
        "public-url",
        "tls-cert",
        "tls-key",
        "trusted-proxy",
        "token-header",
        "allowed-host",
        "allowed-origin",
        "allow-tenant",
        "client-secret-file",
        "no-legacy-sse",
        "no-dynamic-registration",
        "no-client-id-metadata",
        "token-mode",
        "app-id-uri",
        "required-scope",
        "access-file",
        "access",
        "rewrite-authority-metadata",
        "client-metadata-allow",
        "clients",
        "isolation",
        "max-queue",
        "max-connections",
        "rate-limit",
    ];

    /// What is set here, else what is set `below`.
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            public_url: self.public_url.or(below.public_url),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
            trusted_proxy: self.trusted_proxy.or(below.trusted_proxy),
            token_header: self.token_header.or(below.token_header),
            allowed_host: self.allowed_host.or(below.allowed_host),
            allowed_origin: self.allowed_origin.or(below.allowed_origin),
            allow_tenant: self.allow_tenant.or(below.allow_tenant),
            client_secret_file: self.client_secret_file.or(below.client_secret_file),
            no_legacy_sse: self.no_legacy_sse.or(below.no_legacy_sse),
            no_dynamic_registration: self.no_dynamic_registration.or(below.no_dynamic_registration),
            no_client_id_metadata: self.no_client_id_metadata.or(below.no_client_id_metadata),
            token_mode: self.token_mode.or(below.token_mode),
            app_id_uri: self.app_id_uri.or(below.app_id_uri),
            required_scope: self.required_scope.or(below.required_scope),
            access_file: self.access_file.or(below.access_file),
            access: self.access.or(below.access),
            rewrite_authority_metadata: self.rewrite_authority_metadata.or(below.rewrite_authority_metadata),
            client_metadata_allow: self.client_metadata_allow.or(below.client_metadata_allow),
            clients: self.clients.or(below.clients),
            isolation: self.isolation.or(below.isolation),
            max_queue: self.max_queue.or(below.max_queue),
            max_connections: self.max_connections.or(below.max_connections),
            rate_limit: self.rate_limit.or(below.rate_limit),
            audit: self.audit.over(below.audit),
        }
    }

    pub(super) fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let texts = |name| environment.list(name, "a list separated by commas is expected");
        let boolean = |name| environment.parse(name, "true or false is expected");
        Ok(Self {
            listen: environment.parse("ENTRA_MCP_LISTEN", "an address with a port is expected")?,
            public_url: environment.get("ENTRA_MCP_PUBLIC_URL"),
            tls_cert: environment.get("ENTRA_MCP_TLS_CERT").map(PathBuf::from),
            tls_key: environment.get("ENTRA_MCP_TLS_KEY").map(PathBuf::from),
            trusted_proxy: texts("ENTRA_MCP_TRUSTED_PROXY")?,
            token_header: environment.get("ENTRA_MCP_TOKEN_HEADER"),
            allowed_host: texts("ENTRA_MCP_ALLOWED_HOST")?,
            allowed_origin: texts("ENTRA_MCP_ALLOWED_ORIGIN")?,
            allow_tenant: texts("ENTRA_MCP_ALLOW_TENANT")?,
            client_secret_file: environment.get("ENTRA_MCP_CLIENT_SECRET_FILE").map(PathBuf::from),
            no_legacy_sse: boolean("ENTRA_MCP_NO_LEGACY_SSE")?,
            no_dynamic_registration: boolean("ENTRA_MCP_NO_DYNAMIC_REGISTRATION")?,
            no_client_id_metadata: boolean("ENTRA_MCP_NO_CLIENT_ID_METADATA")?,
            token_mode: environment.choice("ENTRA_MCP_TOKEN_MODE")?,
            app_id_uri: environment.get("ENTRA_MCP_APP_ID_URI"),
            required_scope: environment.get("ENTRA_MCP_REQUIRED_SCOPE"),
            access_file: environment.get("ENTRA_MCP_ACCESS_FILE").map(PathBuf::from),
            access: None,
            rewrite_authority_metadata: boolean("ENTRA_MCP_REWRITE_AUTHORITY_METADATA")?,
            client_metadata_allow: texts("ENTRA_MCP_CLIENT_METADATA_ALLOW")?,
            clients: None,
            isolation: environment.choice("ENTRA_MCP_ISOLATION")?,
            max_queue: environment.parse("ENTRA_MCP_MAX_QUEUE", "a number is expected")?,
            max_connections: environment.parse("ENTRA_MCP_MAX_CONNECTIONS", "a number is expected")?,
            rate_limit: texts("ENTRA_MCP_RATE_LIMIT")?,
            audit: AuditLayer::from_environment(environment)?,
        })
    }
}

/// Where the client secret is.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// `AZURE_CLIENT_SECRET`.
    Given(SecretBytes),
    /// A file.
    File(PathBuf),
    /// The store, where `entra-mcp client-secret set` put it.
    Store,
}

/// Everything the remote server needs.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// What it has in common with a public client. Its settings are completed by [`ServeConfig::settings`].
    pub common: Config,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Proxies whose word is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they hand over access tokens.
    pub token_header: Option<HeaderName>,
    /// Where the client secret is.
    pub credential: CredentialSource,
    /// Hosts whose metadata documents are read wherever they are.
    pub client_metadata_allow: Vec<String>,
    /// Whether requests share instances.
    pub isolation: Isolation,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Bounds by operation, as the rate limiter names them.
    pub rates: HashMap<String, Rate>,
    /// Where audit records and metrics go.
    pub audit: AuditConfig,
    /// What is sent to a collector.
    pub otlp: OtlpConfig,
    public_url: Option<String>,
    http: HttpSettings,
}

impl Sources {
    /// Checks the settings of the remote server.
    pub fn serve(&self) -> Result<ServeConfig, ConfigError> {
        let mut common = self.checked(&self.merged)?;
        let layer = &self.serve;
        common.store = self.store(&self.merged, "server.db")?;
        common.settings.client_type = ClientType::ConfidentialClient;
        let allowed_tenants = layer.allow_tenant.clone().unwrap_or_default();
        for tenant in &allowed_tenants {
            check_guid("allow-tenant", tenant)?;
        }
        let tenant = common.settings.tenant.as_str();
        if MULTI_TENANT.contains(&tenant) && allowed_tenants.is_empty() {
            return Err(ConfigError::Conflict(format!(
                "the tenant id is {tenant:?}, which stands for many: name those whose people may sign in with \
                 --allow-tenant"
            )));
        }
        let token_mode = TokenMode::from(layer.token_mode.unwrap_or(TokenModeName::Session));
        if token_mode != TokenMode::Session
            && !MULTI_TENANT.contains(&tenant)
            && check_guid("tenant-id", tenant).is_err()
        {
            return Err(ConfigError::Conflict(format!(
                "the tenant id is {tenant:?}: with --token-mode bearer or both it has to be the directory's GUID, because \
                 clients compare the issuer of Entra ID's metadata, which names it, with what this server says"
            )));
        }
        if let Some(uri) = &layer.app_id_uri {
            check_app_id_uri(uri)?;
        }
        let required_scope = layer.required_scope.clone().unwrap_or_else(|| DEFAULT_SCOPE.to_owned());
        check_scope("required-scope", &required_scope)?;
        let access = access::rules(layer, tenant, &allowed_tenants)?;
        common.settings.token.allowed_tenants = allowed_tenants;
        let listen = layer.listen.unwrap_or(DEFAULT_LISTEN);
        let tls = match (&layer.tls_cert, &layer.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(ConfigError::Conflict("tls-cert and tls-key are set together or not at all".into())),
        };
        let public_url = layer.public_url.clone();
        match &public_url {
            Some(url) => check_public_url(url).and_then(|()| check_prefix(url))?,
            None if listen.ip().to_canonical().is_loopback() => {}
            None => {
                return Err(ConfigError::Conflict(format!(
                    "the server listens on {listen}, so it does not know the URL that clients reach it by: pass \
                     --public-url, such as https://mcp.example.com"
                )));
            }
        }
        let credential = match (&layer.client_secret_file, self.environment.get("AZURE_CLIENT_SECRET")) {
            (Some(file), _) => CredentialSource::File(file.clone()),
            (None, Some(secret)) => CredentialSource::Given(SecretBytes::new(secret.into_bytes())),
            (None, None) => CredentialSource::Store,
        };
        let allowed_hosts = layer.allowed_host.clone().unwrap_or_default();
        let client_metadata_allow = layer.client_metadata_allow.clone().unwrap_or_default();
        for (name, hosts) in [("allowed-host", &allowed_hosts), ("client-metadata-allow", &client_metadata_allow)] {
            hosts.iter().try_for_each(|host| check_host(name, host))?;
        }
        let allowed_origins = layer.allowed_origin.clone().unwrap_or_default();
        allowed_origins.iter().try_for_each(|origin| check_origin(origin))?;
        let clients = layer.clients.iter().flatten().map(registered).collect::<Result<Vec<_>, _>>()?;
        for (index, client) in clients.iter().enumerate() {
            if clients.iter().skip(index.saturating_add(1)).any(|other| other.client_id == client.client_id) {
                return Err(ConfigError::Conflict(format!("the client id {:?} is configured twice", client.client_id)));
            }
        }
        let trusted_proxies = trusted_proxies(layer)?;
        let token_header = token_header(layer, token_mode, &trusted_proxies)?;
        let audit = layer.audit.checked()?;
        common.settings.audit_usernames = audit.usernames;
        Ok(ServeConfig {
            listen,
            tls,
            trusted_proxies,
            token_header: token_header.clone(),
            credential,
            client_metadata_allow,
            isolation: layer.isolation.unwrap_or(Isolation::Shared),
            max_queue: within("max-queue", layer.max_queue.unwrap_or(DEFAULT_MAX_QUEUE), QUEUE)?,
            max_connections: within(
                "max-connections",
                layer.max_connections.unwrap_or(DEFAULT_MAX_CONNECTIONS),
                CONNECTIONS,
            )?,
            rates: rates(layer.rate_limit.as_deref().unwrap_or_default())?,
            audit,
            otlp: OtlpConfig::from_environment(&self.environment)?,
            public_url,
            http: HttpSettings {
                public_url: String::new(),
                allowed_hosts,
                allowed_origins,
                client_address_header: Some(CLIENT_ADDRESS_HEADER.to_owned()),
                legacy_sse: layer.no_legacy_sse != Some(true),
                clients,
                dynamic_registration: layer.no_dynamic_registration != Some(true),
                client_id_metadata_documents: layer.no_client_id_metadata != Some(true),
                token_mode,
                app_id_uri: layer.app_id_uri.clone(),
                required_scope,
                access,
                token_header: token_header.map(|name| name.as_str().to_owned()),
                rewrite_authority_metadata: rewrite_authority_metadata(layer, token_mode)?,
            },
            common,
        })
    }
}

impl ServeConfig {
    /// The settings of the component, once it is known on which port the server listens.
    pub fn settings(&self, bound: SocketAddr) -> Settings {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut http = self.http.clone();
        http.public_url =
            self.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", authority("localhost", bound, scheme)));
        let mut hosts: Vec<String> = Url::parse(&http.public_url).iter().filter_map(host_of).collect();
        if bound.ip().to_canonical().is_loopback() {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|host| authority(host, bound, scheme)));
        }
        hosts.append(&mut http.allowed_hosts);
        let mut seen = std::collections::HashSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        http.allowed_hosts = hosts;
        let mut settings = self.common.settings.clone();
        if http.token_mode != TokenMode::Session {
            // Version 1 tokens name the application by its App ID URI; with and without the slash that Entra ID may add.
            let uri = http.app_id_uri.clone().unwrap_or_else(|| mcp_url(&http));
            settings.token.audiences.push(format!("{}/", uri.trim_end_matches('/')));
            settings.token.audiences.push(uri.trim_end_matches('/').to_owned());
        }
        settings.http = Some(http);
        settings
    }

    /// What to tell whoever configured an App ID URI that no MCP client gets a token for; the settings are of
    /// [`ServeConfig::settings`].
    pub fn app_id_uri_advice(settings: &Settings) -> Option<String> {
        let http = settings.http.as_ref().filter(|http| http.token_mode != TokenMode::Session)?;
        let (uri, mcp) = (http.app_id_uri.as_deref()?, mcp_url(http));
        (uri.trim_end_matches('/') != mcp).then(|| {
            format!(
                "the App ID URI {uri:?} is not the URL of the MCP endpoint, {mcp:?}: MCP clients name that URL as the \
                 resource, and Entra ID refuses them a token then (AADSTS9010010). Set it as the Application ID URI \
                 under Expose an API in the app registration, and leave out --app-id-uri"
            )
        })
    }

    /// What to tell whoever declared everybody a proxy.
    pub fn trust_advice(&self) -> Option<String> {
        trust_advice(&self.trusted_proxies)
    }

    /// The path of the public URL, without a slash at its end.
    pub fn path_prefix(&self) -> String {
        let url = self.public_url.as_deref().and_then(|url| Url::parse(url).ok());
        url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
    }
}

/// Host and port as a client writes them: without the port that the scheme implies.
fn authority(host: &str, bound: SocketAddr, scheme: &str) -> String {
    match (scheme, bound.port()) {
        ("https", 443) | ("http", 80) => host.to_owned(),
        (_, port) => format!("{host}:{port}"),
    }
}

fn host_of(url: &Url) -> Option<String> {
    let host = url.host()?;
    Some(url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}")))
}

fn invalid(name: &'static str, value: &str, expected: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { name, value: value.to_owned(), expected: expected.into() }
}

/// Clients compare the issuer character for character, so there is one way to write it.
fn check_public_url(text: &str) -> Result<(), ConfigError> {
    const NAME: &str = "public-url";
    let url = Url::parse(text).map_err(|_| invalid(NAME, text, "an https URL is expected"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(NAME, "…", "a URL without user name and password is expected"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(NAME, text, "a URL without query and fragment is expected"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => return Err(invalid(NAME, text, "an https URL is expected; http is accepted on loopback only")),
    }
    let canonical = url.as_str().trim_end_matches('/');
    if text != canonical {
        return Err(invalid(NAME, text, format!("it is expected in the form {canonical:?}")));
    }
    Ok(())
}

fn mcp_url(http: &HttpSettings) -> String {
    format!("{}/mcp", http.public_url)
}

fn check_host(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let expected = "a host, perhaps with a port, is expected in lower case, such as mcp.example.com:8443";
    // With a port that no scheme implies, so that it is kept.
    let url = Url::parse(&format!("https://{text}")).ok();
    let url = url.filter(|url| url.path() == "/" && url.username().is_empty() && url.query().is_none());
    match url.as_ref().and_then(host_of) {
        Some(host) if host == text || format!("{host}:443") == text => Ok(()),
        _ => Err(invalid(name, text, expected)),
    }
}

fn check_origin(text: &str) -> Result<(), ConfigError> {
    let expected = "an origin is expected: scheme, host and perhaps a port, such as https://app.example.com";
    let origin = Url::parse(text).map(|url| url.origin().ascii_serialization());
    if origin.as_deref() == Ok(text) { Ok(()) } else { Err(invalid("allowed-origin", text, expected)) }
}

fn registered(entry: &ClientEntry) -> Result<RegisteredClient, ConfigError> {
    let id = entry.client_id.as_str();
    if id.is_empty() || id.len() > 512 || entry.name.is_empty() || entry.redirect_uris.is_empty() {
        let expected = "a client needs an id of at most 512 bytes, a name and at least one redirect URI";
        return Err(invalid("clients", id, expected));
    }
    for uri in &entry.redirect_uris {
        if Url::parse(uri).is_err() {
            return Err(invalid("clients.redirect-uris", uri, "an absolute URI is expected"));
        }
    }
    let secret_hash = match (&entry.secret_hash, &entry.secret_file) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::Conflict(format!("the client {id:?} has both secret-hash and secret-file")));
        }
        (Some(hash), None) => {
            let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if hash.len() != 43 || !hash.bytes().all(alphabet) {
                let expected = "a SHA-256 hash as base64url without padding (43 characters) is expected";
                return Err(invalid("clients.secret-hash", "…", expected));
            }
            Some(hash.clone())
        }
        (None, Some(file)) => Some(hash_of(file)?),
        (None, None) => None,
    };
    Ok(RegisteredClient {
        client_id: entry.client_id.clone(),
        name: entry.name.clone(),
        redirect_uris: entry.redirect_uris.clone(),
        secret_hash,
    })
}

fn hash_of(file: &Path) -> Result<String, ConfigError> {
    use base64::Engine as _;
    let unreadable = |reason: String| ConfigError::Unreadable { path: file.to_owned(), reason };
    let secret =
        entra_mcp_plugin::client_credential::read_secret_file(file).map_err(|error| unreadable(error.to_string()))?;
    let hash = ring::digest::digest(&ring::digest::SHA256, secret.reveal());
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash))
}

#[cfg(test)]
mod tests;
