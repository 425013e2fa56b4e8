//! Records in Redis or Valkey, shared by any number of processes on any number of machines.
//!
//! Records are sealed as in the database of one machine ([`cipher`](super::cipher)): the server sees keyed hashes of names,
//! sealed values and times of expiry, and an attacker that reads or alters them learns nothing and makes no record. The
//! expiry is part of what is sealed, and is counted by the clock of the server, which all processes share (`server_clock`).
//!
//! `take` and a swap read a record, open it, and then compare what is stored by a script, which deletes or replaces it:
//! no two sealed values are the same, so equal bytes are the same write. They leave a record that cannot be opened as
//! it is. If the answer to a `take` is lost, the record is lost with it, and no caller has it twice. If the answer to a
//! swap is lost, the script is run again, and recognises the value that it has written.
//!
//! What this does not protect against: a server that forgets. A replica that takes over may lack the last writes of the
//! server before it, and a server without `appendfsync always` those of its last second. With `wait-replicas` in the
//! address, what was taken or swapped is answered only once replicas have it.
//!
//! In a cluster, each record is at one node, and every command is about one record, or about the counts of one client, which
//! are at one node too. The time is that of the node which has the fingerprint of the key, for all processes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use redis::Cmd;

use super::cipher::{Cipher, HiddenName, RecordError};
use super::data_key::{KeyError, KeySource};
use super::{SecretBytes, SecretStore, StoreError, same};
use crate::clock::Clock;
use crate::rate_limiter::Rate;

mod cluster;
mod examine;
mod information;
mod limiter;
mod link;
mod script;
mod server_clock;
mod url;

pub use self::limiter::RedisRateLimiter;
pub use self::url::RedisUrl;

use self::link::{ANSWER_WITHIN, Link, Repeat};
use self::script::Script;
use self::server_clock::ServerClock;

/// The oldest version of Redis that this is tested with. Valkey names the version of Redis that it is compatible with.
const OLDEST: u32 = 7;

/// The name of no record, whose hash tells the key of the store.
const FINGERPRINT: &str = "host/key-fingerprint";

/// Bytes of that hash which are noted: enough to notice another key.
const FINGERPRINT_BYTES: usize = 8;

/// How long the server waits for its replicas, in milliseconds. They answer at once; meanwhile the connection, which
/// all calls share, carries out nothing else. It has to be less than an attempt may last.
const REPLICATED_WITHIN_MS: u32 = 500;

/// Bytes of the time of expiry before a sealed value.
const EXPIRY_BYTES: usize = 8;

/// How long an operation waits for the time of a cluster: the node that tells it may be away where that of the record is not.
const TIME_WITHIN: Duration = Duration::from_millis(900);

/// The time of the node of a cluster that has this key. Without a key, each process would ask another node.
static TIME: Script = Script::new("return redis.call('TIME')");

/// Replaces a record that is still what was read. The arguments: what was read, the new value, and its life in
/// milliseconds or nothing.
static SWAP: Script = Script::new(
    r"local present = redis.call('GET', KEYS[1])
if present == ARGV[2] then return 1 end
if present ~= ARGV[1] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1",
);

/// Deletes a record that is still what was read, and tells whether it was. The argument: what was read.
static TAKE: Script = Script::new(
    r"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])",
);

