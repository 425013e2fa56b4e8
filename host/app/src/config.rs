//! The one typed configuration: a TOML file, over it environment variables, over them flags.
//!
//! This module alone reads environment variables. The secrets among the settings are `AZURE_CLIENT_SECRET`,
//! `AZURE_CLIENT_CERTIFICATE_PASSWORD` and `ENTRA_MCP_STORE_KEY`, which can be set as variables only, and the password in the
//! address of a store.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::environment::{BrokerUse, ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};

pub mod access;
mod audit;
pub mod behind;
mod endpoints;
mod ids;
mod layer;
mod otlp;
pub mod reference;
mod serve;
mod setting;
mod setup;
mod store;
mod usable;
mod variables;
mod vault;

pub use audit::{AuditConfig, AuditDestination, AuditFailure, AuditLayer};
pub use behind::{BehindConfig, BehindLayer, ToolsConfig};
pub use layer::{BrokerChoice, Cloud, HostLayer, Layer, LogFormat, SignIn, VaultIdentityName};
pub use otlp::OtlpConfig;
pub use serve::{
    CredentialConfig, CredentialName, ForwardedHeaderName, Isolation, RateLimitsIn, SecretSource, ServeConfig,
    ServeLayer, StartCheck, TokenModeName,
};
pub use setting::Setting;
pub use setup::{RemoteSetup, SetupConfig};
pub use store::{StoreConfig, StoreKeyPlace, StoreLayer, StoreLocation};
pub use usable::{Secrecy, Usable, UsedFile};
pub use variables::Environment;
pub(crate) use variables::terminal_shows_unicode;
pub use vault::VaultAccess;

use endpoints::{Endpoints, one_tenant};
use ids::{check_guid, check_tenant};
use layer::{HostValues, Values};
use store::{StoreName, StoreOf};

/// Stands for the client id where there is none: no application has it.
const NO_CLIENT: &str = "00000000-0000-0000-0000-000000000000";

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
    /// The configuration file is malformed.
    #[error("the configuration file {path} is wrong: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A file with tools cannot be read.
    #[error("the tool component {path} cannot be read: {reason}")]
    ToolsFile {
        /// The file.
        path: PathBuf,
        /// Why.
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
///
/// Why this is not `etcetera`: it reads the variables of the process by itself, where tests supply an [`Environment`], and
/// without `HOME` it takes the home folder of the user database, where this program asks for a setting.
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

/// Settings of the program itself, independent of any application.
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
    pub store: StoreConfig,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest MCP message in bytes.
    pub max_message_bytes: usize,
    /// Most instances at the same time.
    pub max_instances: usize,
    /// Where the page of Entra ID that ends a session in the browser leads afterwards.
    pub post_logout_redirect_uri: Option<String>,
    /// `BROWSER`.
    pub browser: Option<String>,
    /// Whether there is a graphical desktop.
    pub display: bool,
    /// How the program runs.
    pub host: HostConfig,
    /// The MCP servers that the program protects. None for commands that serve nothing.
    pub behind: BehindConfig,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The command line.
    Flag,
    /// A variable.
    Environment,
    /// The configuration file.
    File,
}

/// What the configuration grants the component in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedTools {
    /// The tables that name it: one at least.
    pub tools: Vec<ToolsConfig>,
    /// Base URL of Microsoft Graph.
    pub graph: String,
}

/// The settings of all sources, merged but not checked yet.
#[derive(Debug)]
pub struct Sources {
    /// What is wrong with variables that were left out.
    left_out: Vec<ConfigError>,
    origins: Vec<(&'static str, SettingOrigin)>,
    merged: Layer,
    serve: ServeLayer,
    behind: BehindLayer,
    folders: Folders,
    file: Option<PathBuf>,
    environment: Environment,
}

impl Sources {
    /// Reads all sources. `flags` may name the configuration file.
    pub fn read(flags: Layer, environment: Environment) -> Result<Self, ConfigError> {
        Self::read_all(flags, None, None, &[], true, environment)
    }

    /// The same, for a local server.
    pub fn read_stdio(flags: Layer, behind: BehindLayer, environment: Environment) -> Result<Self, ConfigError> {
        Self::read_all(flags, None, Some(behind), &[], true, environment)
    }

    /// The same, for a command that has only those of the settings that are named.
    pub fn read_some(flags: Layer, own: &[&str], environment: Environment) -> Result<Self, ConfigError> {
        Self::read_all(flags, None, None, own, true, environment)
    }

    /// The same, for the remote server.
    pub fn read_serve(
        flags: Layer,
        serve: ServeLayer,
        behind: BehindLayer,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        Self::read_all(flags, Some(serve), Some(behind), &[], true, environment)
    }

