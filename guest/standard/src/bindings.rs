//! The exports: each interface that the component imports, on what the other modules have.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io::Write as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use world::{Clock, Random, Store as _, StoreError};

use self::generated::exports::entra_mcp::plugin as wit;
use self::generated::exports::entra_mcp::standard::{local, wrapped};
use crate::audit::{self, Attribute};
use crate::folder::Files;
use crate::limiter::{Counts, Rate};
use crate::settings::wrapped::Destination;
use crate::settings::{self, ArtefactSecret, Configuration};
use crate::store::{FolderStore, StoreKey};

mod denied;
#[allow(unsafe_code, unreachable_pub, reason = "the export macro defines the component's entry points")]
mod exports;

#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated code")]
mod generated {
    wit_bindgen::generate!({
        path: ["../../wit", "wit"],
        world: "entra-mcp:standard/adapter",
        features: ["client-metadata", "delegation", "gatekeeper", "identity-broker", "lifecycle", "provided-tools", "rate-limiter", "sign-out-url", "signatures", "tool-catalog"],
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "crate::bindings::generated",
    });
}

/// Lines of one instance about its store: a folder that cannot be written must not fill a disk with complaints.
const MAX_NOTES: u32 = 100;

/// What stays the same for the life of an instance, and its counts.
struct Instance {
    configuration: Configuration,
    /// Where requests of a wrapped tool may go, and where Microsoft Graph is.
    destinations: Vec<Destination>,
    graph: String,
    folder: Files,
    key: StoreKey,
    counts: RefCell<Counts>,
    notes: RefCell<u32>,
}

/// What the component is composed into.
#[derive(Clone, Copy)]
enum Artefact {
    /// `entra_mcp.standard.wasm`.
    Standard,
    /// What `entra-mcp wrap` has made of a tool.
    Wrapped,
    /// `entra_mcp.wassette.wasm`.
    Local,
}

thread_local! {
    /// By which of its interfaces the adapter is asked first.
    static ARTEFACT: Cell<Artefact> = const { Cell::new(Artefact::Standard) };
    static INSTANCE: &'static Instance = Box::leak(Box::new(Instance::new()));
}

impl Instance {
    /// Without valid settings there is nothing that this instance could safely do: it says why, and ends.
    fn new() -> Self {
        Self::read().unwrap_or_else(|error| {
            write(&format!("entra-mcp cannot start: {error}\n"));
            core::arch::wasm32::unreachable()
        })
    }

    fn read() -> Result<Self, String> {
        #[allow(
            clippy::disallowed_methods,
            reason = "the settings of this artefact are variables, and are read here only"
        )]
        let variables: Vec<_> = std::env::vars().collect();
        let (configuration, destinations, graph) = match ARTEFACT.get() {
            Artefact::Wrapped => settings::wrapped::read(&variables)
                .map(|wrapped| (wrapped.configuration, wrapped.destinations, wrapped.graph)),
            Artefact::Standard => settings::read(&variables).map(|read| (read, Vec::new(), String::new())),
            Artefact::Local => settings::local::read(&variables).map(|read| (read, Vec::new(), String::new())),
        }
        .map_err(|error| error.to_string())?;
        let key = settings::store_key(&reveal(&configuration.key)?).map_err(|error| error.to_string())?;
        Ok(Self {
            folder: Files::new(&configuration.folder),
            configuration,
            destinations,
            graph,
            key,
            counts: RefCell::default(),
            notes: RefCell::default(),
        })
    }

    fn store(&self) -> FolderStore<'_, Files> {
        FolderStore::new(&self.folder, &self.key, &Wasi, &Wasi)
    }

    /// The component is told that the store is unavailable; the operator is told why.
    fn store_error(&self, error: StoreError) -> wit::secret_store::StoreError {
        match error {
            StoreError::TooLarge => wit::secret_store::StoreError::TooLarge,
            StoreError::Unreadable => wit::secret_store::StoreError::Unreadable,
            StoreError::Unavailable(reason) => {
                if self.notes.replace_with(|notes| notes.saturating_add(1)) < MAX_NOTES {
                    let folder = &self.configuration.folder;
                    write(&format!("entra-mcp: the records in {folder} (ENTRA_MCP_STORE) are unavailable: {reason}\n"));
                }
                wit::secret_store::StoreError::Unavailable(reason)
            }
            StoreError::Full(reason) => wit::secret_store::StoreError::Full(reason),
            StoreError::Contended => wit::secret_store::StoreError::Unavailable(error.to_string()),
        }
    }
}

fn instance() -> &'static Instance {
    INSTANCE.with(|instance| *instance)
}

/// A secret in a variable or a file. The text of the error names the file.
fn reveal(source: &ArtefactSecret) -> Result<Secret<String>, String> {
    match source {
        ArtefactSecret::Given(secret) => Ok(secret.clone()),
        ArtefactSecret::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
            let secret = Secret::new(text);
            Ok(Secret::from(secret.reveal().trim_end_matches(['\r', '\n'])))
        }
    }
}

/// Writes to standard error in one piece. Whether it was written.
fn write(text: &str) -> bool {
    let mut stderr = std::io::stderr();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).is_ok()
}

/// Runs a future of the store. The files of WASI block, so it is ready at once.
fn run<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(StoreError::Unavailable("an operation on files did not block".to_owned())),
    }
}

/// Clock and randomness of the host.
struct Wasi;

#[async_trait(?Send)]
impl Clock for Wasi {
    fn now(&self) -> u64 {
        wasip2::clocks::wall_clock::now().seconds
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(wasip2::clocks::monotonic_clock::now())
    }

