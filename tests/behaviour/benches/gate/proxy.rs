//! The native peer: what a team would write in Rust without this project. axum takes the request, jsonwebtoken on aws-lc
//! verifies its token, and hyper sends it on with the name of the caller in place of the token; both bodies stream.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::judge::Judge;
use crate::native;
use crate::tokens::Issuer;

struct Proxy {
    judge: Judge,
    client: Client<HttpConnector, Body>,
    upstream: Uri,
}

/// Prints its address, and serves until the process is ended. `issuer`, JSON, names the tokens that it accepts.
pub(crate) async fn serve(issuer: &str, upstream: &str) {
    let issuer: Issuer = serde_json::from_str(issuer).unwrap();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Proxy {
        judge: Judge::new(&issuer, false),
        client: Client::builder(TokioExecutor::new()).build(connector),
        upstream: upstream.parse().unwrap(),
    };
    let router = axum::Router::new().fallback(forward).with_state(Arc::new(proxy));
    native::serve(router).await;
}

async fn forward(State(proxy): State<Arc<Proxy>>, mut request: Request) -> Response {
    let Some(claims) = proxy.judge.claims(request.headers()) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let headers = request.headers_mut();
    headers.remove(AUTHORIZATION);
    headers.remove(HOST);
    let caller = HeaderValue::from_str(&claims.oid).unwrap();
    headers.insert(HeaderName::from_static("x-ms-client-principal-id"), caller);
    *request.uri_mut() = proxy.upstream.clone();
    match proxy.client.request(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
