//! Signing keys: what `/discovery/v2.0/keys` publishes and how it changes.
//!
//! Entra ID publishes several keys at once, signs with one of them, and overlaps old and new when it rotates. A key
//! carries the `issuer` it may sign for; a validator of multi-tenant tokens has to check it.
//!
//! The key pairs are files made once with
//! `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`, written as PKCS#8 DER, so that the emulator starts in
//! milliseconds. They are public and protect nothing. After [`MATERIAL`] runs out, a rotation re-uses key material under
//! a new key id; validators select by key id, so they see a new key all the same.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use ring::rsa::PublicKeyComponents;
use ring::signature::RsaKeyPair;
use serde_json::{Value, json};

/// Private key and self-signed certificate (for `x5c`), both DER.
const MATERIAL: [(&[u8], &[u8]); 8] = [
    (include_bytes!("keys/signing-1.pk8.der"), include_bytes!("keys/signing-1.cert.der")),
    (include_bytes!("keys/signing-2.pk8.der"), include_bytes!("keys/signing-2.cert.der")),
    (include_bytes!("keys/signing-3.pk8.der"), include_bytes!("keys/signing-3.cert.der")),
    (include_bytes!("keys/signing-4.pk8.der"), include_bytes!("keys/signing-4.cert.der")),
    (include_bytes!("keys/signing-5.pk8.der"), include_bytes!("keys/signing-5.cert.der")),
    (include_bytes!("keys/signing-6.pk8.der"), include_bytes!("keys/signing-6.cert.der")),
    (include_bytes!("keys/signing-7.pk8.der"), include_bytes!("keys/signing-7.cert.der")),
    (include_bytes!("keys/signing-8.pk8.der"), include_bytes!("keys/signing-8.cert.der")),
];
/// Signs what must be refused: it is never published.
const UNKNOWN: &[u8] = include_bytes!("keys/unknown.pk8.der");
/// Signs for the external issuers of federated credentials; see [`super::federation`].
const FEDERATED: &[u8] = include_bytes!("keys/federated.pk8.der");
/// How many keys are published at the start: documents of Entra ID carry several, and a client must not take the first.
const PUBLISHED_AT_START: usize = 3;
/// More published keys than any real tenant has; bounds what repeated `add` rotations can grow.
const PUBLISHED_AT_MOST: usize = 32;

/// Which keys a rotation touches.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotation {
    /// Publishes a new key and goes on signing with the current one, as Entra ID does some days before a switch.
    Add,
    /// Publishes a new key and signs with it at once; older keys stay published.
    Switch,
    /// Signs with the newest key and unpublishes all older ones.
    Retire,
    /// Replaces every key at once: the emergency rotation.
    Replace,
}

/// A key pair with what is derived from it.
pub(crate) struct SigningKey {
    pub(crate) id: String,
    pub(crate) pair: Arc<RsaKeyPair>,
    certificate: Option<&'static [u8]>,
    /// The published `issuer` names this tenant only; `None` publishes the `{tenantid}` template.
    tenant: Option<String>,
    public: PublicKeyComponents<Vec<u8>>,
}

impl SigningKey {
    fn load(pkcs8: &[u8], certificate: Option<&'static [u8]>, generation: usize) -> Result<Self, KeyError> {
        let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError)?;
        let public = PublicKeyComponents::from(pair.public());
        // Key ids of Entra ID are certificate thumbprints; re-used material needs a different one each time.
        let mut named = certificate.unwrap_or(pkcs8).to_vec();
        named.extend(generation.to_le_bytes());
        let thumbprint = if generation == 0 { certificate.unwrap_or(pkcs8) } else { named.as_slice() };
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, thumbprint));
        Ok(Self { id, pair: Arc::new(pair), certificate, tenant: None, public })
    }

    pub(crate) fn modulus(&self) -> &[u8] {
        &self.public.n
    }

    pub(crate) fn exponent(&self) -> &[u8] {
        &self.public.e
    }

    fn jwk(&self, base: &str) -> Value {
        let tenant = self.tenant.as_deref().unwrap_or("{tenantid}");
        let mut jwk = json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.id,
            "x5t": self.id,
            "n": URL_SAFE_NO_PAD.encode(&self.public.n),
            "e": URL_SAFE_NO_PAD.encode(&self.public.e),
            "cloud_instance_name": "microsoftonline.com",
            "issuer": format!("{base}/{tenant}/v2.0"),
        });
        if let (Some(certificate), Some(object)) = (self.certificate, jwk.as_object_mut()) {
            object.insert("x5c".to_owned(), json!([STANDARD.encode(certificate)]));
        }
        jwk
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An embedded key file is unreadable: the build is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an embedded signing key is unreadable")]
pub struct KeyError;

