//! The applications that people may have signed in to with one store.
//!
//! The component keeps a list of accounts for each cloud, tenant and application, and reads that of its settings only.
//! A store does not list its records: their names are hashed. So the program notes the applications in a record of its
//! own.

use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::secret_store::{HOST_PREFIX, SecretBytes, SecretStore, StoreError};
use serde::{Deserialize, Serialize};

use crate::console;

/// Most applications that are noted; the oldest makes room. Each is asked for its accounts by an instance of its own.
const MAX_APPLICATIONS: usize = 64;

/// How often a note is tried that another process is faster with.
const MAX_ATTEMPTS: usize = 16;

/// What follows where the record is damaged.
const BEGUN_ANEW: &str = "the list of applications in the store was damaged and begins anew: `entra-mcp accounts` and \
                          `logout --all` find the accounts of another application once it is used again";

/// What has a list of accounts of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Scheme and host of the authority.
    pub authority: String,
    /// The tenant as it is configured: an id or a domain.
    pub tenant: String,
    /// Application (client) id.
    pub client_id: String,
}

impl Application {
    /// The application of these settings.
    pub fn of(settings: &Settings) -> Self {
        let Settings { authority, tenant, client_id, .. } = settings;
        Self { authority: authority.clone(), tenant: tenant.clone(), client_id: client_id.clone() }
    }

    /// The settings for this application, and else the same.
    pub fn in_settings(&self, settings: &Settings) -> Settings {
        let Self { authority, tenant, client_id } = self.clone();
        Settings { authority, tenant, client_id, ..settings.clone() }
    }
}

/// Why applications are not known or noted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationsError {
    /// The store does not have them.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another version has written them differently.
    #[error("the list of applications in the store has a form that this version of the program does not know")]
    Form,
}

fn record() -> String {
    format!("{HOST_PREFIX}applications")
}

/// One that a later version has written differently is left as it is.
fn read(record: Option<&SecretBytes>) -> Result<Vec<Application>, ApplicationsError> {
    let Some(record) = record else { return Ok(Vec::new()) };
    serde_json::from_slice(record.reveal()).map_err(|_| ApplicationsError::Form)
}

/// The applications that were noted in a store, the oldest first.
pub async fn noted(store: &dyn SecretStore) -> Result<Vec<Application>, ApplicationsError> {
    read(store.get(&record()).await?.as_ref())
}

/// Notes an application. That it is there already costs one read.
pub async fn note(store: &dyn SecretStore, application: &Application) -> Result<(), ApplicationsError> {
    for _ in 0..MAX_ATTEMPTS {
        let before = match store.get(&record()).await {
            Err(StoreError::Unreadable) => {
                // Another process may have replaced it in between.
                if !matches!(store.get(&record()).await, Err(StoreError::Unreadable)) {
                    continue;
                }
                store.delete(&record()).await?;
                console::notice(&format!("entra-mcp: {BEGUN_ANEW}"));
                None
            }
            before => before?,
        };
        let mut applications = read(before.as_ref())?;
        if applications.contains(application) {
            return Ok(());
        }
        let surplus = applications.len().saturating_add(1).saturating_sub(MAX_APPLICATIONS);
        applications.drain(..surplus);
        applications.push(application.clone());
        let text = serde_json::to_vec(&applications).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if store.compare_and_swap(&record(), before, SecretBytes::new(text), None).await? {
            return Ok(());
        }
    }
    Err(StoreError::Unavailable("other processes note applications all the time".to_owned()).into())
}

/// The same, where the caller goes on without it: the accounts are signed in, and are listed with the settings of their
/// application.
pub async fn note_if_possible(store: &dyn SecretStore, application: &Application) {
    match note(store, application).await {
        Ok(()) => {}
        Err(ApplicationsError::Store(error)) => tracing::debug!(%error, "the application was not noted in the store"),
        Err(error @ ApplicationsError::Form) => {
            tracing::warn!(%error, "the application was not noted in the store: its accounts are listed with its settings only");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use entra_mcp_plugin::clock::ManualClock;
    use entra_mcp_plugin::secret_store::MemoryStore;

    use super::*;

    fn application(tenant: &str) -> Application {
        Application { authority: "https://login.example".into(), tenant: tenant.into(), client_id: "c".into() }
    }

    #[tokio::test]
    async fn applications_are_noted_once_in_the_order_of_their_first_use() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        assert!(noted(&store).await.unwrap().is_empty());
        for tenant in ["b", "a", "b"] {
            note(&store, &application(tenant)).await.unwrap();
        }
        assert_eq!(noted(&store).await.unwrap(), ["b", "a"].map(application));
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_makes_room() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        for tenant in 0..=MAX_APPLICATIONS {
            note(&store, &application(&tenant.to_string())).await.unwrap();
        }
        let noted = noted(&store).await.unwrap();
        assert_eq!(noted.len(), MAX_APPLICATIONS);
        assert_eq!(noted.first(), Some(&application("1")));
    }

    #[tokio::test]
    async fn a_note_of_a_form_that_is_not_known_is_an_error_and_stays() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        let later = br#"{"applications":[]}"#;
        store.put(&record(), SecretBytes::new(later.to_vec()), None).await.unwrap();
        assert_eq!(noted(&store).await, Err(ApplicationsError::Form));
        assert_eq!(note(&store, &application("a")).await, Err(ApplicationsError::Form));
        assert_eq!(store.get(&record()).await.unwrap().unwrap().reveal(), later);
    }

    /// A store whose record is damaged for so many reads.
    struct Damaged {
        records: MemoryStore,
        reads: AtomicUsize,
    }

    impl Damaged {
        /// With another application in it, which another process may have noted in the place of what is damaged.
        async fn for_reads(reads: usize) -> Self {
            let records = MemoryStore::new(Arc::new(ManualClock::new(0)));
            note(&records, &application("other")).await.unwrap();
            Self { records, reads: AtomicUsize::new(reads) }
        }
    }

    #[async_trait]
    impl SecretStore for Damaged {
        async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
            let left = self.reads.load(Ordering::SeqCst);
            self.reads.store(left.saturating_sub(1), Ordering::SeqCst);
            if left > 0 { Err(StoreError::Unreadable) } else { self.records.get(key).await }
        }

        async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
            self.records.put(key, value, ttl).await
        }

        async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
            self.records.take(key).await
        }

        async fn compare_and_swap(
            &self,
            key: &str,
            expected: Option<SecretBytes>,
            value: SecretBytes,
            ttl: Option<Duration>,
        ) -> Result<bool, StoreError> {
            self.records.compare_and_swap(key, expected, value, ttl).await
        }

        async fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.records.delete(key).await
        }
    }

    #[tokio::test]
    async fn a_damaged_note_is_begun_anew_unless_another_process_has_just_done_so() {
        let damaged = Damaged::for_reads(2).await;
        note(&damaged, &application("a")).await.unwrap();
        assert_eq!(noted(&damaged).await.unwrap(), [application("a")]);
        let replaced = Damaged::for_reads(1).await;
        note(&replaced, &application("a")).await.unwrap();
        assert_eq!(noted(&replaced).await.unwrap(), ["other", "a"].map(application));
    }
}
