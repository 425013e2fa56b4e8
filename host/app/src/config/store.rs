//! Where records are kept, and the key that they are sealed with.

use std::convert::Infallible;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Arg, ValueEnum, value_parser};
use entra_mcp_plugin::client_credential::read_secret_file;
use entra_mcp_plugin::key_vault::{VaultCollection, VaultFault, VaultObject};
use entra_mcp_plugin::secret_store::{
    DEFAULT_MAX_BYTES, DEFAULT_MAX_RECORDS, DataKeys, KEY_BYTES, NewKey, RedisOptions, RedisUrl, StoreLimits,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::setting::{SettingValue, choices, settings};
use super::{ConfigError, Sources, VaultAccess, invalid};

/// What the names of all records in Redis begin with, unless set otherwise.
const DEFAULT_PREFIX: &str = "entra-mcp:";

/// Longest prefix in bytes: it is in every name.
const MAX_PREFIX_BYTES: usize = 64;

/// Accepted numbers of records: more than strangers can leave, which is 16,384, and the documents of clients, which are 4,096.
const MAX_RECORDS: RangeInclusive<u64> = 50_000..=100_000_000;

/// Accepted sizes of all records together in MiB: more than strangers can leave, which is 64, and the documents of clients, which
/// have 16.
const MAX_MIB: RangeInclusive<u64> = 256..=1_048_576;

/// The name of the credential of systemd with the data key.
const CREDENTIAL: &str = "entra-mcp-store-key";

/// What stands for a store in the memory of the process.
const MEMORY: &str = "memory";

/// A place for records as it is written. Redacted in `Debug`, because it may have a password in it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct StoreName(Zeroizing<String>);

impl StoreName {
    /// No place that outlives the process.
    pub(super) fn memory() -> Self {
        Self(Zeroizing::new(MEMORY.to_owned()))
    }

    /// Whether it has a password in it.
    pub(super) fn has_password(&self) -> bool {
        RedisUrl::parse(&self.0).is_ok_and(|url| url.has_password())
    }
}

impl fmt::Debug for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreName")
    }
}

impl From<String> for StoreName {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl FromStr for StoreName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl SettingValue for StoreName {
    fn argument(argument: Arg) -> Arg {
        argument.value_parser(value_parser!(StoreName))
    }

    fn of_text(text: &str) -> Option<Self> {
        Some(Self(Zeroizing::new(text.to_owned())))
    }

    fn expected(_: &str) -> String {
        "a file name, the address of a Redis server or `memory` is expected".to_owned()
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// Where the data key of a new store is put. An existing store says itself where its key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKeyIn {
    /// For a person's store the keyring if one answers, else the file; for a server's store the file.
    #[default]
    Auto,
    /// In the keyring of the system.
    Keyring,
    /// In a file beside the store.
    File,
}

choices!(StoreKeyIn);

settings! {
    /// What one source says about where records are kept.
    pub struct StoreLayer checked as StoreValues, under "Settings" {
        /// Store for sign-ins: a file, `memory`, or a Redis or Valkey server that several processes share, such as
        /// rediss://USER@HOST:6379/0, redis-sentinel://HOST/0?master=NAME&node=HOST:PORT or
        /// redis-cluster://HOST?node=HOST
        store: StoreName, value("FILE|URL|memory"), otherwise("a file of this user"), check(check_store);
        /// File with the password for the Redis server. A URL with a password can be in a variable or the configuration
        /// file, but not on the command line
        store_password_file: PathBuf, value("FILE");
        /// Prefix of the names of all records in Redis: servers with different prefixes share nothing
        store_prefix: String = DEFAULT_PREFIX.to_owned(), value("TEXT"), check(check_prefix);
        /// File with the data key that seals the records; for a store in a file, the program creates it if it does not
        /// exist. A Redis store needs this or ENTRA_MCP_STORE_KEY: all processes have the same key
        store_key_file: PathBuf, value("FILE"), otherwise("beside the store, with the extension `key`");
        /// Place of the data key of a new store: the keyring of the system (Secret Service, Keychain, Credential
        /// Manager) or the file beside the store. `auto` is the keyring if one answers without asking a person, else
        /// the file; for `serve` it is the file. An existing store keeps its key where it is
        store_key_in: StoreKeyIn = StoreKeyIn::Auto;
        /// Maximum number of records of a store in a file. A full store refuses new records, and its sessions go on: it
        /// keeps a twentieth more for records that live for minutes. Redis has `maxmemory` for that, without such a
        /// part
        store_max_records: u64 = DEFAULT_MAX_RECORDS, value("NUMBER"), range(MAX_RECORDS);
        /// Maximum size of all records of a store in a file, in MiB, as stored
        store_max_mib: u64 = DEFAULT_MAX_BYTES >> 20, value("MIB"), range(MAX_MIB);
        /// Key (RSA) in Azure Key Vault that wraps the data key: its identifier, such as
        /// `https://contoso.vault.azure.net/keys/store`; see --vault-identity. The key file then has the wrapped key
        store_key_vault: String, value("URL"), check(check_key_vault);
    }
    variables {
        /// The data key itself, 32 bytes as base64, in place of a file; a credential of systemd with the name
        /// `entra-mcp-store-key` does the same. Several keys, separated by commas: the first seals, all open
        DATA_KEY = "ENTRA_MCP_STORE_KEY";
        /// Where systemd puts credentials
        CREDENTIALS = "CREDENTIALS_DIRECTORY";
    }
}

/// Where sign-ins are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// In memory, until the process ends.
    Memory,
    /// In this SQLite file.
    File(PathBuf),
    /// In Redis or Valkey.
    Redis(Box<RedisOptions>),
}

/// Where the data key is.
#[derive(Debug, Clone)]
pub enum StoreKeyPlace {
    /// In a file beside the store, or in the keyring, which that file then says. A new one is put here.
    Beside(NewKey),
    /// In this file.
    File(PathBuf),
    /// Wrapped by a key vault.
    Vault {
        /// The key in the vault.
        key: VaultObject,
        /// The file with the wrapped key; beside the store, if it is left out.
        file: Option<PathBuf>,
        /// What the vault is asked with.
        access: Box<VaultAccess>,
    },
    /// It was handed over.
    Given {
        /// The keys.
        keys: DataKeys,
        /// By what, for messages.
        place: String,
    },
}

/// Records, and what seals them.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where the records are.
    pub location: StoreLocation,
    /// Where their key is.
    pub key: StoreKeyPlace,
    /// How much a file may have in it.
    pub limits: StoreLimits,
}

