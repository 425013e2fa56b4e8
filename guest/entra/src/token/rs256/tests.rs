//! What is no valid signature, made with the private key where that is what it takes; and the arithmetic beside
//! that of another library.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rsa::BigUint;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};

use super::*;
use crate::testing::TestKey;
use crate::token::tests::host::Host;

const SIGNED: &[u8] = b"header.claims";

fn private(name: &'static str) -> rsa::RsaPrivateKey {
    match TestKey::named(name) {
        TestKey::Rsa(key) => *key,
        TestKey::P256(_) => panic!("{name} is no RSA key"),
    }
}

fn public(key: &rsa::RsaPrivateKey) -> PublicKey {
    PublicKey::new(&key.n().to_bytes_be(), &key.e().to_bytes_be()).unwrap()
}

impl PublicKey {
    /// Verifies, and has the host verify what it would be asked for: both say the same.
    fn judge(&self, signed: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let own = self.verify(signed, signature);
        if (2048 / 8..=MAX_MODULUS_BYTES).contains(&self.bytes) {
            let host = self.ask(&Host::default(), signed, signature);
            assert!(host.is_none_or(|host| host == own.is_ok()), "{own:?} here, {host:?} at the host");
        }
        own
    }
}

/// `number` in as many bytes as the key has.
fn padded(number: &BigUint, key: &rsa::RsaPrivateKey) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; key.size() - bytes.len()], bytes].concat()
}

/// Signs this very encoded message (RSASP1).
fn sign_encoded(key: &rsa::RsaPrivateKey, encoded: &[u8]) -> Vec<u8> {
    padded(&BigUint::from_bytes_be(encoded).modpow(key.d(), key.n()), key)
}

fn sign(name: &'static str, signed: &[u8]) -> Vec<u8> {
    TestKey::named(name).sign("RS256", signed)
}

/// `00 01`, `FF`s up to the length of the key, `00`, `tail`.
fn encoded(key: &rsa::RsaPrivateKey, tail: &[u8]) -> Vec<u8> {
    [&[0, 1], vec![0xFF; key.size() - 3 - tail.len()].as_slice(), &[0], tail].concat()
}

#[test]
fn signatures_of_keys_of_every_size_and_exponent_are_accepted_for_their_text_only() {
    let sizes = ["rsa", "rsa-2050", "rsa-2056", "rsa-3072", "rsa-4096", "rsa-8192"];
    for name in sizes.into_iter().chain(["rsa-e3", "rsa-e65539", "rsa-e-max"]) {
        let key = public(&private(name));
        let signature = sign(name, SIGNED);
        assert_eq!(key.judge(SIGNED, &signature), Ok(()), "{name}");
        assert_eq!(key.judge(b"header.others", &signature), Err(BadSignature), "{name}");
        assert_eq!(key.judge(b"", &signature), Err(BadSignature), "{name}");
        for at in [0, signature.len() / 2, signature.len() - 1] {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            assert_eq!(key.judge(SIGNED, &changed), Err(BadSignature), "{name} {at}");
        }
    }
}

#[test]
fn the_host_is_asked_for_keys_with_the_usual_exponent_only() {
    for (name, asked) in
        [("rsa", 1), ("rsa-2050", 1), ("rsa-8192", 1), ("rsa-e3", 0), ("rsa-e65539", 0), ("rsa-e-max", 0)]
    {
        let host = Host::default();
        let verdict = public(&private(name)).ask(&host, SIGNED, &sign(name, SIGNED));
        assert_eq!((verdict, host.asked.get()), ((asked == 1).then_some(true), asked), "{name}");
    }
}

#[test]
fn a_signature_by_another_key_is_refused() {
    assert_eq!(public(&private("rsa")).judge(SIGNED, &sign("rsa-other", SIGNED)), Err(BadSignature));
}

/// RFC 8017 section 8.2.2 step 1. The number is the right one.
#[test]
fn a_signature_of_another_length_is_refused() {
    let key = public(&private("rsa"));
    // One in 256 begins with a zero, which must be there.
    let text = (0..).map(|number: u32| number.to_be_bytes()).find(|text| sign("rsa", text)[0] == 0).unwrap();
    let signature = sign("rsa", &text);
    assert_eq!(key.judge(&text, &signature), Ok(()));
    assert_eq!(key.judge(&text, &signature[1..]), Err(BadSignature));
    assert_eq!(key.judge(&text, &[&[0], signature.as_slice()].concat()), Err(BadSignature));
    assert_eq!(key.judge(&text, &[&[0; 8], signature.as_slice()].concat()), Err(BadSignature));
    assert_eq!(key.judge(&text, &[signature.as_slice(), &[0]].concat()), Err(BadSignature));
    assert_eq!(key.judge(&text, &[]), Err(BadSignature));
}

