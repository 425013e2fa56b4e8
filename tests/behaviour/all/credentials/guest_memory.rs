//! Private keys and the client secret stay in the host: the memory of the component is searched for them after a person has
//! signed in, and after the token of a caller was exchanged.

#![allow(unsafe_code, reason = "the engine takes a memory that a test can look at through an unsafe trait only")]

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entra_mcp_emulator::{Application, Builder, Emulator, Endpoint, RecordedRequest, Secret};
use entra_mcp_plugin::BUNDLED_COMPONENT;
use entra_mcp_plugin::bindings::Bundled;
use entra_mcp_plugin::bindings::export::whole_requests::Served;
use entra_mcp_plugin::client_credential::{ClientCertificates, ClientCredential, ClientSecret, VaultCertificate};
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::environment::{Settings, TokenMode};
use entra_mcp_plugin::imports::{self, EntraCtx, EntraCtxView, EntraView, Imports};
use entra_mcp_plugin::key_vault::{KeyVault, VaultCollection, VaultObject};
use entra_mcp_plugin::outbound::OutboundHooks;
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::random::SystemRandomness;
use entra_mcp_plugin::secret_store::SecretBytes;
use http::header::HOST;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, LinearMemory, MemoryCreator, MemoryType, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::kinds::pem;
use super::vault_versions::OneToken;
use crate::host::records::ALICE;
use crate::support::component::modern;
use crate::support::fixture;
use crate::support::key_vault::Vault;
use crate::support::session::sign_in;
use crate::tools::mail::bearer;

/// More than the component needs for one call.
const CAPACITY: usize = 64 * 1024 * 1024;
/// A part of a key or a secret that is long enough to be nothing else, in bytes.
const PART: usize = 24;
/// With characters that a form encodes.
const SECRET: &str = "recognisable~secret/of+the~test~that~stays~in~the~host";

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
pub(super) struct Memories(Mutex<Vec<Arc<Bytes>>>);

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
    outbound: OutboundHooks,
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
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// One instance of the component, and the store that it runs in.
struct Instance {
    store: Store<State>,
    exports: Bundled,
}

impl Instance {
    /// Answers a request as a host does it, in one call.
    async fn answer(&mut self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let mut fields = Vec::new();
        for (name, value) in head.headers.iter().filter(|(name, _)| *name != HOST && *name != "connection") {
            fields.extend_from_slice(&[name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"].concat());
        }
        let host = head.headers[HOST].to_str().unwrap();
        let path = head.uri.path_and_query().unwrap().as_str();
        let exports = self.exports.entra_mcp_plugin_whole_requests();
        let served =
            exports.call_serve(&mut self.store, head.method.as_str(), host, path, &fields, &body).await.unwrap();
        let Served::Whole(answer) = served else { panic!("{path} is answered with a stream") };
        let mut response = Response::builder().status(answer.status);
        for field in String::from_utf8(answer.fields).unwrap().lines() {
            let (name, value) = field.split_once(':').unwrap();
            response = response.header(name, value);
        }
        response.body(Body::from(answer.body)).unwrap()
    }
}

/// Where the component runs, before it has a credential.
pub(super) struct Bench {
    pub(super) emulator: Emulator,
    folder: TempDir,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self { emulator: Builder::new().start().await.unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn client_id(&self) -> &str {
        &self.emulator.endpoints().confidential_client_id
    }

    /// The memory of the component after a person has signed in and called a tool, and after a caller with a token of Entra ID
    /// has; and the requests for tokens that it has sent meanwhile.
    pub(super) async fn used(&self, credential: Arc<dyn ClientCredential>) -> (Arc<Memories>, Vec<RecordedRequest>) {
        let at = self.emulator.endpoints();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public_url = format!("http://{}", listener.local_addr().unwrap());
        let callback = format!("{public_url}/auth/callback");
        let registered = |own: &mut Application| own.web_redirect_uris.push(callback);
        self.emulator.control().change_application(&at.confidential_client_id, registered).unwrap();
        let mut settings = Settings::remote(&at.tenant_id, &at.confidential_client_id, &public_url).unwrap();
        settings.authority.clone_from(&at.authority);
        settings.graph.clone_from(&at.graph);
        // Every call asks Graph, so every token of a caller is exchanged.
        settings.profile_cache_seconds = 0;
        settings.token.audiences.push(at.confidential_client_id.clone());
        let http = settings.http.as_mut().unwrap();
        (http.token_mode, http.required_scope) = (TokenMode::Both, "Mcp.Access".to_owned());

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
        let policy = OutboundPolicy::new([at.authority.as_str(), at.graph.as_str()]).unwrap();
        let shared = Imports::builder(settings).client_credential(credential).keep_client_secret().build().unwrap();
        let outbound = shared.outbound(Arc::new(OutboundHttp::new(policy, None).unwrap()));
        let state = State {
            entra: shared.context(),
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            outbound: OutboundHooks::new(outbound),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&engine, state);
        store.set_epoch_deadline(u64::MAX / 2);
        let component = Component::new(&engine, BUNDLED_COMPONENT).unwrap();
        let exports = Bundled::instantiate_async(&mut store, &component, &linker).await.unwrap();
        let instance = Arc::new(tokio::sync::Mutex::new(Instance { store, exports }));
        let answer = move |request: Request| {
            let instance = Arc::clone(&instance);
            async move { instance.lock().await.answer(request).await }
        };
        let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });

        let session = sign_in(&public_url, "/mcp", ALICE).await;
        let token = bearer(&self.emulator, ALICE).await;
        for token in [&session.access_token, &token] {
            let params = json!({ "name": "getUserDetails", "arguments": {} });
            let call = reqwest::Client::new()
                .post(format!("{public_url}/mcp"))
                .header("accept", "application/json, text/event-stream")
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", "tools/call")
                .header("mcp-name", "getUserDetails")
                .json(&modern("tools/call", params, json!({})))
                .bearer_auth(token);
            let answer: Value = serde_json::from_slice(&call.send().await.unwrap().bytes().await.unwrap()).unwrap();
            assert_eq!(answer["result"]["isError"], json!(false), "{answer}");
        }
        server.abort();
        // What the component knows is found, so the search finds what is there.
        assert!(memories.hold_any(&HashSet::from([&at.confidential_client_id.as_bytes()[..PART]])));
        let requests = self.emulator.control().requests(Endpoint::Token);
        let own: Vec<_> =
            requests.into_iter().filter(|request| request.form("client_id") == Some(self.client_id())).collect();
        for grant in ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"] {
            assert!(own.iter().any(|request| request.form("grant_type") == Some(grant)), "{grant}");
        }
        (memories, own)
    }
}

