//! Certificates with their private keys: they sign client assertions (RFC 7523 section 2.2), and the keys stay here.
//!
//! The host checks the files before every use, and reads them again when they have changed. If there are two, the one
//! that Entra ID has refused gives way to the other. So an operator can write the new certificate beside the old one,
//! register it and remove the old one, in any order, and no request fails.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::{ClientCredential, Credential, CredentialError, jwt};
use crate::clock::Clock;
use crate::random::{Random, unguessable_id};
use crate::secret_store::SecretBytes;

/// Longest file in bytes: a chain with its key has some 10 KiB.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// How long an assertion is good for. Microsoft advises 5 to 10 minutes.
pub(super) const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// An assertion is signed anew when it has less than this left: the clock of this machine may be behind, and the request
/// takes its time.
pub(super) const RENEW_BEFORE: Duration = Duration::from_secs(3 * 60);

/// Most assertions that are kept: one for each token endpoint, and a multi-tenant server has one for each tenant.
pub(super) const MAX_KEPT: usize = 1_024;

/// A certificate that expires sooner than this is worth a warning.
pub(super) const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why a certificate cannot be used. Each says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// The operating system does not let the file be read.
    #[error(
        "the certificate file {path} cannot be read ({reason}): correct --certificate-file, or the mode of the file"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        reason: String,
    },
    /// The file is neither of the two forms.
    #[error(
        "the certificate file {0} is neither PEM nor PKCS#12: write certificate and private key into it in one of these \
         forms"
    )]
    Malformed(PathBuf),
    /// The password of the PKCS#12 file is wrong.
    #[error("the password of the certificate file {0} is wrong: set AZURE_CLIENT_CERTIFICATE_PASSWORD")]
    Password(PathBuf),
    /// There is no certificate in the file.
    #[error("the certificate file {0} holds no certificate: append it to the private key")]
    NoCertificate(PathBuf),
    /// There is no private key in the file.
    #[error("the certificate file {0} holds no private key: append it (PEM, PKCS#8 or PKCS#1) to the certificate")]
    NoKey(PathBuf),
    /// The key has a password.
    #[error(
        "the private key in the certificate file {0} is encrypted: write it without a password, or make a PKCS#12 file and \
         set AZURE_CLIENT_CERTIFICATE_PASSWORD"
    )]
    EncryptedKey(PathBuf),
    /// Entra ID knows RSA alone.
    #[error(
        "the private key in the certificate file {0} is not an RSA key of 2048 to 4096 bits: Entra ID takes no other"
    )]
    NotRsa(PathBuf),
    /// The parts of the file do not belong together.
    #[error("no certificate in the certificate file {0} belongs to the private key in it: put the two together again")]
    OtherKey(PathBuf),
    /// The certificate is not good any more.
    #[error(
        "the certificate in {path} (thumbprint {thumbprint}) expired on {since}: make a new one, upload it under \
         Certificates & secrets in the app registration, and write it with its key to that file"
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// As the portal shows it.
        thumbprint: String,
        /// The date.
        since: String,
    },
    /// The certificate is not good yet.
    #[error(
        "the certificate in {path} (thumbprint {thumbprint}) is good from {from} on: correct the date of this machine, or \
         use another certificate until then"
    )]
    NotYet {
        /// The file.
        path: PathBuf,
        /// As the portal shows it.
        thumbprint: String,
        /// The date.
        from: String,
    },
}

/// The facts about a certificate for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The file.
    pub path: PathBuf,
    /// SHA-1 in hexadecimal digits, as the portal shows it.
    pub thumbprint: String,
    /// Seconds since 1970.
    pub not_after: u64,
}

/// A certificate that can sign.
struct Signer {
    key: RsaKeyPair,
    /// `x5t#S256`.
    name: String,
    /// The certificate itself.
    der: Vec<u8>,
    facts: CertificateFacts,
    not_before: u64,
}

/// By what a changed file is recognised without reading it.
type Stamp = (Option<SystemTime>, u64, u64);

struct Slot {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// The last one that could be used: a file that is being written changes nothing.
    signer: Option<Arc<Signer>>,
    fault: Option<CertificateFault>,
}

/// An assertion, for the time that it is good.
pub(super) struct Kept {
    pub(super) assertion: Zeroizing<String>,
    pub(super) expires: u64,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    /// The name of the certificate that Entra ID has accepted where it refused another one.
    preferred: Option<String>,
    /// By the name of the certificate, and the audience.
    kept: HashMap<(String, String), Kept>,
}

