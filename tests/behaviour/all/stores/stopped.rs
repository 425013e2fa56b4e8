//! A store on the network that keeps silent: how long a call waits for it, by the clock of the runtime, which stands still and
//! moves only with its timers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use entra_mcp_plugin::clock::ManualClock;
use entra_mcp_plugin::rate_limiter::{Rate, RateLimiter as _};
use entra_mcp_plugin::secret_store::{RedisStore, SecretStore as _, StoreError};
use futures_util::future::join_all;

use super::{bytes, text};
use crate::support::patience::eventually;
use crate::support::redis::{Redis, keys};
use crate::support::redis_cluster::Cluster;

/// Two seconds, and one step of the timers, so that what ends then is seen first.
const BOUND: Duration = Duration::from_millis(2_001);

/// What an operation has come to when it has to have ended.
async fn in_time<T>(operation: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, operation).await.expect("an operation ends within two seconds")
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn every_operation_says_within_two_seconds_that_the_store_is_unavailable() {
    let redis = Redis::start("redis-server").await;
    let store = redis.open(Arc::new(ManualClock::new(1_000_000))).await;
    store.put("kept", bytes("refresh token"), None).await.unwrap();
    let rate = Rate { count: 10, per: Duration::from_secs(3_600) };
    let limiter = store.rate_limiter(HashMap::from([("token".to_owned(), rate)]));
    redis.hang();
    tokio::time::pause();
    // At first each call waits on the connection of before, and later ones know that others have waited in vain.
    for round in 0..3 {
        let (get, put, take, swap, delete, admitted) = tokio::join!(
            in_time(store.get("kept")),
            in_time(store.put("k", bytes("v"), None)),
            in_time(store.take("k")),
            in_time(store.compare_and_swap("k", None, bytes("v"), None)),
            in_time(store.delete("k")),
            in_time(limiter.admit("token", "client")),
        );
        for error in [get.err(), put.err(), take.err(), swap.err(), delete.err()] {
            assert!(matches!(error, Some(StoreError::Unavailable(_))), "{round}: {error:?}");
        }
        assert_eq!(admitted, Ok(()), "the process counts by itself");
    }
    tokio::time::resume();
    redis.go_on();
    let found = eventually(|| async { store.get("kept").await.ok() }).await.unwrap();
    assert_eq!(text(found).as_deref(), Some("refresh token"));
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn every_operation_on_a_cluster_ends_within_two_seconds_when_a_master_keeps_silent() {
    let cluster = Cluster::start().await;
    let clock = Arc::new(ManualClock::new(1_000_000));
    let store = RedisStore::connect(&cluster.options(), keys(), clock).await.unwrap();
    let names: Vec<_> = (0..24).map(|number| format!("session/{number}")).collect();
    for name in &names {
        store.put(name, bytes("v"), None).await.unwrap();
    }
    cluster.replicated().await;
    cluster.masters[0].hang();
    tokio::time::pause();
    for round in 0..3 {
        let answers = join_all(names.iter().map(|name| in_time(store.get(name)))).await;
        let away = |answer: &Result<_, _>| matches!(answer, Err(StoreError::Unavailable(_)));
        assert!(answers.iter().any(away), "{round}: the records of the first master are away");
        assert!(answers.iter().all(|answer| away(answer) || matches!(answer, Ok(Some(_)))), "{round}: {answers:?}");
    }
    tokio::time::resume();
    cluster.masters[0].go_on();
    let back = || async {
        let answers = join_all(names.iter().map(|name| store.get(name))).await;
        answers.iter().all(|answer| matches!(answer, Ok(Some(_)))).then_some(())
    };
    eventually(back).await.unwrap();
}
