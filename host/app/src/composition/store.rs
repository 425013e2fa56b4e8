//! The configured store, and the rate limits that belong to it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use entra_mcp_plugin::Error;
use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::key_vault::VaultKeyFile;
use entra_mcp_plugin::rate_limiter::{CountingRateLimiter, Rate, RateLimiter};
use entra_mcp_plugin::secret_store::{
    GivenDataKeys, KeyBeside, KeyFile, KeySource, MemoryStore, NewKey, RedisStore, SecretStore, SqliteStore,
    StoreLimits, StoreRateLimiter, SystemKeyring,
};

use super::key_vault::key_vault;
use crate::config::{RateLimitsIn, StoreConfig, StoreKeyPlace, StoreLocation};
use crate::console;

/// What is put around a store.
type Around = dyn Fn(Arc<dyn SecretStore>) -> Arc<dyn SecretStore> + Send + Sync;

static AROUND: OnceLock<Box<Around>> = OnceLock::new();

/// Puts something around each store that is opened from now on. The program puts nothing: the one that the tests run sees to it
/// that reading a record fails.
pub fn put_around(around: impl Fn(Arc<dyn SecretStore>) -> Arc<dyn SecretStore> + Send + Sync + 'static) {
    // The first call counts.
    let _ = AROUND.set(Box::new(around));
}

fn around(records: Arc<dyn SecretStore>) -> Arc<dyn SecretStore> {
    match AROUND.get() {
        Some(around) => around(records),
        None => records,
    }
}

/// A store that is open.
pub struct OpenedStore {
    /// The records.
    pub records: Arc<dyn SecretStore>,
    /// The same, if other machines may share them.
    shared: Option<RedisStore>,
    limits: StoreLimits,
}

/// Opens the configured store.
pub async fn open(config: &StoreConfig, clock: Arc<dyn Clock>) -> Result<OpenedStore, Error> {
    let records: Arc<dyn SecretStore> = match &config.location {
        StoreLocation::Memory => Arc::new(MemoryStore::new(clock)),
        StoreLocation::File(path) => {
            let (path, key) = (path.clone(), config.key.clone());
            // The keyring may ask a person, and other processes may be preparing the file: the runtime goes on meanwhile.
            let opening = tokio::task::spawn_blocking(move || match &key {
                StoreKeyPlace::Beside(new) => SqliteStore::open_beside(&path, |file| beside(file, *new), clock),
                key => SqliteStore::open_with(&path, key_source(key, &path), clock),
            });
            let opened = opening.await.map_err(|error| Error::Thread(std::io::Error::other(error)))?;
            Arc::new(opened?.limited(config.limits))
        }
        StoreLocation::Redis(options) => {
            let store = RedisStore::connect(options, key_source(&config.key, Path::new("")), clock).await?;
            let (records, limits) = (around(Arc::new(store.clone())), config.limits);
            return Ok(OpenedStore { records, shared: Some(store), limits });
        }
    };
    let limits = match &config.location {
        StoreLocation::Memory => MemoryStore::LIMITS,
        _ => config.limits,
    };
    Ok(OpenedStore { records: around(records), shared: None, limits })
}

/// A store as it is.
pub struct LookedAt {
    /// The records, which cannot be changed through it.
    pub records: Arc<dyn SecretStore>,
    /// What opening the store would change.
    pub changes: Vec<StoreChange>,
}

/// What opening a store changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChange {
    /// A file that was begun becomes a store.
    Begun,
    /// A store of an earlier format becomes one of the present format, which earlier versions refuse.
    Format(i32),
    /// A key is made.
    NewKey,
    /// The key vault wraps the key that is in this file.
    TakenOver(PathBuf),
}

/// Looks at the configured store, which has to be there, and changes nothing: neither records nor files nor keys.
pub async fn look(config: &StoreConfig, clock: Arc<dyn Clock>) -> Result<LookedAt, Error> {
    let mut changes = Vec::new();
    let records: Arc<dyn SecretStore> = match &config.location {
        StoreLocation::Memory => Arc::new(MemoryStore::new(clock)),
        StoreLocation::File(path) => {
            let (store, key) = (path.clone(), config.key.clone());
            let looking =
                tokio::task::spawn_blocking(move || SqliteStore::look(&store, &key_source(&key, &store), &clock));
            let view = looking.await.map_err(|error| Error::Thread(std::io::Error::other(error)))??;
            changes.extend(view.earlier_format().map(|format| match format {
                0 => StoreChange::Begun,
                format => StoreChange::Format(format),
            }));
            changes.extend((!view.has_key()).then_some(StoreChange::NewKey));
            changes.extend(key_to_wrap(config).map(StoreChange::TakenOver));
            Arc::new(view)
        }
        StoreLocation::Redis(options) => {
            Arc::new(RedisStore::look(options, key_source(&config.key, Path::new("")), clock).await?)
        }
    };
    Ok(LookedAt { records, changes })
}

/// The file beside a store with the key that the key vault is going to wrap.
pub fn key_to_wrap(config: &StoreConfig) -> Option<PathBuf> {
    match (&config.location, &config.key) {
        (StoreLocation::File(store), StoreKeyPlace::Vault { file: None, .. }) => {
            let plain = store.with_extension("key");
            (plain.exists() && !store.with_extension("wrapped-key").exists()).then_some(plain)
        }
        _ => None,
    }
}

/// Where the key of a store is; `store` is its file.
pub fn key_source(key: &StoreKeyPlace, store: &Path) -> Arc<dyn KeySource> {
    match key {
        StoreKeyPlace::Beside(new) => beside(KeyFile::new(&store.with_extension("key")), *new),
        StoreKeyPlace::File(path) => Arc::new(KeyFile::new(path)),
        StoreKeyPlace::Vault { key, file, access } => {
            let plain = file.is_none().then(|| store.with_extension("key"));
            let path = file.clone().unwrap_or_else(|| store.with_extension("wrapped-key"));
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
            let vault = key_vault(key, access, &clock);
            Arc::new(VaultKeyFile::new(&path, plain.as_deref(), key.clone(), vault))
        }
        StoreKeyPlace::Given { keys, place } => Arc::new(GivenDataKeys::new(keys.clone(), place)),
    }
}

/// The key in or named by the file beside a store.
fn beside(file: KeyFile, new: NewKey) -> Arc<dyn KeySource> {
    Arc::new(KeyBeside::new(file, Arc::new(SystemKeyring), new).telling(|file, error| {
        let text =
            format!("the key of the sign-ins is in the file {file}, which only this user can read, because {error}");
        // It is said this once, and is not for the log alone, which may be set to say less.
        match tracing::enabled!(tracing::Level::INFO) {
            true => tracing::info!("{text}"),
            false => console::notice(&format!("entra-mcp: {text}")),
        }
    }))
}

impl OpenedStore {
    /// Counts where the records are, if other processes on the network may share them, or if that is asked for: so all
    /// of them together admit no more than one would. Else it counts in this process.
    pub fn rate_limiter(
        &self,
        rates: HashMap<String, Rate>,
        counted_in: RateLimitsIn,
        clock: Arc<dyn Clock>,
    ) -> Arc<dyn RateLimiter> {
        match (&self.shared, counted_in) {
            (Some(store), _) => Arc::new(store.rate_limiter(rates)),
            (None, RateLimitsIn::Store) => {
                let limiter = StoreRateLimiter::new(Arc::clone(&self.records), clock, rates);
                Arc::new(limiter.in_store_of(self.limits))
            }
            (None, RateLimitsIn::Process) => Arc::new(CountingRateLimiter::new(clock, rates)),
        }
    }
}
