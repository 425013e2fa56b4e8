//! The native peer: rmcp behind axum, with jsonwebtoken on aws-lc, which verifies the token of every request.
//!
//! It is what a team would write in Rust without this project: a stateless Streamable HTTP server that answers in JSON,
//! with an access token of Entra ID's kind checked in front of it. The tool returns what ours returns, without asking
//! anybody.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::rand::SystemRandom;
use ring::signature::{self, RsaKeyPair};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{CallToolResult, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Served, profile};

const AUDIENCE: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const ISSUER: &str = "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0";
const RSA_KEY: &[u8] = include_bytes!("../../src/emulator/keys/signing-1.pk8.der");

/// Serves until the process is ended; prints where, and a token.
pub(crate) async fn serve() {
    let key = RsaKeyPair::from_pkcs8(RSA_KEY).unwrap();
    let judge = Arc::new(Judge::new(&key));
    // The token has `User.Read`, like the session of the other side.
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
    println!("{}", serde_json::to_string(&Served { url, token: token(&key) }).unwrap());
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
    fn new(key: &RsaKeyPair) -> Self {
        let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
        let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
        validation.validate_nbf = true;
        Self { key: DecodingKey::from_rsa_components(&n, &e).unwrap(), validation }
    }
}

async fn authenticate(State(judge): State<Arc<Judge>>, mut request: Request, next: Next) -> Response {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = token.and_then(|token| jsonwebtoken::decode::<Claims>(token, &judge.key, &judge.validation).ok());
    match claims {
        Some(data) if data.claims.scp.split(' ').any(|scope| scope == "User.Read") => {
            request.extensions_mut().insert(data.claims);
            next.run(request).await
        }
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// A user's token with some groups: 1.4 KB, as Entra ID's often are.
fn token(key: &RsaKeyPair) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let groups: Vec<_> = (0..8).map(|group| format!("33334444-dddd-5555-eeee-{group:012x}")).collect();
    let claims = json!({
        "aud": AUDIENCE, "iss": ISSUER, "iat": now, "nbf": now, "exp": now + 3600, "azpacr": "1", "groups": groups,
        "azp": "22223333-cccc-4444-dddd-5555eeee6666", "name": "Alice Anderson", "scp": "User.Read", "sub": "pairwise",
        "oid": "11112222-bbbb-3333-cccc-4444dddd5555", "preferred_username": "alice@contoso.example",
        "tid": "aaaabbbb-0000-cccc-1111-dddd2222eeee", "uti": "1", "ver": "2.0",
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", encode(&json!({ "typ": "JWT", "alg": "RS256", "kid": "1" })), encode(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}
