//! The MCP server behind: rmcp and axum, stateless, without any check of the caller. `GET` is an event stream in which an
//! event comes every second.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use crate::native;

const PAUSE: Duration = Duration::from_secs(1);
const EVENT: &str =
    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":1}}\n\n";

/// Prints its address, and serves until the process is ended.
pub(crate) async fn serve() {
    native::serve(axum::Router::new().route("/mcp", axum::routing::get(events).post_service(native::mcp()))).await;
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
