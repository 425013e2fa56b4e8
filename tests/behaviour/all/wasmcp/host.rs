//! A host that does with the components what wasmcp does (commit 9fbce0262d1e): it judges tokens and binds them to sessions as
//! `crates/transport/src/http` does, and hands messages on as `crates/transport/src/common` and the terminal component
//! `method-not-found` do. The interfaces are those that wasmcp publishes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::LazyLock;

use entra_mcp_emulator::Clock;
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use self::authorization::exports::wasmcp::mcp_v20251125::server_auth::HttpContext;
use self::authorization::wasmcp::auth::types::JwtClaims;
use self::authorization::wasmcp::mcp_v20251125::mcp::{
    self, ClientMessage, ClientRequest, ErrorCode, Identity, ServerResult, Session,
};
use self::authorization::{Authorization, AuthorizationPre};
use self::tools::exports::wasmcp::mcp_v20251125::server_handler as front;
use self::tools::wasmcp::mcp_v20251125::server_auth::HttpContext as ToolsHttpContext;
use self::tools::wasmcp::mcp_v20251125::server_handler as behind;
use self::tools::wasmcp::mcp_v20251125::server_io::MessageFrame;
use self::tools::{Tools, ToolsPre};
use crate::standard::host::ENGINE;
use crate::support::lab::{Lab, REMOTE, app};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::restriction, reason = "generated code")]
pub(super) mod authorization {
    wasmtime::component::bindgen!({
        path: "../../guest/wasmcp/wit",
        world: "entra-mcp:wasmcp/authorization",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:random": wasmtime_wasi::p2::bindings::random,
            "wasi:http": wasmtime_wasi_http::p2::bindings::http,
        },
    });
}

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::restriction, reason = "generated code")]
pub(super) mod tools {
    wasmtime::component::bindgen!({
        path: "../../guest/wasmcp/wit",
        world: "entra-mcp:wasmcp/tools",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:random": wasmtime_wasi::p2::bindings::random,
            "wasi:http": wasmtime_wasi_http::p2::bindings::http,
            "wasmcp:auth/types": crate::wasmcp::host::authorization::wasmcp::auth::types,
            "wasmcp:mcp-v20251125/mcp": crate::wasmcp::host::authorization::wasmcp::mcp_v20251125::mcp,
        },
    });
}

/// Bytes of a stream that are kept.
const STREAM_BYTES: usize = 1024 * 1024;

/// The revision of MCP that a client names (`crates/transport/src/common/protocol.rs`).
const PROTOCOL_VERSION: &str = "2025-11-25";

/// The file of a component, which the build script of this package has built.
pub(super) fn artefact(name: &str) -> PathBuf {
    let file = PathBuf::from(env!("ENTRA_MCP_WASMCP")).join(name);
    assert!(file.is_file(), "{} is missing: it is built with the tests", file.display());
    file
}

pub(super) const AUTHORIZATION: &str = "entra_mcp_wasmcp_authorization.wasm";
pub(super) const TOOLS: &str = "entra_mcp_wasmcp_tools.wasm";

/// The interfaces that a store has, and the handler behind.
pub(super) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    behind: Behind,
}

/// The handlers behind a component of the chain: what they were handed, and what they answer. Without an answer, they answer
/// as `method-not-found` does.
#[derive(Default)]
pub(super) struct Behind {
    pub(super) handed: Vec<Handed>,
    pub(super) answers: VecDeque<Option<Result<ServerResult, ErrorCode>>>,
}

