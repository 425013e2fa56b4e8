//! What every store does (`wit/secret-store.wit`), by one test for all of them.

use std::time::Duration;

use super::{Bench, Kind, bytes, for_each_store, text};

for_each_store! {
    a_record_is_read_as_it_was_written_also_by_another_process;
    a_record_is_replaced_and_deleted;
    a_record_is_taken_once;
    a_record_is_swapped_only_for_what_it_is;
    a_record_that_has_expired_does_not_exist;
    a_record_without_a_time_to_live_stays;
    bytes_and_names_of_every_kind_and_length_are_kept;
}

async fn a_record_is_read_as_it_was_written_also_by_another_process(kind: Kind) {
    let bench = Bench::new(kind).await;
    let (here, there) = (bench.open().await, bench.open().await);
    assert!(here.get("account").await.unwrap().is_none());
    here.put("account", bytes("refresh token"), None).await.unwrap();
    for store in [&here, &there] {
        assert_eq!(text(store.get("account").await.unwrap()).as_deref(), Some("refresh token"));
        assert!(store.get("accounts").await.unwrap().is_none());
    }
}

async fn a_record_is_replaced_and_deleted(kind: Kind) {
    let bench = Bench::new(kind).await;
    let (here, there) = (bench.open().await, bench.open().await);
    here.put("k", bytes("1"), Some(Duration::from_secs(60))).await.unwrap();
    there.put("k", bytes("2"), None).await.unwrap();
    assert_eq!(text(here.get("k").await.unwrap()).as_deref(), Some("2"));
    here.delete("k").await.unwrap();
    here.delete("k").await.unwrap();
    assert!(there.get("k").await.unwrap().is_none());
}

async fn a_record_is_taken_once(kind: Kind) {
    let bench = Bench::new(kind).await;
    let (here, there) = (bench.open().await, bench.open().await);
    here.put("code", bytes("grant"), Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(text(there.take("code").await.unwrap()).as_deref(), Some("grant"));
    assert!(here.take("code").await.unwrap().is_none());
    assert!(here.get("code").await.unwrap().is_none());
}

async fn a_record_is_swapped_only_for_what_it_is(kind: Kind) {
    let bench = Bench::new(kind).await;
    let (here, there) = (bench.open().await, bench.open().await);
    let minute = Some(Duration::from_secs(60));
    assert!(!here.compare_and_swap("k", Some(bytes("a")), bytes("b"), minute).await.unwrap());
    assert!(here.compare_and_swap("k", None, bytes("a"), minute).await.unwrap());
    assert!(!there.compare_and_swap("k", None, bytes("b"), minute).await.unwrap());
    assert!(!there.compare_and_swap("k", Some(bytes("x")), bytes("b"), minute).await.unwrap());
    assert_eq!(text(there.get("k").await.unwrap()).as_deref(), Some("a"));
    assert!(there.compare_and_swap("k", Some(bytes("a")), bytes("b"), None).await.unwrap());
    assert_eq!(text(here.get("k").await.unwrap()).as_deref(), Some("b"));
    // The same value once more is a swap too.
    assert!(here.compare_and_swap("k", Some(bytes("b")), bytes("b"), None).await.unwrap());
}

async fn a_record_that_has_expired_does_not_exist(kind: Kind) {
    let bench = Bench::new(kind).await;
    let (here, there) = (bench.open().await, bench.open().await);
    let (life, apart) = (400, bench.apart());
    for name in ["read", "taken", "swapped"] {
        here.put(name, bytes("v"), Some(Duration::from_secs(life))).await.unwrap();
    }
    bench.clock.advance(Duration::from_secs(life - apart));
    assert!(there.get("read").await.unwrap().is_some());
    bench.clock.advance(Duration::from_secs(2 * apart - 1));
    assert!(here.get("read").await.unwrap().is_none());
    assert!(here.take("taken").await.unwrap().is_none());
    assert!(!here.compare_and_swap("swapped", Some(bytes("v")), bytes("w"), None).await.unwrap());
    assert!(here.compare_and_swap("swapped", None, bytes("w"), None).await.unwrap());
    assert_eq!(text(there.get("swapped").await.unwrap()).as_deref(), Some("w"));
}

async fn a_record_without_a_time_to_live_stays(kind: Kind) {
    let bench = Bench::new(kind).await;
    let store = bench.open().await;
    store.put("k", bytes("v"), Some(Duration::from_secs(1))).await.unwrap();
    store.put("k", bytes("w"), None).await.unwrap();
    bench.clock.advance(Duration::from_secs(1_000_000_000));
    assert_eq!(text(store.get("k").await.unwrap()).as_deref(), Some("w"));
}

async fn bytes_and_names_of_every_kind_and_length_are_kept(kind: Kind) {
    let bench = Bench::new(kind).await;
    let (here, there) = (bench.open().await, bench.open().await);
    let every: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
    let names = [String::new(), "é\n\0 {x} *".to_owned(), "n".repeat(512)];
    for name in &names {
        for value in [&[][..], &[0], &every] {
            let value = entra_mcp_plugin::secret_store::SecretBytes::new(value.to_vec());
            here.put(name, value.clone(), None).await.unwrap();
            assert!(there.get(name).await.unwrap().unwrap().reveal() == value.reveal(), "{name:?}");
            assert!(there.compare_and_swap(name, Some(value), bytes("x"), None).await.unwrap(), "{name:?}");
        }
    }
    for name in &names {
        assert_eq!(text(here.take(name).await.unwrap()).as_deref(), Some("x"), "{name:?}");
    }
}
