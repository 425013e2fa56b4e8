//! Key schemes: how a namespace and a key become the name of a record in the store.
//!
//! Names outlive releases. The tests pin them byte for byte, so that a store written by an earlier version stays readable.

use base::encoding::digest;
use base::settings::{Mode, Settings};

use super::known_keys::KnownKeys;

/// What separates records of different configurations that share one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    /// The configured application: `account/{authority}/{tenant}/{client id}/`. Two applications, tenants or clouds never
    /// share a record.
    Application,
    /// The authorization server: `authorization-server/{digest of the issuer}/`.
    AuthorizationServer,
    /// The whole store. The parts of the key name what the record depends on.
    Store,
}

/// The partitions of the configuration. Made once for an instance.
#[derive(Debug, Clone)]
pub struct Partitions {
    application: String,
    authorization_server: String,
    /// What the instance remembers of them.
    pub(super) keys: KnownKeys,
}

impl Partitions {
    /// The partitions of an instance with these settings.
    pub fn of(settings: &Settings) -> Self {
        let Settings { authority, tenant, client_id, mode, .. } = settings;
        let issuer = if let Mode::Remote(http) = mode { http.public_url.as_str() } else { "" };
        Self::new(authority, tenant, client_id, issuer)
    }

    /// The partitions of an application. `issuer` is the server's public URL; a local server has none, which is the empty
    /// text.
    pub fn new(authority: &str, tenant: &str, client_id: &str, issuer: &str) -> Self {
        Self {
            application: ["account", authority, tenant, client_id, ""].join("/"),
            authorization_server: ["authorization-server", &digest(issuer.as_bytes()), ""].join("/"),
            keys: KnownKeys::default(),
        }
    }

    fn prefix(&self, partition: Partition) -> &str {
        match partition {
            Partition::Application => &self.application,
            Partition::AuthorizationServer => &self.authorization_server,
            Partition::Store => "",
        }
    }
}

/// Which record of a namespace.
#[derive(Debug, Clone, Copy)]
pub enum Key<'k> {
    /// The only one. Written `()`.
    Only,
    /// The one with this name.
    One(&'k str),
    /// The one with a name of several parts.
    Parts(&'k [&'k str]),
}

impl Key<'_> {
    fn parts(&self) -> &[&str] {
        match self {
            Self::Only => &[],
            Self::One(part) => std::slice::from_ref(part),
            Self::Parts(parts) => parts,
        }
    }
}

impl From<()> for Key<'_> {
    fn from((): ()) -> Self {
        Self::Only
    }
}

impl<'k> From<&'k str> for Key<'k> {
    fn from(part: &'k str) -> Self {
        Self::One(part)
    }
}

impl<'k> From<&'k String> for Key<'k> {
    fn from(part: &'k String) -> Self {
        Self::One(part)
    }
}

impl<'k, const N: usize> From<&'k [&'k str; N]> for Key<'k> {
    fn from(parts: &'k [&'k str; N]) -> Self {
        Self::Parts(parts)
    }
}

/// Which parts of a key stand in the name of the record as their SHA-256: secrets, what a client chooses, and what is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    Plain,
    Hashed,
    LastHashed,
}

/// The name of a record but for the key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) partition: Partition,
    pub(super) prefix: &'static str,
    pub(super) suffix: &'static str,
    pub(super) form: KeyForm,
}

impl Layout {
    /// The name of the record in the store: partition, prefix, `/` and each part of the key, suffix.
    pub(super) fn raw_key(&self, partitions: &Partitions, key: Key<'_>) -> String {
        let (partition, parts) = (partitions.prefix(self.partition), key.parts());
        let bytes: usize = parts.iter().map(|part| 1 + part.len()).sum();
        let mut raw = String::with_capacity(partition.len() + self.prefix.len() + bytes + self.suffix.len());
        raw.push_str(partition);
        raw.push_str(self.prefix);
        for (at, part) in parts.iter().enumerate() {
            raw.push('/');
            let hashed = match self.form {
                KeyForm::Plain => false,
                KeyForm::Hashed => true,
                KeyForm::LastHashed => at + 1 == parts.len(),
            };
            if hashed { raw.push_str(&digest(part.as_bytes())) } else { raw.push_str(part) }
        }
        raw.push_str(self.suffix);
        raw
    }
}
