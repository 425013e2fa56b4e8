//! The native peers: rmcp behind axum, with jsonwebtoken on aws-lc. One verifies the token of every request, the other
//! remembers the tokens that it has accepted, as our server does.
//!
//! It is what a team would write in Rust without this project: a stateless Streamable HTTP server that answers in JSON,
//! with an access token of Entra ID checked in front of it. The tool returns what this project's tool returns, without
//! sending a request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};

use crate::judge::Judge;
use crate::native;

/// Prints its address, and serves until the process is ended. The argument, JSON, names the tokens that it accepts.
pub(crate) async fn serve(issuer: &str, remembers: bool) {
    let judge = Arc::new(Judge::new(&serde_json::from_str(issuer).unwrap(), remembers));
    let authenticated = middleware::from_fn_with_state(judge, authenticate);
    native::serve(axum::Router::new().nest_service("/mcp", native::mcp()).layer(authenticated)).await;
}

async fn authenticate(State(judge): State<Arc<Judge>>, mut request: Request, next: Next) -> Response {
    match judge.claims(request.headers()) {
        Some(claims) => {
            request.extensions_mut().insert(claims);
            next.run(request).await
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}
