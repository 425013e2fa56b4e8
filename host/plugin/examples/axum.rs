//! A remote MCP server behind axum: MCP clients sign their users in through it.
//!
//! ```console
//! $ cargo run --example axum -- <tenant id> <client id> <file with the client secret>
//! ```

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::client_credential::ClientSecret;
use entra_mcp_plugin::environment::Settings;

/// Longest body of a request, in bytes. The component accepts no longer one.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name| arguments.next().ok_or(name);
    let settings = Settings::remote(argument("no tenant")?, argument("no client")?, "http://localhost:3001")?;
    let secret = ClientSecret::File(argument("no file")?.into());
    let plugin = Plugin::builder(settings).client_credential(Arc::new(secret)).build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3001").await?;
    axum::serve(listener, router(plugin)).await?;
    Ok(())
}

/// Hands every request to the component.
pub(crate) fn router(plugin: Plugin) -> Router {
    let plugin = Arc::new(plugin);
    let component = move |request: Request| async move {
        let (head, body) = request.into_parts();
        match to_bytes(body, MAX_BODY_BYTES).await {
            Ok(body) => plugin.handle_http(Request::from_parts(head, body)).await.map(Body::new),
            Err(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        }
    };
    Router::new().fallback(component)
}