    /// `own` names the settings of the command, if it has not all of its layers; `must_exist` is about a file that was named.
    fn read_all(
        flags: Layer,
        serve: Option<ServeLayer>,
        behind: Option<BehindLayer>,
        own: &[&str],
        must_exist: bool,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        let folders = Folders::new(&environment);
        if flags.storage.store.as_ref().is_some_and(StoreName::has_password) {
            return Err(ConfigError::Conflict(format!(
                "the address of the store has a password in it, and other users of the machine can read command lines: pass \
                 --store-password-file, or set the address as {}",
                StoreLayer::STORE
            )));
        }
        let mut origins = Vec::new();
        let mut found = |names: Vec<&'static str>, origin: SettingOrigin| {
            for name in names {
                if !origins.iter().any(|(known, _)| *known == name) {
                    origins.push((name, origin));
                }
            }
        };
        found(flags.names(), SettingOrigin::Flag);
        let of_environment = Layer::of_environment(&environment)?;
        found(of_environment.names(), SettingOrigin::Environment);
        let set = flags.over(of_environment);
        let (file, required) = match set.host.values()?.config {
            Some(file) => (Some(file), must_exist),
            None => (folders.config.as_ref().map(|folder| folder.join("config.toml")), false),
        };
        let mut settings = Layer::settings();
        let mut serve_set = ServeLayer::default();
        if let Some(serve) = serve {
            settings.extend(ServeLayer::settings());
            found(serve.names(), SettingOrigin::Flag);
            let of_environment = ServeLayer::of_environment(&environment)?;
            found(of_environment.names(), SettingOrigin::Environment);
            let secrets = [ServeLayer::CLIENT_SECRET, ServeLayer::CERTIFICATE_PASSWORD];
            found(
                secrets.into_iter().filter(|name| environment.get(name).is_some()).collect(),
                SettingOrigin::Environment,
            );
            serve_set = serve.over(of_environment);
        }
        let mut behind_set = BehindLayer::default();
        if let Some(behind) = behind {
            settings.extend(BehindLayer::settings());
            found(behind.names(), SettingOrigin::Flag);
            let of_environment = BehindLayer::of_environment(&environment)?;
            found(of_environment.names(), SettingOrigin::Environment);
            behind_set = behind.over(of_environment);
        }
        settings.retain(|setting| own.is_empty() || own.contains(&setting.name.as_str()));
        let (of_file, serve_of_file, behind_of_file) = match &file {
            Some(path) => read_file(path, required, &settings)?,
            None => Default::default(),
        };
        found(of_file.names(), SettingOrigin::File);
        found(serve_of_file.names(), SettingOrigin::File);
        found(behind_of_file.names(), SettingOrigin::File);
        Ok(Self {
            left_out: Vec::new(),
            origins,
            merged: set.over(of_file),
            serve: serve_set.over(serve_of_file),
            behind: behind_set.completed(&behind_of_file).over(behind_of_file),
            folders,
            file,
            environment,
        })
    }

