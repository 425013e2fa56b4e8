//! The settings of the remote server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use entra_mcp_plugin::environment::{
    ClientType, DEFAULT_MAX_STREAMS_PER_CALLER, HttpSettings, RegisteredClient, ServerSettings, Settings, TokenMode,
};
use entra_mcp_plugin::rate_limiter::Rate;
use entra_mcp_server::ForwardedHeader;
use http::HeaderName;
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use self::credential::{check_certificate_vault_url, check_identity, credential, is_for_development};
use self::gateway::{
    check_hash, check_prefix, forward_auth, rewrite_authority_metadata, token_header, trust_advice, trusted_proxies,
};
use self::rates::{DEFAULT_RATES, rates};
use self::token_mode::{DEFAULT_SCOPE, check_app_id_uri, check_scope};
use super::access::{self, AccessEntry};
use super::endpoints::is_loopback;
use super::ids::check_guid;
use super::layer::VaultIdentityName;
use super::setting::{choices, settings};
use super::store::{StoreKeyPlace, StoreOf};
use super::{AuditConfig, AuditLayer, Config, ConfigError, OtlpConfig, Sources, invalid};
use crate::http_handler::CLIENT_ADDRESS_HEADER;

pub use self::credential::{CredentialConfig, CredentialName, SecretSource};
pub(super) use self::credential::{exchange_audience, one_place_for_the_certificate};
pub use self::gateway::ForwardedHeaderName;
pub(super) use self::gateway::OWN_PATHS;
pub use self::token_mode::TokenModeName;

mod credential;
mod gateway;
mod rates;
pub(super) mod token_mode;

/// The address that is listened on, unless set otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3001);

/// Requests that wait for an instance, unless set otherwise: a few milliseconds of work.
const DEFAULT_MAX_QUEUE: usize = 512;

/// Connections at the same time, unless set otherwise.
const DEFAULT_MAX_CONNECTIONS: usize = 1_024;

/// How long a replaced refresh token gets the same answer again, unless set otherwise, and bounds of it.
const DEFAULT_REFRESH_GRACE_SECONDS: u32 = 30;
const REFRESH_GRACE_SECONDS: RangeInclusive<u32> = 0..=120;

const QUEUE: RangeInclusive<usize> = 0..=65_536;
const CONNECTIONS: RangeInclusive<usize> = 1..=65_536;
/// The server has places for 64.
const STREAMS: RangeInclusive<u32> = 1..=64;

/// Multi-tenant authorities: the operator has to name the tenants that they stand for.
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

/// Where rate limits are counted if the store is a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateLimitsIn {
    /// In each process.
    Process,
    /// In the store, for all processes on it.
    Store,
}

/// What follows from the check at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartCheck {
    /// Problems are warnings in the log.
    Warn,
    /// The server does not start with a problem.
    Fail,
    /// Nothing is asked.
    Off,
}

choices!(CredentialName, Isolation, RateLimitsIn, TokenModeName, StartCheck);