/// One certificate or, while it is being replaced, two.
pub struct ClientCertificates {
    client_id: String,
    password: Option<SecretBytes>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    state: Mutex<State>,
}

impl ClientCertificates {
    /// Certificates of the application `client_id` in files, each with its private key, as PEM or as PKCS#12, whose
    /// password is `password`.
    pub fn new(
        client_id: &str,
        files: &[PathBuf],
        password: Option<SecretBytes>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let slot = |path: &PathBuf| Slot { path: path.clone(), stamp: None, signer: None, fault: None };
        let slots = files.iter().map(slot).collect();
        let state = Mutex::new(State { slots, ..State::default() });
        Self { client_id: client_id.to_owned(), password, clock, random, state }
    }

    /// The usable certificates, in the order in which the host tries them; or the reason why there is none.
    pub fn usable(&self) -> Result<Vec<CertificateFacts>, CertificateFault> {
        let mut state = self.state();
        self.refresh(&mut state);
        Ok(self.candidates(&state)?.into_iter().map(|signer| signer.facts.clone()).collect())
    }

    /// The certificate in a file that belongs to the private key in it (DER): what has to be registered, so that Entra ID
    /// takes what this file signs. One whose time is over is not worth it; one whose time comes is.
    pub fn of_key(path: &Path, password: Option<&SecretBytes>, now: u64) -> Result<Vec<u8>, CertificateFault> {
        let signer = read(path, password)?;
        match signer.time_fault(now) {
            Some(fault @ CertificateFault::Expired { .. }) => Err(fault),
            _ => Ok(signer.der),
        }
    }

    /// The fault of each unusable file.
    pub fn faults(&self) -> Vec<CertificateFault> {
        let mut state = self.state();
        self.refresh(&mut state);
        let now = self.clock.now_seconds();
        let faulty = |slot: &Slot| slot.fault.clone().or_else(|| slot.signer.as_ref()?.time_fault(now));
        state.slots.iter().filter_map(faulty).collect()
    }

    /// What was poisoned was left whole: every change of it is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files that have changed.
    fn refresh(&self, state: &mut State) {
        let now = self.clock.now_seconds();
        for slot in &mut state.slots {
            let stamp = stamp(&slot.path);
            if stamp.is_some() && stamp == slot.stamp {
                continue;
            }
            match read(&slot.path, self.password.as_ref()) {
                Ok(signer) => {
                    signer.announce(now);
                    *slot = Slot { stamp, signer: Some(Arc::new(signer)), fault: None, path: slot.path.clone() };
                }
                Err(fault) => {
                    if slot.signer.is_some() && slot.fault.as_ref() != Some(&fault) {
                        tracing::warn!(%fault, "the certificate that was read before stays in use");
                    }
                    // The stamp is not kept: the file is read again until it can be used.
                    slot.fault = Some(fault);
                }
            }
        }
    }

    /// The certificates whose time it is, in the order in which they are tried.
    fn candidates(&self, state: &State) -> Result<Vec<Arc<Signer>>, CertificateFault> {
        let now = self.clock.now_seconds();
        let signers = || state.slots.iter().filter_map(|slot| slot.signer.as_ref());
        let mut usable: Vec<_> = signers().filter(|signer| signer.time_fault(now).is_none()).cloned().collect();
        // The newest is the one to change to; the one that is known to be accepted goes first.
        usable.sort_by_key(|signer| std::cmp::Reverse(signer.not_before));
        usable.sort_by_key(|signer| Some(&signer.name) != state.preferred.as_ref());
        if !usable.is_empty() {
            return Ok(usable);
        }
        let of_time = signers().find_map(|signer| signer.time_fault(now));
        let of_file = state.slots.iter().find_map(|slot| slot.fault.clone());
        Err(of_file.or(of_time).unwrap_or_else(|| CertificateFault::NoCertificate(PathBuf::new())))
    }

    fn assertion(&self, state: &mut State, signer: &Signer, audience: &str) -> Result<Credential, CredentialError> {
        let now = self.clock.now_seconds();
        let key = (signer.name.clone(), audience.to_owned());
        if let Some(kept) = state.kept.get(&key)
            && kept.expires > now.saturating_add(RENEW_BEFORE.as_secs())
        {
            return Ok(Credential::Assertion(kept.assertion.clone()));
        }
        let expires = now.saturating_add(LIFETIME.as_secs());
        let assertion = self.sign(signer, audience, now, expires)?;
        state.kept.retain(|_, kept| kept.expires > now);
        if state.kept.len() >= MAX_KEPT {
            state.kept.clear();
        }
        state.kept.insert(key, Kept { assertion: assertion.clone(), expires });
        Ok(Credential::Assertion(assertion))
    }

