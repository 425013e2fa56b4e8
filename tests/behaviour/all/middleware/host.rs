//! A host of `wasi:http` 0.3 with one instance, set up as `wasmtime serve` sets itself up.

use std::pin::Pin;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use entra_mcp_compose::in_front;
use entra_mcp_emulator::Emulator;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use wasmtime::component::{Accessor, Component, Linker};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{Error, WasiHttpView as _, p3};

use crate::standard::host::{State, emulator};
use crate::support::lab::{REMOTE, app};
use crate::support::tool_components::{self, HTTP_SERVICE};

/// Bytes of standard error that are kept.
const STDERR_BYTES: usize = 1024 * 1024;

static SERVICE: LazyLock<ServicePre<State>> = LazyLock::new(|| {
    let mut config = Config::new();
    config.concurrency_support(true);
    let engine = Engine::new(&config).expect("an engine");
    let middleware = std::fs::read(env!("ENTRA_MCP_MIDDLEWARE")).expect("it is built with the tests");
    let behind = std::fs::read(tool_components::file(HTTP_SERVICE)).expect("it is built with the tests");
    let component = in_front(&middleware, &behind).expect("they fit");
    let component = Component::new(&engine, component).expect("it compiles");
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("the interfaces of WASI 0.2");
    wasmtime_wasi::p3::add_to_linker(&mut linker).expect("those of WASI 0.3");
    p3::add_to_linker(&mut linker).expect("those of HTTP");
    ServicePre::new(linker.instantiate_pre(&component).expect("WASI is enough")).expect("it serves HTTP")
});

/// An emulator, and the variables of an instance.
pub(super) struct Served {
    pub(super) emulator: Emulator,
    variables: Vec<(String, String)>,
    stderr: MemoryOutputPipe,
}

/// The instance.
pub(super) struct Instance<'a> {
    accessor: &'a Accessor<State>,
    service: &'a Service,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: http::HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Served {
    pub(super) async fn start(more: &[(&str, &str)]) -> Self {
        let emulator = emulator("http://localhost").await;
        let at = emulator.endpoints();
        let app_id_uri = format!("api://{}", app(REMOTE));
        let usual = [
            ("ENTRA_MCP_TENANT_ID", at.tenant_id.as_str()),
            ("ENTRA_MCP_CLIENT_ID", &at.confidential_client_id),
            ("ENTRA_MCP_AUTHORITY", &at.authority),
            ("ENTRA_MCP_PUBLIC_URL", "http://localhost"),
            ("ENTRA_MCP_APP_ID_URI", &app_id_uri),
            ("ENTRA_MCP_REQUIRED_SCOPE", "Mcp.Access"),
        ];
        let kept = usual.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        let variables = kept.chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { emulator, variables, stderr: MemoryOutputPipe::new(STDERR_BYTES) }
    }

    /// Does something with one instance.
    pub(super) async fn with(&self, then: impl AsyncFnOnce(Instance<'_>)) {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&self.variables).stderr(self.stderr.clone());
        let mut store = Store::new(SERVICE.engine(), State::new(wasi.build()));
        let service = SERVICE.instantiate_async(&mut store).await.expect("an instance");
        let run = store.run_concurrent(async |accessor| then(Instance { accessor, service: &service }).await);
        run.await.expect("the instance runs");
    }

    /// What the instance has written to standard error.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }
}

impl Instance<'_> {
    pub(super) async fn send(&self, request: http::Request<String>) -> Answer {
        self.try_send(request).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The error is the code that the component answers with.
    pub(super) async fn try_send(&self, request: http::Request<String>) -> Result<Answer, String> {
        let request = request.map(|body| Full::new(Bytes::from(body)).map_err(|never| -> Error { match never {} }));
        let (request, transmitted) = self.accessor.with(|mut access| {
            let (request, transmitted) = p3::Request::from_http(access.data_mut().http().hooks, request);
            let transmitted: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> = Box::pin(transmitted);
            (request, transmitted)
        });
        let response = self.service.handle(self.accessor, request).await.expect("no trap");
        let response = response.map_err(|code| format!("{code:?}"))?;
        let response = self.accessor.with(|mut access| response.into_http(&mut access, transmitted));
        let (head, body) = response.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// A claim of a token.
pub(super) fn claim(token: &str, name: &str) -> String {
    let claims = token.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok()).expect("claims");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    claims[name].as_str().unwrap_or_else(|| panic!("{claims}")).to_owned()
}
