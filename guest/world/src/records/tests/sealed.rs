//! Values that go out sealed.

use std::time::Duration;

use zeroize::Zeroizing;

use super::super::{Partition, Sealed, SealedUnder};
use crate::store::StoreError;
use crate::testing::simulation::{Simulation, run};
use base::encoding::{base64url, from_base64url};

const TEXTS: Sealed<String> = Sealed::json(Partition::Application, "request-state-key");
const OTHERS: Sealed<String> = Sealed::json(Partition::Application, "another key");
/// `"plain"` for `purpose` under the key 00 01 … 1f, sealed by an independent implementation (Python's cryptography).
const VECTOR: &str = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7LRzVVNtD9n-JJIeuPdUzoC3wUMBT75k";
/// The same, as earlier versions sealed it, with the nonce in the text.
const EARLIER: &str = "ZGVmZ2hpamtsbW5vamuyBxCHdAXWzrQXG1nHL4M36SqxtFI";

fn seal(world: &Simulation, bound: &[u8]) -> String {
    run(world.records().seal(&TEXTS, bound, &"plain".to_owned())).unwrap().unwrap()
}

fn open(world: &Simulation, bound: &[u8], text: &str) -> Option<String> {
    run(world.records().open(&TEXTS, bound, text)).unwrap().unwrap()
}

#[test]
fn a_value_is_opened_for_the_same_purpose_only() {
    let world = Simulation::default();
    let text = seal(&world, b"purpose");
    assert_eq!(open(&world, b"purpose", &text), Some("plain".to_owned()));
    assert_eq!(open(&world, b"another", &text), None);
    assert_eq!(run(world.records().open(&OTHERS, b"purpose", &text)).unwrap(), Ok(None));
}

#[test]
fn an_instance_reads_a_key_again_after_ten_seconds() {
    let world = Simulation::default();
    let record = "account/https://login.microsoftonline.com/tenant/client/request-state-key";
    world.plant(record, &[1; 32], None);
    let earlier = seal(&world, b"purpose");
    world.plant(record, &[2; 32], None);
    world.advance(Duration::from_secs(10) - Duration::from_millis(1));
    assert_eq!(open(&world, b"purpose", &earlier), Some("plain".to_owned()));
    world.advance(Duration::from_millis(1));
    assert_eq!(open(&world, b"purpose", &earlier), None);
    assert!(open(&world, b"purpose", &seal(&world, b"purpose")).is_some());
}

#[test]
fn the_text_is_the_salt_of_hkdf_and_aes_256_gcm() {
    let world = Simulation::default();
    let key: Vec<u8> = (0..32).collect();
    world.plant("account/https://login.microsoftonline.com/tenant/client/request-state-key", &key, None);
    assert_eq!(open(&world, b"purpose", VECTOR), Some("plain".to_owned()));
}

#[test]
fn what_an_earlier_version_has_sealed_is_opened() {
    let world = Simulation::default();
    let key: Vec<u8> = (0..32).collect();
    world.plant("account/https://login.microsoftonline.com/tenant/client/request-state-key", &key, None);
    assert_eq!(open(&world, b"purpose", EARLIER), Some("plain".to_owned()));
    assert_eq!(open(&world, b"another", EARLIER), None);
}

#[test]
fn what_is_sealed_under_a_secret_is_for_its_holder_and_its_purpose() {
    const ANSWERS: SealedUnder<String> = SealedUnder::json("answers");
    const OTHERS: SealedUnder<String> = SealedUnder::json("others");
    let world = Simulation::default();
    let (secret, other) = ([1; 32], [2; 32]);
    let sealed = world.records().seal_under(&ANSWERS, &secret, b"session", &"plain".to_owned()).unwrap();
    let sealed = sealed.reveal();
    assert_eq!(ANSWERS.open(&secret, b"session", sealed), Some("plain".to_owned()));
    assert_eq!(ANSWERS.open(&other, b"session", sealed), None);
    assert_eq!(ANSWERS.open(&secret, b"another", sealed), None);
    assert_eq!(OTHERS.open(&secret, b"session", sealed), None);
    for length in 0..sealed.len() {
        assert_eq!(ANSWERS.open(&secret, b"session", &sealed[..length]), None);
    }
    assert_eq!(world.operations(), 0, "the store has no key for it");
}

#[test]
fn sealing_twice_shows_nothing_of_what_is_the_same() {
    let world = Simulation::default();
    assert_ne!(seal(&world, b""), seal(&world, b""));
}

