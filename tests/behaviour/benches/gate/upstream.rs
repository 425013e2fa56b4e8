//! The MCP server behind: rmcp and axum, stateless, without any check of the caller. `GET` is an event stream in which an
//! event comes every second.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{CallToolResult, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};

use crate::{Served, profile};

const PAUSE: Duration = Duration::from_secs(1);
const EVENT: &str =
    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":1}}\n\n";

/// Prints its address, and serves until the process is ended.
pub(crate) async fn serve() {
    let mcp: StreamableHttpService<Upstream, NeverSessionManager> =
        StreamableHttpService::new(|| Ok(Upstream::new()), Arc::default(), {
            let mut config = StreamableHttpServerConfig::default();
            config.legacy_session_mode = false;
            config.json_response = true;
            config
        });
    let router = axum::Router::new().route("/mcp", axum::routing::get(events).post_service(mcp));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    println!("{}", serde_json::to_string(&Served { url }).unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn events() -> Response {
    let events = futures_util::stream::unfold(false, |begun| async move {
        if begun {
            tokio::time::sleep(PAUSE).await;
        }
        Some((Ok::<_, Infallible>(Bytes::from_static(EVENT.as_bytes())), true))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

#[derive(Clone)]
struct Upstream {
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Upstream {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(name = "getUserDetails", description = "Get user details")]
    async fn get_user_details(&self) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::structured(profile()))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Upstream {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}