    /// The assertion that Microsoft describes in "certificate credentials".
    fn sign(
        &self,
        signer: &Signer,
        audience: &str,
        now: u64,
        expires: u64,
    ) -> Result<Zeroizing<String>, CredentialError> {
        let failed = |reason: &str| CredentialError::Unavailable(reason.to_owned());
        let id = unguessable_id(&*self.random).map_err(|error| CredentialError::Unavailable(error.to_string()))?;
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": signer.name });
        let claims = json!({
            "aud": audience, "iss": self.client_id, "sub": self.client_id, "jti": id, "iat": now, "nbf": now,
            "exp": expires,
        });
        let input = format!("{}.{}", jwt::encoded(&header), jwt::encoded(&claims));
        let mut signed = vec![0; signer.key.public().modulus_len()];
        signer
            .key
            .sign(&signature::RSA_PSS_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signed)
            .map_err(|_| failed("the private key of the certificate cannot sign"))?;
        Ok(Zeroizing::new(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signed))))
    }
}

#[async_trait]
impl ClientCredential for ClientCertificates {
    async fn obtain(&self, audience: &str) -> Result<Credential, CredentialError> {
        let mut state = self.state();
        self.refresh(&mut state);
        let signer = self.candidates(&state)?.into_iter().next();
        let signer = signer.ok_or_else(|| CredentialError::NotConfigured("there is no certificate".to_owned()))?;
        self.assertion(&mut state, &signer, audience)
    }

    async fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        let Credential::Assertion(refused) = refused else { return Ok(Credential::None) };
        let header = jwt::part(refused, 0).unwrap_or_default();
        let name = header.get("x5t#S256").and_then(serde_json::Value::as_str).unwrap_or_default();
        let mut state = self.state();
        // What was refused for its time is not sent again.
        state.kept.retain(|_, kept| kept.assertion != *refused);
        // A file that was written twice within the resolution of its time stamp.
        state.slots.iter_mut().for_each(|slot| slot.stamp = None);
        self.refresh(&mut state);
        let Some(other) = self.candidates(&state)?.into_iter().find(|signer| signer.name != name) else {
            return Ok(Credential::None);
        };
        if state.preferred.as_ref() != Some(&other.name) {
            tracing::warn!(
                file = %other.facts.path.display(), thumbprint = other.facts.thumbprint,
                "Entra ID refused a certificate, so this one is used from now on"
            );
        }
        state.preferred = Some(other.name.clone());
        self.assertion(&mut state, &other, audience)
    }
}

impl From<CertificateFault> for CredentialError {
    fn from(fault: CertificateFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl Signer {
    fn time_fault(&self, now: u64) -> Option<CertificateFault> {
        let CertificateFacts { path, thumbprint, not_after } = &self.facts;
        let (path, thumbprint) = (path.clone(), thumbprint.clone());
        if now >= *not_after {
            return Some(CertificateFault::Expired { path, thumbprint, since: date(*not_after) });
        }
        (now < self.not_before).then(|| CertificateFault::NotYet { path, thumbprint, from: date(self.not_before) })
    }

    /// The thumbprint in the log is what an operator compares with the portal.
    fn announce(&self, now: u64) {
        let CertificateFacts { path, thumbprint, not_after } = &self.facts;
        let (file, until) = (path.display(), date(*not_after));
        if *not_after > now && *not_after < now.saturating_add(EXPIRES_SOON.as_secs()) {
            tracing::warn!(%file, thumbprint, until, "the client certificate expires soon: replace it");
        } else {
            tracing::info!(%file, thumbprint, until, "read the client certificate");
        }
    }
}

/// A moment as a date, in UTC.
pub(super) fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    time.map(|time| {
        let date = time.to_datetime();
        format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
    })
    .unwrap_or_default()
}

/// A moment of a certificate, in seconds since 1970.
pub(super) fn seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or_default()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let file = 0;
    Some((metadata.modified().ok(), metadata.len(), file))
}

