//! The private key stays in the host: the memory of the component is searched for it after it has used the credential.

#![allow(unsafe_code, reason = "the engine takes a memory that a test can look at through an unsafe trait only")]

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use entra_mcp_emulator::{Builder, Endpoint};
use entra_mcp_plugin::BUNDLED_COMPONENT;
use entra_mcp_plugin::bindings::Bundled;
use entra_mcp_plugin::client_credential::ClientCertificates;
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::imports::{self, EntraCtx, EntraCtxView, EntraView, Imports};
use entra_mcp_plugin::random::SystemRandomness;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, LinearMemory, MemoryCreator, MemoryType, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::kinds::pem;
use crate::support::fixture;

/// More than the component needs for one call.
const CAPACITY: usize = 64 * 1024 * 1024;
/// A part of the key that is long enough to be nothing else, in bytes.
const PART: usize = 24;

/// The bytes of a memory, which do not move.
struct Bytes {
    all: UnsafeCell<Box<[u8]>>,
    /// How many of them the memory has.
    size: AtomicUsize,
}

// SAFETY: the instance alone writes, and the test reads only while the instance does not run.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

struct Memory(Arc<Bytes>);

// SAFETY: the bytes live and stay where they are for as long as the memory does, and all of the capacity can be used.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.0.size.load(Ordering::Relaxed)
    }

    fn byte_capacity(&self) -> usize {
        CAPACITY
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > CAPACITY {
            return Err(wasmtime::Error::msg("the memory is full"));
        }
        self.0.size.store(new_size, Ordering::Relaxed);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        // SAFETY: the box is not replaced, so its pointer is that of the bytes.
        unsafe { (*self.0.all.get()).as_mut_ptr() }
    }
}

/// Makes memories, and keeps them.
#[derive(Default)]
struct Memories(Mutex<Vec<Arc<Bytes>>>);

// SAFETY: the memories are as large as is asked for, and there is no guard, as the engine is told.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if minimum > CAPACITY || reserved.is_some_and(|reserved| reserved > CAPACITY) || guard != 0 {
            return Err("the engine wants another memory".to_owned());
        }
        let all = UnsafeCell::new(vec![0; CAPACITY].into_boxed_slice());
        let bytes = Arc::new(Bytes { all, size: AtomicUsize::new(minimum) });
        self.0.lock().unwrap().push(Arc::clone(&bytes));
        Ok(Box::new(Memory(bytes)))
    }
}

impl Memories {
    /// Whether one of these parts is in them. All parts have [`PART`] bytes.
    fn hold_any(&self, parts: &HashSet<&[u8]>) -> bool {
        self.0.lock().unwrap().iter().any(|bytes| {
            // SAFETY: no instance runs while the test looks.
            let all: &[u8] = unsafe { &*bytes.all.get() };
            all[..bytes.size.load(Ordering::Relaxed)].windows(PART).any(|window| parts.contains(window))
        })
    }
}

struct State {
    entra: EntraCtx,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl EntraView for State {
    fn entra(&mut self) -> EntraCtxView<'_> {
        EntraCtxView { ctx: &mut self.entra, table: &mut self.table }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: Default::default() }
    }
}

#[tokio::test]
async fn no_part_of_a_private_key_is_in_the_memory_of_the_component_after_it_has_used_the_certificate() {
    let emulator = Builder::new().start().await.unwrap();
    let at = emulator.endpoints();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.pem");
    std::fs::write(&file, pem("confidential-client")).unwrap();

    let memories = Arc::new(Memories::default());
    let mut config = Config::new();
    entra_mcp_plugin::configure(&mut config);
    config.with_host_memory(Arc::clone(&memories) as Arc<dyn MemoryCreator>);
    config.memory_reservation(0).memory_guard_size(0).memory_reservation_for_growth(0).memory_init_cow(false);
    let engine = Engine::new(&config).unwrap();
    let mut linker = Linker::<State>::new(&engine);
    imports::add_to_linker(&mut linker).unwrap();
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();

    let mut settings = Settings::remote(&at.tenant_id, &at.confidential_client_id, "https://mcp.example.com").unwrap();
    settings.authority.clone_from(&at.authority);
    settings.graph.clone_from(&at.graph);
    let clock = Arc::new(SystemClock::new());
    let certificates =
        ClientCertificates::new(&settings.client_id, &[file], None, clock, Arc::new(SystemRandomness::default()));
    let shared = Imports::builder(settings).client_credential(Arc::new(certificates)).build().unwrap();
    let state = State {
        entra: shared.context(),
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(&engine, state);
    store.set_epoch_deadline(u64::MAX / 2);
    let component = Component::new(&engine, BUNDLED_COMPONENT).unwrap();
    let plugin = Bundled::instantiate_async(&mut store, &component, &linker).await.unwrap();
    let problems = plugin.entra_mcp_plugin_lifecycle().call_check_authority(&mut store).await.unwrap();
    assert_eq!(problems.len(), 0, "the certificate is accepted");
    let requests = emulator.control().requests(Endpoint::Token);
    assert!(requests.iter().any(|request| request.form("client_assertion").is_some()));

    // What the component knows is found, so the search finds what is there.
    assert!(memories.hold_any(&HashSet::from([&at.confidential_client_id.as_bytes()[..PART]])));
    let text = fixture("confidential-client.key.pem");
    let key = PrivatePkcs8KeyDer::from_pem_slice(&text).unwrap();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| line.len() >= PART && !line.starts_with(b"-----"));
    let parts = key.secret_pkcs8_der().chunks_exact(PART).chain(lines.map(|line| &line[..PART])).collect();
    assert!(!memories.hold_any(&parts), "a part of the private key is in the memory of the component");
}
