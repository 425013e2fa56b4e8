//! A store on the network that is only looked at, as `doctor` and `store check` do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use entra_mcp_plugin::clock::{Clock, ManualClock};
use entra_mcp_plugin::secret_store::{
    DataKeys, GivenDataKeys, KEY_BYTES, RedisError, RedisOptions, RedisStore, SecretStore as _, StoreError, StoreReport,
};

use super::{bytes, text};
use crate::support::patience::eventually;
use crate::support::redis::{Redis, keys};

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(1_000_000))
}

/// Another key than that of all stores of these tests.
fn other_keys() -> Arc<GivenDataKeys> {
    Arc::new(GivenDataKeys::new(DataKeys::parse(&[8; KEY_BYTES]).unwrap(), "another"))
}

/// The keys of the records below a prefix.
async fn records(redis: &Redis, prefix: &str) -> BTreeSet<String> {
    let begin = format!("{prefix}r:");
    let told = redis.say(&format!("KEYS {begin}*")).await;
    told.lines().filter(|line| line.starts_with(&begin)).map(str::to_owned).collect()
}

/// Writes a record, and returns its key.
async fn written(redis: &Redis, store: &RedisStore, name: &str) -> String {
    let before = records(redis, "test:").await;
    store.put(name, bytes("v"), None).await.unwrap();
    let after = records(redis, "test:").await;
    after.difference(&before).next().unwrap().clone()
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_check_counts_what_is_damaged_foreign_or_expired_and_changes_nothing() {
    let redis = Redis::start("redis-server").await;
    let store = redis.open(clock()).await;
    // One that has expired, and that the server has kept.
    let expired = eventually(|| async {
        store.put("expired", bytes("v"), Some(Duration::from_secs(1))).await.unwrap();
        let key = records(&redis, "test:").await.into_iter().next()?;
        redis.say(&format!("PERSIST {key}")).await.starts_with(":1").then_some(())
    });
    expired.await.unwrap();
    written(&redis, &store, "good").await;
    let longer = written(&redis, &store, "longer").await;
    redis.say(&format!("APPEND {longer} x")).await;
    let list = written(&redis, &store, "list").await;
    redis.say(&format!("DEL {list}")).await;
    redis.say(&format!("LPUSH {list} x")).await;
    // Names that no record has.
    redis.say("SET test:r:short x").await;
    redis.say(r#"SET "test:r:\xff" x"#).await;
    // One under another key.
    let elsewhere = RedisOptions { prefix: "other:".to_owned(), ..redis.options() };
    let other = RedisStore::connect(&elsewhere, other_keys(), clock()).await.unwrap();
    other.put("k", bytes("v"), None).await.unwrap();
    for key in records(&redis, "other:").await {
        redis.say(&format!("COPY {key} {}", key.replace("other:", "test:"))).await;
    }
    let before = redis.disk();
    let report = eventually(|| async {
        let report = RedisStore::check(&redis.options(), keys(), clock()).await.unwrap();
        (report.expired == 1).then_some(report)
    });
    let report = report.await.unwrap();
    let expected = StoreReport {
        records: 7,
        bytes: report.bytes,
        expired: 1,
        newest_key: 2,
        unknown_key: 1,
        damaged: 4,
        ..StoreReport::default()
    };
    assert_eq!(report, expected);
    assert!(!report.is_sound());
    assert!(redis.disk() == before, "the server has written nothing");
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_store_that_is_looked_at_is_read_and_neither_changed_nor_claimed() {
    let redis = Redis::start("redis-server").await;
    let before = redis.disk();
    let empty = RedisStore::look(&redis.options(), keys(), clock()).await.unwrap();
    assert!(empty.get("k").await.unwrap().is_none());
    assert!(redis.disk() == before, "it has not taken the key");
    // So another key can still be that of this store.
    let store = RedisStore::connect(&redis.options(), other_keys(), clock()).await.unwrap();
    store.put("k", bytes("v"), None).await.unwrap();
    let before = redis.disk();
    let refused = RedisStore::look(&redis.options(), keys(), clock()).await.err();
    assert!(matches!(refused, Some(RedisError::WrongKey { .. })), "{refused:?}");
    let looked_at = RedisStore::look(&redis.options(), other_keys(), clock()).await.unwrap();
    assert_eq!(text(looked_at.get("k").await.unwrap()).as_deref(), Some("v"));
    let refusal = StoreError::Unavailable("it is only looked at".to_owned());
    assert_eq!(looked_at.put("k", bytes("w"), None).await.unwrap_err(), refusal);
    assert_eq!(looked_at.take("k").await.unwrap_err(), refusal);
    assert_eq!(looked_at.compare_and_swap("k", Some(bytes("v")), bytes("w"), None).await.unwrap_err(), refusal);
    assert_eq!(looked_at.delete("k").await.unwrap_err(), refusal);
    assert!(redis.disk() == before, "the server has written nothing");
    assert_eq!(text(store.get("k").await.unwrap()).as_deref(), Some("v"));
}