/// Whose sign-ins are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreOf {
    /// Those of the person at this machine.
    Person,
    /// Those of a server's users.
    Server,
    /// A validator keeps nothing.
    Nothing,
}

impl StoreOf {
    /// The name of the file, unless set otherwise.
    fn file(self) -> &'static str {
        match self {
            Self::Person => "secrets.db",
            Self::Server => "server.db",
            Self::Nothing => "",
        }
    }

    /// Where its key is put if the setting leaves it open. A server starts with the machine, where no person has unlocked a
    /// keyring.
    fn new_key(self) -> NewKey {
        match self {
            Self::Person => NewKey::KeyringOrFile,
            Self::Server | Self::Nothing => NewKey::File,
        }
    }
}

impl StoreLayer {
    /// The variable with the address of the store, which may have a password in it.
    pub(super) const STORE: &str = "ENTRA_MCP_STORE";
}

impl Sources {
    /// Checks the settings of a store.
    pub(super) fn store(&self, layer: &StoreLayer, of: StoreOf) -> Result<StoreConfig, ConfigError> {
        let values = layer.values()?;
        let set = values.store.as_ref().map(|name| name.0.as_str());
        let location = match (set, &self.folders.data) {
            (Some(MEMORY), _) => StoreLocation::Memory,
            (Some(address), _) if RedisUrl::is_meant(address) => {
                StoreLocation::Redis(Box::new(self.redis(&values, address)?))
            }
            (Some(path), _) => StoreLocation::File(path.into()),
            (None, Some(folder)) => StoreLocation::File(folder.join(of.file())),
            (None, None) => return Err(ConfigError::NoHome("sign-ins", "pass --store with a file name or `memory`")),
        };
        let named = match &values.store_key_vault {
            Some(url) => Some(self.vault_key(url, values.store_key_file.clone())?),
            None => self.store_key(values.store_key_file.clone())?,
        };
        let key = match (named, values.store_key_in) {
            (Some(_), StoreKeyIn::Keyring) => {
                return Err(ConfigError::Conflict(format!(
                    "--store-key-in is `keyring`, and --store-key-file, --store-key-vault, {} or a credential of systemd gives \
                     the data key: there is one place for it",
                    StoreLayer::DATA_KEY
                )));
            }
            (Some(key), _) => key,
            (None, StoreKeyIn::Auto) => StoreKeyPlace::Beside(of.new_key()),
            (None, StoreKeyIn::Keyring) => StoreKeyPlace::Beside(NewKey::Keyring),
            (None, StoreKeyIn::File) => StoreKeyPlace::Beside(NewKey::File),
        };
        if matches!((&location, &key), (StoreLocation::Redis(_), StoreKeyPlace::Vault { file: None, .. })) {
            return Err(ConfigError::Conflict(
                "the store is Redis, and its data key is wrapped by a key vault: name the file with the wrapped key with \
                 --store-key-file. All processes have a copy of it"
                    .to_owned(),
            ));
        }
        if matches!((&location, &key), (StoreLocation::Redis(_), StoreKeyPlace::Beside(_))) {
            return Err(ConfigError::Conflict(format!(
                "the store is Redis, so its data key has to be the same for all processes: set {} to 32 random bytes as \
                 base64 (openssl rand -base64 {KEY_BYTES}), or pass --store-key-file",
                StoreLayer::DATA_KEY
            )));
        }
        let limits = StoreLimits { records: values.store_max_records, bytes: values.store_max_mib << 20 };
        Ok(StoreConfig { location, key, limits })
    }

