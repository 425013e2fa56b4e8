//! The one typed configuration: a TOML file, over it environment variables, over them flags.
//!
//! This module alone reads environment variables. There is no secret among the settings.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use url::{Host, Url};

use crate::code_cache::CodeCache;
use crate::environment::{ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use crate::instance_pool::DEFAULT_MAX_INSTANCES;
use crate::transport::stdio::DEFAULT_MAX_MESSAGE_BYTES;

/// How long a sign-in waits for the person, unless set otherwise: five minutes, as long as Entra's own pages.
const DEFAULT_SIGN_IN_TIMEOUT_SECONDS: u32 = 300;

/// Longest time a sign-in may be set to wait: a day.
const MAX_SIGN_IN_TIMEOUT_SECONDS: u32 = 86_400;

/// How long a profile is answered from memory, unless set otherwise.
const DEFAULT_PROFILE_CACHE_SECONDS: u32 = 60;

/// Longest life of a cached profile: a day.
const MAX_PROFILE_CACHE_SECONDS: u32 = 86_400;

/// Tolerated difference between our clock and Entra's. Both are synchronised; more would only keep expired tokens alive.
const CLOCK_TOLERANCE_SECONDS: u32 = 60;

/// Stands for the client id where there is none: no application has it.
const NO_CLIENT: &str = "00000000-0000-0000-0000-000000000000";

/// Bounds of the message limit: below, not even `initialize` fits; above, JSON does not fit into an instance.
const MESSAGE_BYTES: std::ops::RangeInclusive<usize> = 4 * 1024..=16 * 1024 * 1024;

/// Bounds of the number of instances.
const INSTANCES: std::ops::RangeInclusive<usize> = 1..=1024;

/// Where the ids of an application are found.
const WHERE_TO_FIND: &str = "Find them in the Microsoft Entra admin center (https://entra.microsoft.com): \
Identity > Applications > App registrations > your app > Overview, as 'Directory (tenant) ID' and \
'Application (client) ID'.";

/// What is wrong with the configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Required settings are missing.
    #[error(
        "{} not set. {WHERE_TO_FIND} Then pass --tenant-id and --client-id, or set ENTRA_MCP_TENANT_ID and \
         ENTRA_MCP_CLIENT_ID, or write tenant-id and client-id into {file}",
        join(names)
    )]
    Missing {
        /// Their names.
        names: Vec<&'static str>,
        /// Where the file would be.
        file: String,
    },
    /// A setting has a value it cannot have.
    #[error("{name} is {value:?}, but {expected}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// The configuration file cannot be read.
    #[error("the configuration file {path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The configuration file is not what it should be.
    #[error("the configuration file {path} is wrong: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// The user has no home folder.
    #[error("there is no home folder to keep {0} in: {1}")]
    NoHome(&'static str, &'static str),
}

fn join(names: &[&str]) -> String {
    format!("{} {}", names.join(" and "), if names.len() == 1 { "is" } else { "are" })
}

/// A Microsoft cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// The worldwide cloud.
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure operated by 21Vianet.
    China,
}

impl Cloud {
    const ALL: [Self; 3] = [Self::Public, Self::UsGovernment, Self::China];

    fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    fn graph(self) -> &'static str {
        match self {
            Self::Public => "https://graph.microsoft.com",
            Self::UsGovernment => "https://graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }
}

/// How a person signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignIn {
    /// The browser, or the device code flow when there is none.
    Auto,
    /// The browser, never the device code flow.
    Browser,
    /// The device code flow.
    DeviceCode,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What one source says: flags, environment or file. The same names everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Settings (each also as ENTRA_MCP_… variable, and in the configuration file)")]
pub struct Layer {
    /// Directory (tenant) id, or a domain, `common`, `organizations`, `consumers` [also: AZURE_TENANT_ID]
    #[arg(long, value_name = "ID")]
    pub tenant_id: Option<String>,
    /// Application (client) id [also: AZURE_CLIENT_ID]
    #[arg(long, value_name = "GUID")]
    pub client_id: Option<String>,
    /// Microsoft cloud [default: public]
    #[arg(long)]
    pub cloud: Option<Cloud>,
    /// Authority, instead of the cloud's [also: AZURE_AUTHORITY_HOST]
    #[arg(long, value_name = "URL")]
    pub authority: Option<String>,
    /// Microsoft Graph, instead of the cloud's
    #[arg(long, value_name = "URL")]
    pub graph_url: Option<String>,
    /// Resource of the Graph scopes, if it is not the URL of Graph
    #[arg(long, value_name = "URL")]
    pub graph_resource: Option<String>,
    /// How people sign in [default: auto]
    #[arg(long)]
    pub sign_in: Option<SignIn>,
    /// How long a sign-in waits for the person, in seconds [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub sign_in_timeout: Option<u32>,
    /// The account to use when several are signed in: user name or home account id
    #[arg(long)]
    pub account: Option<String>,
    /// How long a profile is answered without asking Graph again, in seconds; 0: never [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub profile_cache_seconds: Option<u32>,
    /// Where sign-ins are kept: a file, or `memory` [default: a file of this user]
    #[arg(long, value_name = "FILE|memory")]
    pub store: Option<String>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Form of the log on standard error [default: text]
    #[arg(long)]
    pub log_format: Option<LogFormat>,
    /// Longest MCP message in bytes [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    pub max_message_bytes: Option<usize>,
    /// Most instances of the component at the same time [default: 256]
    #[arg(long, value_name = "NUMBER")]
    pub max_instances: Option<usize>,
    /// Compile the component at every start
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_code_cache: Option<bool>,
}

impl Layer {
    /// What is set here, else what is set `below`.
    fn over(self, below: Self) -> Self {
        Self {
            tenant_id: self.tenant_id.or(below.tenant_id),
            client_id: self.client_id.or(below.client_id),
            cloud: self.cloud.or(below.cloud),
            authority: self.authority.or(below.authority),
            graph_url: self.graph_url.or(below.graph_url),
            graph_resource: self.graph_resource.or(below.graph_resource),
            sign_in: self.sign_in.or(below.sign_in),
            sign_in_timeout: self.sign_in_timeout.or(below.sign_in_timeout),
            account: self.account.or(below.account),
            profile_cache_seconds: self.profile_cache_seconds.or(below.profile_cache_seconds),
            store: self.store.or(below.store),
            ca_file: self.ca_file.or(below.ca_file),
            log_format: self.log_format.or(below.log_format),
            max_message_bytes: self.max_message_bytes.or(below.max_message_bytes),
            max_instances: self.max_instances.or(below.max_instances),
            no_code_cache: self.no_code_cache.or(below.no_code_cache),
        }
    }

    fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let own = Self {
            tenant_id: environment.get("ENTRA_MCP_TENANT_ID"),
            client_id: environment.get("ENTRA_MCP_CLIENT_ID"),
            cloud: environment.choice("ENTRA_MCP_CLOUD")?,
            authority: environment.get("ENTRA_MCP_AUTHORITY"),
            graph_url: environment.get("ENTRA_MCP_GRAPH_URL"),
            graph_resource: environment.get("ENTRA_MCP_GRAPH_RESOURCE"),
            sign_in: environment.choice("ENTRA_MCP_SIGN_IN")?,
            sign_in_timeout: environment.parse("ENTRA_MCP_SIGN_IN_TIMEOUT", "a number of seconds is expected")?,
            account: environment.get("ENTRA_MCP_ACCOUNT"),
            profile_cache_seconds: environment
                .parse("ENTRA_MCP_PROFILE_CACHE_SECONDS", "a number of seconds is expected")?,
            store: environment.get("ENTRA_MCP_STORE"),
            ca_file: environment.get("ENTRA_MCP_CA_FILE").map(PathBuf::from),
            log_format: environment.choice("ENTRA_MCP_LOG_FORMAT")?,
            max_message_bytes: environment.parse("ENTRA_MCP_MAX_MESSAGE_BYTES", "a number of bytes is expected")?,
            max_instances: environment.parse("ENTRA_MCP_MAX_INSTANCES", "a number is expected")?,
            no_code_cache: environment.parse("ENTRA_MCP_NO_CODE_CACHE", "true or false is expected")?,
        };
        let common = Self {
            tenant_id: environment.get("AZURE_TENANT_ID"),
            client_id: environment.get("AZURE_CLIENT_ID"),
            authority: environment.get("AZURE_AUTHORITY_HOST"),
            ..Self::default()
        };
        Ok(own.over(common))
    }

    fn from_file(path: &Path, required: bool) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Self::default()),
            Err(error) => {
                return Err(ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() });
            }
        };
        toml::from_str(&text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })
    }
}

