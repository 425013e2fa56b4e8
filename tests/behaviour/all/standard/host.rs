//! A host of `wasi:http`, set up as `wasmtime serve -S cli` sets itself up: the interfaces of WASI and those of HTTP, the
//! variables and folders that are named, requests to any address, and a fresh instance for each request unless
//! `--max-instance-reuse-count` says otherwise.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use entra_mcp_compose::ADAPTER;
use entra_mcp_emulator::{Builder, Emulator};
use entra_mcp_plugin::BUNDLED_COMPONENT;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpListener;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Where the folder of the records is for the component.
pub(crate) const FOLDER: &str = "/records";
/// 32 bytes, as `openssl rand -base64 32` prints them.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Bytes of standard error that are kept.
const STDERR_BYTES: usize = 4 * 1024 * 1024;

/// The artefact, of the component that this build of the program has.
pub(crate) fn artefact() -> Vec<u8> {
    entra_mcp_compose::plug(BUNDLED_COMPONENT, ADAPTER).expect("the two fit")
}

/// The interfaces that a store has.
pub(crate) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
}

impl State {
    pub(crate) fn new(wasi: WasiCtx) -> Self {
        Self { table: ResourceTable::new(), wasi, http: WasiHttpCtx::new() }
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

/// As `wasmtime serve -S cli -W wide-arithmetic`.
pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_wide_arithmetic(true);
    Engine::new(&config).expect("an engine")
});

pub(crate) fn linker() -> Linker<State> {
    let mut linker = Linker::new(&ENGINE);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("the interfaces of WASI");
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("those of HTTP");
    linker
}

/// A component that can be served.
pub(crate) fn servable(component: &[u8]) -> ProxyPre<State> {
    let component = Component::new(&ENGINE, component).expect("the artefact compiles");
    ProxyPre::new(linker().instantiate_pre(&component).expect("WASI is enough")).expect("it serves HTTP")
}

static ARTEFACT: LazyLock<ProxyPre<State>> = LazyLock::new(|| servable(&artefact()));

/// A store with these variables, and the folder.
pub(crate) fn store(
    variables: &[(String, String)],
    folder: &Path,
    perms: FsPerms,
    stderr: MemoryOutputPipe,
) -> Store<State> {
    let mut wasi = WasiCtx::builder();
    wasi.envs(variables).stderr(stderr).preopened_dir(folder, FOLDER, perms).expect("the folder can be opened");
    Store::new(&ENGINE, State::new(wasi.build()))
}

/// How the host is started.
pub(crate) struct Options {
    /// What it serves.
    pub(crate) artefact: fn() -> &'static ProxyPre<State>,
    /// `--max-instance-reuse-count`.
    pub(crate) reuse: usize,
    /// Whether the folder is granted for reading only.
    pub(crate) read_only: bool,
    /// Variables besides the usual ones, or in place of them.
    pub(crate) variables: &'static [(&'static str, &'static str)],
}

impl Default for Options {
    fn default() -> Self {
        Self { artefact: || LazyLock::force(&ARTEFACT), reuse: 1, read_only: false, variables: &[] }
    }
}

/// An instance that may serve again.
struct Live {
    store: Store<State>,
    proxy: Proxy,
    served: usize,
}

/// The host, with an emulator as Entra ID.
pub(crate) struct StockHost {
    pub(crate) emulator: Emulator,
    pub(crate) public_url: String,
    folder: TempDir,
    stderr: MemoryOutputPipe,
}

/// What a connection needs.
struct Serving {
    artefact: &'static ProxyPre<State>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    perms: FsPerms,
    reuse: usize,
    stderr: MemoryOutputPipe,
    idle: Mutex<Vec<Live>>,
}

