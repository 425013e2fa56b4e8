//! The one typed configuration: a TOML file, over it environment variables, over them flags.
//!
//! This module alone reads environment variables. The only secret among the settings is `AZURE_CLIENT_SECRET`, which
//! can be set as a variable only.

use std::fmt;
use std::path::{Path, PathBuf};

use entra_mcp_plugin::DEFAULT_MAX_INSTANCES;
use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::environment::{ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use entra_mcp_plugin::transport::stdio::DEFAULT_MAX_MESSAGE_BYTES;

pub mod access;
mod audit;
mod endpoints;
mod layer;
mod otlp;
mod serve;
mod variables;

pub use audit::{AuditConfig, AuditDestination, AuditFailure, AuditLayer};
pub use layer::{Cloud, Layer, LogFormat, SignIn};
pub use otlp::OtlpConfig;
pub use serve::{CredentialSource, Isolation, ServeConfig, ServeLayer, TokenModeName};
pub use variables::Environment;

use endpoints::{Endpoints, check_guid, check_tenant, one_tenant};

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
    serve: ServeLayer,
    folders: Folders,
    file: Option<PathBuf>,
    environment: Environment,
}

impl Sources {
    /// Reads all sources. `file` is the configuration file that was named on the command line.
    pub fn read(flags: Layer, file: Option<PathBuf>, environment: Environment) -> Result<Self, ConfigError> {
        Self::read_all(flags, None, file, environment)
    }

    /// The same, for the remote server.
    pub fn read_serve(
        flags: Layer,
        serve: ServeLayer,
        file: Option<PathBuf>,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        Self::read_all(flags, Some(serve), file, environment)
    }

    fn read_all(
        flags: Layer,
        serve: Option<ServeLayer>,
        file: Option<PathBuf>,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        let folders = Folders::new(&environment);
        let named = file.or_else(|| environment.get("ENTRA_MCP_CONFIG").map(PathBuf::from));
        let (file, required) = match named {
            Some(file) => (Some(file), true),
            None => (folders.config.as_ref().map(|folder| folder.join("config.toml")), false),
        };
        let (from_file, serve_from_file) = match &file {
            Some(path) => read_file(path, required)?,
            None => <(Layer, ServeLayer)>::default(),
        };
        let merged = flags.over(Layer::from_environment(&environment)?).over(from_file);
        let serve = match serve {
            Some(serve) => serve.over(ServeLayer::from_environment(&environment)?).over(serve_from_file),
            None => serve_from_file,
        };
        Ok(Self { merged, serve, folders, file, environment })
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
                audit_usernames: false,
                http: None,
            },
            store: self.store(layer, "secrets.db")?,
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

    fn store(&self, layer: &Layer, default: &str) -> Result<StoreLocation, ConfigError> {
        match layer.store.as_deref() {
            Some("memory") => Ok(StoreLocation::Memory),
            Some("") => Err(ConfigError::Invalid {
                name: "store",
                value: String::new(),
                expected: "a file name or `memory` is expected".into(),
            }),
            Some(path) => Ok(StoreLocation::File(path.into())),
            None => match &self.folders.data {
                Some(folder) => Ok(StoreLocation::File(folder.join(default))),
                None => Err(ConfigError::NoHome("sign-ins", "pass --store with a file name or `memory`")),
            },
        }
    }
}

/// The settings in a file. One file may hold those of all commands.
fn read_file(path: &Path, required: bool) -> Result<(Layer, ServeLayer), ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Default::default()),
        Err(error) => return Err(ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() }),
    };
    let wrong = |error: toml::de::Error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    };
    let all: toml::Table = toml::from_str(&text).map_err(wrong)?;
    let (audit, all): (toml::Table, toml::Table) =
        all.into_iter().partition(|(name, _)| AuditLayer::KEYS.contains(&name.as_str()));
    let (serve, common): (toml::Table, toml::Table) =
        all.into_iter().partition(|(name, _)| ServeLayer::KEYS.contains(&name.as_str()));
    let mut serve: ServeLayer = serve.try_into().map_err(wrong)?;
    serve.audit = audit.try_into().map_err(wrong)?;
    Ok((common.try_into().map_err(wrong)?, serve))
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