settings! {
    /// What one source says about the remote server.
    pub struct ServeLayer checked as ServeValues, under "Settings of the remote server" {
        /// Address and port to listen on; port 0 takes a free one
        listen: SocketAddr = DEFAULT_LISTEN, value("ADDRESS");
        /// URL at which clients reach the server: https, without a slash at its end
        public_url: String, value("URL"), otherwise("http(s)://localhost:{port} on loopback"), check(check_public_url);
        /// Certificate chain (PEM); the server reads it again when it changes
        tls_cert: PathBuf, value("FILE");
        /// Private key of the certificate (PEM)
        tls_key: PathBuf, value("FILE");
        /// Proxies that terminate TLS and name the client, as addresses or networks; may be repeated
        trusted_proxy: Vec<String> = Vec::new(), value("CIDR");
        /// Header in which a declared proxy names the client's address; the server ignores the other one
        forwarded_header: ForwardedHeaderName = ForwardedHeaderName::XForwardedFor, value("NAME");
        /// Header in which a declared proxy hands over the person's access token of Entra ID; counts instead of
        /// Authorization
        token_header: String, value("NAME");
        /// A value of Host that the server accepts besides that of the public URL; may be repeated
        allowed_host: Vec<String> = Vec::new(), value("HOST[:PORT]"), each(check_host);
        /// An origin of web pages that may call the server; may be repeated
        allowed_origin: Vec<String> = Vec::new(), value("ORIGIN"), each(check_origin);
        /// A tenant whose people may sign in, with a multi-tenant authority; may be repeated
        allow_tenant: Vec<String> = Vec::new(), value("GUID"), each(check_guid);
        /// Credential that proves the application to Entra ID; `auto` takes the first that is configured or available:
        /// certificate, secret, workload identity, managed identity
        credential: CredentialName = CredentialName::Auto;
        /// File with a certificate and its private key (PEM or PKCS#12); the server reads it again when it changes; may
        /// be repeated: if Entra ID refuses one, the server uses the other
        certificate_file: Vec<String> = Vec::new(), value("FILE"), also("AZURE_CLIENT_CERTIFICATE_PATH");
        /// Certificate in Azure Key Vault whose private key stays there: its identifier, such as
        /// `https://contoso.vault.azure.net/certificates/mcp`; see --vault-identity
        certificate_vault_url: String, value("URL"), check(check_certificate_vault_url);
        /// File with a token of another issuer that the application trusts as a federated credential; the server reads
        /// it at every use
        federated_token_file: PathBuf, value("FILE"), also("AZURE_FEDERATED_TOKEN_FILE");
        /// The user-assigned managed identity: its client id or its resource id
        managed_identity_id: String, value("ID"), otherwise("the system-assigned one"), check(check_identity);
        /// File with the client secret [also: AZURE_CLIENT_SECRET, or `entra-mcp client-secret set`]
        client_secret_file: PathBuf, value("FILE");
        /// Do not serve the deprecated HTTP+SSE transport
        no_legacy_sse: bool = false;
        /// Do not let clients register themselves (RFC 7591)
        no_dynamic_registration: bool = false;
        /// A private-use URI scheme, such as `cursor`, in which clients may register redirect URIs; may be repeated
        allow_redirect_scheme: Vec<String> = Vec::new(), value("SCHEME");
        /// Do not accept Client ID Metadata Documents
        no_client_id_metadata: bool = false;
        /// Kinds of access tokens that the server admits
        token_mode: TokenModeName = TokenModeName::Session;
        /// App ID URI of the application, for tokens of Entra ID
        app_id_uri: String, value("URI"), otherwise("the URL of each MCP endpoint"), check(check_app_id_uri);
        /// Delegated permission (scope) that people's tokens of Entra ID have to carry
        required_scope: String = DEFAULT_SCOPE.to_owned(), value("NAME"), check(check_scope);
        /// File with `[[access]]` rules that say which callers may call which tool
        access_file: PathBuf, value("FILE"), otherwise("those of the configuration file, else each tool's own");
        /// Deny tools of servers behind this one that no `[[access]]` rule names; without it, every admitted person and
        /// application may call them, and no AI agent may
        deny_unlisted: bool = false;
        /// With --token-mode bearer: publish Entra ID's metadata under the public URL, for clients that refuse the
        /// original
        rewrite_authority_metadata: bool = false;
        /// How long a replaced refresh token of a session gets the same answer again, in seconds; 0: never, its second
        /// use ends the session
        refresh_grace_seconds: u32 = DEFAULT_REFRESH_GRACE_SECONDS, value("SECONDS"), range(REFRESH_GRACE_SECONDS);
        /// Answer a proxy that asks at /auth whether it may let a request through to this server: the name of an
        /// `[[upstream]]`
        forward_auth: String, value("SERVER");
        /// SHA-256, as base64url, of the secret that this proxy sends in X-Entra-Mcp-Proxy-Secret; required if the
        /// server learns the caller from a token
        forward_auth_secret_hash: String, value("HASH"), check(check_hash);
        /// For development: a host whose Client ID Metadata Documents the server reads at any address and port; may be
        /// repeated
        client_metadata_allow: Vec<String> = Vec::new(), value("HOST[:PORT]"), each(check_host);
        /// Action if Entra ID does not know the tenant or the credential when the server starts, or does not answer
        check: StartCheck = StartCheck::Warn;
        /// Whether requests share warm instances
        isolation: Isolation = Isolation::Shared;
        /// Requests that may wait for an instance
        max_queue: usize = DEFAULT_MAX_QUEUE, value("NUMBER"), range(QUEUE);
        /// Connections at the same time
        max_connections: usize = DEFAULT_MAX_CONNECTIONS, value("NUMBER"), range(CONNECTIONS);
        /// Event streams (HTTP+SSE) that one caller may hold open, with all of its clients
        max_streams_per_caller: u32 = DEFAULT_MAX_STREAMS_PER_CALLER, value("NUMBER"), range(STREAMS);
        /// Bound of an operation, such as token=50/15m; `off` for none; may be repeated. Per client address: authorize,
        /// token, register, callback, revoke, refused-token (refused access tokens), client-metadata-by-address
        /// (fetches of metadata documents). Per caller: call (MCP requests), graph-request (requests to Microsoft Graph
        /// for tools and groups). Audit records that the server writes one by one, while it counts the rest:
        /// called-records, denied-records, refresh-records (of one caller), stranger-records (of all requests without a
        /// caller)
        rate_limit: Vec<String> = Vec::new(), value("OPERATION=COUNT/TIME"), otherwise(DEFAULT_RATES);
        /// Where rate limits are counted if the store is a file: in each process, or in the store, so that several
        /// processes on one file admit no more than one would, and each call writes to it. In Redis, it is the store
        rate_limits_in: RateLimitsIn = RateLimitsIn::Process;
    }
    tables {
        /// Rules that say which callers may call which tool
        access: Vec<AccessEntry>;
        /// Clients that are known without registration
        clients: Vec<ClientEntry>;
    }
    variables {
        /// The client secret itself. There is no flag and no key for it, because other people can read command lines and
        /// configuration files
        CLIENT_SECRET = "AZURE_CLIENT_SECRET";
        /// The password of a PKCS#12 file with a certificate
        CERTIFICATE_PASSWORD = "AZURE_CLIENT_CERTIFICATE_PASSWORD";
    }
    with {
        /// Audit records and metrics.
        audit: AuditLayer;
    }
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

/// Everything the remote server needs.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// The part in common with a public client. [`ServeConfig::settings`] completes its settings.
    pub common: Config,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Proxies that the server believes about the client's address.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they say it.
    pub forwarded_header: ForwardedHeader,
    /// The header in which they hand over access tokens.
    pub token_header: Option<HeaderName>,
    /// Where the application's credential comes from.
    pub credential: CredentialConfig,
    /// Hosts whose metadata documents are read wherever they are.
    pub client_metadata_allow: Vec<String>,
    /// What follows from the check at the start.
    pub check: StartCheck,
    /// Whether requests share instances.
    pub isolation: Isolation,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Bounds by operation, as the rate limiter names them.
    pub rates: HashMap<String, Rate>,
    /// Where they are counted if the store is a file.
    pub rate_limits_in: RateLimitsIn,
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
        let mut common = self.checked(&self.merged, StoreOf::Server)?;
        let values = self.serve.values()?;
        let access = self.vault_access()?;
        let is_cli_asked = access.identity == VaultIdentityName::AzureCli;
        let credential = credential(&values, &self.environment, &common.settings.authority, access)?;
        let is_in_vault =
            credential.vault_certificate.is_some() || matches!(common.store.key, StoreKeyPlace::Vault { .. });
        if is_in_vault && is_cli_asked && !is_for_development(&values) {
            return Err(ConfigError::Conflict(
                "--vault-identity azure-cli is for development: the server asks the key vault in the name of the person at \
                 this machine, and serves only clients on this machine. Leave out --public-url, or use \
                 workload-identity or managed-identity"
                    .into(),
            ));
        }
        common.settings.client_type = ClientType::ConfidentialClient;
        let allowed_tenants = values.allow_tenant;
        let tenant = common.settings.tenant.as_str();
        if MULTI_TENANT.contains(&tenant) && allowed_tenants.is_empty() {
            return Err(ConfigError::Conflict(format!(
                "the tenant id {tenant:?} stands for many tenants: name those whose users may sign in with \
                 --allow-tenant"
            )));
        }
        let token_mode = TokenMode::from(values.token_mode);
        if token_mode != TokenMode::Session
            && !MULTI_TENANT.contains(&tenant)
            && check_guid("tenant-id", tenant).is_err()
        {
            return Err(ConfigError::Conflict(format!(
                "the tenant id is {tenant:?}: with --token-mode bearer or both it has to be the directory's GUID, because \
                 clients compare the issuer in Entra ID's metadata, which names it, with the one that this server names"
            )));
        }
        let behind = self.behind(&common.settings)?;
        let servers = behind.settings();
        let entries = self.serve.access.as_deref();
        let access = access::rules(entries, values.access_file.as_deref(), tenant, &allowed_tenants)?;
        access::check_servers(access.as_deref().unwrap_or_default(), &servers)?;
        if values.deny_unlisted && servers.is_empty() {
            return Err(ConfigError::Conflict(
                "--deny-unlisted is about the tools of servers behind this one, and there is none: name one with --tools, \
                 --upstream or --upstream-command, or leave it out. A rule for one of the program's own tools closes all \
                 others of them already"
                    .into(),
            ));
        }
        common.settings.token.allowed_tenants = allowed_tenants;
        common.settings.servers = servers;
        common.behind = behind;
        let listen = values.listen;
        let tls = match (values.tls_cert, values.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(ConfigError::Conflict("tls-cert and tls-key are set together or not at all".into())),
        };
        let public_url = values.public_url;
        if public_url.is_none() && !listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::Conflict(format!(
                "the server listens on {listen}, so it does not know the URL that clients reach it by: pass \
                 --public-url, such as https://mcp.example.com"
            )));
        }
        let clients = self.serve.clients.iter().flatten().map(registered).collect::<Result<Vec<_>, _>>()?;
        for (index, client) in clients.iter().enumerate() {
            if clients.iter().skip(index.saturating_add(1)).any(|other| other.client_id == client.client_id) {
                return Err(ConfigError::Conflict(format!("the client id {:?} is configured twice", client.client_id)));
            }
        }
        let trusted_proxies = trusted_proxies(&values.trusted_proxy)?;
        let token_header = token_header(values.token_header.as_deref(), token_mode, &trusted_proxies)?;
        let audit = self.serve.audit.checked()?;
        common.settings.audit_usernames = audit.usernames;
        Ok(ServeConfig {
            listen,
            tls,
            trusted_proxies,
            forwarded_header: values.forwarded_header.into(),
            token_header: token_header.clone(),
            credential,
            client_metadata_allow: values.client_metadata_allow,
            check: values.check,
            isolation: values.isolation,
            max_queue: values.max_queue,
            max_connections: values.max_connections,
            rates: rates(&values.rate_limit)?,
            rate_limits_in: values.rate_limits_in,
            audit,
            otlp: OtlpConfig::from_environment(&self.environment)?,
            public_url,
            http: HttpSettings {
                public_url: String::new(),
                allowed_hosts: values.allowed_host,
                allowed_origins: values.allowed_origin,
                client_address_header: Some(CLIENT_ADDRESS_HEADER.to_owned()),
                legacy_sse: !values.no_legacy_sse,
                clients,
                dynamic_registration: !values.no_dynamic_registration,
                allowed_redirect_schemes: values.allow_redirect_scheme,
                client_id_metadata_documents: !values.no_client_id_metadata,
                token_mode,
                app_id_uri: values.app_id_uri,
                required_scope: values.required_scope,
                access,
                deny_unlisted: values.deny_unlisted,
                token_header: token_header.map(|name| name.as_str().to_owned()),
                rewrite_authority_metadata: rewrite_authority_metadata(values.rewrite_authority_metadata, token_mode)?,
                max_streams_per_caller: values.max_streams_per_caller,
                refresh_grace_seconds: values.refresh_grace_seconds,
                forward_auth: forward_auth(values.forward_auth, values.forward_auth_secret_hash)?,
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
            let uris = http.app_id_uri.clone().map_or_else(|| mcp_urls(&settings, &http), |uri| vec![uri]);
            for uri in uris {
                settings.token.audiences.push(format!("{}/", uri.trim_end_matches('/')));
                settings.token.audiences.push(uri.trim_end_matches('/').to_owned());
            }
        }
        settings.http = Some(http);
        settings
    }

    /// The warning for an operator who configured an App ID URI for which no MCP client gets a token. The settings come
    /// from [`ServeConfig::settings`].
    pub fn app_id_uri_advice(settings: &Settings) -> Option<String> {
        let http = settings.http.as_ref().filter(|http| http.token_mode != TokenMode::Session)?;
        let (uri, urls) = (http.app_id_uri.as_deref()?, mcp_urls(settings, http));
        let others: Vec<_> = urls.iter().filter(|url| *url != uri.trim_end_matches('/')).collect();
        match (others.as_slice(), urls.len()) {
            ([], _) => None,
            ([mcp], 1) => Some(format!(
                "the App ID URI {uri:?} is not the URL of the MCP endpoint, {mcp:?}: MCP clients name that URL as the \
                 resource, and Entra ID refuses them a token then (AADSTS9010010). Set it as the Application ID URI \
                 under Expose an API in the app registration, and leave out --app-id-uri"
            )),
            (others, _) => Some(format!(
                "the App ID URI {uri:?} is not the URL of the MCP endpoints {others:?}: MCP clients name the URL of an \
                 endpoint as the resource, and Entra ID refuses them a token then (AADSTS9010010). Set all of them as \
                 `identifierUris` in the manifest of the app registration, and leave out --app-id-uri"
            )),
        }
    }

    /// The URLs of the MCP endpoints; none without a remote server.
    pub fn mcp_urls(settings: &Settings) -> Vec<String> {
        settings.http.as_ref().map(|http| mcp_urls(settings, http)).unwrap_or_default()
    }

    /// The warning for an operator who declared every address a proxy.
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

/// Clients compare the issuer character for character, so there is one way to write it.
fn check_public_url(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let url = Url::parse(text).map_err(|_| invalid(name, text, "an https URL is expected"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(name, "…", "a URL without user name and password is expected"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(name, text, "a URL without query and fragment is expected"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => return Err(invalid(name, text, "an https URL is expected; http is accepted on loopback only")),
    }
    let canonical = url.as_str().trim_end_matches('/');
    if text != canonical {
        return Err(invalid(name, text, format!("it is expected in the form {canonical:?}")));
    }
    check_prefix(name, text)
}

/// The URLs of the MCP endpoints, each of which is a resource of its own.
fn mcp_urls(settings: &Settings, http: &HttpSettings) -> Vec<String> {
    mcp_paths(&settings.servers).into_iter().map(|path| format!("{}{path}", http.public_url)).collect()
}

/// The paths of the MCP endpoints.
pub(super) fn mcp_paths(servers: &[ServerSettings]) -> Vec<String> {
    match servers {
        [] => vec!["/mcp".to_owned()],
        servers => servers.iter().map(|server| server.path.clone()).collect(),
    }
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

fn check_origin(name: &'static str, text: &str) -> Result<(), ConfigError> {
    let expected = "an origin is expected: scheme, host and perhaps a port, such as https://app.example.com";
    let origin = Url::parse(text).map(|url| url.origin().ascii_serialization());
    if origin.as_deref() == Ok(text) { Ok(()) } else { Err(invalid(name, text, expected)) }
}

fn registered(entry: &ClientEntry) -> Result<RegisteredClient, ConfigError> {
    let id = entry.client_id.as_str();
    if id.is_empty() || id.len() > 512 || entry.name.is_empty() || entry.redirect_uris.is_empty() {
        let expected = "a client needs an id of at most 512 bytes, a name and at least one redirect URI";
        return Err(invalid("clients", id, expected));
    }
    // Which URI may be one is for the component, which is asked as soon as it runs.
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
