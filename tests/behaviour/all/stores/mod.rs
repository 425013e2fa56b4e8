//! Stores behind the one port: what holds for each of them, what happens while a store on the network is away, and servers
//! that share one.

mod cluster;
mod commands;
mod competition;
mod contract;
#[cfg(target_os = "linux")]
mod disk;
mod examined;
mod full;
mod keyring;
mod killed;
mod limits;
mod lost_answers;
mod outage;
mod replicas;
#[cfg(target_os = "linux")]
mod slow;
mod stopped;

use std::sync::Arc;

use entra_mcp_plugin::clock::{Clock, ManualClock};
use entra_mcp_plugin::secret_store::{MemoryStore, SecretBytes, SecretStore, SqliteStore};
use tempfile::TempDir;

use crate::support::redis::Redis;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Sqlite,
    Redis,
    Valkey,
}

/// A store, and what it needs as long as it is used.
struct Bench {
    clock: ManualClock,
    place: Place,
}

enum Place {
    Memory(Arc<dyn SecretStore>),
    Sqlite(TempDir),
    Redis(Redis),
}

impl Bench {
    async fn new(kind: Kind) -> Self {
        let clock = ManualClock::new(1_000_000);
        let place = match kind {
            Kind::Memory => Place::Memory(Arc::new(MemoryStore::new(Arc::new(clock.clone())))),
            Kind::Sqlite => Place::Sqlite(tempfile::tempdir().unwrap()),
            Kind::Redis => Place::Redis(Redis::start("redis-server").await),
            Kind::Valkey => Place::Redis(Redis::start("valkey-server").await),
        };
        Self { clock, place }
    }

    /// By how many seconds two processes may differ about the time, with one for the second that is under way. Those on one
    /// Redis read its clock when they connect, and count on by that of the test, which stands still between two connections.
    fn apart(&self) -> u64 {
        match &self.place {
            Place::Redis(_) => 60,
            Place::Memory(_) | Place::Sqlite(_) => 1,
        }
    }

    /// The store as another process has it, where it outlives one.
    async fn open(&self) -> Arc<dyn SecretStore> {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        match &self.place {
            Place::Memory(store) => Arc::clone(store),
            Place::Sqlite(folder) => Arc::new(SqliteStore::open(&folder.path().join("store.db"), clock).unwrap()),
            Place::Redis(redis) => Arc::new(redis.open(clock).await),
        }
    }
}

fn bytes(value: &str) -> SecretBytes {
    SecretBytes::new(value.into())
}

fn text(value: Option<SecretBytes>) -> Option<String> {
    value.map(|value| String::from_utf8(value.reveal().to_vec()).unwrap())
}

/// The same test over each store.
macro_rules! for_each_store {
    ($($(#[$meta:meta])* $name:ident;)*) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(super::super::Kind::Memory).await; })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() { super::$name(super::super::Kind::Sqlite).await; })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            #[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
            async fn $name() { super::$name(super::super::Kind::Redis).await; })*
        }
        mod valkey {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            #[cfg_attr(not(tool = "valkey-server"), ignore = "needs valkey-server, which newer releases of Debian have")]
            async fn $name() { super::$name(super::super::Kind::Valkey).await; })*
        }
    };
}

/// The same test over each server that speaks the protocol of Redis.
macro_rules! for_each_server {
    ($($name:ident;)*) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
            async fn $name() { super::$name("redis-server").await; })*
        }
        mod valkey {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[cfg_attr(not(tool = "valkey-server"), ignore = "needs valkey-server, which newer releases of Debian have")]
            async fn $name() { super::$name("valkey-server").await; })*
        }
    };
}

use for_each_server;
use for_each_store;