/// How a store is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// The servers.
    pub url: RedisUrl,
    /// The prefix of the names of all keys.
    pub prefix: String,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The servers cannot be reached, or refuse.
    #[error("the secret store cannot be used: {0}")]
    Unavailable(StoreError),
    /// The address or a certificate cannot be used.
    #[error("the secret store {place} cannot be used: {reason}")]
    Setup {
        /// The servers.
        place: String,
        /// Why.
        reason: String,
    },
    /// The server is too old.
    #[error("the secret store {place} is Redis {found}; at least Redis {OLDEST} or Valkey is needed")]
    TooOld {
        /// The servers.
        place: String,
        /// Its version.
        found: String,
    },
    /// The records are under another key.
    #[error(
        "the secret store {place} was written with another key than the one in {key}. Nothing was changed. Restore its \
         key, or choose another prefix (--store-prefix) and sign in again"
    )]
    WrongKey {
        /// The servers.
        place: String,
        /// Where the key comes from.
        key: String,
    },
    /// There is no key, and none is made here, because all processes need the same one.
    #[error(
        "there is no key of the secret store {place} in {key}: copy the file of another server there. The first is made by \
         `openssl rand -base64 32`, or, where a key vault wraps it, by `entra-mcp store wrap-key`"
    )]
    KeyMissing {
        /// The servers.
        place: String,
        /// Where the key was looked for.
        key: String,
    },
    /// There is no key, for another reason.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Records may have been passed over.
    #[error(
        "not every record of the secret store {place} was seen, because {reason}. Nothing was changed. Run this again when \
         the servers are at rest: of a cluster, `redis-cli --cluster check` says whether it is"
    )]
    Unsettled {
        /// The servers.
        place: String,
        /// What has happened to the servers.
        reason: &'static str,
    },
}

impl From<StoreError> for RedisError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

/// The store.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<OpenRedis>,
}

struct OpenRedis {
    link: Link,
    cipher: Arc<Cipher>,
    prefix: String,
    clock: Arc<dyn Clock>,
    time: ServerClock,
    source: Arc<dyn KeySource>,
    wait_replicas: u8,
}

/// A record as it is stored: the time of expiry, then the sealed value.
struct Stored<'a> {
    expires_at: Option<i64>,
    sealed: &'a [u8],
}