/// All keys of the emulator. Its tenants share them, as in Entra ID.
#[derive(Debug)]
pub(crate) struct KeyRing {
    published: RwLock<Published>,
    /// Signs tokens that must be refused; not in any key document.
    pub(crate) unknown: Arc<SigningKey>,
    /// The key of every external issuer that federated credentials trust.
    pub(crate) federated: Arc<SigningKey>,
}

#[derive(Debug)]
struct Published {
    keys: Vec<Arc<SigningKey>>,
    current: Arc<SigningKey>,
    made: usize,
}

impl KeyRing {
    pub(crate) fn new() -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for made in 0..PUBLISHED_AT_START {
            keys.push(Arc::new(make(made)?));
        }
        // The signing key is not the first of the document, so that a client which takes the first one fails here.
        let current = keys.get(1).cloned().ok_or(KeyError)?;
        Ok(Self {
            published: RwLock::new(Published { keys, current, made: PUBLISHED_AT_START }),
            unknown: Arc::new(SigningKey::load(UNKNOWN, None, 0)?),
            federated: Arc::new(SigningKey::load(FEDERATED, None, 0)?),
        })
    }

    /// The key that signs now.
    pub(crate) fn current(&self) -> Arc<SigningKey> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// The published key of this id.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<SigningKey>> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        published.keys.iter().find(|key| key.id == id).cloned()
    }

    /// Rotates, and says which keys are published now.
    pub(crate) fn rotate(&self, rotation: Rotation) -> Result<Vec<String>, KeyError> {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(rotation, Rotation::Add | Rotation::Switch | Rotation::Replace) {
            let key = Arc::new(make(published.made)?);
            published.made = published.made.saturating_add(1);
            if rotation == Rotation::Replace {
                published.keys.clear();
            }
            if published.keys.len() >= PUBLISHED_AT_MOST {
                published.keys.remove(0);
            }
            published.keys.push(key);
        }
        if rotation != Rotation::Add
            && let Some(newest) = published.keys.last().cloned()
        {
            published.current = newest.clone();
            if rotation == Rotation::Retire {
                published.keys = vec![newest];
            }
        }
        Ok(published.keys.iter().map(|key| key.id.clone()).collect())
    }

    /// Limits every published key to one tenant's issuer, or lifts the limit.
    pub(crate) fn restrict_to_tenant(&self, tenant: Option<&str>) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let restricted = published.keys.iter().map(|key| {
            Arc::new(SigningKey {
                id: key.id.clone(),
                pair: key.pair.clone(),
                certificate: key.certificate,
                tenant: tenant.map(str::to_owned),
                public: key.public.clone(),
            })
        });
        published.keys = restricted.collect();
    }

    /// The JSON web key set. Below `common` the issuers are templates; below one tenant they name it, as Entra ID does.
    pub(crate) fn document(&self, base: &str, tenant: Option<&str>) -> Value {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<Value> = published
            .keys
            .iter()
            .map(|key| {
                let mut jwk = key.jwk(base);
                if let (None, Some(tenant), Some(object)) = (&key.tenant, tenant, jwk.as_object_mut()) {
                    object.insert("issuer".to_owned(), json!(format!("{base}/{tenant}/v2.0")));
                }
                jwk
            })
            .collect();
        json!({ "keys": keys })
    }
}

fn make(made: usize) -> Result<SigningKey, KeyError> {
    let (pkcs8, certificate) = MATERIAL.get(made % MATERIAL.len()).ok_or(KeyError)?;
    SigningKey::load(pkcs8, Some(certificate), made / MATERIAL.len())
}
