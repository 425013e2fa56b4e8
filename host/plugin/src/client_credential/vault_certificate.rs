//! A certificate in Azure Key Vault, whose private key never leaves the vault: the vault signs the client assertions.
//!
//! What is signed here and what the vault has signed are compared with the certificate, so that a wrong answer is an error
//! of this program and not one of Entra ID. The newest version counts, unless Entra ID has refused it: a version that was
//! made but is not registered yet gives way to the one before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::json;
use tokio::sync::Mutex;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::certificate::{Kept, LIFETIME, MAX_KEPT, RENEW_BEFORE, date, seconds};
use super::{ClientCredential, Credential, CredentialError, jwt};
use crate::clock::Clock;
use crate::key_vault::{KeyVault, VaultFault, VaultObject};
use crate::random::{Random, unguessable_id};

/// How often the vault is asked whether there is a newer version.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Why a certificate in a vault cannot be used. Each says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultCertificateFault {
    /// The vault does not do what it is asked.
    #[error(transparent)]
    Vault(#[from] VaultFault),
    /// It is no certificate of an RSA key.
    #[error(
        "the certificate {0} has no RSA key, and Entra ID takes no other: make one of the key type RSA in the vault"
    )]
    NotRsa(String),
    /// The certificate is not good any more.
    #[error(
        "the certificate {object} (thumbprint {thumbprint}) expired on {since}: make a new version in the vault, and upload it \
         under Certificates & secrets in the app registration"
    )]
    Expired {
        /// Its address.
        object: String,
        /// As the portal shows it.
        thumbprint: String,
        /// The date.
        since: String,
    },
    /// The vault has signed with another key.
    #[error("what the key vault has signed does not fit the certificate {0}: see which key belongs to it in the vault")]
    OtherKey(String),
}

impl From<VaultCertificateFault> for CredentialError {
    fn from(fault: VaultCertificateFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

/// One version of the certificate.
struct Version {
    /// `x5t#S256`.
    name: String,
    /// SHA-1, as the vault lists it.
    thumbprint: Vec<u8>,
    not_after: u64,
    /// RSAPublicKey, DER.
    public: Vec<u8>,
    key: VaultObject,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Version>>,
    /// The name of the version that Entra ID has refused.
    refused: Option<String>,
    read_at: u64,
    /// By the name of the version, and the audience.
    kept: HashMap<(String, String), Kept>,
}

/// Assertions that a vault signs.
pub struct VaultCertificate {
    vault: KeyVault,
    object: VaultObject,
    client_id: String,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    state: Mutex<State>,
}

impl VaultCertificate {
    /// Assertions of the application `client_id`, by the certificate `object`.
    pub fn new(
        vault: KeyVault,
        object: VaultObject,
        client_id: &str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { vault, object, client_id: client_id.to_owned(), clock, random, state: Mutex::default() }
    }

    async fn read(&self, object: &VaultObject) -> Result<Arc<Version>, VaultCertificateFault> {
        let facts = self.vault.certificate(object).await?;
        let not_rsa = || VaultCertificateFault::NotRsa(object.to_string());
        let (_, parsed) = X509Certificate::from_der(&facts.der)
            .map_err(|_| VaultFault::Malformed("the certificate cannot be read"))?;
        if !matches!(parsed.public_key().parsed(), Ok(x509_parser::public_key::PublicKey::RSA(_))) {
            return Err(not_rsa());
        }
        let version = Version {
            name: URL_SAFE_NO_PAD.encode(digest(&SHA256, &facts.der)),
            thumbprint: digest(&SHA1_FOR_LEGACY_USE_ONLY, &facts.der).as_ref().to_vec(),
            not_after: seconds(parsed.validity().not_after),
            public: parsed.public_key().subject_public_key.data.to_vec(),
            key: facts.key,
        };
        let until = date(version.not_after);
        let thumbprint = version.shown();
        tracing::info!(certificate = %object, thumbprint, until, "read the client certificate in the key vault");
        Ok(Arc::new(version))
    }

    /// The version to sign with now.
    async fn current(&self, state: &mut State) -> Result<Arc<Version>, VaultCertificateFault> {
        let now = self.clock.now_seconds();
        let is_over = |version: &Version| version.not_after <= now;
        if let Some(current) = state.current.as_ref().filter(|current| !is_over(current))
            && now < state.read_at.saturating_add(LOOK_AGAIN.as_secs())
        {
            return Ok(Arc::clone(current));
        }
        let version = match (self.read(&self.object).await, &state.current) {
            (Ok(newest), Some(current)) if Some(&newest.name) == state.refused.as_ref() => Arc::clone(current),
            (Ok(newest), _) => newest,
            (Err(fault), Some(current)) if !is_over(current) => {
                tracing::warn!(%fault, "the certificate in the key vault that was read before stays in use");
                Arc::clone(current)
            }
            (Err(fault), _) => return Err(fault),
        };
        if is_over(&version) {
            let (object, thumbprint) = (self.object.to_string(), version.shown());
            return Err(VaultCertificateFault::Expired { object, thumbprint, since: date(version.not_after) });
        }
        state.read_at = now;
        state.current = Some(Arc::clone(&version));
        Ok(version)
    }

    /// The assertion of this version, if there is one that is good for longer than `margin`.
    fn kept(&self, state: &State, version: &Version, audience: &str, margin: Duration) -> Option<Credential> {
        let kept = state.kept.get(&(version.name.clone(), audience.to_owned()))?;
        let is_good = kept.expires > self.clock.now_seconds().saturating_add(margin.as_secs());
        is_good.then(|| Credential::Assertion(kept.assertion.clone()))
    }

    async fn assertion(
        &self,
        state: &mut State,
        version: &Version,
        audience: &str,
    ) -> Result<Credential, CredentialError> {
        if let Some(kept) = self.kept(state, version, audience, RENEW_BEFORE) {
            return Ok(kept);
        }
        let now = self.clock.now_seconds();
        let expires = now.saturating_add(LIFETIME.as_secs());
        let assertion = match self.sign(version, audience, now, expires).await {
            Ok(assertion) => assertion,
            // A vault that does not answer for a moment is no reason to refuse.
            Err(error) => {
                return self.kept(state, version, audience, Duration::ZERO).ok_or(error);
            }
        };
        state.kept.retain(|_, kept| kept.expires > now);
        if state.kept.len() >= MAX_KEPT {
            state.kept.clear();
        }
        let key = (version.name.clone(), audience.to_owned());
        state.kept.insert(key, Kept { assertion: assertion.clone(), expires });
        Ok(Credential::Assertion(assertion))
    }

    async fn sign(
        &self,
        version: &Version,
        audience: &str,
        now: u64,
        expires: u64,
    ) -> Result<Zeroizing<String>, CredentialError> {
        let id = unguessable_id(&*self.random).map_err(|error| CredentialError::Unavailable(error.to_string()))?;
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": version.name });
        let claims = json!({
            "aud": audience, "iss": self.client_id, "sub": self.client_id, "jti": id, "iat": now, "nbf": now,
            "exp": expires,
        });
        let input = format!("{}.{}", jwt::encoded(&header), jwt::encoded(&claims));
        let signed = self.vault.sign(&version.key, digest(&SHA256, input.as_bytes()).as_ref()).await?;
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &version.public)
            .verify(input.as_bytes(), &signed)
            .map_err(|_| VaultCertificateFault::OtherKey(self.object.to_string()))?;
        Ok(Zeroizing::new(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signed))))
    }
}