    /// The configured store, or the files that are used where none is configured.
    pub fn stores(&self) -> Result<Vec<StoreConfig>, ConfigError> {
        let layer = &self.merged.storage;
        if layer.store.is_some() {
            return Ok(vec![self.store(layer, StoreOf::Person)?]);
        }
        let stores = [StoreOf::Person, StoreOf::Server].map(|of| self.store(layer, of));
        let stores = stores.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(stores
            .into_iter()
            .filter(|store| matches!(&store.location, StoreLocation::File(path) if path.exists()))
            .collect())
    }

    fn redis(&self, values: &StoreValues, address: &str) -> Result<RedisOptions, ConfigError> {
        let wrong = |expected: &str| invalid("store", "…", expected);
        let mut url = RedisUrl::parse(address).map_err(wrong)?;
        if let Some(file) = &values.store_password_file {
            let unreadable = |reason: String| ConfigError::Unreadable { path: file.clone(), reason };
            let password = read_secret_file(file).map_err(|error| unreadable(error.to_string()))?;
            let with = url.with_password(&password);
            url = with.ok_or_else(|| unreadable("it is not UTF-8".to_owned()))?;
        }
        let ca_file = self.merged.values()?.ca_file;
        Ok(RedisOptions { url, prefix: values.store_prefix.clone(), ca_file })
    }

    fn vault_key(&self, url: &str, file: Option<PathBuf>) -> Result<StoreKeyPlace, ConfigError> {
        if self.environment.get(StoreLayer::DATA_KEY).is_some() {
            return Err(ConfigError::Conflict(format!(
                "--store-key-vault and {} are both set: there is one place for the data key",
                StoreLayer::DATA_KEY
            )));
        }
        if let Some(credential) = self.key_credential().filter(|path| path.exists()) {
            return Err(ConfigError::Conflict(format!(
                "--store-key-vault and the credential {} of systemd both give the data key: there is one place for it",
                credential.display()
            )));
        }
        Ok(StoreKeyPlace::Vault { key: key_in_vault(url)?, file, access: Box::new(self.vault_access()?) })
    }

    /// The file of a credential of systemd with the data key.
    fn key_credential(&self) -> Option<PathBuf> {
        self.environment.get(StoreLayer::CREDENTIALS).map(|folder| PathBuf::from(folder).join(CREDENTIAL))
    }

    /// The key, if it is named or handed over.
    fn store_key(&self, file: Option<PathBuf>) -> Result<Option<StoreKeyPlace>, ConfigError> {
        let given = self.environment.get(StoreLayer::DATA_KEY).map(Zeroizing::new);
        match (file, given) {
            (Some(_), Some(_)) => {
                let (flag, variable) = ("--store-key-file", StoreLayer::DATA_KEY);
                Err(ConfigError::Conflict(format!(
                    "{flag} and {variable} are both set: there is one place for the data key"
                )))
            }
            (Some(file), None) => Ok(Some(StoreKeyPlace::File(file))),
            (None, Some(text)) => given_key(text.as_bytes(), StoreLayer::DATA_KEY.to_owned()).map(Some),
            (None, None) => {
                let Some(path) = self.key_credential() else {
                    return Ok(None);
                };
                match std::fs::read(&path).map(Zeroizing::new) {
                    Ok(content) => given_key(&content, path.display().to_string()).map(Some),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(ConfigError::Unreadable { path, reason: error.to_string() }),
                }
            }
        }
    }
}

fn key_in_vault(url: &str) -> Result<VaultObject, ConfigError> {
    let wrong = |fault: VaultFault| invalid("store-key-vault", url, fault.to_string());
    VaultObject::parse(url, VaultCollection::Keys).map_err(wrong)
}

fn check_key_vault(_: &'static str, url: &str) -> Result<(), ConfigError> {
    key_in_vault(url).map(drop)
}

fn given_key(content: &[u8], place: String) -> Result<StoreKeyPlace, ConfigError> {
    let expected = format!("{KEY_BYTES} bytes as base64 are expected, from each of {place}");
    let keys = DataKeys::parse(content).ok_or_else(|| invalid(StoreLayer::DATA_KEY, "…", expected))?;
    Ok(StoreKeyPlace::Given { keys, place })
}

fn check_store(name: &'static str, value: &StoreName) -> Result<(), ConfigError> {
    match value.0.as_str() {
        "" => Err(invalid(name, "", "a file name, the address of a Redis server or `memory` is expected")),
        address if RedisUrl::is_meant(address) => {
            RedisUrl::parse(address).map(drop).map_err(|expected| invalid(name, "…", expected))
        }
        _ => Ok(()),
    }
}

fn check_prefix(name: &'static str, value: &str) -> Result<(), ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_./".contains(&byte);
    if !value.is_empty() && value.len() <= MAX_PREFIX_BYTES && value.bytes().all(is_plain) {
        return Ok(());
    }
    let expected = format!("1 to {MAX_PREFIX_BYTES} letters, digits and the characters : - _ . / are expected");
    Err(invalid(name, value, expected))
}