/// What the handlers behind were handed.
pub(super) struct Handed {
    pub(super) identity: Option<Identity>,
    pub(super) path: Option<String>,
    pub(super) has_stream: bool,
    pub(super) message: ClientMessage,
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

impl behind::Host for State {
    fn handle(
        &mut self,
        ctx: behind::MessageContext,
        message: ClientMessage,
    ) -> Option<Result<ServerResult, ErrorCode>> {
        let is_request = matches!(message, ClientMessage::Request(_));
        self.behind.handed.push(Handed {
            identity: ctx.identity,
            path: ctx.http_context.map(|context| context.path),
            has_stream: ctx.client_stream.is_some(),
            message,
        });
        self.behind.answers.pop_front().unwrap_or_else(|| is_request.then(|| Err(method_not_found())))
    }
}

pub(super) fn method_not_found() -> ErrorCode {
    let message = "Method not found".to_owned();
    ErrorCode::MethodNotFound(mcp::Error { code: -32601, message, data: None })
}

fn linker() -> Linker<State> {
    let mut linker = Linker::new(&ENGINE);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("the interfaces of WASI");
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("those of HTTP");
    linker
}

fn compiled(name: &str) -> Component {
    Component::from_file(&ENGINE, artefact(name)).expect("it compiles")
}

static AUTHORIZATION_PRE: LazyLock<AuthorizationPre<State>> = LazyLock::new(|| {
    let instance = linker().instantiate_pre(&compiled(AUTHORIZATION)).expect("WASI is enough");
    AuthorizationPre::new(instance).expect("it exports what transport imports")
});

static TOOLS_PRE: LazyLock<ToolsPre<State>> = LazyLock::new(|| {
    let mut linker = linker();
    behind::add_to_linker::<State, HasSelf<_>>(&mut linker, |state| state).expect("the handler behind");
    let instance = linker.instantiate_pre(&compiled(TOOLS)).expect("WASI and the handler behind are enough");
    ToolsPre::new(instance).expect("it exports what transport imports")
});

/// An emulator as Entra ID and Graph, with the time of this machine, which the components have.
pub(super) async fn lab() -> Lab {
    Lab::with(|builder| builder.clock(Clock::real())).await
}

/// A server as `wasmcp compose` makes it.
pub(super) struct Server {
    variables: Vec<(String, String)>,
    stderr: MemoryOutputPipe,
}

impl Server {
    /// The variables of a server are those of all its components.
    pub(super) fn new(lab: &Lab, more: &[(&str, &str)]) -> Self {
        let at = lab.endpoints();
        let app_id_uri = format!("api://{}", app(REMOTE));
        let usual = [
            ("ENTRA_MCP_TENANT_ID", at.tenant_id.as_str()),
            ("ENTRA_MCP_CLIENT_ID", &at.confidential_client_id),
            ("ENTRA_MCP_AUTHORITY", &at.authority),
            ("ENTRA_MCP_GRAPH_URL", &at.graph),
            ("ENTRA_MCP_PUBLIC_URL", "http://localhost"),
            ("ENTRA_MCP_APP_ID_URI", &app_id_uri),
            ("ENTRA_MCP_REQUIRED_SCOPE", "Mcp.Access"),
            ("AZURE_CLIENT_SECRET", &at.client_secret),
            ("WASMCP_AUTH_MODE", "oauth"),
            ("JWT_JWKS_URI", "https://login.microsoftonline.com/common/discovery/v2.0/keys"),
        ];
        let kept = usual.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        let variables = kept.chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { variables, stderr: MemoryOutputPipe::new(STREAM_BYTES) }
    }

    fn store(&self) -> Store<State> {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&self.variables).stderr(self.stderr.clone());
        let (wasi, http) = (wasi.build(), WasiHttpCtx::new());
        Store::new(&ENGINE, State { table: ResourceTable::new(), wasi, http, behind: Behind::default() })
    }

    /// A new instance of the component `authorization`.
    pub(super) async fn gate(&self) -> Gate<'_> {
        let mut store = self.store();
        let exports = AUTHORIZATION_PRE.instantiate_async(&mut store).await.expect("an instance");
        Gate { server: self, store, exports }
    }

    /// A new instance of the component of the chain.
    pub(super) async fn chain(&self) -> Chain {
        let mut store = self.store();
        let exports = TOOLS_PRE.instantiate_async(&mut store).await.expect("an instance");
        Chain { store, exports }
    }

    /// What the instances have written to standard error.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }
}

/// An instance of the component `authorization`.
pub(super) struct Gate<'s> {
    server: &'s Server,
    store: Store<State>,
    exports: Authorization,
}