impl Version {
    /// The thumbprint as the portal shows it.
    fn shown(&self) -> String {
        base16ct::upper::encode_string(&self.thumbprint)
    }
}

impl From<VaultFault> for CredentialError {
    fn from(fault: VaultFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

#[async_trait]
impl ClientCredential for VaultCertificate {
    async fn obtain(&self, audience: &str) -> Result<Credential, CredentialError> {
        let mut state = self.state.lock().await;
        let version = self.current(&mut state).await?;
        self.assertion(&mut state, &version, audience).await
    }

    async fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        let Credential::Assertion(refused) = refused else { return Ok(Credential::None) };
        let header = jwt::part(refused, 0).unwrap_or_default();
        let name = header.get("x5t#S256").and_then(serde_json::Value::as_str).unwrap_or_default();
        let mut state = self.state.lock().await;
        state.kept.retain(|_, kept| kept.assertion != *refused);
        // Another call has found another version meanwhile.
        if let Some(current) = state.current.clone().filter(|current| current.name != name) {
            return self.assertion(&mut state, &current, audience).await;
        }
        let refused_print = state.current.as_ref().map(|current| URL_SAFE_NO_PAD.encode(&current.thumbprint));
        let versions = self.vault.versions(&self.object).await.map_err(VaultCertificateFault::from)?;
        let other = versions.into_iter().find(|(_, thumbprint)| Some(thumbprint) != refused_print.as_ref());
        let Some((other, _)) = other else { return Ok(Credential::None) };
        let version = self.read(&other).await?;
        if version.not_after <= self.clock.now_seconds() || version.name == name {
            return Ok(Credential::None);
        }
        let thumbprint = version.shown();
        tracing::warn!(certificate = %other, thumbprint, "Entra ID refused a version, so this one is used from now on");
        state.refused = Some(name.to_owned());
        state.current = Some(Arc::clone(&version));
        self.assertion(&mut state, &version, audience).await
    }
}
