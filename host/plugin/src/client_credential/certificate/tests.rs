use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::random::SystemRandomness;

const CLIENT: &str = "a0000000-0000-4000-a000-000000000002";
const AUDIENCE: &str = "https://login.example/tenant/oauth2/v2.0/token";
/// 2026-11-18.
const NOW: u64 = 1_794_996_000;

/// The key of the fixtures, which is public and protects nothing.
const KEY: &str = include_str!("../../../../../tests/fixtures/confidential-client.key.pem");

/// A certificate of [`KEY`] that is good from one year to another.
fn certificate(from: i32, until: i32) -> rcgen::Certificate {
    let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    params.self_signed(&KeyPair::from_pem(KEY).unwrap()).unwrap()
}

fn pem(from: i32, until: i32) -> String {
    format!("{}{KEY}", certificate(from, until).pem())
}

struct Bench {
    folder: TempDir,
    clock: ManualClock,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::new(NOW) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        // A new file, as tools that renew certificates make one.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn of(&self, files: &[PathBuf]) -> ClientCertificates {
        self.with_password(files, None)
    }

    fn with_password(&self, files: &[PathBuf], password: Option<&str>) -> ClientCertificates {
        let password = password.map(|password| SecretBytes::new(password.as_bytes().to_vec()));
        ClientCertificates::new(
            CLIENT,
            files,
            password,
            Arc::new(self.clock.clone()),
            Arc::new(SystemRandomness::default()),
        )
    }

    fn fault(&self, content: impl AsRef<[u8]>) -> CertificateFault {
        let path = self.write("client.pem", content);
        self.of(&[path]).usable().unwrap_err()
    }
}

async fn assertion(source: &ClientCertificates) -> Zeroizing<String> {
    match source.obtain(AUDIENCE).await.unwrap() {
        Credential::Assertion(assertion) => assertion,
        other => panic!("no assertion: {other:?}"),
    }
}

fn name(certificate: &rcgen::Certificate) -> Value {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, certificate.der())).into()
}

fn signed_by(assertion: &str) -> Value {
    jwt::part(assertion, 0).unwrap()["x5t#S256"].clone()
}

#[tokio::test]
async fn an_assertion_is_signed_with_ps256_for_ten_minutes_and_has_an_id_of_its_own() {
    let bench = Bench::new();
    let certificate = certificate(2026, 2027);
    let file = bench.write("client.pem", format!("{}{KEY}", certificate.pem()));
    let source = bench.of(&[file]);
    let assertion = assertion(&source).await;
    let (header, claims) = (jwt::part(&assertion, 0).unwrap(), jwt::part(&assertion, 1).unwrap());
    assert_eq!(header, json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": name(&certificate) }));
    for (claim, value) in [
        ("iss", json!(CLIENT)),
        ("sub", json!(CLIENT)),
        ("aud", json!(AUDIENCE)),
        ("nbf", json!(NOW)),
        ("exp", json!(NOW + 600)),
    ] {
        assert_eq!(claims[claim], value, "{claim}");
    }
    let (input, signature) = assertion.rsplit_once('.').unwrap();
    let key = RsaKeyPair::from_pkcs8(KeyPair::from_pem(KEY).unwrap().serialized_der()).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public().as_ref().to_vec());
    key.verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();

    let Credential::Assertion(other) = source.obtain("https://login.example/other/token").await.unwrap() else {
        panic!()
    };
    assert_ne!(jwt::part(&other, 1).unwrap()["jti"], claims["jti"]);
}