/// No part of the application's private key is there, neither encoded nor as it is.
fn are_without_the_key(memories: &Memories) {
    let text = fixture("confidential-client.key.pem");
    let key = PrivatePkcs8KeyDer::from_pem_slice(&text).unwrap();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| line.len() >= PART && !line.starts_with(b"-----"));
    let parts = key.secret_pkcs8_der().chunks_exact(PART).chain(lines.map(|line| &line[..PART])).collect();
    assert!(!memories.hold_any(&parts), "a part of the private key is in the memory of the component");
}

#[tokio::test]
async fn no_part_of_a_private_key_is_in_the_memory_of_the_component_after_it_has_used_the_certificate() {
    let bench = Bench::new().await;
    let file = bench.folder.path().join("client.pem");
    std::fs::write(&file, pem("confidential-client")).unwrap();
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandomness::default()));
    let certificates = ClientCertificates::new(bench.client_id(), &[file], None, clock, random);
    let (memories, requests) = bench.used(Arc::new(certificates)).await;
    assert!(requests.iter().all(|request| request.form("client_assertion").is_some()));
    are_without_the_key(&memories);
}

#[tokio::test]
async fn no_part_of_a_private_key_is_in_the_memory_of_the_component_after_a_vault_has_signed() {
    let bench = Bench::new().await;
    let at = bench.emulator.endpoints();
    let vault = Vault::start(&at.authority, &bench.emulator.control()).await;
    vault.allow(super::vault::MACHINE);
    let certificate = vault.add("mcp", "confidential-client");
    let clock = Arc::new(SystemClock::new());
    let asked = KeyVault::new(Arc::new(OneToken::of_machine(&at.authority).await), None, clock.clone()).unwrap();
    let object = VaultObject::parse(&certificate, VaultCollection::Certificates).unwrap();
    let random = Arc::new(SystemRandomness::default());
    let source = VaultCertificate::new(asked, object, bench.client_id(), clock, random);
    let (memories, requests) = bench.used(Arc::new(source)).await;
    assert!(requests.iter().all(|request| request.form("client_assertion").is_some()));
    are_without_the_key(&memories);
}

#[tokio::test]
async fn no_part_of_the_client_secret_is_in_the_memory_of_the_component_after_it_was_sent() {
    let bench = Bench::new().await;
    let control = bench.emulator.control();
    let registered = |own: &mut Application| {
        own.secrets = vec![Secret { value: SECRET.to_owned(), expired: false }];
    };
    control.change_application(bench.client_id(), registered).unwrap();
    let secret = ClientSecret::Given(SecretBytes::new(SECRET.as_bytes().to_vec()));
    let (memories, requests) = bench.used(Arc::new(secret)).await;
    assert!(requests.iter().all(|request| request.form("client_secret") == Some(SECRET)), "Entra ID has got it");
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let basic = STANDARD.encode(SECRET);
    let parts = [SECRET, &encoded, &basic].map(|form| form.as_bytes().windows(PART));
    let parts = parts.into_iter().flatten().collect();
    assert!(!memories.hold_any(&parts), "a part of the client secret is in the memory of the component");
}
