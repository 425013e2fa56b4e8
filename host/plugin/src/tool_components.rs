//! Tool components: tools of MCP as sandboxed WebAssembly components.
//!
//! A tool component has one of two shapes, which its exports tell: `entra-mcp:plugin/tool-provider` (a list of tools,
//! and one function that calls them), or a whole MCP server: `wasi:http/incoming-handler`, or `wasi:http/handler` of
//! WASI 0.3, which runs in an engine of its own (`wasi.rs`). It gets nothing but what [`ToolComponentSettings`] grants:
//! no files, no sockets, no variables but the named ones, bounded memory and time. Each call runs in a store of its
//! own, unless the settings allow reuse; never are two calls in one store at once. The requests of a call carry the
//! token of that call's caller, because the store knows the caller (`egress.rs`).
//!
//! Deliberately absent: any decision about callers. The component takes it before it calls a tool.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Semaphore;
use wasmtime::{Config, Engine};

use crate::clock::{Clock, SystemClock};
use crate::code_cache::CodeCache;
use crate::instance_pool::Ticker;
use crate::outbound::{NoObserver, Outbound, OutboundObserver};
use crate::outbound_http::OutboundHttp;
use crate::provided_tools::{Content, ProvidedTools, ProviderError, Tool, ToolCall};
use crate::random::{Random, SystemRandomness};
use destinations::Destinations;
use egress::{Egress, MAX_REQUESTS_OF_A_SERVER};
use loaded::{Loaded, Read};
use server::Server;
use state::Grants;

mod call_context;
mod delegation;
mod describe;
mod destinations;
mod egress;
mod error;
mod limits;
mod loaded;
mod places;
mod scrub;
mod serve;
mod server;
mod settings;
mod state;
mod wasi;

pub use delegation::{DelegatedTokens, NoTokens, PluginTokens};
pub use describe::Description;
pub use error::{EgressError, LoadError, LoadProblem, ServeError, UnknownImport};
pub use loaded::Shape;
pub use serve::ToolBody;
pub use settings::{
    ComponentSource, DEFAULT_MAX_ANSWER_BYTES, DEFAULT_MAX_CONCURRENT, DEFAULT_MAX_MEMORY_BYTES, DEFAULT_MAX_TIME,
    EgressEntry, ToolComponentSettings,
};
pub use state::tool_grant;
pub use wasi::WasiVersion;

/// Microsoft Graph of the global cloud.
const DEFAULT_GRAPH: &str = "https://graph.microsoft.com";

/// Longest answer in bytes to a request of a tool. What a tool keeps of it is bounded by its memory.
const MAX_RESPONSE_BYTES: u64 = 32 * 1024 * 1024;

/// Stack of a call in bytes, of which WebAssembly may use half. Interpreters of JavaScript and Python recurse.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Makes the program that compiles a component file into the code cache, in a process of its own.
type CompilerOf = Box<dyn Fn(&Path) -> Option<Command> + Send + Sync>;

/// An engine for the tool components of a version of WASI, which may use what toolchains emit by default.
pub fn engine(wasi: WasiVersion) -> Result<Engine, crate::error::Error> {
    let mut config = Config::new();
    config
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .epoch_interruption(true)
        .concurrency_support(wasi == WasiVersion::V0_3)
        .async_stack_size(STACK_BYTES)
        .max_wasm_stack(STACK_BYTES / 2);
    Engine::new(&config).map_err(crate::error::Error::Engine)
}

/// The environment of tool components.
pub struct ToolComponentsBuilder {
    tokens: Arc<dyn DelegatedTokens>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    code_cache: CodeCache,
    compiler: Option<CompilerOf>,
    graph: String,
    ca_file: Option<PathBuf>,
    observer: Arc<dyn OutboundObserver>,
    outbound: Option<Arc<dyn Outbound>>,
}

impl ToolComponentsBuilder {
    /// The clock of the tools and of their time limits.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The source of randomness.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// The cache of compiled code; by default there is none.
    #[must_use]
    pub fn code_cache(mut self, cache: CodeCache) -> Self {
        self.code_cache = cache;
        self
    }

    /// Makes the program that puts the compiled component of a file into the code cache ([`ToolComponents::compile`]), in a
    /// process of its own: the compiler takes much memory, and does not give it back.
    #[must_use]
    pub fn compiler(mut self, compiler: impl Fn(&Path) -> Option<Command> + Send + Sync + 'static) -> Self {
        self.compiler = Some(Box::new(compiler));
        self
    }

    /// The base URL of Microsoft Graph. Requests of tools to `https://graph.microsoft.com` go there.
    #[must_use]
    pub fn graph(mut self, url: impl Into<String>) -> Self {
        self.graph = url.into();
        self
    }

    /// A file with certificates (PEM) that are roots of trust, besides the system's.
    #[must_use]
    pub fn ca_file(mut self, path: Option<&Path>) -> Self {
        self.ca_file = path.map(Path::to_owned);
        self
    }

    /// The observer of the requests that tools send.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn OutboundObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// The carrier of allowed requests, in place of the client that also checks the resolved addresses.
    #[must_use]
    pub fn outbound(mut self, outbound: Arc<dyn Outbound>) -> Self {
        self.outbound = Some(outbound);
        self
    }

    /// Loads the components. Compiles them, unless the code cache has them.
    pub fn load(self, settings: Vec<ToolComponentSettings>) -> Result<ToolComponents, LoadError> {
        let mut servers = HashMap::new();
        let mut engines = Engines::default();
        for settings in &settings {
            let failed = |problem| LoadError { server: settings.name.clone(), problem };
            let server = self.load_one(&mut engines, settings).map_err(failed)?;
            if servers.insert(settings.name.clone(), Arc::new(server)).is_some() {
                return Err(failed(LoadProblem::DuplicateName));
            }
        }
        Ok(ToolComponents { servers })
    }

