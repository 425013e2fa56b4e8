//! What a tool component can do, and what not: components of `tests/tools` in the runtime of the library, with an API on
//! loopback and tokens that tell whose they are.

mod hostile;
mod servers;

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::gatekeeper::{Challenge, DelegationError};
use entra_mcp_plugin::provided_tools::{Content, ProvidedTools as _, ProviderError, ToolCall, ToolCaller};
use entra_mcp_plugin::tool_components::{
    ComponentSource, DelegatedTokens, EgressEntry, ToolComponentSettings, ToolComponents, ToolComponentsBuilder,
};
use serde_json::Value;

use crate::support::tool_components::file;

/// Tokens that name their caller.
struct Tokens;

fn token_of(handle: &str) -> String {
    format!("token-of-{handle}-0123456789abcdef")
}

#[async_trait]
impl DelegatedTokens for Tokens {
    async fn token(
        &self,
        handle: &str,
        _: &[String],
        _: Option<Challenge>,
    ) -> Result<zeroize::Zeroizing<String>, DelegationError> {
        Ok(token_of(handle).into())
    }
}

/// An API on loopback: `/v1/hello` greets, `/v1/echo` repeats `Authorization`, `/v1/away` redirects, `/v1/last` closes the
/// connection.
#[derive(Clone, Default)]
struct Api {
    /// Method, path and `Authorization` of what it was sent.
    seen: Arc<Mutex<Vec<(String, String, Option<String>)>>>,
}

impl Api {
    /// Starts it. Returns its origin.
    async fn start(&self) -> String {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", socket.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(socket, router).await });
        origin
    }

    fn seen(&self) -> Vec<(String, String, Option<String>)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn answer(State(api): State<Api>, request: Request) -> Response {
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    api.seen.lock().unwrap().push((method, path.clone(), authorization.clone()));
    match path.as_str() {
        "/v1/echo" => authorization.unwrap_or_default().into_response(),
        "/v1/away" => (http::StatusCode::FOUND, [("location", "https://evil.example/")]).into_response(),
        "/v1/last" => ([("connection", "close")], "hello").into_response(),
        _ => "hello".into_response(),
    }
}

/// The settings of a component of `tests/tools`, which may send requests to `/v1/` of an API.
fn settings(component: &str, origin: &str) -> ToolComponentSettings {
    let entry = EgressEntry { to: format!("{origin}/v1/"), permissions: vec!["api://contoso/Orders.Read".to_owned()] };
    ToolComponentSettings {
        egress: vec![entry],
        ..ToolComponentSettings::new(component, ComponentSource::File(file(component)))
    }
}

fn builder() -> ToolComponentsBuilder {
    let cache = CodeCache::Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tool-components"));
    ToolComponents::builder(Arc::new(Tokens)).code_cache(cache)
}

fn loaded(settings: ToolComponentSettings) -> Arc<ToolComponents> {
    Arc::new(builder().load(vec![settings]).unwrap())
}

/// The times that a tool has seen tell nothing finer than a millisecond.
fn assert_coarse(report: &Value) {
    const MILLISECOND: u64 = 1_000_000;
    let times = report["monotonic"].as_array().unwrap_or_else(|| panic!("{report}"));
    assert!(times.len() == 100 && times.iter().all(|time| time.as_u64().unwrap() % MILLISECOND == 0), "{report}");
    assert_eq!(report["nanoseconds"].as_u64().unwrap() % MILLISECOND, 0, "{report}");
}

/// Calls a tool for a caller.
async fn call(
    tools: &ToolComponents,
    server: &str,
    tool: &str,
    of: &str,
    arguments: &Value,
) -> Result<Content, ProviderError> {
    let caller = ToolCaller {
        tenant_id: "tenant".to_owned(),
        object_id: of.to_owned(),
        client_id: String::new(),
        kind: entra_mcp_plugin::bindings::types::PrincipalKind::User,
        scopes: Vec::new(),
        roles: Vec::new(),
        correlation_id: "c0ffee".to_owned(),
    };
    let (server, name, handle) = (server.to_owned(), tool.to_owned(), of.to_owned());
    tools.call(ToolCall { server, name, arguments: arguments.to_string(), caller, handle }).await
}

/// What a tool reports.
async fn report(tools: &ToolComponents, server: &str, tool: &str, of: &str, arguments: &Value) -> Value {
    match call(tools, server, tool, of, arguments).await {
        Ok(Content::Json(text)) => serde_json::from_str(&text).unwrap(),
        other => panic!("{tool}: {other:?}"),
    }
}
