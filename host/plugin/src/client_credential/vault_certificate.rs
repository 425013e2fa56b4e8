//! A certificate in Azure Key Vault, whose private key never leaves the vault: the vault signs the client assertions.
//!
//! The program verifies each signature of the vault with the certificate, so that a wrong answer is an error of this
//! program and not one of Entra ID. The newest version counts, unless Entra ID has refused it within the last hour: a
//! version that was made but is not registered yet gives way to the one before, and the program tries it again later.
//!
//! One call at a time asks the vault, and holds nothing meanwhile that others need (`kept_token.rs`): they use the
//! present assertion as long as it is good. No call asks a vault that has failed for some seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::certificate::{EXPIRES_SOON, Kept, LIFETIME, MAX_KEPT, RENEW_BEFORE, date, seconds};
use super::kept_token::SourceTurn;
use super::{ClientCredential, Credential, CredentialError, jwt};
use crate::clock::Clock;
use crate::key_vault::{KeyVault, VaultFault, VaultObject};
use crate::random::{Random, unguessable_id};

/// How often the vault is asked whether there is a newer version.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// How long a version counts as refused. It may be registered meanwhile, and each hour of trying costs one refused request.
const REFUSED: Duration = Duration::from_secs(60 * 60);

/// Most versions that are read in the place of one that was refused. Those that the list says to be over, or that were refused,
/// are not read at all.
const MAX_READ: usize = 8;

/// How often the log says that the certificate expires soon.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

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
    #[error(
        "the signature of the key vault does not fit the certificate {0}: see which key belongs to it in the vault"
    )]
    OtherKey(String),
}

impl From<VaultCertificateFault> for CredentialError {
    fn from(fault: VaultCertificateFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

/// The facts about a certificate in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultCertificateFacts {
    /// SHA-1 in hexadecimal digits, as the portal shows it.
    pub thumbprint: String,
    /// Seconds since 1970.
    pub not_after: u64,
}

/// One version of the certificate.
struct Version {
    /// `x5t#S256`.
    name: String,
    /// SHA-1.
    thumbprint: Vec<u8>,
    not_after: u64,
    /// RSAPublicKey, DER.
    public: Vec<u8>,
    key: VaultObject,
}

/// A version that Entra ID has refused.
struct Refused {
    /// As the vault lists it.
    listed: String,
    /// Unix time in seconds.
    at: u64,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Version>>,
    /// The versions that Entra ID has refused, the last one at the end.
    refused: Vec<Refused>,
    /// When the newest version was looked for. Unix time in seconds.
    read_at: u64,
    /// When the log has said that the certificate expires soon. Unix time in seconds.
    warned_at: u64,
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
    /// Never held while the vault is asked.
    state: Mutex<State>,
    /// The right to ask the vault.
    turn: SourceTurn<CredentialError>,
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
        Self {
            vault,
            object,
            client_id: client_id.to_owned(),
            turn: SourceTurn::new(Arc::clone(&clock)),
            clock,
            random,
            state: Mutex::default(),
        }
    }