#[tokio::test]
async fn an_assertion_is_kept_until_it_is_about_to_expire() {
    let bench = Bench::new();
    let source = bench.of(&[bench.write("client.pem", pem(2026, 2027))]);
    let first = assertion(&source).await;
    bench.clock.advance(Duration::from_secs(6 * 60 + 59));
    assert_eq!(assertion(&source).await, first);
    bench.clock.advance(Duration::from_secs(1));
    assert_ne!(assertion(&source).await, first);
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_one_that_is_being_written_changes_nothing() {
    let bench = Bench::new();
    let (old, new) = (certificate(2025, 2027), certificate(2026, 2028));
    let file = bench.write("client.pem", format!("{}{KEY}", old.pem()));
    let source = bench.of(std::slice::from_ref(&file));
    assert_eq!(signed_by(&assertion(&source).await), name(&old));
    bench.write("client.pem", "-----BEGIN CERTIFICATE-----\nMIIC");
    assert_eq!(signed_by(&assertion(&source).await), name(&old));
    assert_eq!(source.faults(), [CertificateFault::Malformed(file.clone())]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(signed_by(&assertion(&source).await), name(&old));
    bench.write("client.pem", format!("{}{KEY}", new.pem()));
    assert_eq!(signed_by(&assertion(&source).await), name(&new));
    assert_eq!(source.faults(), []);
}

#[tokio::test]
async fn of_two_certificates_the_one_that_is_refused_gives_way_to_the_other_for_good() {
    let bench = Bench::new();
    let (old, new) = (certificate(2025, 2027), certificate(2026, 2028));
    let files =
        [bench.write("old.pem", format!("{}{KEY}", old.pem())), bench.write("new.pem", format!("{}{KEY}", new.pem()))];
    let source = bench.of(&files);
    let by_new = source.obtain(AUDIENCE).await.unwrap();
    assert_eq!(signed_by(&assertion(&source).await), name(&new), "the newest is tried first");
    // Two requests were refused at the same time: both get the same answer.
    for _ in 0..2 {
        let Credential::Assertion(other) = source.replacement(AUDIENCE, &by_new).await.unwrap() else { panic!() };
        assert_eq!(signed_by(&other), name(&old));
    }
    let by_old = source.obtain(AUDIENCE).await.unwrap();
    assert_eq!(signed_by(&assertion(&source).await), name(&old), "it is not tried again and again");
    // The old one is taken away from the application, which has the new one by now.
    let Credential::Assertion(other) = source.replacement(AUDIENCE, &by_old).await.unwrap() else { panic!() };
    assert_eq!(signed_by(&other), name(&new));
    assert_eq!(signed_by(&assertion(&source).await), name(&new));
}

#[tokio::test]
async fn a_single_certificate_that_is_refused_has_no_replacement_until_its_file_changes() {
    let bench = Bench::new();
    let source = bench.of(&[bench.write("client.pem", pem(2025, 2027))]);
    let refused = source.obtain(AUDIENCE).await.unwrap();
    assert_eq!(source.replacement(AUDIENCE, &refused).await, Ok(Credential::None));
    let new = certificate(2026, 2028);
    bench.write("client.pem", format!("{}{KEY}", new.pem()));
    let Credential::Assertion(other) = source.replacement(AUDIENCE, &refused).await.unwrap() else { panic!() };
    assert_eq!(signed_by(&other), name(&new));
}

#[tokio::test]
async fn a_certificate_whose_time_is_not_now_gives_way_to_one_whose_time_it_is() {
    let bench = Bench::new();
    let good = certificate(2025, 2027);
    let files = [
        bench.write("expired.pem", pem(2024, 2025)),
        bench.write("good.pem", format!("{}{KEY}", good.pem())),
        bench.write("next.pem", pem(2027, 2029)),
    ];
    let source = bench.of(&files);
    assert_eq!(signed_by(&assertion(&source).await), name(&good));
    let faults = source.faults();
    assert!(
        matches!(
            faults.as_slice(),
            [CertificateFault::Expired { since, .. }, CertificateFault::NotYet { from, .. }]
                if since == "2025-01-01" && from == "2027-01-01"
        ),
        "{faults:?}"
    );
}

/// A certificate of [`KEY`] with it, as PKCS#12.
fn pkcs12(certificate: &rcgen::Certificate, password: &str) -> Vec<u8> {
    let key = PrivateKey::from_der(KeyPair::from_pem(KEY).unwrap().serialized_der()).unwrap();
    let chain = [p12_keystore::Certificate::from_der(certificate.der()).unwrap()];
    let mut store = KeyStore::new();
    store.add_entry("client", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("client", key, chain)));
    store.writer(password).write().unwrap()
}

#[test]
fn a_pkcs12_file_is_opened_with_its_password() {
    let bench = Bench::new();
    let certificate = certificate(2026, 2027);
    let file = bench.write("client.p12", pkcs12(&certificate, "hunter2"));
    let thumbprint = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.der());
    let found = bench.with_password(std::slice::from_ref(&file), Some("hunter2")).usable().unwrap();
    assert_eq!(found[0].thumbprint, base16ct::upper::encode_string(thumbprint.as_ref()));
    for wrong in [None, Some("hunter3")] {
        let fault = bench.with_password(std::slice::from_ref(&file), wrong).usable().unwrap_err();
        assert_eq!(fault, CertificateFault::Password(file.clone()), "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_used_says_what_to_change() {
    let bench = Bench::new();
    let path = bench.path("client.pem");
    assert!(matches!(bench.of(std::slice::from_ref(&path)).usable(), Err(CertificateFault::Unreadable { .. })));
    let certificate = certificate(2026, 2027).pem();
    let elliptic = KeyPair::generate().unwrap();
    let other = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&elliptic).unwrap().pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (content, fault) in [
        (certificate.clone(), CertificateFault::NoKey(path.clone())),
        (KEY.to_owned(), CertificateFault::NoCertificate(path.clone())),
        (format!("{certificate}{encrypted}"), CertificateFault::EncryptedKey(path.clone())),
        (format!("{certificate}{}", elliptic.serialize_pem()), CertificateFault::NotRsa(path.clone())),
        (format!("{other}{KEY}"), CertificateFault::OtherKey(path.clone())),
        ("neither of them".to_owned(), CertificateFault::Malformed(path.clone())),
    ] {
        assert_eq!(bench.fault(content), fault);
    }
    assert!(matches!(bench.fault(pem(2024, 2025)), CertificateFault::Expired { since, .. } if since == "2025-01-01"));
    assert!(matches!(bench.fault(pem(2027, 2028)), CertificateFault::NotYet { from, .. } if from == "2027-01-01"));
}

#[test]
fn a_chain_may_be_in_any_order() {
    let bench = Bench::new();
    let elliptic = KeyPair::generate().unwrap();
    let issuer = CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&elliptic).unwrap().pem();
    let file = bench.write("client.pem", format!("{KEY}{issuer}{}", certificate(2026, 2027).pem()));
    assert_eq!(bench.of(&[file]).usable().unwrap().len(), 1);
}

