//! The keys that assertions are signed with.
//!
//! They are in the store, for all instances and processes on it; the first call that needs one makes it. A key signs for
//! 30 days. The next one is published a day before it signs, so that every server behind that keeps the key set for a while
//! has it by then, and the last one stays published until nothing that it has signed is good any more. All of it goes by
//! the clock that is handed in, and by what is in the store: a rotation is one compare-and-swap.
//!
//! Signatures are deterministic (RFC 6979): a bad source of randomness does not give the key away.

use std::time::Duration;

use base::Secret;
use base::encoding::{base64url, digest, from_base64url};
use base::secret::reveal;
use entra::EntraWorld;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use world::records::{Namespace, Next, Partition, Ttl};
use world::{Random, StoreError};
use zeroize::Zeroizing;

use super::ASSERTION_LIFETIME;

/// How long a key signs.
const SIGNS_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a key is published before it signs: servers behind keep the key set at most as long.
const PUBLISHED_BEFORE: Duration = Duration::from_secs(24 * 3600);
/// How long a key is published after it has signed: as long as an assertion is good for, and as clocks may differ.
const PUBLISHED_AFTER: Duration = Duration::from_secs(ASSERTION_LIFETIME.as_secs() + 3600);
/// Bytes of a private key (FIPS 186-5, P-256).
const PRIVATE_BYTES: usize = 32;

/// The keys of this issuer. Kept: the last one may be wanted at any time.
pub(super) const KEYS: Namespace<KeyRing> =
    Namespace::json(Partition::AuthorizationServer, "assertion-keys", Ttl::Kept);

/// One key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AssertionKey {
    pub(super) id: String,
    /// The private key, as base64url.
    #[serde(serialize_with = "reveal")]
    private: Secret<String>,
    /// The public key: its coordinates, as base64url.
    x: String,
    y: String,
    /// When it begins to sign. Unix time in seconds.
    pub(super) from: u64,
}

/// All keys that are published, in the order in which they sign.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct KeyRing {
    pub(super) keys: Vec<AssertionKey>,
}

impl AssertionKey {
    fn new(random: &dyn Random, from: u64) -> Self {
        loop {
            let mut bytes = Zeroizing::new([0; PRIVATE_BYTES]);
            random.fill(&mut *bytes);
            // One text of 2^32 is no key.
            let Ok(key) = SigningKey::from_slice(&*bytes) else { continue };
            let point = key.verifying_key().to_sec1_point(false);
            let coordinate = |bytes: Option<&p256::FieldBytes>| bytes.map(|bytes| base64url(bytes)).unwrap_or_default();
            let (x, y) = (coordinate(point.x()), coordinate(point.y()));
            // RFC 7638.
            let id = digest(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes());
            return Self { id, private: Secret::new(base64url(&*bytes)), x, y, from };
        }
    }

    fn public(&self) -> Value {
        let Self { id, x, y, .. } = self;
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y })
    }
}

impl KeyRing {
    /// Whether it is as it has to be at `now`.
    fn is_settled(&self, now: u64) -> bool {
        let is_due = |last: &AssertionKey| last.from + SIGNS_FOR.as_secs() <= now + PUBLISHED_BEFORE.as_secs();
        self.keys.last().is_some_and(|last| !is_due(last))
            && self.keys.get(1).is_none_or(|second| !has_replaced(second, now))
            && self.keys.iter().all(|key| is_credible(key, now))
    }

    /// The same as it has to be at `now`.
    fn settle(mut self, now: u64, random: &dyn Random) -> Self {
        self.keys.retain(|key| is_credible(key, now));
        let first = self.keys.iter().rposition(|key| has_replaced(key, now)).unwrap_or_default();
        self.keys.drain(..first);
        match self.keys.last() {
            // No server behind has a key of this server yet.
            None => self.keys.push(AssertionKey::new(random, now)),
            Some(last) if last.from + SIGNS_FOR.as_secs() <= now + PUBLISHED_BEFORE.as_secs() => {
                self.keys.push(AssertionKey::new(random, now + PUBLISHED_BEFORE.as_secs()));
            }
            Some(_) => {}
        }
        self
    }

    /// The key that signs at `now`. If the clock was set back, the first one.
    fn signing(&self, now: u64) -> Option<&AssertionKey> {
        self.keys.iter().rfind(|key| key.from <= now).or(self.keys.first())
    }
}

/// Whether those before this key need not be published any more.
fn has_replaced(key: &AssertionKey, now: u64) -> bool {
    key.from + PUBLISHED_AFTER.as_secs() <= now
}

/// A key that signs later than any that is made now was made by a clock that was wrong.
fn is_credible(key: &AssertionKey, now: u64) -> bool {
    key.from <= now + 2 * PUBLISHED_BEFORE.as_secs()
}

/// The keys as they have to be now.
async fn ring(env: &EntraWorld<'_>) -> Result<KeyRing, StoreError> {
    let now = env.clock.now();
    if let Some(ring) = env.records.get(&KEYS, ()).await?.filter(|ring| ring.is_settled(now)) {
        return Ok(ring);
    }
    let settled = env.records.update(&KEYS, (), |found| {
        let found = found.unwrap_or_default();
        if found.is_settled(now) {
            return Next::Leave(found);
        }
        let settled = found.settle(now, env.random);
        Next::Write(settled.clone(), settled)
    });
    settled.await
}

/// A key that signs.
pub(super) struct Signer {
    pub(super) key_id: String,
    key: SigningKey,
}

impl Signer {
    /// The signature of RFC 7518 section 3.4, as base64url.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        let signature: Signature = self.key.sign(message);
        base64url(&signature.to_bytes())
    }
}

/// The key that signs now.
pub(super) async fn signer(env: &EntraWorld<'_>) -> Result<Signer, StoreError> {
    let ring = ring(env).await?;
    let key = ring.signing(env.clock.now()).ok_or(StoreError::Unreadable)?;
    let private = from_base64url(key.private.reveal()).map(Zeroizing::new).ok_or(StoreError::Unreadable)?;
    let signing = SigningKey::from_slice(&private).map_err(|_| StoreError::Unreadable)?;
    Ok(Signer { key_id: key.id.clone(), key: signing })
}

/// The public keys (RFC 7517 section 5).
pub async fn key_set(env: &EntraWorld<'_>) -> Result<Value, StoreError> {
    let keys: Vec<Value> = ring(env).await?.keys.iter().map(AssertionKey::public).collect();
    Ok(json!({ "keys": keys }))
}