/// RFC 8017 section 5.2.2 step 1. With 2050 bits in 257 bytes there is room for multiples of the modulus, and for
/// bits beyond it.
#[test]
fn a_signature_that_is_not_below_the_modulus_is_refused() {
    let private = private("rsa-2050");
    let key = public(&private);
    let signature = sign("rsa-2050", SIGNED);
    assert_eq!(key.judge(SIGNED, &signature), Ok(()));
    for multiple in 1..=60_u32 {
        let larger = BigUint::from_bytes_be(&signature) + private.n() * multiple;
        assert_eq!(key.judge(SIGNED, &padded(&larger, &private)), Err(BadSignature), "{multiple}");
    }
    for bit in 2..8 {
        let mut larger = signature.clone();
        larger[0] |= 1 << bit;
        assert_eq!(key.judge(SIGNED, &larger), Err(BadSignature), "{bit}");
    }
}

#[test]
fn numbers_that_are_their_own_power_are_refused() {
    for name in ["rsa", "rsa-2050", "rsa-8192"] {
        let private = private(name);
        let (n, one) = (private.n(), BigUint::from(1_u32));
        for number in [BigUint::from(0_u32), one.clone(), n - &one, n.clone(), n + &one] {
            assert_eq!(public(&private).judge(SIGNED, &padded(&number, &private)), Err(BadSignature), "{name}");
        }
        assert_eq!(public(&private).judge(SIGNED, &vec![0xFF; private.size()]), Err(BadSignature), "{name}");
    }
}

/// Everything that a verifier which parses the encoded message has once been made to accept, and its neighbours.
#[test]
fn only_the_one_encoded_message_is_accepted() {
    let private = private("rsa");
    let key = public(&private);
    let digest = Sha256::digest(SIGNED);
    let info = [DIGEST_INFO.as_slice(), &digest].concat();
    let right = encoded(&private, &info);
    assert_eq!(key.judge(SIGNED, &sign_encoded(&private, &right)), Ok(()));

    let with = |at: usize, value: u8| {
        let mut message = right.clone();
        message[at] = value;
        message
    };
    let short_padding = |padding: usize, garbage: &[u8]| {
        let start = [&[0, 1], vec![0xFF; padding].as_slice(), &[0], info.as_slice(), garbage].concat();
        [start.clone(), vec![0; private.size() - start.len()]].concat()
    };
    let sha1 = [0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A, 0x05, 0x00, 0x04, 0x14];
    let without_null = [
        &[0x30, 0x2F, 0x30, 0x0B, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x04, 0x20],
        digest.as_slice(),
    ]
    .concat();
    let mut other_hash = info.clone();
    other_hash[14] = 3;
    let mut reversed = right.clone();
    reversed.reverse();
    reversed[0] = 0;
    let wrong = [
        ("block type 0", with(1, 0)),
        ("block type 2", with(1, 2)),
        ("a padding byte that is not FF", with(2, 0xFE)),
        ("a zero in the padding", with(9, 0)),
        ("no separator", with(right.len() - info.len() - 1, 0xFF)),
        ("no padding, garbage behind the digest", short_padding(0, &[0xAA; 64])),
        ("padding of 8 bytes, garbage behind the digest", short_padding(8, &[0xAA; 64])),
        ("padding of 8 bytes, zeros behind the digest", short_padding(8, &[])),
        ("a byte behind the digest", encoded(&private, &[info.as_slice(), &[0]].concat())),
        ("the digest alone", encoded(&private, &digest)),
        ("no digest", encoded(&private, &DIGEST_INFO)),
        ("DigestInfo without NULL", encoded(&private, &without_null)),
        ("DigestInfo with a long length", encoded(&private, &[&[0x30, 0x81, 0x31], &info[2..]].concat())),
        ("DigestInfo with an indefinite length", encoded(&private, &[&[0x30, 0x80], &info[2..], &[0, 0]].concat())),
        ("DigestInfo of SHA-512", encoded(&private, &other_hash)),
        ("DigestInfo of SHA-1", encoded(&private, &[sha1.as_slice(), &digest[..20]].concat())),
        ("digest cut off", encoded(&private, &info[..info.len() - 1])),
        ("digest of another text", encoded(&private, &[DIGEST_INFO.as_slice(), &Sha256::digest(b"x")].concat())),
        ("backwards", reversed),
    ];
    for (name, message) in wrong {
        assert_eq!(message.len(), private.size(), "{name}");
        assert_ne!(message, right, "{name}");
        assert_eq!(key.judge(SIGNED, &sign_encoded(&private, &message)), Err(BadSignature), "{name}");
    }
    // The first byte is left alone: with another one the message is not below the modulus.
    for (at, byte) in right.iter().enumerate().skip(1) {
        let signature = sign_encoded(&private, &with(at, byte ^ 0x10));
        assert_eq!(key.judge(SIGNED, &signature), Err(BadSignature), "byte {at}");
    }
}