#[test]
fn the_certificate_to_register_is_the_one_of_the_key_in_either_form() {
    let bench = Bench::new();
    let own = certificate(2026, 2027);
    let issuer = CertificateParams::new(vec!["ca".to_owned()]).unwrap();
    let issuer = issuer.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let chain = bench.write("chain.pem", format!("{issuer}{KEY}{}", own.pem()));
    assert_eq!(ClientCertificates::of_key(&chain, None, NOW), Ok(own.der().to_vec()));
    let file = bench.write("client.p12", pkcs12(&own, "hunter2"));
    let password = SecretBytes::new(b"hunter2".to_vec());
    assert_eq!(ClientCertificates::of_key(&file, Some(&password), NOW), Ok(own.der().to_vec()));
    assert_eq!(ClientCertificates::of_key(&file, None, NOW), Err(CertificateFault::Password(file.clone())));
    let other = bench.write("other.pem", format!("{issuer}{KEY}"));
    assert_eq!(ClientCertificates::of_key(&other, None, NOW), Err(CertificateFault::OtherKey(other.clone())));
    // The next one may be registered before its time.
    let next = certificate(2027, 2029);
    let early = bench.write("next.pem", format!("{}{KEY}", next.pem()));
    assert_eq!(ClientCertificates::of_key(&early, None, NOW), Ok(next.der().to_vec()));
    let late = bench.write("expired.pem", pem(2024, 2025));
    let expired = ClientCertificates::of_key(&late, None, NOW);
    assert!(matches!(&expired, Err(CertificateFault::Expired { since, .. }) if since == "2025-01-01"), "{expired:?}");
}