/// An emulator that knows the redirect URI of a server.
pub(crate) async fn emulator(public_url: &str) -> Emulator {
    let emulator = Builder::new().seed(42).start().await.expect("the emulator starts");
    let remote = emulator.endpoints().confidential_client_id.clone();
    let registered = emulator.control().change_application(&remote, |application| {
        application.web_redirect_uris.push(format!("{public_url}/auth/callback"));
        application.identifier_uris.push(format!("{public_url}/mcp"));
    });
    registered.expect("the application exists");
    emulator
}

/// The variables that every host needs.
pub(crate) fn variables(emulator: &Emulator, public_url: &str, folder: &str) -> Vec<(String, String)> {
    let at = emulator.endpoints();
    [
        ("ENTRA_MCP_TENANT_ID", at.tenant_id.as_str()),
        ("ENTRA_MCP_CLIENT_ID", &at.confidential_client_id),
        ("ENTRA_MCP_AUTHORITY", &at.authority),
        ("ENTRA_MCP_GRAPH_URL", &at.graph),
        ("ENTRA_MCP_PUBLIC_URL", public_url),
        ("ENTRA_MCP_STORE", folder),
        ("ENTRA_MCP_STORE_KEY", KEY),
        ("AZURE_CLIENT_SECRET", &at.client_secret),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

impl StockHost {
    pub(crate) async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let public_url = format!("http://localhost:{}", listener.local_addr().expect("an address").port());
        let emulator = emulator(&public_url).await;
        let folder = tempfile::tempdir().expect("a folder");
        let mut variables = variables(&emulator, &public_url, FOLDER);
        for (name, value) in options.variables {
            variables.retain(|(other, _)| other != name);
            variables.push(((*name).to_owned(), (*value).to_owned()));
        }
        let stderr = MemoryOutputPipe::new(STDERR_BYTES);
        let serving = Arc::new(Serving {
            artefact: (options.artefact)(),
            variables,
            folder: folder.path().to_owned(),
            perms: if options.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite },
            reuse: options.reuse,
            stderr: stderr.clone(),
            idle: Mutex::default(),
        });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                let service = hyper::service::service_fn(move |request| {
                    let serving = Arc::clone(&serving);
                    async move { Ok::<_, Infallible>(serving.answer(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service),
                );
            }
        });
        Self { emulator, public_url, folder, stderr }
    }

    /// What the instances have written to standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }

    /// The files of the records, with their bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files(self.folder.path())
    }
}

pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.push((path, bytes));
        }
    }
    found
}

/// The body of an answer, as the component writes it.
type Body = UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>;

impl Serving {
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
        match self.handle(request).await {
            Ok(response) => response,
            // As `wasmtime serve`: a trap is a 500.
            Err(error) => {
                let text = Full::from(error.to_string()).map_err(|never| match never {}).boxed_unsync();
                let mut response = hyper::Response::new(text);
                *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    }

    async fn handle(self: Arc<Self>, request: hyper::Request<Incoming>) -> wasmtime::Result<hyper::Response<Body>> {
        let idle = self.idle.lock().expect("no test panicked").pop();
        let mut live = match idle {
            Some(live) => live,
            None => {
                let mut store = store(&self.variables, &self.folder, self.perms, self.stderr.clone());
                let proxy = self.artefact.instantiate_async(&mut store).await?;
                Live { store, proxy, served: 0 }
            }
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let request = live.store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let out = live.store.data_mut().http().new_response_outparam(sender)?;
        let serving = Arc::clone(&self);
        let task = tokio::spawn(async move {
            live.proxy.wasi_http_incoming_handler().call_handle(&mut live.store, request, out).await?;
            live.served += 1;
            if live.served < serving.reuse {
                serving.idle.lock().expect("no test panicked").push(live);
            }
            Ok::<_, wasmtime::Error>(())
        });
        match receiver.await {
            // The component may still write the body.
            Ok(answer) => Ok(answer?.map(|body| body.boxed_unsync())),
            Err(_) => {
                task.await??;
                Err(wasmtime::format_err!("no answer"))
            }
        }
    }
}
