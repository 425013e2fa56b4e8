//! What an operation costs in each store, with one record and with many: the ratio should not grow with their number.
//!
//! `cargo bench --bench store` fills the stores with 1,000,000 records, which takes some minutes and 4 GiB of disk and memory
//! each; `-- 20000` with as many as are named. The store in memory keeps no more than it is made for. A Redis of its own is
//! started where `redis-server` is installed, and left out, with a line that says so, where it is not.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time, and starts a server")]

mod redis;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::secret_store::{
    DataKeys, GivenDataKeys, KEY_BYTES, MemoryStore, RedisOptions, RedisStore, RedisUrl, SecretBytes, SecretStore,
    SqliteStore, StoreError, StoreLimits,
};
use redis::Redis;

/// Records in a store that is full, unless the command line says otherwise.
const MANY: usize = 1_000_000;

/// The same for the store in memory, which keeps 50,000 records at most.
const MANY_IN_MEMORY: usize = 40_000;

/// Bytes of a record: as those of a session.
const RECORD_BYTES: usize = 2_048;

/// Operations of each kind that are measured, one after the other.
const OPERATIONS: u32 = 500;

/// From one record that is read to the next: a prime, so that the records are spread over the store.
const STRIDE: usize = 104_729;

/// How many records are written at a time while a store is filled.
const FILLERS: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let many = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(MANY);
    let folder = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    println!("{:<8}{:>10}{:>10}{:>12}{:>12}{:>8}", "store", "records", "operation", "with one", "with all", "ratio");
    measure("memory", Arc::new(MemoryStore::new(Arc::clone(&clock))), many.min(MANY_IN_MEMORY)).await?;
    let sqlite = SqliteStore::open(&folder.path().join("store").join("store.db"), Arc::clone(&clock))?;
    let sqlite = sqlite.limited(StoreLimits { records: u64::MAX, bytes: u64::MAX });
    measure("sqlite", Arc::new(sqlite), many).await?;
    match in_redis(clock).await {
        Some((_server, store)) => measure("redis", Arc::new(store), many).await?,
        None => println!("redis: left out, because redis-server does not start here"),
    }
    Ok(())
}

async fn in_redis(clock: Arc<dyn Clock>) -> Option<(Redis, RedisStore)> {
    let redis = Redis::start()?;
    let options = RedisOptions { url: RedisUrl::parse(&redis.url()).ok()?, prefix: "bench:".to_owned(), ca_file: None };
    let keys = Arc::new(GivenDataKeys::new(DataKeys::parse(&[7; KEY_BYTES])?, "the benchmark"));
    let store = RedisStore::connect(&options, keys, clock).await.ok()?;
    Some((redis, store))
}

async fn measure(name: &str, store: Arc<dyn SecretStore>, many: usize) -> Result<(), StoreError> {
    fill(&store, 1).await?;
    let few = operations(&*store, 1).await?;
    fill(&store, many).await?;
    let full = operations(&*store, many).await?;
    for ((operation, few), (_, full)) in few.into_iter().zip(full) {
        let micros = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6 / f64::from(OPERATIONS));
        let ratio = full.as_secs_f64() / few.as_secs_f64();
        println!("{name:<8}{many:>10}{operation:>10}{:>12}{:>12}{ratio:>8.2}", micros(few), micros(full));
    }
    Ok(())
}

fn value(number: u8) -> SecretBytes {
    SecretBytes::new(vec![number; RECORD_BYTES])
}

async fn fill(store: &Arc<dyn SecretStore>, many: usize) -> Result<(), StoreError> {
    let fillers = (0..FILLERS).map(|filler| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for number in (filler..many).step_by(FILLERS) {
                store.put(&format!("filled/{number}"), value(1), Some(Duration::from_secs(86_400))).await?;
            }
            Ok::<(), StoreError>(())
        })
    });
    for filled in futures_util::future::join_all(fillers).await {
        filled.map_err(|error| StoreError::Unavailable(error.to_string()))??;
    }
    Ok(())
}

/// How long all operations of each kind take in a store of so many records. What is read is spread over all of them.
async fn operations(store: &dyn SecretStore, records: usize) -> Result<Vec<(&'static str, Duration)>, StoreError> {
    let (mut put, mut get, mut swap, mut take) = (Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for number in 0..OPERATIONS {
        let name = format!("measured/{number}");
        let filled = format!("filled/{}", usize::try_from(number).unwrap_or_default() * STRIDE % records.max(1));
        let mut since = Instant::now();
        let mut lap = |total: &mut Duration| {
            *total += since.elapsed();
            since = Instant::now();
        };
        store.put(&name, value(2), Some(Duration::from_secs(86_400))).await?;
        lap(&mut put);
        store.get(&filled).await?;
        lap(&mut get);
        store.compare_and_swap(&name, Some(value(2)), value(3), None).await?;
        lap(&mut swap);
        store.take(&name).await?;
        lap(&mut take);
    }
    Ok(vec![("put", put), ("get", get), ("cas", swap), ("take", take)])
}