/// The environment variables, or in tests what stands for them. Empty variables count as not set.
pub struct Environment(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String>;

impl Environment {
    /// The variables of this process.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads environment variables")]
    pub fn of_process() -> Self {
        Self(Box::new(|name| env::var(name).ok()))
    }

    /// The given variables.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self(Box::new(move |name| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())))
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn parse<T: FromStr>(&self, name: &'static str, expected: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| ConfigError::Invalid { name, value, expected: expected.to_owned() })
    }

    fn choice<T: ValueEnum>(&self, name: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        T::from_str(&value, false).map(Some).map_err(|_| {
            let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<_> = values.map(|value| value.get_name().to_owned()).collect();
            ConfigError::Invalid { name, value, expected: format!("one of {} is expected", names.join(", ")) }
        })
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// This user's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folders {
    config: Option<PathBuf>,
    data: Option<PathBuf>,
    cache: Option<PathBuf>,
}

impl Folders {
    fn new(environment: &Environment) -> Self {
        let folder = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = |below: &str| folder("HOME").map(|home| home.join(below));
        let [config, data, cache] = if cfg!(windows) {
            let local = folder("LOCALAPPDATA");
            [folder("APPDATA"), local.clone(), local]
        } else if cfg!(target_os = "macos") {
            let support = home("Library/Application Support");
            [support.clone(), support, home("Library/Caches")]
        } else {
            [
                folder("XDG_CONFIG_HOME").or_else(|| home(".config")),
                folder("XDG_DATA_HOME").or_else(|| home(".local/share")),
                folder("XDG_CACHE_HOME").or_else(|| home(".cache")),
            ]
        };
        let ours = |folder: Option<PathBuf>| folder.map(|folder| folder.join("entra-mcp"));
        Self { config: ours(config), data: ours(data), cache: ours(cache) }
    }
}

/// Where sign-ins are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// In memory, until the process ends.
    Memory,
    /// In this SQLite file.
    File(PathBuf),
}

/// What does not concern an application: how the program itself runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Form of the log.
    pub log_format: LogFormat,
    /// What is logged, from `RUST_LOG`.
    pub log_filter: Option<String>,
    /// Where compiled code is kept.
    pub code_cache: CodeCache,
}

/// Everything a public client needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the component is told.
    pub settings: Settings,
    /// Where sign-ins are kept.
    pub store: StoreLocation,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest MCP message in bytes.
    pub max_message_bytes: usize,
    /// Most instances at the same time.
    pub max_instances: usize,
    /// `BROWSER`.
    pub browser: Option<String>,
    /// Whether there is a graphical desktop.
    pub display: bool,
    /// How the program runs.
    pub host: HostConfig,
}

/// The settings of all sources, merged but not checked yet.
#[derive(Debug)]
pub struct Sources {
    merged: Layer,
    folders: Folders,
    file: Option<PathBuf>,
    environment: Environment,
}

impl Sources {
    /// Reads all sources. `file` is the configuration file that was named on the command line.
    pub fn read(flags: Layer, file: Option<PathBuf>, environment: Environment) -> Result<Self, ConfigError> {
        let folders = Folders::new(&environment);
        let named = file.or_else(|| environment.get("ENTRA_MCP_CONFIG").map(PathBuf::from));
        let (file, required) = match named {
            Some(file) => (Some(file), true),
            None => (folders.config.as_ref().map(|folder| folder.join("config.toml")), false),
        };
        let from_file = match &file {
            Some(path) => Layer::from_file(path, required)?,
            None => Layer::default(),
        };
        let merged = flags.over(Layer::from_environment(&environment)?).over(from_file);
        Ok(Self { merged, folders, file, environment })
    }

    /// How the program runs: what every command needs.
    pub fn host(&self) -> HostConfig {
        let code_cache = match &self.folders.cache {
            Some(folder) if self.merged.no_code_cache != Some(true) => CodeCache::Folder(folder.join("code")),
            _ => CodeCache::Off,
        };
        HostConfig {
            log_format: self.merged.log_format.unwrap_or(LogFormat::Text),
            log_filter: self.environment.get("RUST_LOG"),
            code_cache,
        }
    }

    /// Checks the settings of a public client.
    pub fn public_client(&self) -> Result<Config, ConfigError> {
        self.checked(&self.merged)
    }

