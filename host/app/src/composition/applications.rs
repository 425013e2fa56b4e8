//! The applications that people may have signed in to with one store.
//!
//! The component keeps a list of accounts for each cloud, tenant and application, and reads that of its settings only.
//! A store does not list its records: their names are hashed. So the program notes the applications in a record of its
//! own.

use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::secret_store::{HOST_PREFIX, SecretBytes, SecretStore, StoreError};
use serde::{Deserialize, Serialize};

/// Most applications that are noted; the oldest makes room. Each is asked for its accounts by an instance of its own.
const MAX_APPLICATIONS: usize = 64;

/// How often a note is tried that another process is faster with.
const MAX_ATTEMPTS: usize = 16;

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

fn record() -> String {
    format!("{HOST_PREFIX}applications")
}

/// One that a later version has written differently names none.
fn read(record: &SecretBytes) -> Vec<Application> {
    serde_json::from_slice(record.reveal()).unwrap_or_default()
}

/// The applications that were noted in a store, the oldest first.
pub async fn noted(store: &dyn SecretStore) -> Result<Vec<Application>, StoreError> {
    Ok(store.get(&record()).await?.as_ref().map(read).unwrap_or_default())
}

/// Notes an application. That it is there already costs one read.
pub async fn note(store: &dyn SecretStore, application: &Application) -> Result<(), StoreError> {
    for _ in 0..MAX_ATTEMPTS {
        let before = match store.get(&record()).await {
            // The present ones are noted again when they are used.
            Err(StoreError::Unreadable) => {
                store.delete(&record()).await?;
                None
            }
            before => before?,
        };
        let mut applications = before.as_ref().map(read).unwrap_or_default();
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
    Err(StoreError::Unavailable("other processes note applications all the time".to_owned()))
}

/// The same, where the caller goes on without it: the accounts are signed in, and are listed with the settings of their
/// application.
pub async fn note_if_possible(store: &dyn SecretStore, application: &Application) {
    if let Err(error) = note(store, application).await {
        tracing::debug!(%error, "the application was not noted in the store");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
    async fn a_note_that_cannot_be_read_is_begun_anew() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        store.put(&record(), SecretBytes::new(b"garbage".to_vec()), None).await.unwrap();
        assert!(noted(&store).await.unwrap().is_empty());
        note(&store, &application("a")).await.unwrap();
        assert_eq!(noted(&store).await.unwrap(), [application("a")]);
    }
}