    fn load_one(&self, engines: &mut Engines, settings: &ToolComponentSettings) -> Result<Server, LoadProblem> {
        // The configuration is checked before the component is compiled, which takes longer.
        let name: Arc<str> = settings.name.as_str().into();
        let destinations = Destinations::new(&settings.egress, &self.graph)?;
        let http = match &self.outbound {
            Some(outbound) => Arc::clone(outbound),
            None => {
                let client = OutboundHttp::new(destinations.policy()?, self.ca_file.as_deref());
                Arc::new(client.map_err(LoadProblem::Http)?.bounds(settings.max_time, MAX_RESPONSE_BYTES))
            }
        };
        let egress = Egress {
            server: Arc::clone(&name),
            destinations,
            http,
            tokens: Arc::clone(&self.tokens),
            observer: Arc::clone(&self.observer),
            clock: Arc::clone(&self.clock),
            places: Arc::new(Semaphore::new(MAX_REQUESTS_OF_A_SERVER)),
        };
        let grants = Grants {
            server: name,
            variables: settings.variables.clone(),
            egress: Arc::new(egress),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            max_memory_bytes: settings.max_memory_bytes,
        };
        let read = Read::from_source(&settings.component, self.compiler.as_ref())?;
        let (engine, ticker) = engines.of(read.wasi).map_err(LoadProblem::Engine)?;
        let loaded = Loaded::load(engine, read, &self.code_cache)?;
        if settings.reuse && loaded.shape() == Shape::Http {
            return Err(LoadProblem::NoReuse);
        }
        Ok(Server::new(loaded, grants, settings, Arc::clone(ticker)))
    }
}

/// The engines that are needed, each with what ends its epochs. Without a component there is no engine, and no thread.
#[derive(Default)]
struct Engines(HashMap<WasiVersion, (Engine, Arc<Ticker>)>);

impl Engines {
    fn of(&mut self, wasi: WasiVersion) -> Result<&(Engine, Arc<Ticker>), crate::error::Error> {
        Ok(match self.0.entry(wasi) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let engine = engine(wasi)?;
                let ticker = Ticker::start(&engine).map_err(crate::error::Error::Thread)?;
                vacant.insert((engine, Arc::new(ticker)))
            }
        })
    }
}

impl fmt::Debug for ToolComponentsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolComponentsBuilder").field("graph", &self.graph).finish_non_exhaustive()
    }
}

/// Tool components, loaded and ready.
pub struct ToolComponents {
    servers: HashMap<String, Arc<Server>>,
}

impl ToolComponents {
    /// The environment of the components. `tokens` supplies the tokens of their requests.
    pub fn builder(tokens: Arc<dyn DelegatedTokens>) -> ToolComponentsBuilder {
        ToolComponentsBuilder {
            tokens,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandomness::default()),
            code_cache: CodeCache::Off,
            compiler: None,
            graph: DEFAULT_GRAPH.to_owned(),
            ca_file: None,
            observer: Arc::new(NoObserver),
            outbound: None,
        }
    }

    /// Compiles a component into the code cache, unless it is there.
    pub fn compile(component: &[u8], cache: &CodeCache) -> Result<(), LoadProblem> {
        loaded::check(component)?;
        let engine = engine(WasiVersion::of(component)).map_err(LoadProblem::Engine)?;
        cache.fill(&engine, component).map_err(LoadProblem::Invalid)
    }

    /// The shape of a server's component. `None`: there is no such server.
    pub fn shape(&self, server: &str) -> Option<Shape> {
        self.servers.get(server).map(|server| server.shape())
    }

    /// The offers, the imports and the grants of a server's component. `None`: there is no such server.
    pub async fn describe(&self, server: &str) -> Option<Result<Description, ProviderError>> {
        Some(describe::describe(self.servers.get(server)?).await)
    }

    /// Answers an HTTP request by a server's component, which has to be of the shape [`Shape::Http`]. `handle` names
    /// the caller to [`DelegatedTokens`]. The request must have no field with an identity that the component should not
    /// see; this removes only `Authorization` and `Cookie`. Dropping the future, or the body of the answer, ends the
    /// call.
    ///
    /// If a request of the component got no token before the head of the answer, the extensions of the answer have the
    /// [`DelegationError`](crate::provided_tools::DelegationError).
    pub async fn serve(
        &self,
        server: &str,
        request: Request<Bytes>,
        handle: &str,
    ) -> Result<Response<ToolBody>, ServeError> {
        let Some(server) = self.servers.get(server) else { return Err(unknown(server)) };
        serve::serve(server, request, handle).await
    }
}

impl fmt::Debug for ToolComponents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolComponents").field("servers", &self.servers.keys()).finish()
    }
}

#[async_trait]
impl ProvidedTools for ToolComponents {
    async fn list_tools(&self, server: &str) -> Result<Vec<Tool>, ProviderError> {
        let Some(server) = self.servers.get(server) else { return Err(unknown(server).into()) };
        server.list_tools().await
    }

    async fn call(&self, call: ToolCall) -> Result<Content, ProviderError> {
        let Some(server) = self.servers.get(&call.server) else { return Err(unknown(&call.server).into()) };
        server.call(call).await
    }
}

fn unknown(server: &str) -> ServeError {
    ServeError::Unavailable(format!("there are no tools {server:?}"))
}

#[cfg(test)]
mod tests;