    fn checked(&self, layer: &Layer) -> Result<Config, ConfigError> {
        let Endpoints { authority, tenant_of_authority, graph, graph_resource } = Endpoints::new(layer)?;
        let tenant = one_tenant(layer.tenant_id.clone(), tenant_of_authority)?;
        let (Some(tenant), Some(client_id)) = (tenant.clone(), layer.client_id.clone()) else {
            let unset = [("the tenant id", tenant.is_none()), ("the client id", layer.client_id.is_none())];
            let names = unset.into_iter().filter_map(|(name, missing)| missing.then_some(name)).collect();
            let file = self.file.as_ref().map_or("the configuration file".into(), |file| file.display().to_string());
            return Err(ConfigError::Missing { names, file });
        };
        check_tenant(&tenant)?;
        check_guid("client-id", &client_id)?;
        let timeout_seconds = within(
            "sign-in-timeout",
            layer.sign_in_timeout.unwrap_or(DEFAULT_SIGN_IN_TIMEOUT_SECONDS),
            1..=MAX_SIGN_IN_TIMEOUT_SECONDS,
        )?;
        let profile_cache_seconds = within(
            "profile-cache-seconds",
            layer.profile_cache_seconds.unwrap_or(DEFAULT_PROFILE_CACHE_SECONDS),
            0..=MAX_PROFILE_CACHE_SECONDS,
        )?;
        Ok(Config {
            settings: Settings {
                client_type: ClientType::PublicClient,
                tenant,
                client_id: client_id.clone(),
                authority,
                graph,
                graph_resource,
                sign_in: SignInSettings {
                    method: match layer.sign_in.unwrap_or(SignIn::Auto) {
                        SignIn::Auto => SignInMethod::Automatic,
                        SignIn::Browser => SignInMethod::Browser,
                        SignIn::DeviceCode => SignInMethod::DeviceCode,
                    },
                    timeout_seconds,
                    account: layer.account.clone().filter(|account| !account.is_empty()),
                },
                token: TokenSettings {
                    audiences: vec![client_id],
                    allowed_tenants: Vec::new(),
                    clock_tolerance_seconds: CLOCK_TOLERANCE_SECONDS,
                },
                profile_cache_seconds,
                http: None,
            },
            store: self.store(layer)?,
            ca_file: layer.ca_file.clone(),
            max_message_bytes: within(
                "max-message-bytes",
                layer.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
                MESSAGE_BYTES,
            )?,
            max_instances: within("max-instances", layer.max_instances.unwrap_or(DEFAULT_MAX_INSTANCES), INSTANCES)?,
            browser: self.environment.get("BROWSER"),
            display: ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| self.environment.get(name).is_some()),
            host: self.host(),
        })
    }

    /// Checks the settings of a token validator: a tenant, and which tokens it accepts. It signs nobody in, so it
    /// needs no client id, and it keeps nothing.
    pub fn validator(&self, token: TokenSettings) -> Result<Config, ConfigError> {
        let mut layer = self.merged.clone();
        layer.client_id = Some(NO_CLIENT.to_owned());
        layer.store = Some("memory".to_owned());
        for tenant in &token.allowed_tenants {
            check_guid("allow-tenant", tenant)?;
        }
        let mut config = self.checked(&layer)?;
        config.settings.token = token;
        Ok(config)
    }

    fn store(&self, layer: &Layer) -> Result<StoreLocation, ConfigError> {
        match layer.store.as_deref() {
            Some("memory") => Ok(StoreLocation::Memory),
            Some("") => Err(ConfigError::Invalid {
                name: "store",
                value: String::new(),
                expected: "a file name or `memory` is expected".into(),
            }),
            Some(path) => Ok(StoreLocation::File(path.into())),
            None => match &self.folders.data {
                Some(folder) => Ok(StoreLocation::File(folder.join("secrets.db"))),
                None => Err(ConfigError::NoHome("sign-ins", "pass --store with a file name or `memory`")),
            },
        }
    }
}

/// Where Entra ID and Graph are.
struct Endpoints {
    authority: String,
    tenant_of_authority: Option<String>,
    graph: String,
    graph_resource: String,
}

