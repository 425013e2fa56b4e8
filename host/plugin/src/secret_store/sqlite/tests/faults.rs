//! A store that is full, a disk that is, a store that cannot be written, and a clock that is set back: each is told, and
//! nothing is lost.

use super::*;

const LIMITS: StoreLimits = StoreLimits { records: 3, bytes: 2_000 };

impl Fixture {
    fn limited(&self) -> SqliteStore {
        let store = self.open().limited(LIMITS);
        store.inner.erasure.begin_no_task();
        store
    }

    /// What the database counts, and what is there.
    fn totals(&self) -> [(i64, i64); 2] {
        let row = |query: &str| self.raw().query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        [row("SELECT records, bytes FROM total"), row("SELECT count(*), coalesce(sum(length(sealed)), 0) FROM record")]
    }
}

fn is_full(result: Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Full(reason)) if reason.contains("records"))
}

#[tokio::test]
async fn a_full_store_takes_no_new_record_and_what_is_there_goes_on() {
    let fixture = Fixture::new();
    let store = fixture.limited();
    for name in ["a", "b", "c"] {
        store.put(name, bytes("v"), None).await.unwrap();
    }
    assert!(is_full(store.put("d", bytes("v"), None).await));
    assert!(is_full(store.compare_and_swap("d", None, bytes("v"), None).await.map(drop)));
    // A session is refreshed, and may grow.
    store.put("a", bytes(&"w".repeat(3_000)), None).await.unwrap();
    assert!(store.compare_and_swap("b", Some(bytes("v")), bytes("w"), None).await.unwrap());
    for name in ["a", "b", "c"] {
        assert!(store.get(name).await.unwrap().is_some(), "{name}");
    }
    let [counted, there] = fixture.totals();
    assert_eq!(counted, there);
    assert!(store.take("c").await.unwrap().is_some());
    assert!(is_full(store.put("d", bytes("v"), None).await), "the bytes are used up");
    store.delete("a").await.unwrap();
    store.put("d", bytes("v"), None).await.unwrap();
}

/// A session that goes on writes such records: the answer to a refresh, and the right to renew its tokens.
#[tokio::test]
async fn a_full_store_takes_records_that_live_for_minutes_and_not_without_end() {
    let fixture = Fixture::new();
    let store = fixture.open().limited(StoreLimits { records: 40, bytes: 40_000 });
    store.inner.erasure.begin_no_task();
    let minutes = Some(Duration::from_secs(300));
    for number in 0..40 {
        store.put(&format!("k/{number}"), bytes("v"), None).await.unwrap();
    }
    assert!(is_full(store.put("session", bytes("v"), None).await));
    assert!(is_full(store.put("sign-in", bytes("v"), Some(Duration::from_secs(301))).await));
    assert!(is_full(store.put("host/limit/count", bytes("v"), minutes).await), "strangers leave counts");
    store.put("session-answer", bytes("v"), minutes).await.unwrap();
    assert!(store.compare_and_swap("lease", None, bytes("v"), minutes).await.unwrap());
    assert!(is_full(store.put("ready", bytes("v"), minutes).await), "a twentieth is kept for them");
    fixture.clock.advance(Duration::from_secs(300));
    store.put("ready", bytes("v"), minutes).await.unwrap();
    assert!(is_full(store.put("session", bytes("v"), None).await));
    for number in 0..40 {
        store.delete(&format!("k/{number}")).await.unwrap();
    }
    store.put("large", bytes(&"v".repeat(39_500)), None).await.unwrap();
    assert!(is_full(store.put("session", bytes(&"v".repeat(1_500)), None).await));
    store.put("session-answer", bytes(&"v".repeat(1_500)), minutes).await.unwrap();
    assert!(is_full(store.put("lease", bytes(&"v".repeat(1_500)), minutes).await));
}

#[tokio::test]
async fn a_refused_write_has_removed_what_had_expired() {
    let fixture = Fixture::new();
    let store = fixture.limited();
    store.put("large", bytes(&"v".repeat(1_500)), None).await.unwrap();
    store.put("code", bytes("v"), Some(Duration::from_secs(10))).await.unwrap();
    fixture.clock.advance(Duration::from_secs(10));
    assert!(is_full(store.put("another", bytes(&"v".repeat(1_500)), None).await));
    assert!(is_full(store.compare_and_swap("another", None, bytes(&"v".repeat(1_500)), None).await.map(drop)));
    let [counted, there] = fixture.totals();
    assert_eq!((counted, there.0), (there, 1));
}

