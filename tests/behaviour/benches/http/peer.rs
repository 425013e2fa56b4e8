//! The native peer: rmcp behind axum, with jsonwebtoken on aws-lc, which verifies the token of every request.
//!
//! It is what a team would write in Rust without this project: a stateless Streamable HTTP server that answers in JSON,
//! with an access token of Entra ID checked in front of it. The tool returns what this project's tool returns, without
//! sending a request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{CallToolResult, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;

use crate::tokens::{Issuer, SCOPE};
use crate::{Served, profile};

/// Prints its address, and serves until the process is ended. The argument, JSON, names the tokens that it accepts.
pub(crate) async fn serve(issuer: &str) {
    let judge = Arc::new(Judge::new(&serde_json::from_str(issuer).unwrap()));
    let mcp: StreamableHttpService<Peer, NeverSessionManager> =
        StreamableHttpService::new(|| Ok(Peer::new()), Arc::default(), {
            let mut config = StreamableHttpServerConfig::default();
            config.legacy_session_mode = false;
            config.json_response = true;
            config
        });
    let router =
        axum::Router::new().nest_service("/mcp", mcp).layer(middleware::from_fn_with_state(judge, authenticate));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    println!("{}", serde_json::to_string(&Served { url }).unwrap());
    axum::serve(listener, router).await.unwrap();
}

#[derive(Clone)]
struct Peer {
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Peer {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(name = "getUserDetails", description = "Get user details from Microsoft Graph")]
    async fn get_user_details(&self) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::structured(profile()))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Peer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

struct Judge {
    key: DecodingKey,
    validation: Validation,
}

/// What the tool needs to know of its caller.
#[derive(Clone, Deserialize)]
#[allow(dead_code, reason = "a server would look at them; what it costs is to read them")]
struct Claims {
    tid: String,
    oid: String,
    scp: String,
}

impl Judge {
    fn new(issuer: &Issuer) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[&issuer.audience]);
        validation.set_issuer(&[&issuer.issuer]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
        validation.validate_nbf = true;
        Self { key: DecodingKey::from_rsa_components(&issuer.n, &issuer.e).unwrap(), validation }
    }
}

async fn authenticate(State(judge): State<Arc<Judge>>, mut request: Request, next: Next) -> Response {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = token.and_then(|token| jsonwebtoken::decode::<Claims>(token, &judge.key, &judge.validation).ok());
    match claims {
        Some(data) if data.claims.scp.split(' ').any(|scope| scope == SCOPE) => {
            request.extensions_mut().insert(data.claims);
            next.run(request).await
        }
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}