#[test]
fn numbers_that_are_no_key_are_refused() {
    let private = private("rsa");
    let (n, e) = (private.n().to_bytes_be(), private.e().to_bytes_be());
    let mut even = n.clone();
    *even.last_mut().unwrap() &= 0xFE;
    let of = |bytes: usize| vec![0xFF; bytes];
    for (name, modulus) in [
        ("empty", Vec::new()),
        ("zero", vec![0]),
        ("zeros", vec![0; 256]),
        ("one", vec![1]),
        ("even", even),
        ("with a leading zero", [&[0], n.as_slice()].concat()),
        ("too short for an encoded message", of(MIN_MODULUS_BYTES - 1)),
        ("too long", of(MAX_MODULUS_BYTES + 1)),
    ] {
        assert!(PublicKey::new(&modulus, &e).is_none(), "modulus {name}");
    }
    for exponent in [&[] as &[u8], &[0], &[1], &[2], &[1, 0, 0], &[0, 1, 0, 1], &[1; 9]] {
        assert!(PublicKey::new(&n, exponent).is_none(), "exponent {exponent:?}");
    }
    for modulus in [of(MIN_MODULUS_BYTES), of(MAX_MODULUS_BYTES)] {
        assert!(PublicKey::new(&modulus, &[3]).is_some());
    }
}

/// Moduli with all bits set, with hardly any set, and anything between, of lengths around those of words.
fn moduli() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![Just(0_u8), Just(0xFF), any::<u8>()];
    prop::collection::vec(bytes, MIN_MODULUS_BYTES..=130).prop_map(|mut modulus| {
        if let Some(first) = modulus.first_mut() {
            *first = (*first).max(1);
        }
        if let Some(last) = modulus.last_mut() {
            *last |= 1;
        }
        modulus
    })
}

#[test]
fn the_power_is_that_of_another_library() {
    let numbers = (moduli(), 1_u64..1 << 32, prop::collection::vec(any::<u8>(), 130), 0_u32..8);
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let run = |(modulus, exponent, base, which): (Vec<u8>, u64, Vec<u8>, u32)| {
        let exponent = 2 * exponent + 1;
        let key = PublicKey::new(&modulus, &BigUint::from(exponent).to_bytes_be()).unwrap();
        let n = BigUint::from_bytes_be(&modulus);
        let base = match which {
            0 => BigUint::from(0_u32),
            1 => BigUint::from(1_u32),
            2 => &n - 1_u32,
            3 => n.clone(),
            _ => BigUint::from_bytes_be(&base[..modulus.len()]),
        };
        let bytes = base.to_bytes_be();
        let padded = [vec![0; modulus.len() - bytes.len()], bytes].concat();
        let expected = (base < n).then(|| base.modpow(&BigUint::from(exponent), &n));
        let power = key.power(number(&padded)).map(|power| BigUint::from_bytes_be(&power.to_be_bytes()));
        prop_assert_eq!(power, expected);
        // A signature that is accepted by chance does not exist.
        prop_assert_eq!(key.judge(SIGNED, &padded), Err(BadSignature));
        Ok(())
    };
    TestRunner::new(config).run(&numbers, run).unwrap();
}