    /// What was poisoned was left whole: every change of it is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The facts about the certificate that signs now.
    pub async fn facts(&self) -> Result<VaultCertificateFacts, VaultCertificateFault> {
        let _asking = self.turn.wait().await;
        let version = self.current().await?;
        Ok(VaultCertificateFacts { thumbprint: version.shown(), not_after: version.not_after })
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
    async fn current(&self) -> Result<Arc<Version>, VaultCertificateFault> {
        let now = self.clock.now_seconds();
        let before = {
            let state = self.state();
            if let Some(current) = state.known(now) {
                return Ok(current);
            }
            state.current.clone().filter(|current| !current.is_over(now))
        };
        let version = match (self.read(&self.object).await, before) {
            (Ok(newest), Some(before)) if newest.is_over(now) || self.state().was_refused(&newest.listed(), now) => {
                before
            }
            (Ok(newest), _) => newest,
            (Err(fault), Some(before)) => {
                tracing::warn!(%fault, "the certificate in the key vault that was read before stays in use");
                before
            }
            (Err(fault), None) => return Err(fault),
        };
        if version.is_over(now) {
            let (object, thumbprint) = (self.object.to_string(), version.shown());
            return Err(VaultCertificateFault::Expired { object, thumbprint, since: date(version.not_after) });
        }
        let mut state = self.state();
        state.read_at = now;
        self.use_from_now_on(&mut state, &version);
        Ok(version)
    }

    fn use_from_now_on(&self, state: &mut State, version: &Arc<Version>) {
        let now = self.clock.now_seconds();
        let is_other = state.current.as_ref().is_none_or(|current| current.name != version.name);
        let is_told = !is_other && now < state.warned_at.saturating_add(WARN_AGAIN.as_secs());
        if version.not_after < now.saturating_add(EXPIRES_SOON.as_secs()) && !is_told {
            let (certificate, thumbprint, until) = (&self.object, version.shown(), date(version.not_after));
            tracing::warn!(
                %certificate, thumbprint, until,
                "the client certificate in the key vault expires soon: make a new version, and upload it to the app registration"
            );
            state.warned_at = now;
        }
        state.current = Some(Arc::clone(version));
    }

    /// The assertion of the version in use, unless it is time to renew it, or to look for a newer version.
    fn at_hand(&self, audience: &str) -> Option<Credential> {
        let state = self.state();
        let current = state.known(self.clock.now_seconds())?;
        self.kept(&state, &current, audience, RENEW_BEFORE)
    }

    /// The assertion of the version in use, if it is good for longer than `margin`.
    fn at_hand_still(&self, audience: &str, margin: Duration) -> Option<Credential> {
        let state = self.state();
        let current = state.current.as_ref().filter(|current| !current.is_over(self.clock.now_seconds()))?;
        self.kept(&state, current, audience, margin)
    }

    /// The assertion of this version, if there is one that is good for longer than `margin`.
    fn kept(&self, state: &State, version: &Version, audience: &str, margin: Duration) -> Option<Credential> {
        let kept = state.kept.get(&(version.name.clone(), audience.to_owned()))?;
        let is_good = kept.expires > self.clock.now_seconds().saturating_add(margin.as_secs());
        is_good.then(|| Credential::Assertion(kept.assertion.clone()))
    }

    /// An assertion by the version in use, or by the newest if it is time to look for that.
    async fn ask(&self, audience: &str) -> Result<Credential, CredentialError> {
        let version = self.current().await?;
        self.assertion(&version, audience).await
    }

    async fn assertion(&self, version: &Version, audience: &str) -> Result<Credential, CredentialError> {
        if let Some(kept) = self.kept(&self.state(), version, audience, RENEW_BEFORE) {
            return Ok(kept);
        }
        let now = self.clock.now_seconds();
        let expires = now.saturating_add(LIFETIME.as_secs());
        let assertion = self.sign(version, audience, now, expires).await?;
        let mut state = self.state();
        state.kept.retain(|_, kept| kept.expires > now);
        if state.kept.len() >= MAX_KEPT {
            state.kept.clear();
        }
        let key = (version.name.clone(), audience.to_owned());
        state.kept.insert(key, Kept { assertion: assertion.clone(), expires });
        Ok(Credential::Assertion(assertion))
    }

    /// A version in the place of the one in use, which Entra ID has refused: the newest that was not refused, or else the one
    /// whose refusal is the longest ago. `None`: there is no other.
    async fn other_than(&self, refused: &Version) -> Result<Option<Arc<Version>>, VaultCertificateFault> {
        let now = self.clock.now_seconds();
        let mut listed = self.vault.versions(&self.object).await?;
        listed
            .retain(|other| other.thumbprint != refused.listed() && other.expires.is_none_or(|expires| expires > now));
        // The list has the newest first, and this keeps the order of those that were not refused.
        listed.sort_by_cached_key(|other| self.state().refusal(&other.thumbprint, now));
        for other in listed.iter().take(MAX_READ) {
            let version = match self.read(&other.object).await {
                Err(VaultCertificateFault::NotRsa(_)) => continue,
                read => read?,
            };
            if !version.is_over(now) && version.name != refused.name {
                return Ok(Some(version));
            }
        }
        Ok(None)
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

impl State {
    /// The version in use, if it is not over and no newer one has to be looked for.
    fn known(&self, now: u64) -> Option<Arc<Version>> {
        let is_recent = now < self.read_at.saturating_add(LOOK_AGAIN.as_secs());
        self.current.as_ref().filter(|current| is_recent && !current.is_over(now)).cloned()
    }

    /// Notes that Entra ID has refused a version.
    fn refuse(&mut self, listed: String, now: u64) {
        self.refused.retain(|refused| refused.is_recent(now) && refused.listed != listed);
        self.refused.push(Refused { listed, at: now });
    }

    /// The place of a version among those that were refused, in the order of their refusals.
    fn refusal(&self, listed: &str, now: u64) -> Option<usize> {
        self.refused.iter().position(|refused| refused.is_recent(now) && refused.listed == listed)
    }

    fn was_refused(&self, listed: &str, now: u64) -> bool {
        self.refusal(listed, now).is_some()
    }
}

impl Refused {
    fn is_recent(&self, now: u64) -> bool {
        now < self.at.saturating_add(REFUSED.as_secs())
    }
}

impl Version {
    fn is_over(&self, now: u64) -> bool {
        self.not_after <= now
    }

    /// The thumbprint as the vault lists it.
    fn listed(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.thumbprint)
    }

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
        let still = |margin| self.at_hand_still(audience, margin);
        self.turn.take(|| self.at_hand(audience), still, self.ask(audience)).await
    }

    async fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        let Credential::Assertion(refused) = refused else { return Ok(Credential::None) };
        let header = jwt::part(refused, 0).unwrap_or_default();
        let name = header.get("x5t#S256").and_then(serde_json::Value::as_str).unwrap_or_default();
        self.state().kept.retain(|_, kept| kept.assertion != *refused);
        let _asking = self.turn.wait().await;
        let Some(current) = self.state().current.clone() else { return Ok(Credential::None) };
        if let Some(error) = self.turn.failed() {
            return Err(error);
        }
        // Another call has found another version meanwhile.
        if current.name != name {
            return self.turn.noted(self.assertion(&current, audience).await);
        }
        let other = self.other_than(&current).await.map_err(CredentialError::from);
        let Some(version) = self.turn.noted(other)? else { return Ok(Credential::None) };
        let (certificate, thumbprint) = (&self.object, version.shown());
        tracing::warn!(%certificate, thumbprint, "Entra ID refused a version, so this one is used from now on");
        {
            let mut state = self.state();
            state.refuse(current.listed(), self.clock.now_seconds());
            self.use_from_now_on(&mut state, &version);
        }
        self.turn.noted(self.assertion(&version, audience).await)
    }
}