impl Endpoints {
    fn new(layer: &Layer) -> Result<Self, ConfigError> {
        let given = layer.authority.as_deref().map(|text| endpoint("authority", text)).transpose()?;
        let (authority, tenant_of_authority) = match &given {
            None => (None, None),
            Some(url) => (Some(url.origin().ascii_serialization()), tenant_in_path(url)?),
        };
        // An authority that is a cloud's own tells which cloud it is.
        let implied = Cloud::ALL.into_iter().find(|cloud| Some(cloud.authority()) == authority.as_deref());
        let cloud = layer.cloud.or(implied).unwrap_or(Cloud::Public);
        if let (Some(implied), true) = (implied, implied.is_some_and(|implied| implied != cloud)) {
            let authority = implied.authority();
            return Err(ConfigError::Conflict(format!("the authority {authority} is not of the cloud that is set")));
        }
        let graph = layer.graph_url.as_deref().map(|text| endpoint("graph-url", text)).transpose()?;
        let resource = layer.graph_resource.as_deref().map(|text| endpoint("graph-resource", text)).transpose()?;
        let graph_resource = match (&resource, &graph) {
            (Some(resource), _) => base(resource),
            // An emulated Graph takes the tokens of the real one.
            (None, Some(graph)) if !is_loopback(graph) => base(graph),
            _ => cloud.graph().to_owned(),
        };
        Ok(Self {
            authority: authority.unwrap_or_else(|| cloud.authority().to_owned()),
            tenant_of_authority,
            graph: graph.as_ref().map_or_else(|| cloud.graph().to_owned(), base),
            graph_resource,
        })
    }
}

/// A URL of an endpoint: https, or http on loopback.
fn endpoint(name: &'static str, text: &str) -> Result<Url, ConfigError> {
    let invalid = |expected: &str| ConfigError::Invalid { name, value: text.to_owned(), expected: expected.to_owned() };
    let url = Url::parse(text).map_err(|_| invalid("an https URL is expected"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The value is not repeated: it may hold a password.
        let expected = "a URL without user name and password is expected".to_owned();
        return Err(ConfigError::Invalid { name, value: "…".into(), expected });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("a URL without query and fragment is expected"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(invalid("http is accepted on loopback only, an https URL is expected")),
        _ => Err(invalid("an https URL is expected")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The URL without a version and a slash at its end.
fn base(url: &Url) -> String {
    let text = url.as_str().trim_end_matches('/');
    let text = text.strip_suffix("/v1.0").or_else(|| text.strip_suffix("/beta")).unwrap_or(text);
    text.trim_end_matches('/').to_owned()
}

/// The tenant in an authority that was copied with it: `https://login.microsoftonline.com/{tenant}/v2.0`.
fn tenant_in_path(url: &Url) -> Result<Option<String>, ConfigError> {
    let segments: Vec<_> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        [] => Ok(None),
        [tenant] | [tenant, "v2.0"] => Ok(Some((*tenant).to_owned())),
        _ => Err(ConfigError::Invalid {
            name: "authority",
            value: url.to_string(),
            expected: "scheme and host are expected, at most with the tenant: https://login.microsoftonline.com".into(),
        }),
    }
}

fn one_tenant(set: Option<String>, of_authority: Option<String>) -> Result<Option<String>, ConfigError> {
    match (set, of_authority) {
        (Some(set), Some(other)) if set != other => Err(ConfigError::Conflict(format!(
            "the tenant id is {set:?}, but the authority names the tenant {other:?}: remove one of them"
        ))),
        (set, other) => Ok(set.or(other)),
    }
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn check_guid(name: &'static str, value: &str) -> Result<(), ConfigError> {
    let invalid =
        |expected: &str| ConfigError::Invalid { name, value: value.to_owned(), expected: expected.to_owned() };
    if !is_guid(value) {
        let expected = format!("a GUID such as 00001111-aaaa-2222-bbbb-3333cccc4444 is expected. {WHERE_TO_FIND}");
        return Err(invalid(&expected));
    }
    // Ids are compared exactly with those in tokens, which are in lower case.
    if value.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid("it is expected in lower case, as Entra ID writes it"));
    }
    Ok(())
}

fn check_tenant(value: &str) -> Result<(), ConfigError> {
    if is_guid(value) {
        return check_guid("tenant-id", value);
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let domain = value.len() <= 253 && value.contains('.') && value.split('.').all(label);
    if domain || matches!(value, "common" | "organizations" | "consumers") {
        return Ok(());
    }
    Err(ConfigError::Invalid {
        name: "tenant-id",
        value: value.to_owned(),
        expected: format!(
            "a GUID, a domain in lower case, `common`, `organizations` or `consumers` is expected. {WHERE_TO_FIND}"
        ),
    })
}

fn within<T: PartialOrd + fmt::Display>(
    name: &'static str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let expected = format!("{} to {} is expected", range.start(), range.end());
    Err(ConfigError::Invalid { name, value: value.to_string(), expected })
}

#[cfg(test)]
mod tests;
