//! A full store: no person can sign in any more, and the sessions that are in it go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_plugin::clock::{Clock, ManualClock};
use entra_mcp_plugin::secret_store::{SecretBytes, SecretStore, SqliteStore, StoreError, StoreLimits};
use serde_json::json;

use super::bytes;
use crate::support::remote::{ALICE, Fleet, REDIRECT, Tokens};

const LIMITS: StoreLimits = StoreLimits { records: 400, bytes: 4 << 20 };

/// One database with and without a limit.
struct Bounded {
    open: SqliteStore,
    limited: SqliteStore,
    is_limited: AtomicBool,
}

impl Bounded {
    fn store(&self) -> &SqliteStore {
        if self.is_limited.load(Ordering::SeqCst) { &self.limited } else { &self.open }
    }

    /// Puts records there until there is no room.
    async fn fill(&self) {
        self.is_limited.store(true, Ordering::SeqCst);
        let mut number = 0;
        while self.limited.put(&format!("fill/{number}"), bytes("v"), None).await.is_ok() {
            number += 1;
        }
    }
}

#[async_trait]
impl SecretStore for Bounded {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        self.store().get(key).await
    }

    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        self.store().put(key, value, ttl).await
    }

    async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        self.store().take(key).await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<SecretBytes>,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        self.store().compare_and_swap(key, expected, value, ttl).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store().delete(key).await
    }
}

#[tokio::test]
async fn sessions_in_a_full_store_are_refreshed_and_the_server_stays_ready() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_000_000));
    let open = || SqliteStore::open(&folder.path().join("store.db"), Arc::clone(&clock)).unwrap();
    let (whole, limited) = (open(), open().limited(LIMITS));
    let store = Arc::new(Bounded { open: whole, limited, is_limited: AtomicBool::new(false) });
    let shared: Arc<dyn SecretStore> = Arc::clone(&store) as _;
    let fleet = Fleet::built(HashMap::new(), |_| {}, |builder| builder.secret_store(Arc::clone(&shared))).await;
    let mut tokens = fleet.session(ALICE).await;
    store.fill().await;
    for round in 0..4 {
        // The tokens of Entra ID behind the session are over, so one call takes the right to renew them.
        fleet.advance(3 * 3_600);
        let answer = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
        assert_eq!(answer.status, 200, "{round}: {}", answer.body);
        tokens = Tokens::of(&tokens.client_id, &answer);
        assert_eq!(fleet.call(&tokens.access).await.status, 200, "{round}");
        assert_eq!(fleet.get("/readyz").await.status, 200, "{round}");
    }
    let metadata = json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none" });
    assert_eq!(fleet.post_json("/register", &metadata).await.status, 503, "there is no room for more");
}
