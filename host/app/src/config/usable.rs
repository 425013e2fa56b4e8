//! What of the settings can be used, however wrong others are: `doctor` looks at it.

use std::path::{Path, PathBuf};

use super::store::StoreOf;
use super::{
    BehindLayer, Config, ConfigError, Endpoints, Environment, Layer, ServeConfig, ServeLayer, Sources, StoreConfig,
};

/// Settings that a layer below does not depend on: without one of them, and with its default in its place, all else is as it
/// was meant. Every other one may decide where a credential is sent, or what a registration needs.
const INDEPENDENT: [&str; 19] = [
    "account",
    "audit-keep",
    "audit-keep-days",
    "audit-max-bytes",
    "clock-tolerance",
    "max-connections",
    "max-instances",
    "max-message-bytes",
    "max-queue",
    "max-streams-per-caller",
    "metrics-listen",
    "post-logout-redirect-uri",
    "profile-cache-seconds",
    "rate-limit",
    "rate-limits-in",
    "refresh-grace-seconds",
    "sign-in-timeout",
    "store-max-mib",
    "store-max-records",
];

/// What begins the names of settings about the store.
const OF_STORE: &str = "store";

/// Settings that say where Entra ID and Graph are.
const OF_ENDPOINTS: [&str; 4] = ["cloud", "authority", "graph-url", "graph-resource"];

/// How secret a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Its owner alone reads it.
    Secret,
    /// Its owner's group may read it: Kubernetes lets the group of the pod read what it projects.
    Projected,
    /// All may read it, and its owner alone changes it.
    Unchangeable,
}

/// A file that a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedFile {
    /// What it is, in words.
    pub role: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// How secret it is.
    pub secrecy: Secrecy,
    /// Whether it has to be there.
    pub is_required: bool,
}

