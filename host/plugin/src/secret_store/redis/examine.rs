//! Opens every record of a server, or of all masters of a cluster, and changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};

use super::cluster::{Nodes, Unseen, View};
use super::link::{Link, Repeat};
use super::{OpenRedis, RedisError, RedisOptions, RedisStore, Stored};
use crate::clock::Clock;
use crate::secret_store::cipher::{HiddenName, ValueState, key_named_in};
use crate::secret_store::data_key::{DataKeys, KeyError, KeyId, Unchanged, key_id};
use crate::secret_store::{KeySource, ReadOnly, StoreError, StoreReport};

/// About how many keys the server looks at for one answer. Other clients wait meanwhile.
const BATCH: u32 = 500;

impl RedisStore {
    /// Opens every record below the prefix, and changes nothing. What is written or removed meanwhile may be counted or not.
    /// While slots of a cluster move, it is an error, since records that move may be passed over. So it is if the server
    /// restarts or another one takes over meanwhile.
    pub async fn check(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<StoreReport, RedisError> {
        let store = OpenRedis::prepare(options, Arc::new(Unchanged(source)), clock)?;
        store.check_server().await?;
        store.check_key(false).await?;
        let keys = store.source.read()?;
        let newest = keys.as_ref().and_then(|keys| key_id(keys.keys().next()?.as_slice()));
        let (mut report, now) = (StoreReport::default(), store.now());
        store
            .each(|name, stored| {
                report.records = report.records.saturating_add(1);
                report.bytes = report.bytes.saturating_add(stored.len() as u64);
                let sealed = match (name, Stored::of(stored)) {
                    (Some(name), Some(Stored { expires_at, sealed })) => {
                        if expires_at.is_some_and(|expires_at| expires_at <= now) {
                            report.expired = report.expired.saturating_add(1);
                        }
                        match store.cipher.examine(&name, expires_at, sealed) {
                            // There is no earlier format here.
                            ValueState::Earlier => ValueState::Damaged,
                            sealed => sealed,
                        }
                    }
                    _ => ValueState::Damaged,
                };
                report.count(sealed, newest);
            })
            .await?;
        Ok(report)
    }

    /// Connects as [`connect`](Self::connect) does, and changes nothing: a store without records does not take the key, and
    /// every function that would change a record is refused.
    pub async fn look(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<ReadOnly, RedisError> {
        let inner = Self::prepared(options, Arc::new(Unchanged(source)), clock).await?;
        inner.check_key(false).await?;
        Ok(ReadOnly::new(Arc::new(Self { inner: Arc::new(inner) })))
    }

    /// Whether this is the key of the records, if there are any; changes nothing.
    pub async fn check_key(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<(), RedisError> {
        OpenRedis::prepare(options, source, clock)?.check_key(false).await
    }

    /// The keys of the store with a new one before them. The caller puts them where they are kept.
    pub async fn rotated_keys(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<DataKeys, RedisError> {
        let (keys, used) = Self::keys_and_used(options, source, clock).await?;
        Ok(keys.rotated(Some(&used))?)
    }

    /// The keys of the store, of which the last one was [announced](DataKeys::announced), with that one before the others. The
    /// caller puts them where they are kept.
    pub async fn promoted_keys(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<DataKeys, RedisError> {
        let (keys, used) = Self::keys_and_used(options, source, clock).await?;
        Ok(keys.promoted(&used)?)
    }

    /// The keys of the store, and those that records are under.
    async fn keys_and_used(
        options: &RedisOptions,
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<(DataKeys, BTreeSet<KeyId>), RedisError> {
        let store = OpenRedis::prepare(options, source, clock)?;
        store.check_key(false).await?;
        let mut used = BTreeSet::new();
        store
            .each(|_, stored| {
                used.extend(Stored::of(stored).and_then(|stored| key_named_in(stored.sealed)));
            })
            .await?;
        let keys = store.source.read()?.ok_or_else(|| KeyError::Missing { place: store.source.place() })?;
        Ok((keys, used))
    }
}

/// Who has a part of the records.
enum Part<'a> {
    /// The server, which has all.
    Server(&'a Link),
    /// A master of a cluster.
    Master(&'a Link, MultiplexedConnection),
}

impl Part<'_> {
    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::Server(link) => {
                let link = *link;
                Ok(link.within(async { link.ask(command, Repeat::Harmless).await }).await?)
            }
            Self::Master(link, master) => {
                let link = *link;
                let asked =
                    async { command.query_async::<T>(master).await.map_err(|failure| link.unseen(failure.into())) };
                link.within(asked).await
            }
        }
    }
}

impl Link {
    /// Why records are not examined.
    fn unseen(&self, unseen: Unseen) -> RedisError {
        match unseen {
            Unseen::Failed(failure) => RedisError::Unavailable(self.store_error(&failure)),
            Unseen::Unsettled(reason) => RedisError::Unsettled { place: self.place().to_owned(), reason },
        }
    }
}

impl OpenRedis {
    /// Looks at every record below the prefix.
    async fn each(&self, mut look: impl FnMut(Option<HiddenName>, &[u8])) -> Result<(), RedisError> {
        // A server may name a key twice.
        let mut seen = BTreeSet::new();
        let Some(nodes) = self.link.nodes() else {
            return self.each_of(&mut Part::Server(&self.link), &mut seen, &mut look).await;
        };
        let (before, masters) = self.view(nodes).await?;
        before.check().map_err(|unseen| self.link.unseen(unseen))?;
        for master in masters {
            self.each_of(&mut Part::Master(&self.link, master), &mut seen, &mut look).await?;
        }
        let (after, _) = self.view(nodes).await?;
        if before == after {
            return Ok(());
        }
        Err(self.link.unseen(Unseen::Unsettled("slots have gone to other nodes meanwhile")))
    }

    /// The masters of the cluster, and what they say of themselves.
    async fn view(&self, nodes: &Nodes) -> Result<(View, Vec<MultiplexedConnection>), RedisError> {
        let link = &self.link;
        let unseen = |unseen: Unseen| link.unseen(unseen);
        let addresses = link.within(async { nodes.masters().await.map_err(unseen) }).await?;
        let (mut view, mut masters) = (View::default(), Vec::with_capacity(addresses.len()));
        for address in addresses {
            let asked = async {
                let mut master = nodes.connect(&address).await.map_err(|failure| unseen(failure.into()))?;
                view.add(&mut master).await.map_err(unseen)?;
                Ok::<_, RedisError>(master)
            };
            masters.push(link.within(asked).await?);
        }
        Ok((view, masters))
    }

    /// Looks at those of one server that were not seen before.
    async fn each_of(
        &self,
        part: &mut Part<'_>,
        seen: &mut BTreeSet<Vec<u8>>,
        look: &mut impl FnMut(Option<HiddenName>, &[u8]),
    ) -> Result<(), RedisError> {
        let below = format!("{}r:", self.prefix);
        // A cursor tells another server, or the same one after a restart, nothing: it passes over records without an error.
        let connections = self.link.connections();
        let mut cursor = 0_u64;
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(format!("{below}*")).arg("COUNT").arg(BATCH);
            // Names that others have made may be any bytes.
            let (next, found) = part.ask::<(u64, Vec<Vec<u8>>)>(&command).await?;
            for key in found {
                let stored = part.ask::<Option<Vec<u8>>>(redis::cmd("GET").arg(&key)).await;
                let stored = match stored {
                    Ok(Some(stored)) => stored,
                    // It was removed meanwhile.
                    Ok(None) => continue,
                    // It is not even bytes.
                    Err(RedisError::Unavailable(StoreError::Unreadable)) => Vec::new(),
                    Err(error) => return Err(error),
                };
                let name = key.strip_prefix(below.as_bytes()).and_then(|name| URL_SAFE_NO_PAD.decode(name).ok());
                let name = name.and_then(|name| HiddenName::try_from(name).ok());
                if seen.insert(key) {
                    look(name, &stored);
                }
            }
            if self.link.connections() != connections {
                return Err(self.link.unseen(Unseen::Unsettled("the connection has broken meanwhile")));
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