impl Gate<'_> {
    /// As `post::handle_post` with the header field of a request: the identity, or nothing where it answers with 401.
    pub(super) async fn admit(&mut self, authorization: &str) -> Option<Identity> {
        let jwt = authorization.strip_prefix("Bearer ")?.as_bytes().to_vec();
        let server_auth = self.exports.wasmcp_mcp_v20251125_server_auth();
        let decoded = server_auth.call_decode(&mut self.store, &jwt).await.expect("no trap");
        Some(Identity { jwt, claims: decoded.ok()? })
    }

    /// `valid` and the object id, or the code that a token is refused with.
    pub(super) async fn verdict(&mut self, token: &str) -> String {
        let before = self.server.log().len();
        if let Some(identity) = self.admit(&format!("Bearer {token}")).await {
            let object_id = self.claim(&identity.claims, "oid").await.expect("it is there");
            return format!("valid {object_id}");
        }
        let log = self.server.log();
        let said = log.get(before..).unwrap_or_default().trim_end();
        said.rsplit_once(": ").unwrap_or_else(|| panic!("no reason is said: {said:?}")).1.to_owned()
    }

    pub(super) async fn claim(&mut self, claims: &JwtClaims, name: &str) -> Option<String> {
        let helpers = self.exports.wasmcp_auth_helpers();
        helpers.call_get_claim(&mut self.store, claims, name).await.expect("no trap")
    }

    /// The export `authorize`, as a component of the chain calls it.
    pub(super) async fn authorize(&mut self, request: ClientMessage, claims: &JwtClaims) -> bool {
        let server_auth = self.exports.wasmcp_mcp_v20251125_server_auth();
        let session = Session { session_id: "session".to_owned(), store_id: "default".to_owned() };
        let context = HttpContext { method: "POST".to_owned(), path: "/mcp".to_owned(), headers: Vec::new() };
        let call = server_auth.call_authorize(&mut self.store, &request, claims, Some(&session), Some(&context));
        call.await.expect("no trap")
    }

    /// As `session::bind_identity_to_session`.
    pub(super) async fn bind(&mut self, identity: &Identity) -> Bound {
        let (helpers, claims) = (self.exports.wasmcp_auth_helpers(), &identity.claims);
        let subject = helpers.call_get_subject(&mut self.store, claims).await.expect("no trap");
        let issuer = helpers.call_get_issuer(&mut self.store, claims).await.expect("no trap");
        let scopes = helpers.call_get_scopes(&mut self.store, claims).await.expect("no trap");
        let audiences = helpers.call_get_audiences(&mut self.store, claims).await.expect("no trap");
        Bound {
            subject,
            issuer,
            scopes: scopes.join(","),
            audiences: audiences.join(","),
            expiration: claims.expiration,
            issued_at: claims.issued_at,
        }
    }

    /// As `session::validate_session_identity`.
    pub(super) async fn is_of(&mut self, bound: &Bound, identity: &Identity) -> bool {
        let (helpers, claims) = (self.exports.wasmcp_auth_helpers(), &identity.claims);
        let subject = helpers.call_get_subject(&mut self.store, claims).await.expect("no trap");
        let issuer = helpers.call_get_issuer(&mut self.store, claims).await.expect("no trap");
        subject == bound.subject && (issuer.is_none() || issuer == bound.issuer)
    }

    /// The helpers that answer yes or no: two for the scope, the audience, whether it has expired, whether it is current.
    pub(super) async fn asked(&mut self, claims: &JwtClaims, scope: &str, audience: &str, skew: u64) -> [bool; 6] {
        let (helpers, store) = (self.exports.wasmcp_auth_helpers(), &mut self.store);
        let scopes = [scope.to_owned(), "Mcp.Access".to_owned()];
        [
            helpers.call_has_scope(&mut *store, claims, scope).await.expect("no trap"),
            helpers.call_has_any_scope(&mut *store, claims, &scopes).await.expect("no trap"),
            helpers.call_has_all_scopes(&mut *store, claims, &scopes).await.expect("no trap"),
            helpers.call_has_audience(&mut *store, claims, audience).await.expect("no trap"),
            helpers.call_is_expired(&mut *store, claims, Some(skew)).await.expect("no trap"),
            helpers.call_is_valid_time(&mut *store, claims, Some(skew)).await.expect("no trap"),
        ]
    }

    pub(super) async fn flatten(&mut self, claims: &JwtClaims) -> Vec<(String, String)> {
        let helpers = self.exports.wasmcp_auth_helpers();
        helpers.call_flatten_claims(&mut self.store, claims).await.expect("no trap")
    }
}

/// What a session remembers of the identity that began it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) subject: String,
    pub(super) issuer: Option<String>,
    pub(super) scopes: String,
    pub(super) audiences: String,
    pub(super) expiration: Option<u64>,
    pub(super) issued_at: Option<u64>,
}

/// An instance of the component of the chain.
pub(super) struct Chain {
    store: Store<State>,
    exports: Tools,
}

impl Chain {
    /// As `common::delegate_to_middleware`.
    pub(super) async fn request(
        &mut self,
        request: ClientRequest,
        identity: Option<&Identity>,
    ) -> Result<ServerResult, ErrorCode> {
        let stream: DynOutputStream = Box::new(MemoryOutputPipe::new(STREAM_BYTES));
        let stream = self.store.data_mut().table.push(stream).expect("a place");
        let message = ClientMessage::Request((mcp::RequestId::Number(1), request));
        let answer = self.handle(Some(Resource::new_borrow(stream.rep())), identity, message).await;
        answer.expect("a request is answered")
    }

    /// As `common::delegate_notification`: transport names no identity, and no stream.
    pub(super) async fn notify(&mut self, notification: mcp::ClientNotification) {
        let answer = self.handle(None, None, ClientMessage::Notification(notification)).await;
        assert!(answer.is_none(), "{answer:?}");
    }

    async fn handle(
        &mut self,
        client_stream: Option<Resource<DynOutputStream>>,
        identity: Option<&Identity>,
        message: ClientMessage,
    ) -> Option<Result<ServerResult, ErrorCode>> {
        let headers = vec![("host".to_owned(), "localhost".to_owned())];
        let context = front::MessageContext {
            client_stream,
            protocol_version: PROTOCOL_VERSION.to_owned(),
            session: Some(Session { session_id: "session".to_owned(), store_id: "default".to_owned() }),
            identity: identity.cloned(),
            frame: MessageFrame { prefix: b"data: ".to_vec(), suffix: b"\n\n".to_vec() },
            http_context: Some(ToolsHttpContext { method: "POST".to_owned(), path: "/mcp".to_owned(), headers }),
        };
        let handler = self.exports.wasmcp_mcp_v20251125_server_handler();
        handler.call_handle(&mut self.store, &context, &message).await.expect("no trap")
    }

    /// The handlers behind.
    pub(super) fn behind(&mut self) -> &mut Behind {
        &mut self.store.data_mut().behind
    }
}