#[test]
fn any_changed_byte_is_refused() {
    let world = Simulation::default();
    let bytes = from_base64url(&seal(&world, b"")).unwrap();
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        assert_eq!(open(&world, b"", &base64url(&changed)), None);
    }
}

#[test]
fn nonsense_is_refused_without_a_look_at_the_key() {
    let world = Simulation::default();
    for text in ["", "x", "====", "AAAA", "ä", &"A".repeat(5000)] {
        assert_eq!(open(&world, b"", text), None);
    }
    assert_eq!(world.operations(), 0);
}

#[test]
fn a_key_of_another_length_is_an_error() {
    let world = Simulation::default();
    world.plant("account/https://login.microsoftonline.com/tenant/client/request-state-key", b"short", None);
    let sealed = run(world.records().seal(&TEXTS, b"", &"plain".to_owned())).unwrap();
    assert_eq!(sealed, Err(StoreError::Unreadable));
}

#[test]
fn a_damaged_key_is_replaced_where_its_kind_says_so_and_what_it_has_sealed_is_lost() {
    const REPLACEABLE: Sealed<String> = Sealed::json(Partition::Application, "handle-key").with_replaceable_key();
    const STRICT: Sealed<String> = Sealed::json(Partition::Application, "handle-key");
    let record = "account/https://login.microsoftonline.com/tenant/client/handle-key";
    let plain = "plain".to_owned();
    for is_opened in [false, true] {
        let world = Simulation::default();
        let lost = run(world.records().seal(&REPLACEABLE, b"purpose", &plain)).unwrap().unwrap();
        assert_eq!(run(world.records().open(&STRICT, b"purpose", &lost)).unwrap(), Ok(Some(plain.clone())));
        if is_opened {
            world.plant(record, b"short", None);
        } else {
            world.damage(record);
        }
        let strict = || {
            // Until then the instance remembers a key.
            world.advance(Duration::from_secs(10));
            let sealed = run(world.records().seal(&STRICT, b"purpose", &plain)).unwrap();
            world.advance(Duration::from_secs(10));
            sealed
        };
        assert_eq!(strict(), Err(StoreError::Unreadable), "{is_opened}");
        assert_eq!(run(world.records().open(&REPLACEABLE, b"purpose", &lost)).unwrap(), Ok(None), "{is_opened}");
        assert_eq!(world.peek(record).map(|key| key.len()), Some(32), "{is_opened}");
        let text = strict().unwrap();
        assert_eq!(run(world.records().open(&REPLACEABLE, b"purpose", &text)).unwrap(), Ok(Some(plain.clone())));
    }
}

#[test]
fn values_of_another_kind_share_the_key_and_not_the_encoding() {
    const NUMBERS: Sealed<u64> = TEXTS.with_encoding(
        |number| Ok(Zeroizing::new(u64::to_be_bytes(*number).to_vec())),
        |bytes| bytes.try_into().ok().map(u64::from_be_bytes),
    );
    let world = Simulation::default();
    let text = run(world.records().seal(&NUMBERS, b"form", &7)).unwrap().unwrap();
    assert_eq!(run(world.records().open(&NUMBERS, b"form", &text)).unwrap(), Ok(Some(7)));
    assert_eq!(open(&world, b"form", &text), None);
    assert_eq!(world.names().len(), 1);
}

#[test]
fn a_text_longer_than_its_kind_allows_is_not_opened() {
    const LONG: Sealed<String> = Sealed::json(Partition::Application, "request-state-key").at_most(8192);
    let world = Simulation::default();
    let value = "x".repeat(4096);
    let text = run(world.records().seal(&LONG, b"purpose", &value)).unwrap().unwrap();
    assert_eq!(open(&world, b"purpose", &text), None);
    assert_eq!(run(world.records().open(&LONG, b"purpose", &text)).unwrap(), Ok(Some(value)));
}

#[test]
fn what_would_not_be_opened_is_not_sealed() {
    let world = Simulation::default();
    let records = world.records();
    for (length, fits) in [(3028, true), (3100, false), (50_000, false)] {
        let sealed = run(records.seal(&TEXTS, b"purpose", &"x".repeat(length))).unwrap();
        match sealed {
            Ok(text) => assert!(fits && open(&world, b"purpose", &text).is_some(), "{length}"),
            Err(error) => assert_eq!((fits, error), (false, StoreError::TooLarge), "{length}"),
        }
    }
}
