//! A store on the network that is away, comes back, is the wrong one, or is altered by others.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entra_mcp_plugin::clock::ManualClock;
use entra_mcp_plugin::rate_limiter::{Rate, RateLimiter as _};
use entra_mcp_plugin::secret_store::{
    DataKeys, GivenDataKeys, KEY_BYTES, RedisError, RedisOptions, RedisStore, RedisUrl, SecretBytes, SecretStore,
    StoreError,
};
use futures_util::future::join_all;

use super::{bytes, for_each_server, text};
use crate::host::replicas::Replicas;
use crate::support::pages::{self, replaced};
use crate::support::patience::{eventually, soon};
use crate::support::redis::{Redis, keys, options};
use crate::support::remote::{ALICE, call_request};

const AN_HOUR: i64 = 3_600;

for_each_server! {
    every_operation_says_that_the_store_is_unavailable_and_works_again_when_it_is_back;
    a_server_that_accepts_connections_and_answers_nothing_is_unavailable_too;
    a_restart_between_two_operations_is_not_noticed;
    nothing_that_was_confirmed_is_lost_or_had_twice_while_the_server_is_killed;
    processes_whose_clocks_are_an_hour_apart_share_records;
    a_clock_that_is_set_back_an_hour_loses_no_record;
    the_server_learns_no_name_and_no_value_and_what_it_alters_is_unreadable;
    a_server_that_is_full_refuses_and_throws_nothing_away;
}

async fn open(redis: &Redis) -> RedisStore {
    redis.open(Arc::new(ManualClock::new(1_000_000))).await
}

/// What every operation says.
async fn all_errors(store: &RedisStore) -> Vec<Option<StoreError>> {
    let (get, put, take, swap, delete) = tokio::join!(
        store.get("k"),
        store.put("k", bytes("v"), None),
        store.take("k"),
        store.compare_and_swap("k", None, bytes("v"), None),
        store.delete("k"),
    );
    vec![get.err(), put.err(), take.err(), swap.err(), delete.err()]
}

fn all_unavailable(errors: &[Option<StoreError>]) -> bool {
    errors.iter().all(|error| matches!(error, Some(StoreError::Unavailable(_))))
}

async fn every_operation_says_that_the_store_is_unavailable_and_works_again_when_it_is_back(program: &'static str) {
    let mut redis = Redis::start(program).await;
    let store = open(&redis).await;
    store.put("kept", bytes("refresh token"), None).await.unwrap();
    redis.kill();
    for _ in 0..2 {
        let errors = soon(all_errors(&store)).await.unwrap();
        assert!(all_unavailable(&errors), "{errors:?}");
    }
    redis.run().await;
    let found = eventually(|| async { store.get("kept").await.ok() }).await.unwrap();
    assert_eq!(text(found).as_deref(), Some("refresh token"), "with appendonly, records survive");
    let errors = all_errors(&store).await;
    assert!(errors.iter().all(Option::is_none), "{errors:?}");
}

async fn a_server_that_accepts_connections_and_answers_nothing_is_unavailable_too(program: &'static str) {
    let redis = Redis::start(program).await;
    let store = open(&redis).await;
    redis.hang();
    for _ in 0..2 {
        let errors = soon(all_errors(&store)).await.unwrap();
        assert!(all_unavailable(&errors), "{errors:?}");
    }
    redis.go_on();
    eventually(|| async { store.get("k").await.ok() }).await.unwrap();
}

/// The connection of before is noticed to be broken, so not even one operation fails.
async fn a_restart_between_two_operations_is_not_noticed(program: &'static str) {
    let mut redis = Redis::start(program).await;
    let store = open(&redis).await;
    for round in 0..5 {
        let name = format!("code/{round}");
        store.put(&name, bytes("once"), None).await.unwrap();
        redis.kill();
        redis.run().await;
        assert_eq!(text(store.take(&name).await.unwrap()).as_deref(), Some("once"), "{round}");
    }
}