    /// The settings that are set, each with the source that counts.
    pub fn origins(&self) -> &[(&'static str, SettingOrigin)] {
        &self.origins
    }

    /// Where the configuration file is or would be.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// How the program runs: what every command needs.
    pub fn host(&self) -> Result<HostConfig, ConfigError> {
        let HostValues { log_format, no_code_cache, .. } = self.merged.host.values()?;
        let code_cache = match &self.folders.cache {
            Some(folder) if !no_code_cache => CodeCache::Folder(folder.join("code")),
            _ => CodeCache::Off,
        };
        Ok(HostConfig { log_format, log_filter: self.environment.get(HostLayer::LOG_FILTER), code_cache })
    }

    /// Checks the settings of a public client.
    pub fn public_client(&self) -> Result<Config, ConfigError> {
        self.checked(&self.merged, StoreOf::Person)
    }

    /// Checks the settings of a local server: a public client, and the tools that it serves.
    pub fn local_server(&self) -> Result<Config, ConfigError> {
        let mut config = self.public_client()?;
        let behind = self.behind(&config.settings)?.local()?;
        config.settings.servers = behind.settings();
        config.behind = behind;
        Ok(config)
    }

    /// Checks the MCP servers behind the program.
    fn behind(&self, settings: &Settings) -> Result<BehindConfig, ConfigError> {
        let Settings { graph, graph_resource, .. } = settings;
        let context = behind::Context { environment: &self.environment, graph, graph_resource };
        BehindConfig::new(self.behind.values()?, &context)
    }

    /// What the tables for tools say about the component in a file.
    pub fn tools_of(&self, file: &Path) -> Result<GrantedTools, ConfigError> {
        let Endpoints { graph, graph_resource, .. } = Endpoints::new(&self.merged.values()?)?;
        let context =
            behind::Context { environment: &self.environment, graph: &graph, graph_resource: &graph_resource };
        let is_meant = |tools: &ToolsConfig| match (tools.file.canonicalize(), file.canonicalize()) {
            (Ok(configured), Ok(meant)) => configured == meant,
            _ => false,
        };
        let tools: Vec<_> =
            BehindConfig::new(self.behind.values()?, &context)?.tools.into_iter().filter(is_meant).collect();
        if tools.is_empty() {
            let text = format!("no [[tools]] of the configuration has the file {}", file.display());
            return Err(ConfigError::Conflict(text));
        }
        Ok(GrantedTools { tools, graph })
    }

    /// `store` says whose sign-ins are kept.
    fn checked(&self, layer: &Layer, store: StoreOf) -> Result<Config, ConfigError> {
        let values = layer.values()?;
        let Endpoints { authority, tenant_of_authority, graph, graph_resource } = Endpoints::new(&values)?;
        let Values { tenant_id, client_id, sign_in, sign_in_timeout, account, profile_cache_seconds, .. } = values;
        let clock_tolerance = values.clock_tolerance;
        let tenant = one_tenant(tenant_id, tenant_of_authority)?;
        let (Some(tenant), Some(client_id)) = (tenant.clone(), client_id.clone()) else {
            let unset = [("the tenant id", tenant.is_none()), ("the client id", client_id.is_none())];
            let names = unset.into_iter().filter_map(|(name, missing)| missing.then_some(name)).collect();
            let file = self.file.as_ref().map_or("the configuration file".into(), |file| file.display().to_string());
            return Err(ConfigError::Missing { names, file });
        };
        // It may be that of the authority.
        check_tenant("tenant-id", &tenant)?;
        Ok(Config {
            settings: Settings {
                client_type: ClientType::PublicClient,
                tenant,
                client_id: client_id.clone(),
                authority,
                graph,
                graph_resource,
                sign_in: SignInSettings {
                    method: match sign_in {
                        SignIn::Auto => SignInMethod::Automatic,
                        SignIn::Browser => SignInMethod::Browser,
                        SignIn::DeviceCode => SignInMethod::DeviceCode,
                    },
                    timeout_seconds: sign_in_timeout,
                    account: account.filter(|account| !account.is_empty()),
                    broker: match values.broker {
                        BrokerChoice::Auto => BrokerUse::Automatic,
                        BrokerChoice::Off => BrokerUse::Off,
                        BrokerChoice::Require => BrokerUse::Require,
                    },
                },
                token: TokenSettings {
                    audiences: vec![client_id],
                    allowed_tenants: Vec::new(),
                    clock_tolerance_seconds: clock_tolerance,
                },
                profile_cache_seconds,
                audit_usernames: false,
                servers: Vec::new(),
                http: None,
            },
            store: self.store(&layer.storage, store)?,
            ca_file: values.ca_file,
            max_message_bytes: values.max_message_bytes,
            max_instances: values.max_instances,
            post_logout_redirect_uri: values.post_logout_redirect_uri,
            browser: self.environment.get(Layer::BROWSER),
            display: ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| self.environment.get(name).is_some()),
            host: self.host()?,
            behind: BehindConfig::default(),
        })
    }

    /// Checks the settings of a token validator: a tenant, and which tokens it accepts. A validator signs no user in,
    /// so it needs no client id, and it stores nothing.
    pub fn validator(&self, token: TokenSettings) -> Result<Config, ConfigError> {
        let mut layer = self.merged.clone();
        layer.client_id = Some(NO_CLIENT.to_owned());
        layer.storage = StoreLayer { store: Some(StoreName::memory()), ..StoreLayer::default() };
        for tenant in &token.allowed_tenants {
            check_guid("allow-tenant", tenant)?;
        }
        let mut config = self.checked(&layer, StoreOf::Nothing)?;
        let clock_tolerance_seconds = config.settings.token.clock_tolerance_seconds;
        config.settings.token = TokenSettings { clock_tolerance_seconds, ..token };
        Ok(config)
    }
}

/// The settings in a file. One file may hold those of all commands; `settings` are those of this one.
fn read_file(
    path: &Path,
    required: bool,
    settings: &[&Setting],
) -> Result<(Layer, ServeLayer, BehindLayer), ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Default::default()),
        Err(error) => return Err(ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() }),
    };
    let file = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let wrong = |error: toml::de::Error| file(error.to_string().trim_end().to_owned());
    let mut all: toml::Table = toml::from_str(&text).map_err(wrong)?;
    let layer = Layer::take_from(&mut all).map_err(wrong)?;
    let serve = ServeLayer::take_from(&mut all).map_err(wrong)?;
    let behind = BehindLayer::take_from(&mut all).map_err(wrong)?;
    match all.keys().next() {
        None => Ok((layer, serve, behind)),
        Some(unknown) => {
            let keys = settings.iter().filter(|setting| setting.has_key);
            let keys: Vec<_> = keys.map(|setting| format!("`{}`", setting.name)).collect();
            Err(file(format!("unknown field `{unknown}`, expected one of {}", keys.join(", "))))
        }
    }
}

fn invalid(name: &'static str, value: &str, expected: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { name, value: value.to_owned(), expected: expected.into() }
}

fn within<T: PartialOrd + fmt::Display>(
    name: &'static str,
    value: &T,
    range: &RangeInclusive<T>,
) -> Result<(), ConfigError> {
    if range.contains(value) {
        return Ok(());
    }
    Err(invalid(name, &value.to_string(), format!("{} to {} is expected", range.start(), range.end())))
}

#[cfg(test)]
mod tests;