/// A process of an earlier version that has the database open replaces records with `INSERT OR REPLACE`, whose deletion fires
/// no trigger of that connection.
#[tokio::test]
async fn a_process_of_an_earlier_version_beside_this_one_does_not_upset_the_count() {
    let fixture = Fixture::new();
    let store = fixture.limited();
    store.put("session", bytes("v"), None).await.unwrap();
    let name = store.inner.cipher.hidden_name("session");
    for length in [100, 300, 200] {
        let sealed = store.inner.cipher.seal(&name, None, &vec![b'v'; length]).unwrap();
        let replace = "INSERT OR REPLACE INTO record (name, sealed, expires_at) VALUES (?1, ?2, NULL)";
        fixture.raw().execute(replace, params![name, sealed]).unwrap();
        store.put("other", bytes(&"v".repeat(length)), None).await.unwrap();
        let [counted, there] = fixture.totals();
        assert_eq!((counted, there.0), (there, 2), "{length}");
    }
    assert!(store.compare_and_swap("other", Some(bytes(&"v".repeat(200))), bytes("w"), None).await.unwrap());
    store.delete("session").await.unwrap();
    let [counted, there] = fixture.totals();
    assert_eq!((counted, there.0), (there, 1));
}

#[tokio::test]
async fn what_has_expired_makes_room() {
    let fixture = Fixture::new();
    let store = fixture.limited();
    for name in ["a", "b", "c"] {
        store.put(name, bytes("v"), Some(Duration::from_secs(10))).await.unwrap();
    }
    assert!(is_full(store.put("d", bytes("v"), None).await));
    fixture.clock.advance(Duration::from_secs(10));
    store.put("d", bytes("v"), None).await.unwrap();
    let [counted, there] = fixture.totals();
    assert_eq!((counted, there.0), (there, 1));
}

#[tokio::test]
async fn a_database_of_an_earlier_format_is_counted_when_it_is_opened() {
    let fixture = Fixture::new();
    let store = fixture.limited();
    for name in ["a", "b", "c"] {
        store.put(name, bytes("v"), None).await.unwrap();
    }
    drop(store);
    let earlier =
        "DROP TRIGGER record_replaced; DROP TRIGGER record_inserted; DROP TRIGGER record_updated; DROP TRIGGER record_deleted; DROP TABLE total;
         PRAGMA user_version = 3;";
    fixture.raw().execute_batch(earlier).unwrap();
    let store = fixture.limited();
    assert!(is_full(store.put("d", bytes("v"), None).await));
    let [counted, there] = fixture.totals();
    assert_eq!(counted, there);
}

/// SQLite answers as it does on a disk without room: the file may not grow.
#[tokio::test]
async fn a_disk_without_room_is_told_and_nothing_is_lost() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    let most = |pages: u32| {
        let connection = store.inner.connection.lock().unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    store.put("account", bytes("refresh token"), None).await.unwrap();
    most(1);
    let mut stored = 0;
    let refused = loop {
        match store.put(&format!("k/{stored}"), bytes(&"v".repeat(3_000)), None).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, StoreError::Full(reason) if reason.contains("disk")), "{refused}");
    let read = async |store: &SqliteStore| {
        assert_eq!(text(store.get("account").await.unwrap()).as_deref(), Some("refresh token"));
        for number in 0..stored {
            assert!(store.get(&format!("k/{number}")).await.unwrap().is_some(), "{number} of {stored}");
        }
        assert!(store.get(&format!("k/{stored}")).await.unwrap().is_none(), "it was not written");
    };
    read(&store).await;
    read(&fixture.open()).await;
    most(10_000);
    store.put("k/more", bytes("v"), None).await.unwrap();
    let [counted, there] = fixture.totals();
    assert_eq!(counted, there);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_still_read() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    store.put("account", bytes("refresh token"), None).await.unwrap();
    store.inner.connection.lock().unwrap().pragma_update(None, "query_only", true).unwrap();
    for refused in [
        store.put("account", bytes("another"), None).await,
        store.delete("account").await,
        store.take("account").await.map(drop),
    ] {
        assert!(matches!(&refused, Err(StoreError::Unavailable(reason)) if reason.contains("readonly")), "{refused:?}");
    }
    assert_eq!(text(store.get("account").await.unwrap()).as_deref(), Some("refresh token"));
}

#[tokio::test]
async fn a_clock_that_is_set_back_loses_nothing() {
    let fixture = Fixture { clock: ManualClock::new(1_000_000), ..Fixture::new() };
    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    let hour = Duration::from_secs(3_600);
    store.put("session", bytes("v"), Some(hour)).await.unwrap();
    store.put("account", bytes("v"), None).await.unwrap();
    fixture.clock.set_back(hour);
    let reopened = fixture.open();
    for store in [&store, &reopened] {
        for name in ["session", "account"] {
            assert!(store.get(name).await.unwrap().is_some(), "{name}");
        }
    }
    assert!(store.compare_and_swap("session", Some(bytes("v")), bytes("w"), Some(hour)).await.unwrap());
    store.put("code", bytes("v"), Some(Duration::from_secs(60))).await.unwrap();
    fixture.clock.advance(Duration::from_secs(60));
    assert!(store.get("code").await.unwrap().is_none(), "what is written then lives by the clock as it is");
    assert!(reopened.take("session").await.unwrap().is_some());
    assert!(store.take("session").await.unwrap().is_none());
}
