//! The tokens of Entra ID behind a session, as they are stored.

use std::collections::BTreeMap;
use std::time::Duration;

use base::Secret;
use base::secret::{reveal, reveal_optional};
use entra::EntraWorld;
use entra::oauth::TokenSet;
use serde::{Deserialize, Serialize};
use world::StoreError;
use world::records::{Namespace, Partition, Records, Ttl};

use crate::session::Membership;
use crate::session::record::{IDLE_SECONDS, LIFETIME_SECONDS};

/// What Entra ID gave for a session.
#[derive(Clone, Serialize, Deserialize)]
pub struct EntraTokens {
    /// For Microsoft Graph. Opaque.
    #[serde(serialize_with = "reveal")]
    pub access_token: Secret<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// Absent if Entra ID gave none.
    #[serde(serialize_with = "reveal_optional")]
    pub refresh_token: Option<Secret<String>>,
    /// What the ID token says that came with these, or with earlier ones.
    #[serde(default)]
    pub membership: Membership,
}

impl From<TokenSet> for EntraTokens {
    fn from(set: TokenSet) -> Self {
        Self {
            access_token: set.access_token,
            expires_at: set.expires_at,
            refresh_token: set.refresh_token,
            membership: Membership::default(),
        }
    }
}

/// An access token for more than the profile, as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct More {
    #[serde(serialize_with = "reveal")]
    pub(super) access_token: Secret<String>,
    /// Unix time in seconds.
    pub(super) expires_at: u64,
}

/// The record: the tokens, and when the session ends at the latest.
#[derive(Serialize, Deserialize)]
pub(super) struct EntraTokensRecord {
    pub(super) tokens: EntraTokens,
    /// Tokens for more than the profile, by their scope. The tools ask for a few scopes only, so this is small.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) more: BTreeMap<String, More>,
    /// Unix time in seconds.
    pub(super) ends_at: u64,
}

impl EntraTokensRecord {
    fn ttl(&self, now: u64) -> Duration {
        Duration::from_secs(self.ends_at.saturating_sub(now).clamp(1, IDLE_SECONDS))
    }
}

/// The tokens of Entra ID, by session.
pub(super) const TOKENS: Namespace<EntraTokensRecord> =
    Namespace::json(Partition::Application, "session-entra", Ttl::Computed(EntraTokensRecord::ttl))
        .absent_if_unreadable();

/// Keeps the tokens of a session that begins.
pub(in crate::session) async fn keep(env: &EntraWorld<'_>, id: &str, tokens: &EntraTokens) -> Result<(), StoreError> {
    let ends_at = env.clock.now() + LIFETIME_SECONDS;
    let record = EntraTokensRecord { tokens: tokens.clone(), more: BTreeMap::new(), ends_at };
    env.records.put(&TOKENS, id, &record).await
}

/// Forgets the tokens of a session.
pub(in crate::session) async fn forget(records: &Records<'_>, id: &str) -> Result<(), StoreError> {
    records.delete(&TOKENS, id).await
}
