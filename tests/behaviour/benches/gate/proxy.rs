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
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::Served;
use crate::tokens::{Issuer, SCOPE};

struct Proxy {
    key: DecodingKey,
    validation: Validation,
    client: Client<HttpConnector, Body>,
    upstream: Uri,
}

/// What the upstream and the check need to know of the caller.
#[derive(Deserialize)]
struct Claims {
    oid: String,
    scp: String,
}

/// Prints its address, and serves until the process is ended. `issuer`, JSON, names the tokens that it accepts.
pub(crate) async fn serve(issuer: &str, upstream: &str) {
    let issuer: Issuer = serde_json::from_str(issuer).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[&issuer.audience]);
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
    validation.validate_nbf = true;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Proxy {
        key: DecodingKey::from_rsa_components(&issuer.n, &issuer.e).unwrap(),
        validation,
        client: Client::builder(TokioExecutor::new()).build(connector),
        upstream: upstream.parse().unwrap(),
    };
    let router = axum::Router::new().fallback(forward).with_state(Arc::new(proxy));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    println!("{}", serde_json::to_string(&Served { url }).unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn forward(State(proxy): State<Arc<Proxy>>, mut request: Request) -> Response {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = token.and_then(|token| jsonwebtoken::decode::<Claims>(token, &proxy.key, &proxy.validation).ok());
    let Some(claims) = claims.filter(|data| data.claims.scp.split(' ').any(|scope| scope == SCOPE)) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let headers = request.headers_mut();
    headers.remove(AUTHORIZATION);
    headers.remove(HOST);
    let caller = HeaderValue::from_str(&claims.claims.oid).unwrap();
    headers.insert(HeaderName::from_static("x-ms-client-principal-id"), caller);
    *request.uri_mut() = proxy.upstream.clone();
    match proxy.client.request(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