/// While the server is restarted again and again, each record that a process believes to have is there, and each is taken
/// at most once.
async fn nothing_that_was_confirmed_is_lost_or_had_twice_while_the_server_is_killed(program: &'static str) {
    let mut redis = Redis::start(program).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for worker in 0..4 {
        let (store, rival, done) = (open(&redis).await, open(&redis).await, Arc::clone(&done));
        workers.push(tokio::spawn(async move { work(worker, &store, &rival, &done).await }));
    }
    let watch = open(&redis).await;
    for _ in 0..5 {
        // Until some of the work is done in between.
        let some: Vec<u32> = (0..200).collect();
        for _ in some {
            let _ = watch.put("watch", bytes("v"), None).await;
        }
        redis.kill();
        redis.run().await;
        eventually(|| async { watch.get("watch").await.ok() }).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for rounds in join_all(workers).await {
        assert!(rounds.unwrap() > 0);
    }
}

/// Puts and takes codes, and counts, until all is done; returns how often. Whatever an operation was not answered may have been
/// done or not.
pub(super) async fn work(worker: u32, store: &RedisStore, rival: &RedisStore, done: &AtomicBool) -> u32 {
    let (mut rounds, mut confirmed) = (0_u32, 0_u32);
    while !done.load(Ordering::Relaxed) {
        rounds += 1;
        let (code, counter) = (format!("code/{worker}/{rounds}"), format!("counter/{worker}"));
        if store.put(&code, bytes("once"), None).await.is_ok() {
            let (one, other) = tokio::join!(store.take(&code), rival.take(&code));
            let had = |taken: &Result<Option<SecretBytes>, StoreError>| matches!(taken, Ok(Some(_)));
            assert!(!(had(&one) && had(&other)), "{code} was had twice");
            // If both know what has happened, one of them has it.
            assert!(one.is_err() || other.is_err() || had(&one) || had(&other), "{code} is lost");
        }
        // The counter is never less than what was confirmed.
        let Ok(before) = store.get(&counter).await else { continue };
        let value: u32 = text(before.clone()).map_or(0, |text| text.parse().unwrap());
        assert!(value >= confirmed, "{value} < {confirmed}");
        let next = value + 1;
        if store.compare_and_swap(&counter, before, bytes(&next.to_string()), None).await == Ok(true) {
            confirmed = next;
        }
    }
    rounds
}

async fn processes_whose_clocks_are_an_hour_apart_share_records(program: &'static str) {
    let redis = Redis::start(program).await;
    let behind = redis.open(Arc::new(ManualClock::new(1_000_000))).await;
    let ahead = redis.open(Arc::new(ManualClock::new(1_003_600))).await;
    let minutes = Some(Duration::from_secs(600));
    for (writer, reader) in [(&behind, &ahead), (&ahead, &behind)] {
        writer.put("code", bytes("once"), minutes).await.unwrap();
        assert_eq!(text(reader.get("code").await.unwrap()).as_deref(), Some("once"));
        assert!(reader.compare_and_swap("code", Some(bytes("once")), bytes("twice"), minutes).await.unwrap());
        assert_eq!(text(writer.take("code").await.unwrap()).as_deref(), Some("twice"));
        writer.put("code", bytes("once"), minutes).await.unwrap();
        assert_eq!(text(reader.take("code").await.unwrap()).as_deref(), Some("once"));
    }
}

/// A clock that is set while a process runs changes nothing either.
async fn a_clock_that_is_set_back_an_hour_loses_no_record(program: &'static str) {
    let redis = Redis::start(program).await;
    let clock = ManualClock::new(1_000_000);
    let (here, there) = (redis.open(Arc::new(clock.clone())).await, open(&redis).await);
    there.put("before", bytes("v"), Some(Duration::from_secs(600))).await.unwrap();
    clock.set_back(Duration::from_secs(3_600));
    assert!(here.get("before").await.unwrap().is_some());
    here.put("after", bytes("v"), Some(Duration::from_secs(600))).await.unwrap();
    assert_eq!(text(there.take("after").await.unwrap()).as_deref(), Some("v"));
    assert_eq!(text(here.take("before").await.unwrap()).as_deref(), Some("v"));
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn with_another_key_the_store_is_refused_and_nothing_is_changed() {
    let redis = Redis::start("redis-server").await;
    open(&redis).await.put("k", bytes("v"), None).await.unwrap();
    let before = redis.say("DBSIZE").await;
    let other = Arc::new(GivenDataKeys::new(DataKeys::parse(&[8; KEY_BYTES]).unwrap(), "the variable"));
    let clock = Arc::new(ManualClock::new(0));
    let refused = RedisStore::connect(&redis.options(), other.clone(), clock.clone()).await.unwrap_err();
    assert!(matches!(refused, RedisError::WrongKey { ref key, .. } if key == "the variable"), "{refused}");
    let missing = Arc::new(GivenDataKeys::none("the variable"));
    let refused = RedisStore::connect(&redis.options(), missing, clock.clone()).await.unwrap_err();
    assert!(matches!(refused, RedisError::KeyMissing { .. }), "{refused}");
    assert_eq!(redis.say("DBSIZE").await, before);
    assert_eq!(text(open(&redis).await.get("k").await.unwrap()).as_deref(), Some("v"));
    // Below another prefix is another store.
    let elsewhere = RedisOptions { prefix: "other:".to_owned(), ..redis.options() };
    let store = RedisStore::connect(&elsewhere, other, clock).await.unwrap();
    assert!(store.get("k").await.unwrap().is_none());
}

async fn the_server_learns_no_name_and_no_value_and_what_it_alters_is_unreadable(program: &'static str) {
    let redis = Redis::start(program).await;
    let store = open(&redis).await;
    store.put("recognisable-name", bytes("recognisable-value"), Some(Duration::from_secs(60))).await.unwrap();
    assert!(!redis.disk().windows(12).any(|window| window == b"recognisable"));
    let keys = redis.say("KEYS test:r:*").await;
    let key = keys.lines().find(|line| line.starts_with("test:r:")).unwrap();
    // Longer, altered, with a longer life, and something else.
    let as_it_is =
        || async { (redis.say(&format!("GET {key}")).await, redis.say(&format!("PEXPIRETIME {key}")).await) };
    for damage in [
        format!("APPEND {key} x"),
        format!("SETRANGE {key} 70 x"),
        format!("SETRANGE {key} 6 zz"),
        // It has expired in 1970.
        format!(r#"SETRANGE {key} 4 "\x00\x00\x00\x01""#),
        format!("SET {key} x"),
        format!(r#"EVAL "redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[1], 'x')" 1 {key}"#),
    ] {
        redis.say(&damage).await;
        let before = as_it_is().await;
        assert_eq!(store.get("recognisable-name").await.unwrap_err(), StoreError::Unreadable, "{damage}");
        assert_eq!(store.take("recognisable-name").await.unwrap_err(), StoreError::Unreadable, "{damage}");
        let swapped = store.compare_and_swap("recognisable-name", None, bytes("x"), None).await;
        assert_eq!(swapped.unwrap_err(), StoreError::Unreadable, "{damage}");
        assert_eq!(as_it_is().await, before, "{damage}");
        store.put("recognisable-name", bytes("recognisable-value"), Some(Duration::from_secs(60))).await.unwrap();
    }
    store.put("another-name", bytes("another-value"), Some(Duration::from_secs(60))).await.unwrap();
    let keys = redis.say("KEYS test:r:*").await;
    let another = keys.lines().find(|line| line.starts_with("test:r:") && *line != key).unwrap();
    redis.say(&format!("COPY {another} {key} REPLACE")).await;
    assert_eq!(store.get("recognisable-name").await.unwrap_err(), StoreError::Unreadable);
}

async fn a_server_that_is_full_refuses_and_throws_nothing_away(program: &'static str) {
    let redis = Redis::start_with(program, &["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]).await;
    let store = open(&redis).await;
    let large = SecretBytes::new(vec![7; 100_000]);
    let mut stored = 0;
    let refused = loop {
        match store.put(&format!("k/{stored}"), large.clone(), None).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, StoreError::Full(text) if text.contains("maxmemory")), "{refused}");
    for number in 0..stored {
        assert!(store.get(&format!("k/{number}")).await.unwrap().is_some(), "{number} of {stored}");
    }
}

/// TLS, a user of the server's own, and its password.
#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_user_signs_in_over_tls_and_no_error_tells_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("server.pem"), certificate.pem()).unwrap();
    std::fs::write(path("server.key"), key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port_text = port.to_string();
    let page = pages::Page::read("how-to/run-several-replicas.md");
    let user = page.blocks("ini").into_iter().find(|block| block.starts_with("user ")).expect("the page has a user");
    let user = replaced(&user, "PASSWORD", "recognisable-password");
    let users = path("users.acl");
    std::fs::write(&users, format!("user default on nopass ~* +@all\n{user}\n")).unwrap();
    let (pem, private) = (path("server.pem"), path("server.key"));
    let _redis = Redis::start_with(
        "redis-server",
        &[
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &pem,
            "--tls-key-file",
            &private,
            "--tls-ca-cert-file",
            &pem,
            "--tls-auth-clients",
            "no",
            "--aclfile",
            &users,
        ],
    )
    .await;
    let url = |password: &str| RedisUrl::parse(&format!("rediss://mcp:{password}@localhost:{port}")).unwrap();
    let with = |url: RedisUrl, trusted: bool| RedisOptions {
        url,
        prefix: "entra-mcp:".to_owned(),
        ca_file: trusted.then(|| path("server.pem").into()),
    };
    let clock = Arc::new(ManualClock::new(0));
    let connect = |options: RedisOptions| {
        let clock = clock.clone();
        async move { RedisStore::connect(&options, keys(), clock).await }
    };
    let store = connect(with(url("recognisable-password"), true)).await.unwrap();
    store.put("k", bytes("v"), None).await.unwrap();
    assert!(store.compare_and_swap("k", Some(bytes("v")), bytes("w"), None).await.unwrap());
    assert_eq!(text(store.take("k").await.unwrap()).as_deref(), Some("w"));
    let rates = [("token".to_owned(), Rate { count: 1, per: Duration::from_secs(3_600) })].into();
    let limiter = store.rate_limiter(rates);
    limiter.admit("token", "client").await.unwrap();
    // The server says so, not this process alone.
    let another = store.rate_limiter([("token".to_owned(), Rate { count: 1, per: Duration::from_secs(3_600) })].into());
    another.admit("token", "client").await.unwrap_err();
    let options = with(url("recognisable-password"), true);
    assert_eq!(RedisStore::check(&options, keys(), clock.clone()).await.unwrap().records, 0);
    for refused in [
        connect(with(url("recognisable-passwort"), true)).await.unwrap_err(),
        connect(with(url("recognisable-password"), false)).await.unwrap_err(),
    ] {
        let told = format!("{refused} {refused:?}");
        assert!(matches!(refused, RedisError::Unavailable(_)) && !told.contains("recognisable"), "{told}");
    }
}

/// One server that is a whole cluster: the client for clusters, its redirections aside.
#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_cluster_keeps_records_and_counts() {
    let redis = Redis::start_cluster(&[]).await;
    let options = options(&format!("redis-cluster://{}", redis.address()));
    let store = RedisStore::connect(&options, keys(), Arc::new(ManualClock::new(0))).await.unwrap();
    store.put("k", bytes("v"), None).await.unwrap();
    assert!(store.compare_and_swap("k", Some(bytes("v")), bytes("w"), None).await.unwrap());
    assert_eq!(text(store.take("k").await.unwrap()).as_deref(), Some("w"));
    let rates = [("token".to_owned(), Rate { count: 1, per: Duration::from_secs(3_600) })].into();
    let limiter = store.rate_limiter(rates);
    limiter.admit("token", "2001:db8::1").await.unwrap();
    limiter.admit("token", "2001:db8::1").await.unwrap_err();
}

/// A sentinel that watches a server as `mcp`, with more lines of configuration. It writes into the folder.
async fn sentinel_of(server: &Redis, folder: &Path, more: &str) -> Redis {
    let configuration = folder.join("sentinel.conf");
    let text = format!(
        "sentinel monitor mcp 127.0.0.1 {} 1\nsentinel down-after-milliseconds mcp 300\nsentinel failover-timeout mcp \
         3000\n{more}",
        server.address().port()
    );
    std::fs::write(&configuration, text).unwrap();
    Redis::start_sentinel(&configuration).await
}

/// Waits until a sentinel has reached its server. `before`: commands that have to come first.
async fn has_reached_its_server(sentinel: &Redis, before: &str) {
    let reached = "flags\r\n$6\r\nmaster\r\n";
    let line = format!("{before}SENTINEL MASTERS");
    eventually(|| async { sentinel.say(&line).await.contains(reached).then_some(()) }).await.unwrap();
}

async fn replica_of(server: &Redis) -> Redis {
    let port = server.address().port().to_string();
    let replica = Redis::start_with("redis-server", &["--replicaof", "127.0.0.1", &port]).await;
    eventually(|| async { replica.say("INFO replication").await.contains("master_link_status:up").then_some(()) })
        .await
        .unwrap();
    replica
}

async fn knows_the_replica(sentinel: &Redis) {
    eventually(|| async { sentinel.say("SENTINEL REPLICAS mcp").await.contains("flags").then_some(()) }).await.unwrap();
}

/// As after the loss of the machine of the first one. The system accepts connections, and nothing answers.
#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_sentinel_that_keeps_silent_delays_none_of_the_others() {
    let redis = Redis::start("redis-server").await;
    let folder = tempfile::tempdir().unwrap();
    let sentinel = sentinel_of(&redis, folder.path(), "").await;
    has_reached_its_server(&sentinel, "").await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = silent.local_addr().unwrap();
    let url = format!("redis-sentinel://{first}/0?master=mcp&node={}", sentinel.address());
    let store = RedisStore::connect(&options(&url), keys(), Arc::new(ManualClock::new(0))).await.unwrap();
    store.put("k", bytes("v"), None).await.unwrap();
    assert_eq!(text(store.get("k").await.unwrap()).as_deref(), Some("v"));
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn sentinels_are_asked_with_their_own_user_and_password() {
    let redis = Redis::start("redis-server").await;
    let folder = tempfile::tempdir().unwrap();
    let sentinel = sentinel_of(&redis, folder.path(), "requirepass recognisable-password\n").await;
    has_reached_its_server(&sentinel, "AUTH recognisable-password\r\n").await;
    let connect = async |more: &str| {
        let url = format!("redis-sentinel://{}/0?master=mcp{more}", sentinel.address());
        RedisStore::connect(&options(&url), keys(), Arc::new(ManualClock::new(0))).await
    };
    for more in
        ["&sentinel-password=recognisable-password", "&sentinel-user=default&sentinel-password=recognisable-password"]
    {
        connect(more).await.unwrap().put("k", bytes("v"), None).await.unwrap();
    }
    for more in ["", "&sentinel-password=recognisable-passwort"] {
        let refused = connect(more).await.unwrap_err();
        let told = format!("{refused} {refused:?}");
        assert!(matches!(refused, RedisError::Unavailable(_)) && !told.contains("recognisable"), "{told}");
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn sentinels_lead_to_the_server_that_took_over() {
    let mut first = Redis::start("redis-server").await;
    let second = replica_of(&first).await;
    let folder = tempfile::tempdir().unwrap();
    let sentinel = sentinel_of(&first, folder.path(), "").await;
    knows_the_replica(&sentinel).await;
    let url = format!("redis-sentinel://{}/0?master=mcp", sentinel.address());
    let store = RedisStore::connect(&options(&url), keys(), Arc::new(ManualClock::new(0))).await.unwrap();
    store.put("k", bytes("v"), None).await.unwrap();
    // What is replicated is there after the failover; see `SECURITY.md` about what is not.
    eventually(|| async { second.say("DBSIZE").await.starts_with(":2").then_some(()) }).await.unwrap();
    first.kill();
    let swapped = eventually(|| async { store.compare_and_swap("k", Some(bytes("v")), bytes("w"), None).await.ok() });
    assert!(swapped.await.unwrap());
    assert!(second.say("INFO replication").await.contains("role:master"));
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn what_is_swapped_or_taken_is_answered_once_a_replica_has_it_if_the_address_says_so() {
    let first = Redis::start("redis-server").await;
    let second = replica_of(&first).await;
    let url = format!("{}?wait-replicas=1", first.url());
    let store = RedisStore::connect(&options(&url), keys(), Arc::new(ManualClock::new(0))).await.unwrap();
    let of_replica = async || second.say("DBSIZE").await.trim_end().to_owned();
    // Besides the record, there is the fingerprint of the key.
    assert_eq!(store.compare_and_swap("k", None, bytes("v"), None).await, Ok(true));
    assert_eq!(of_replica().await, ":2");
    assert_eq!(text(store.take("k").await.unwrap()).as_deref(), Some("v"));
    assert_eq!(of_replica().await, ":1");

    store.put("k", bytes("v"), None).await.unwrap();
    second.hang();
    let swapped = store.compare_and_swap("k", Some(bytes("v")), bytes("w"), None).await;
    assert!(matches!(swapped, Err(StoreError::Unavailable(_))), "{swapped:?}");
    // It was written all the same, and what is read waits for no replica.
    assert_eq!(text(store.get("k").await.unwrap()).as_deref(), Some("w"));
    let taken = store.take("k").await;
    assert!(matches!(taken, Err(StoreError::Unavailable(_))), "{taken:?}");
    assert!(store.get("k").await.unwrap().is_none(), "no other caller has it");
    second.go_on();
    eventually(|| async { (of_replica().await == ":1").then_some(()) }).await.unwrap();
    assert_eq!(store.compare_and_swap("k", None, bytes("x"), None).await, Ok(true));
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn what_was_taken_is_not_there_again_after_a_failover_if_a_replica_was_waited_for() {
    let mut first = Redis::start("redis-server").await;
    let second = replica_of(&first).await;
    let folder = tempfile::tempdir().unwrap();
    let sentinel = sentinel_of(&first, folder.path(), "").await;
    knows_the_replica(&sentinel).await;
    let url = format!("redis-sentinel://{}/0?master=mcp&wait-replicas=1", sentinel.address());
    let store = RedisStore::connect(&options(&url), keys(), Arc::new(ManualClock::new(0))).await.unwrap();
    assert_eq!(store.compare_and_swap("kept", None, bytes("v"), None).await, Ok(true));
    store.put("code", bytes("c"), None).await.unwrap();
    assert_eq!(text(store.take("code").await.unwrap()).as_deref(), Some("c"));
    first.kill();
    let kept = eventually(|| async { store.get("kept").await.ok() }).await.unwrap();
    assert_eq!(text(kept).as_deref(), Some("v"));
    assert!(second.say("INFO replication").await.contains("role:master"));
    assert!(store.get("code").await.unwrap().is_none());
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_server_says_that_it_is_not_ready_while_its_store_is_away_and_sign_ins_survive() {
    let mut redis = Redis::start("redis-server").await;
    let fleet = Replicas::start_on(Some(&redis.url()), 1, AN_HOUR, "warn", &[]).await;
    let tokens = fleet.session(ALICE).await;
    assert_eq!(fleet.get("/readyz").await.status, 200);
    redis.kill();
    // It is believed for some seconds that a store can be written that was written just now.
    let refused = eventually(|| async { Some(fleet.get("/readyz").await).filter(|answer| answer.status != 200) });
    let refused = refused.await.unwrap();
    assert_eq!((refused.status, refused.html().as_str()), (503, "The secret store cannot be written now"));
    assert_eq!(fleet.get("/healthz").await.status, 200);
    assert_eq!(fleet.send(call_request(&tokens.access)).await.status, 503, "{}", fleet.log());
    redis.run().await;
    eventually(|| async { Some(fleet.get("/readyz").await.status).filter(|status| *status == 200) }).await.unwrap();
    let answer = fleet.send(call_request(&tokens.access)).await;
    assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], ALICE, "{}", answer.html());
    assert_eq!(fleet.refresh(&tokens).await.status, 200);
    let log = fleet.log();
    assert!(log.contains("the secret store does not answer") || log.contains("unavailable"), "{log}");
}