/// The settings, as far as they are right.
#[derive(Debug)]
pub struct Usable {
    /// What is wrong, in the order in which `serve` would say it. The first that is no single setting is the last here.
    pub errors: Vec<ConfigError>,
    /// Those of the remote server, unless what is wrong may concern what is looked at with them.
    pub serve: Option<ServeConfig>,
    /// Those of the local server, if they are right, and if nothing is set for a remote one.
    pub local: Option<Config>,
    /// What both servers have in common, with which Entra ID can be asked what it tells everyone.
    pub common: Option<Config>,
    /// Where the remote server keeps its records.
    pub store: Option<StoreConfig>,
    /// Where Entra ID and Graph are.
    pub endpoints: Option<(String, String)>,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Sources {
    /// Reads all sources as for the remote server. A variable with a value that its setting cannot have is left out.
    pub fn read_usable(
        flags: Layer,
        serve: ServeLayer,
        behind: BehindLayer,
        mut environment: Environment,
    ) -> Result<Self, ConfigError> {
        let mut left_out = Vec::new();
        loop {
            match Self::read_serve(flags.clone(), serve.clone(), behind.clone(), environment.clone()) {
                Ok(sources) => return Ok(Self { left_out, ..sources }),
                Err(ConfigError::Invalid { name, value, expected }) if environment.get(name).is_some() => {
                    environment = environment.without(name);
                    left_out.push(ConfigError::Invalid { name, value, expected });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What can be used of the settings. One that is wrong by itself is left out to see what else is wrong.
    pub fn usable(&mut self) -> Usable {
        let mut errors = std::mem::take(&mut self.left_out);
        let serve = loop {
            match self.serve() {
                Ok(serve) => break Some(serve),
                Err(error) => {
                    let forgotten = match &error {
                        ConfigError::Invalid { name, .. } => self.forget(name),
                        _ => false,
                    };
                    errors.push(error);
                    if !forgotten {
                        break None;
                    }
                }
            }
        };
        let wrong = |is_meant: &dyn Fn(&str) -> bool| {
            errors.iter().any(|error| matches!(error, ConfigError::Invalid { name, .. } if is_meant(&setting(name))))
        };
        let is_independent = !wrong(&|name| !INDEPENDENT.contains(&name));
        let store = match wrong(&|name| name.starts_with(OF_STORE) && !INDEPENDENT.contains(&name)) {
            true => None,
            false => self.store(&self.merged.storage, StoreOf::Server).ok(),
        };
        let values = self.merged.values().ok();
        let endpoints = match wrong(&|name| OF_ENDPOINTS.contains(&name)) {
            true => None,
            false => values.as_ref().and_then(|values| Endpoints::new(values).ok()),
        };
        let common = endpoints.as_ref().and_then(|_| self.checked(&self.merged, StoreOf::Server).ok());
        Usable {
            common,
            local: self.local_server().ok().filter(|_| errors.is_empty() && self.is_local()),
            serve: serve.filter(|_| is_independent),
            store,
            endpoints: endpoints.map(|endpoints| (endpoints.authority, endpoints.graph)),
            ca_file: values.and_then(|values| values.ca_file),
            errors,
        }
    }

    fn forget(&mut self, name: &str) -> bool {
        self.merged.forget(name) || self.serve.forget(name) || self.behind.forget(name)
    }

    /// Whether nothing is set that is for the remote server alone, so that these are the settings of `stdio`.
    fn is_local(&self) -> bool {
        self.serve.names().is_empty() && self.environment.get(ServeLayer::CLIENT_SECRET).is_none()
    }

    /// The files with secrets or rules that the settings name, whether or not the settings are right.
    pub fn files(&self) -> Vec<UsedFile> {
        let mut files = Vec::new();
        let mut add = |role, path: Option<&Path>, secrecy| {
            let used = |path: &Path| UsedFile { role, path: path.to_owned(), secrecy, is_required: true };
            files.extend(path.map(used));
        };
        let (common, serve, storage) = (&self.merged, &self.serve, &self.merged.storage);
        // All of it may be set elsewhere.
        add("the configuration file", self.file.as_deref().filter(|file| file.exists()), Secrecy::Unchangeable);
        add("the file with rules", serve.access_file.as_deref(), Secrecy::Unchangeable);
        add("the file with certificates to trust", common.ca_file.as_deref(), Secrecy::Unchangeable);
        add("the client secret", serve.client_secret_file.as_deref(), Secrecy::Secret);
        add("the TLS certificate", serve.tls_cert.as_deref(), Secrecy::Unchangeable);
        add("the TLS key", serve.tls_key.as_deref(), Secrecy::Secret);
        for path in serve.certificate_file.iter().flatten() {
            add("the certificate with its key", Some(Path::new(path)), Secrecy::Secret);
        }
        add("the federated token", serve.federated_token_file.as_deref(), Secrecy::Projected);
        for client in serve.clients.iter().flatten() {
            add("the secret of a client", client.secret_file.as_deref(), Secrecy::Secret);
        }
        add("the password of the store", storage.store_password_file.as_deref(), Secrecy::Secret);
        add("the key of the store", storage.store_key_file.as_deref(), Secrecy::Secret);
        // Without a store, `serve` makes its key; the store itself says it if its key is missing.
        for file in &mut files {
            file.is_required = file.role != "the key of the store";
        }
        files
    }
}

/// The setting that an error names by its name or by its variable.
fn setting(name: &str) -> String {
    match name.strip_prefix("ENTRA_MCP_") {
        Some(variable) => variable.to_ascii_lowercase().replace('_', "-"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostLayer;

    /// Reads settings with this in the configuration file.
    fn usable(file: &str, variables: &[(&str, &str)]) -> (Usable, Vec<UsedFile>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let ids =
            "tenant-id = '11111111-1111-1111-1111-111111111111'\nclient-id = '22222222-2222-2222-2222-22222222aaaa'\n";
        std::fs::write(&path, format!("{ids}{file}")).unwrap();
        let flags = Layer { host: HostLayer { config: Some(path), ..HostLayer::default() }, ..Layer::default() };
        let environment = Environment::of(&[variables, &[("HOME", "/home/u")]].concat());
        let sources = Sources::read_usable(flags, ServeLayer::default(), BehindLayer::default(), environment);
        let mut sources = sources.unwrap();
        let files = sources.files();
        (sources.usable(), files)
    }

    fn named(usable: &Usable) -> Vec<&'static str> {
        let name = |error: &ConfigError| match error {
            ConfigError::Invalid { name, .. } => *name,
            _ => "",
        };
        usable.errors.iter().map(name).collect()
    }

    #[test]
    fn every_setting_that_others_do_not_depend_on_exists() {
        let mut settings = Layer::settings();
        settings.extend(ServeLayer::settings());
        for name in INDEPENDENT.iter().chain(&OF_ENDPOINTS) {
            assert!(settings.iter().any(|setting| setting.name == *name), "{name}");
        }
    }

    #[test]
    fn every_wrong_setting_is_named_and_the_others_are_used() {
        let variables = [("ENTRA_MCP_MAX_CONNECTIONS", "many"), ("ENTRA_MCP_MAX_INSTANCES", "4")];
        let (usable, _) = usable("max-queue = 100000000\nclock-tolerance = 301\nlisten = '127.0.0.1:8080'", &variables);
        let mut names = named(&usable);
        names.sort_unstable();
        assert_eq!(names, ["ENTRA_MCP_MAX_CONNECTIONS", "clock-tolerance", "max-queue"]);
        let serve = usable.serve.unwrap();
        assert_eq!((serve.listen.port(), serve.common.max_instances), (8080, 4));
    }

    #[test]
    fn where_a_wrong_setting_may_say_who_gets_the_credential_there_are_no_settings_of_a_server() {
        for wrong in [
            "public-url = 'http://mcp.example.com'",
            "app-id-uri = 'x'",
            "managed-identity-id = 'x'",
            "deny-unlisted = true",
        ] {
            let (usable, _) = usable(wrong, &[]);
            assert!(usable.errors.len() == 1 && usable.serve.is_none(), "{wrong}: {:?}", usable.errors);
            assert!(usable.common.is_some() && usable.store.is_some() && usable.endpoints.is_some(), "{wrong}");
            assert!(usable.local.is_none(), "{wrong}");
        }
        for (wrong, variables) in
            [("authority = 'ftp://x'", &[][..]), ("", &[("ENTRA_MCP_CLOUD", "moon")][..]), ("graph-url = 'x'", &[][..])]
        {
            let (usable, _) = usable(wrong, variables);
            assert!(usable.serve.is_none() && usable.common.is_none() && usable.endpoints.is_none(), "{wrong}");
            assert!(usable.store.is_some(), "{wrong}");
        }
        let (usable, _) = usable("store-prefix = ''\nstore = 'memory'", &[]);
        assert!(usable.serve.is_none() && usable.store.is_none() && usable.endpoints.is_some(), "{:?}", usable.errors);
    }

    #[test]
    fn settings_without_any_of_a_server_are_those_of_the_local_one() {
        let is_local = |file: &str, variables: &[(&str, &str)]| usable(file, variables).0.local.is_some();
        assert!(is_local("sign-in = 'browser'", &[]));
        for server in ["listen = '127.0.0.1:1'", "public-url = 'https://a.example'", "credential = 'secret'"] {
            assert!(!is_local(server, &[]), "{server}");
        }
        assert!(!is_local("", &[("AZURE_CLIENT_SECRET", "s")]));
        assert!(!is_local("", &[("AZURE_FEDERATED_TOKEN_FILE", "/t")]));
    }

    #[test]
    fn the_files_are_those_that_settings_name() {
        let (_, files) = usable("access-file = '/a'\nca-file = '/c'\nstore-key-file = '/k'\ntls-key = '/t'", &[]);
        let found: Vec<_> =
            files.iter().skip(1).map(|file| (file.path.to_str().unwrap(), file.secrecy, file.is_required)).collect();
        assert_eq!(
            found,
            [
                ("/a", Secrecy::Unchangeable, true),
                ("/c", Secrecy::Unchangeable, true),
                ("/t", Secrecy::Secret, true),
                ("/k", Secrecy::Secret, false),
            ]
        );
    }
}