impl RedisStore {
    /// Connects, and checks that the server is new enough and that the key is that of its records. A store without records
    /// takes the key; it is not made here, because all processes need the same one.
    pub async fn connect(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RedisError> {
        let inner = Self::prepared(options, source, clock).await?;
        inner.check_key(true).await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads the keys, and checks the server.
    async fn prepared(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<OpenRedis, RedisError> {
        let given = options.clone();
        // Where the key is may not answer at once.
        let prepared = tokio::task::spawn_blocking(move || OpenRedis::prepare(&given, source, clock));
        let failed = |error: tokio::task::JoinError| RedisError::Setup {
            place: options.url.to_string(),
            reason: error.to_string(),
        };
        let inner = prepared.await.map_err(failed)??;
        inner.check_server().await?;
        Ok(inner)
    }

    /// A rate limiter that counts in this store.
    pub fn rate_limiter(&self, rates: HashMap<String, Rate>) -> RedisRateLimiter {
        RedisRateLimiter::new(Arc::clone(&self.inner), Arc::clone(&self.inner.clock), rates)
    }
}

impl OpenRedis {
    fn prepare(options: &RedisOptions, source: Arc<dyn KeySource>, clock: Arc<dyn Clock>) -> Result<Self, RedisError> {
        let setup = |reason: String| RedisError::Setup { place: options.url.to_string(), reason };
        let roots = if options.url.tls { roots(options).map_err(setup)? } else { None };
        if options.url.tls {
            // The client of Redis asks for the provider of the process. An embedding program may have set one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let link = Link::new(&options.url, roots, Arc::clone(&clock)).map_err(|error| setup(error.to_string()))?;
        let missing = || RedisError::KeyMissing { place: options.url.to_string(), key: source.place() };
        let keys = source.read()?.ok_or_else(missing)?;
        let cipher = Cipher::new(&keys, Arc::clone(&source), Arc::clone(&clock)).ok_or(KeyError::NoRandomness)?;
        let time = ServerClock::new(Arc::clone(&clock));
        let (prefix, wait_replicas) = (options.prefix.clone(), options.url.wait_replicas);
        Ok(Self { link, cipher: Arc::new(cipher), prefix, clock, time, source, wait_replicas })
    }

    /// Refuses a server that is too old, and warns if it may throw records away. A server that does not tell is believed.
    async fn check_server(&self) -> Result<(), RedisError> {
        let link = &self.link;
        let ping = link.within(async { link.ask::<String>(&redis::cmd("PING"), Repeat::Harmless).await });
        ping.await.map_err(RedisError::Unavailable)?;
        if self.wait_replicas > 0 {
            // A user that may not wait is noticed now, and not when the first code is used.
            let mut command = redis::cmd("WAIT");
            command.arg(0).arg(1);
            let replicas = link.within(async { link.ask::<u64>(&command, Repeat::Harmless).await });
            let (replicas, wanted) = (replicas.await.map_err(RedisError::Unavailable)?, self.wait_replicas);
            if replicas < u64::from(wanted) {
                tracing::warn!(store = link.place(), replicas, wanted, "fewer replicas are there than are waited for");
            }
        }
        let read: Result<(), StoreError> = link
            .within(async {
                self.read_time().await;
                Ok(())
            })
            .await;
        if read.is_err() || !self.time.is_read() {
            tracing::warn!(
                store = link.place(),
                "the server does not tell its time, so records expire by the clock of each machine: allow the command TIME"
            );
        }
        let told: Result<BTreeMap<String, String>, StoreError> = link
            .within(async {
                let info = redis::cmd("INFO");
                if link.is_cluster() {
                    // Each master is asked, and its answer is under its address.
                    return link.ask::<BTreeMap<String, String>>(&info, Repeat::Harmless).await;
                }
                let told = link.ask::<String>(&info, Repeat::Harmless).await?;
                Ok(BTreeMap::from([(link.place().to_owned(), told)]))
            })
            .await;
        match told {
            Ok(told) => told.iter().try_for_each(|(place, told)| information::check(place, told)),
            Err(_) => {
                tracing::debug!(store = link.place(), "the server does not tell its version");
                Ok(())
            }
        }
    }

    /// Refuses the key of another store. `note`: a store without records gets this one.
    async fn check_key(&self, note: bool) -> Result<(), RedisError> {
        let link = &self.link;
        let key = self.fingerprint_key();
        let hash = self.cipher.hidden_name(FINGERPRINT);
        let mine = URL_SAFE_NO_PAD.encode(hash.get(..FINGERPRINT_BYTES).unwrap_or_default());
        let noted = link.within(async {
            if note {
                link.ask::<()>(redis::cmd("SET").arg(&key).arg(&mine).arg("NX"), Repeat::Harmless).await?;
            }
            link.ask::<Option<String>>(redis::cmd("GET").arg(&key), Repeat::Harmless).await
        });
        match noted.await.map_err(RedisError::Unavailable)? {
            Some(noted) if noted != mine => {
                Err(RedisError::WrongKey { place: link.place().to_owned(), key: self.source.place() })
            }
            _ => Ok(()),
        }
    }

    /// Where the hash of [`FINGERPRINT`] is.
    fn fingerprint_key(&self) -> String {
        format!("{}key", self.prefix)
    }

    fn key(&self, name: &HiddenName) -> String {
        format!("{}r:{}", self.prefix, encoded(name))
    }

    /// Unix time as the server has it.
    fn now(&self) -> i64 {
        self.time.now_seconds()
    }

    /// Asks the server for its time, if that is due. Without an answer, it is counted on as before.
    async fn read_time(&self) {
        let Some(asked_at) = self.time.question(self.link.connections()) else { return };
        let (seconds, micros) = match self.told_time().await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, store = self.link.place(), "the server does not tell its time");
                return;
            }
        };
        let server = Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros));
        if let Some(ahead) = self.time.note(asked_at, server) {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            tracing::warn!(
                store = self.link.place(),
                "the clock of this machine is {} s {side} that of the store, by which records expire: set the clocks",
                ahead.unsigned_abs()
            );
        }
    }

    async fn told_time(&self) -> Result<(u64, u64), StoreError> {
        if !self.link.is_cluster() {
            return self.link.ask(&redis::cmd("TIME"), Repeat::Harmless).await;
        }
        let key = self.fingerprint_key();
        let told = TIME.run(&self.link, Repeat::Harmless, |command| {
            command.arg(1).arg(&key);
        });
        // There is nothing to count on from before the first answer.
        let bound = if self.time.is_read() { TIME_WITHIN } else { ANSWER_WITHIN };
        let late = |_| StoreError::Unavailable(format!("{} has not told its time in time", self.link.place()));
        tokio::time::timeout(bound, told).await.map_err(late)?
    }

    /// What a record says. `None`: it has expired. A key that is not known here is looked for.
    async fn open(&self, key: &str, name: &HiddenName, stored: &[u8]) -> Result<Option<SecretBytes>, StoreError> {
        let mut opened = self.open_now(key, name, stored);
        if matches!(opened, Err(RecordError::UnknownKey)) && self.look_for_keys().await {
            opened = self.open_now(key, name, stored);
        }
        opened.map_err(|error| self.cipher.store_error(error))
    }

    /// Looks for other keys, which may be on another machine than the records; returns whether there may be some.
    async fn look_for_keys(&self) -> bool {
        let cipher = Arc::clone(&self.cipher);
        tokio::task::spawn_blocking(move || cipher.look_for_keys()).await.unwrap_or_default()
    }

    fn open_now(&self, key: &str, name: &HiddenName, stored: &[u8]) -> Result<Option<SecretBytes>, RecordError> {
        let Stored { expires_at, sealed } = Stored::of(stored).ok_or(StoreError::Unreadable)?;
        // The expiry is trusted only after the seal has proved it.
        let value = self.cipher.open(key, name, expires_at, sealed)?;
        Ok(expires_at.is_none_or(|expires_at| expires_at > self.now()).then_some(value))
    }

    /// What is stored for a value, and for how many milliseconds.
    fn seal(
        &self,
        name: &HiddenName,
        value: &SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<(Vec<u8>, Option<u64>), StoreError> {
        let seconds = ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let expires_at = seconds.map(|seconds| self.now().saturating_add(seconds));
        let sealed = self.cipher.seal(name, expires_at, value.reveal())?;
        // The server refuses a life of no time.
        let life = seconds.map(|seconds| seconds.unsigned_abs().saturating_mul(1_000).max(1));
        Ok(([&expires_at.unwrap_or(i64::MIN).to_be_bytes()[..], &sealed].concat(), life))
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.link.ask(redis::cmd("GET").arg(key), Repeat::Harmless).await
    }

    /// Waits until replicas have a write, if the address wants that. `connections`: how many were made until then,
    /// before the write. The server waits for the writes of one connection, so of one that was made since, it cannot
    /// say.
    async fn replicated(&self, connections: u64) -> Result<(), StoreError> {
        if self.wait_replicas == 0 {
            return Ok(());
        }
        let mut command = redis::cmd("WAIT");
        command.arg(self.wait_replicas).arg(REPLICATED_WITHIN_MS);
        let replicas: u64 = self.link.ask(&command, Repeat::Never).await?;
        if replicas >= u64::from(self.wait_replicas) && self.link.connections() == connections {
            return Ok(());
        }
        let wanted = self.wait_replicas;
        Err(StoreError::Unavailable(format!(
            "{}: it is not known that {wanted} replicas have what was written",
            self.link.place()
        )))
    }

    async fn taken(&self, key: &str) -> Result<Option<SecretBytes>, RecordError> {
        self.read_time().await;
        let name = self.cipher.hidden_name(key);
        let place = self.key(&name);
        // Each round that ends without an answer is one in which another process has taken or written the record.
        loop {
            let Some(stored) = self.read(place.as_bytes()).await? else { return Ok(None) };
            // What has expired is the server's to delete, and what cannot be opened is not this process's.
            let Some(value) = self.open_now(key, &name, &stored)? else { return Ok(None) };
            let connections = self.link.connections();
            let deleted: u32 = TAKE
                .run(&self.link, Repeat::Never, |command| {
                    command.arg(1).arg(&place).arg(&stored);
                })
                .await?;
            if deleted == 1 {
                // Without that, the record is lost like one whose answer was: a replica that lacks this write has it
                // again.
                self.replicated(connections).await?;
                return Ok(Some(value));
            }
        }
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<&SecretBytes>,
        value: &SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, RecordError> {
        let name = self.cipher.hidden_name(key);
        self.read_time().await;
        let (place, (stored, life)) = (self.key(&name), self.seal(&name, value, ttl)?);
        let mut connections = 0;
        // Each round that ends without an answer is one in which another process has written.
        loop {
            let before = self.read(place.as_bytes()).await?;
            // The answer to the command that wrote this was lost.
            if before.as_ref() == Some(&stored) {
                self.replicated(connections).await?;
                return Ok(true);
            }
            let present = match &before {
                Some(before) => self.open_now(key, &name, before)?,
                None => None,
            };
            let matches = match (&present, expected) {
                (None, None) => true,
                (Some(present), Some(expected)) => same(present.reveal(), expected.reveal()),
                _ => false,
            };
            if !matches {
                return Ok(false);
            }
            connections = self.link.connections();
            let written = match &before {
                Some(before) => {
                    SWAP.run::<u32>(&self.link, Repeat::Harmless, |command| {
                        let life = life.map(|life| life.to_string()).unwrap_or_default();
                        command.arg(1).arg(&place).arg(before).arg(&stored).arg(life);
                    })
                    .await?
                        == 1
                }
                None => {
                    let mut command = set(&place, &stored, life);
                    let written: Option<String> = self.link.ask(command.arg("NX"), Repeat::Harmless).await?;
                    written.is_some()
                }
            };
            if written {
                self.replicated(connections).await?;
                return Ok(true);
            }
        }
    }
}

impl<'a> Stored<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (expires_at, sealed) = bytes.split_first_chunk::<EXPIRY_BYTES>()?;
        let expires_at = i64::from_be_bytes(*expires_at);
        Some(Self { expires_at: (expires_at != i64::MIN).then_some(expires_at), sealed })
    }
}

