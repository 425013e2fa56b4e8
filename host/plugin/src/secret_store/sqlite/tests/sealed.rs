//! What stands in the file: sealed under its name and its expiry, and unreadable where it was changed.

use super::*;

#[tokio::test]
async fn neither_names_nor_values_can_be_read_in_the_files() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("recognisable-name", bytes("recognisable-value"), None).await.unwrap();
    for entry in fs::read_dir(fixture.path().parent().unwrap()).unwrap() {
        let content = fs::read(entry.unwrap().path()).unwrap();
        assert!(!content.windows(12).any(|window| window == b"recognisable"));
    }
}

#[tokio::test]
async fn an_altered_record_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("account", bytes("value"), None).await.unwrap();
    let mut sealed: Vec<u8> = fixture.raw().query_row("SELECT sealed FROM record", [], |row| row.get(0)).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    fixture.raw().execute("UPDATE record SET sealed = ?1", [sealed]).unwrap();

    assert_eq!(store.get("account").await.unwrap_err(), StoreError::Unreadable);
    assert_eq!(store.take("account").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn a_truncated_record_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("account", bytes("value"), None).await.unwrap();
    fixture.raw().execute("UPDATE record SET sealed = x'0102'", []).unwrap();
    assert_eq!(store.get("account").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn records_that_were_swapped_are_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("alice", bytes("token of alice"), None).await.unwrap();
    let hers: Vec<u8> = fixture.raw().query_row("SELECT sealed FROM record", [], |row| row.get(0)).unwrap();
    store.put("bob", bytes("token of bob"), None).await.unwrap();
    fixture.raw().execute("UPDATE record SET sealed = ?1", [hers]).unwrap();

    assert_eq!(text(store.get("alice").await.unwrap()).as_deref(), Some("token of alice"));
    assert_eq!(store.get("bob").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn a_record_whose_life_was_prolonged_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("code", bytes("value"), Some(Duration::from_secs(10))).await.unwrap();
    fixture.raw().execute("UPDATE record SET expires_at = expires_at + 1000", []).unwrap();
    assert_eq!(store.get("code").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn an_unreadable_record_can_be_replaced_and_deleted() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("account", bytes("old"), None).await.unwrap();
    fixture.raw().execute("UPDATE record SET sealed = x'00'", []).unwrap();

    store.put("account", bytes("new"), None).await.unwrap();
    assert_eq!(text(store.get("account").await.unwrap()).as_deref(), Some("new"));
    fixture.raw().execute("UPDATE record SET sealed = x'00'", []).unwrap();
    store.delete("account").await.unwrap();
    assert!(store.get("account").await.unwrap().is_none());
}

#[tokio::test]
async fn a_record_sealed_with_another_key_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let name = store.inner.cipher.hidden_name("account");
    let foreign = cipher(&[9; KEY_BYTES]).seal(&name, None, b"value").unwrap();
    fixture.raw().execute("INSERT INTO record (name, sealed) VALUES (?1, ?2)", params![name, foreign]).unwrap();
    assert_eq!(store.get("account").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn a_database_of_the_version_before_is_read_and_its_records_are_sealed_anew_when_they_change() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let write = |store: &SqliteStore, name: &str, expires_at: Option<i64>| {
        let cipher = &store.inner.cipher;
        let sealed = match name {
            "account" => cipher.seal_earliest(name, expires_at, b"refresh token"),
            _ => cipher.seal_earlier(name, expires_at, b"refresh token"),
        };
        let row = params![cipher.hidden_name(name), sealed, expires_at];
        fixture.raw().execute("INSERT INTO record (name, sealed, expires_at) VALUES (?1, ?2, ?3)", row).unwrap();
    };
    write(&store, "account", None);
    write(&store, "session", Some(2_000));
    fixture.raw().pragma_update(None, "user_version", 1).unwrap();
    drop(store);

    let store = fixture.open();
    let version: i32 = fixture.raw().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, SCHEMA_VERSION, "an earlier version would not understand what is written now");
    for name in ["account", "session"] {
        let found = store.get(name).await.unwrap();
        assert_eq!(text(found.clone()).as_deref(), Some("refresh token"), "{name}");
        assert!(store.compare_and_swap(name, found, bytes("new"), None).await.unwrap());
        assert_eq!(text(store.get(name).await.unwrap()).as_deref(), Some("new"), "{name}");
    }
    // What the version before has sealed is bound to its name and its expiry as well.
    write(&store, "other", Some(2_000));
    fixture.raw().execute("UPDATE record SET expires_at = 3000 WHERE expires_at = 2000", []).unwrap();
    assert_eq!(store.get("other").await.unwrap_err(), StoreError::Unreadable);
}

#[test]
fn no_two_values_share_a_key() {
    let cipher = cipher(&[9; KEY_BYTES]);
    let (name, another) = (cipher.hidden_name("account"), cipher.hidden_name("another"));
    let sealed: Vec<_> = (0..3).map(|_| cipher.seal(&name, None, b"value").unwrap()).collect();
    // The mark of the format and of the data key is the same; then come the salt, which the key of the value is derived
    // from, and what came of it.
    assert!(sealed[0][..8] == sealed[1][..8] && sealed[1][..8] == sealed[2][..8]);
    assert!(sealed[0][8..40] != sealed[1][8..40] && sealed[1][8..40] != sealed[2][8..40]);
    assert!(sealed[0][40..] != sealed[1][40..] && sealed[1][40..] != sealed[2][40..]);
    let mixed = [&sealed[0][..40], &sealed[1][40..]].concat();
    assert!(cipher.open("account", &name, None, &mixed).is_err());
    assert_eq!(cipher.open("account", &name, None, &sealed[0]).unwrap().reveal(), b"value");
    assert!(cipher.open("another", &another, None, &sealed[0]).is_err());
}