    async fn sleep(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        wasip2::clocks::monotonic_clock::subscribe_duration(nanoseconds).block();
    }
}

impl Random for Wasi {
    fn fill(&self, bytes: &mut [u8]) {
        let random = wasip2::random::random::get_random_bytes(bytes.len() as u64);
        for (to, from) in bytes.iter_mut().zip(random) {
            *to = from;
        }
    }
}

struct Adapter;

impl wit::environment::Guest for Adapter {
    fn settings() -> String {
        instance().configuration.document.clone()
    }
}

impl wrapped::Guest for Adapter {
    fn settings() -> String {
        ARTEFACT.set(Artefact::Wrapped);
        instance().configuration.document.clone()
    }

    fn destinations() -> Vec<wrapped::Destination> {
        let plain = |to: &Destination| wrapped::Destination { to: to.to.clone(), permissions: to.permissions.clone() };
        instance().destinations.iter().map(plain).collect()
    }

    fn graph() -> String {
        instance().graph.clone()
    }
}

impl local::Guest for Adapter {
    fn begin() {
        ARTEFACT.set(Artefact::Local);
    }

    fn settings() -> String {
        Self::begin();
        instance().configuration.document.clone()
    }
}

impl wit::secret_store::Guest for Adapter {
    fn get(key: String) -> wit::secret_store::Lookup {
        lookup(run(instance().store().get(&key)))
    }

    fn put(key: String, value: Vec<u8>, ttl_seconds: Option<u32>) -> Result<(), wit::secret_store::StoreError> {
        let value = Secret::new(value);
        run(instance().store().put(&key, value.reveal(), lifetime(ttl_seconds)))
            .map_err(|error| instance().store_error(error))
    }

    fn take(key: String) -> wit::secret_store::Lookup {
        lookup(run(instance().store().take(&key)))
    }

    fn compare_and_swap(
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> Result<bool, wit::secret_store::StoreError> {
        let (expected, value) = (expected.map(Secret::new), Secret::new(value));
        let expected = expected.as_ref().map(|expected| expected.reveal().as_slice());
        run(instance().store().compare_and_swap(&key, expected, value.reveal(), lifetime(ttl_seconds)))
            .map_err(|error| instance().store_error(error))
    }

    fn delete(key: String) -> Result<(), wit::secret_store::StoreError> {
        run(instance().store().delete(&key)).map_err(|error| instance().store_error(error))
    }
}

fn lifetime(ttl_seconds: Option<u32>) -> Option<Duration> {
    ttl_seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

fn lookup(read: Result<Option<Secret<Vec<u8>>>, StoreError>) -> wit::secret_store::Lookup {
    match read {
        Ok(Some(value)) => wit::secret_store::Lookup::Found(value.reveal().clone()),
        Ok(None) => wit::secret_store::Lookup::None,
        Err(error) => wit::secret_store::Lookup::Failed(instance().store_error(error)),
    }
}

impl wit::client_credential::Guest for Adapter {
    fn obtain(
        _audience: String,
    ) -> Result<wit::client_credential::Credential, wit::client_credential::CredentialError> {
        // A public client has none.
        let Some(credential) = &instance().configuration.credential else {
            return Ok(wit::client_credential::Credential::None);
        };
        match reveal(credential) {
            Ok(secret) => Ok(wit::client_credential::Credential::Secret(secret.reveal().clone())),
            Err(reason) => Err(wit::client_credential::CredentialError::Unavailable(reason)),
        }
    }

    /// The variables of a running component do not change, but the file that one of them names does.
    fn replacement(
        audience: String,
        refused: wit::client_credential::Credential,
    ) -> Result<wit::client_credential::Credential, wit::client_credential::CredentialError> {
        use wit::client_credential::Credential;
        match (Self::obtain(audience)?, &refused) {
            (Credential::Secret(now), Credential::Secret(refused)) if now == *refused => Ok(Credential::None),
            (now, _) => Ok(now),
        }
    }
}

impl wit::audit::Guest for Adapter {
    fn record(event: wit::audit::Event) -> Result<(), String> {
        use wit::types::AttributeValue;
        let now = wasip2::clocks::wall_clock::now();
        let attributes = event.attributes.into_iter().map(|(name, value)| {
            let value = match value {
                AttributeValue::Text(text) => Attribute::Text(text),
                AttributeValue::Number(number) => Attribute::Number(number),
                AttributeValue::Texts(texts) => Attribute::Texts(texts),
            };
            (name, value)
        });
        let line = audit::line(audit::Record {
            time: (now.seconds, now.nanoseconds),
            event: &event.name,
            outcome: match event.outcome {
                wit::audit::Outcome::Success => "success",
                wit::audit::Outcome::Failure => "failure",
                wit::audit::Outcome::Started => "started",
            },
            correlation_id: &event.correlation_id,
            attributes: attributes.collect(),
        });
        if write(&line) { Ok(()) } else { Err("standard error cannot be written".to_owned()) }
    }
}

impl wit::rate_limiter::Guest for Adapter {
    fn admit(operation: String, subject: String) -> Result<(), wit::rate_limiter::Exceeded> {
        let instance = instance();
        let rates: &HashMap<String, Rate> = &instance.configuration.rates;
        let admitted = instance.counts.borrow_mut().admit(rates, Wasi.monotonic(), &operation, &subject);
        admitted.map_err(|after| wit::rate_limiter::Exceeded {
            retry_after_seconds: u32::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1),
        })
    }
}