/// Reads a file with a certificate and its key.
fn read(path: &Path, password: Option<&SecretBytes>) -> Result<Signer, CertificateFault> {
    let unreadable = |reason: String| CertificateFault::Unreadable { path: path.to_owned(), reason };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable("it is too long for a certificate".to_owned()));
    }
    warn_if_exposed(path);
    let is_pem = bytes.windows(10).any(|window| window == b"-----BEGIN");
    let (certificates, key) = if is_pem { of_pem(path, &bytes)? } else { of_pkcs12(path, &bytes, password)? };
    if certificates.is_empty() {
        return Err(CertificateFault::NoCertificate(path.to_owned()));
    }
    certificates
        .iter()
        .find_map(|certificate| signer(path, certificate, &key))
        .ok_or_else(|| CertificateFault::OtherKey(path.to_owned()))?
}

type Parts = (Vec<Vec<u8>>, KeyBytes);

/// A private key, encoded.
enum KeyBytes {
    Pkcs8(Zeroizing<Vec<u8>>),
    Pkcs1(Zeroizing<Vec<u8>>),
}

impl KeyBytes {
    fn pair(&self) -> Option<RsaKeyPair> {
        match self {
            Self::Pkcs8(der) => RsaKeyPair::from_pkcs8(der).ok(),
            Self::Pkcs1(der) => RsaKeyPair::from_der(der).ok(),
        }
    }
}

fn of_pem(path: &Path, bytes: &[u8]) -> Result<Parts, CertificateFault> {
    let malformed = || CertificateFault::Malformed(path.to_owned());
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| malformed())?;
    if bytes.windows(27).any(|window| window == b"BEGIN ENCRYPTED PRIVATE KEY") {
        return Err(CertificateFault::EncryptedKey(path.to_owned()));
    }
    let key = match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(PrivateKeyDer::Pkcs8(key)) => KeyBytes::Pkcs8(Zeroizing::new(key.secret_pkcs8_der().to_vec())),
        Ok(PrivateKeyDer::Pkcs1(key)) => KeyBytes::Pkcs1(Zeroizing::new(key.secret_pkcs1_der().to_vec())),
        Ok(_) => return Err(CertificateFault::NotRsa(path.to_owned())),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => return Err(CertificateFault::NoKey(path.to_owned())),
        Err(_) => return Err(malformed()),
    };
    Ok((certificates, key))
}

fn of_pkcs12(path: &Path, bytes: &[u8], password: Option<&SecretBytes>) -> Result<Parts, CertificateFault> {
    use p12_keystore::Pkcs12Archive;
    use p12_keystore::error::Error;
    let malformed = || CertificateFault::Malformed(path.to_owned());
    let password = password.map(|password| std::str::from_utf8(password.reveal()).unwrap_or_default());
    let archive = Pkcs12Archive::from_pkcs12(bytes, password.unwrap_or_default()).map_err(|error| match error {
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => CertificateFault::Password(path.to_owned()),
        _ => malformed(),
    })?;
    let key = archive.keys.first().ok_or_else(|| CertificateFault::NoKey(path.to_owned()))?;
    let key = KeyBytes::Pkcs8(Zeroizing::new(key.key.as_der().to_vec()));
    Ok((archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect(), key))
}

/// What signs with `key`, if the certificate is that of the key. `Some` of an error: the key cannot be used at all.
fn signer(path: &Path, certificate: &[u8], key: &KeyBytes) -> Option<Result<Signer, CertificateFault>> {
    let Some(pair) = key.pair() else {
        return Some(Err(CertificateFault::NotRsa(path.to_owned())));
    };
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    if *parsed.public_key().subject_public_key.data != *pair.public().as_ref() {
        return None;
    }
    let digest = |algorithm| ring::digest::digest(algorithm, certificate);
    let facts = CertificateFacts {
        path: path.to_owned(),
        thumbprint: base16ct::upper::encode_string(digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY).as_ref()),
        not_after: seconds(parsed.validity().not_after),
    };
    let name = URL_SAFE_NO_PAD.encode(digest(&ring::digest::SHA256));
    let not_before = seconds(parsed.validity().not_before);
    Some(Ok(Signer { key: pair, name, der: certificate.to_vec(), facts, not_before }))
}

#[cfg(unix)]
fn warn_if_exposed(path: &Path) {
    let mode = |metadata: std::fs::Metadata| std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    if std::fs::metadata(path).is_ok_and(|metadata| mode(metadata) & 0o044 != 0) {
        tracing::warn!(file = %path.display(), "other users than its owner can read the private key of the client");
    }
}

#[cfg(windows)]
fn warn_if_exposed(path: &Path) {
    if crate::access_list::is_readable_by_others(path) == Some(true) {
        tracing::warn!(file = %path.display(), "other users than its owner can read the private key of the client");
    }
}

#[cfg(test)]
mod tests;