#[async_trait]
impl SecretStore for RedisStore {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let store = &self.inner;
        let name = store.cipher.hidden_name(key);
        let place = store.key(&name);
        let read = store.link.within(async {
            store.read_time().await;
            store.read(place.as_bytes()).await
        });
        match read.await? {
            Some(stored) => store.open(key, &name, &stored).await,
            None => Ok(None),
        }
    }

    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        let store = &self.inner;
        let name = store.cipher.hidden_name(key);
        let write = store.link.within(async {
            store.read_time().await;
            let (stored, life) = store.seal(&name, &value, ttl)?;
            store.link.ask::<()>(&set(&store.key(&name), &stored, life), Repeat::Never).await
        });
        write.await
    }

    async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let store = &self.inner;
        let take = || store.link.within(store.taken(key));
        let mut taken = take().await;
        if matches!(taken, Err(RecordError::UnknownKey)) && store.look_for_keys().await {
            taken = take().await;
        }
        taken.map_err(|error| store.cipher.store_error(error))
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<SecretBytes>,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let store = &self.inner;
        let swap = || store.link.within(store.swap(key, expected.as_ref(), &value, ttl));
        let mut swapped = swap().await;
        if matches!(swapped, Err(RecordError::UnknownKey)) && store.look_for_keys().await {
            swapped = swap().await;
        }
        swapped.map_err(|error| store.cipher.store_error(error))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let store = &self.inner;
        let place = store.key(&store.cipher.hidden_name(key));
        let mut command = redis::cmd("DEL");
        store.link.within(store.link.ask(command.arg(place), Repeat::Never)).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("place", &self.inner.link.place()).finish_non_exhaustive()
    }
}

fn set(key: &str, stored: &[u8], life: Option<u64>) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(stored);
    if let Some(life) = life {
        command.arg("PX").arg(life);
    }
    command
}

/// A hidden name as a part of a key.
fn encoded(name: &HiddenName) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

/// The system's roots of trust and the configured ones, as PEM. `None`: those of Mozilla.
fn roots(options: &RedisOptions) -> Result<Option<Vec<u8>>, String> {
    let mut pem = Vec::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // The client refuses all of them for one that it cannot use.
        if rustls::RootCertStore::empty().add(certificate.clone()).is_ok() {
            let text = STANDARD.encode(&certificate);
            pem.extend(format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into_bytes());
        }
    }
    if let Some(file) = &options.ca_file {
        let more = std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        pem.extend(more);
    }
    Ok(Some(pem).filter(|pem| !pem.is_empty()))
}
