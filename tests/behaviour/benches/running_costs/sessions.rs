//! Many sessions in the store of a server, without as many sign-ins: the records of one session under other names.
//!
//! They are written through the store of the library, which seals each under its own name, as the server would. The
//! record of a session has the hash of the access token's secret, and its name has the id that the token begins with.
//! So the same secret behind another id opens the copy.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_emulator::Endpoints;
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::secret_store::{SecretBytes, SecretStore as _, SqliteStore, StoreLimits};

use crate::ours::Ours;
use crate::session::Session;

/// Bytes of a session id, with which an access token begins (`guest/caller/src/session/record.rs`).
const ID_BYTES: usize = 16;
/// The records of a session: what it is, and its tokens of Entra ID.
const KINDS: [&str; 2] = ["session", "session-entra"];
/// How long the copies are kept.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Records that are written at a time.
const WRITERS: usize = 64;

pub(crate) struct Sessions {
    store: Arc<SqliteStore>,
    /// What the names of all of their records begin with.
    partition: String,
    records: [SecretBytes; KINDS.len()],
    /// The secret of their access tokens.
    secret: Vec<u8>,
}

impl Sessions {
    /// Reads the records of a session from the store of its server, which goes on running.
    pub(crate) async fn beside(ours: &Ours, at: &Endpoints, session: &Session) -> Self {
        let path = ours.folder.path().join("sessions.db");
        let store = SqliteStore::open(&path, Arc::new(SystemClock::new())).unwrap();
        let store = store.limited(StoreLimits { records: u64::MAX, bytes: u64::MAX });
        let partition = ["account", &at.authority, &at.tenant_id, &at.confidential_client_id, ""].join("/");
        let token = URL_SAFE_NO_PAD.decode(&session.access_token).unwrap();
        let (id, secret) = token.split_at(ID_BYTES);
        let mut records = Vec::new();
        for kind in KINDS {
            let name = name(&partition, kind, id);
            records.push(store.get(&name).await.unwrap().unwrap_or_else(|| panic!("there is no record {name}")));
        }
        let records = records.try_into().unwrap();
        Self { store: Arc::new(store), partition, records, secret: secret.to_vec() }
    }

    /// Writes the copies with these numbers.
    pub(crate) async fn write(&self, numbers: Range<usize>) {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, partition) = (Arc::clone(&self.store), self.partition.clone());
                let (records, numbers) = (self.records.clone(), numbers.clone());
                tokio::spawn(async move {
                    for number in numbers.skip(writer).step_by(WRITERS) {
                        for (kind, record) in KINDS.into_iter().zip(&records) {
                            let name = name(&partition, kind, &id(number));
                            store.put(&name, record.clone(), Some(LIFETIME)).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    }

    /// The access token of a copy.
    pub(crate) fn token(&self, number: usize) -> String {
        URL_SAFE_NO_PAD.encode([&id(number)[..], &self.secret[..]].concat())
    }
}

fn id(number: usize) -> [u8; ID_BYTES] {
    u128::try_from(number).unwrap().to_be_bytes()
}

fn name(partition: &str, kind: &str, id: &[u8]) -> String {
    format!("{partition}{kind}/{}", URL_SAFE_NO_PAD.encode(id))
}
