//! MCP messages that come with an authorization, but not over HTTP: a host carries them over a transport of its own.
//!
//! The caller is admitted by the same rules as over HTTP. What HTTP says with a status and a challenge is in the JSON-RPC
//! error here.

use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};

use base::Secret;
use caller::session;
use world::{BodyOnce, Channel};

use super::bearer::{Authenticate, Guard};
use crate::mcp::{self, NotAdmitted, Peer, Reply};
use crate::message::Request;
use crate::server_world::ServerWorld;
use crate::site::MCP_PATH;

/// Where a message comes from.
pub struct MessageOrigin<'a> {
    /// What HTTP has in its field of that name, and empty if the client sent none.
    pub authorization: &'a Secret<String>,
    /// The address of the client, if the host says it.
    pub client_address: Option<&'a str>,
}

/// Handles one message.
#[inline(never)]
pub fn handle<'f>(
    env: &'f ServerWorld<'_>,
    channel: &'f dyn Channel,
    origin: &'f MessageOrigin<'_>,
    message: &'f str,
) -> BodyOnce<'f, Option<String>> {
    Box::pin(async move {
        let authenticate: Authenticate = |env, token, resources| Box::pin(session::authenticate(env, token, resources));
        handle_with(env, channel, origin, message, authenticate).await
    })
}

/// The answer to every message with an authorization where the component is not set up as a remote server.
pub fn not_set_up(message: &str) -> Option<String> {
    let text = "This server serves the person at this machine: it takes no authorization";
    let refusal = NotAdmitted { status: 400, text: text.to_owned(), challenge: None, retry_after_seconds: None };
    mcp::not_admitted(message, &refusal)
}

pub(super) async fn handle_with(
    env: &ServerWorld<'_>,
    channel: &dyn Channel,
    origin: &MessageOrigin<'_>,
    message: &str,
    authenticate: Authenticate,
) -> Option<String> {
    let MessageOrigin { authorization, client_address } = *origin;
    env.entra.trail.set_address(client_address);
    // A message does not say to which path it was sent.
    let server = env.site.only_tools();
    if server.is_none() && !env.site.servers.is_empty() {
        let text = "This server has several MCP endpoints, which are reached over HTTP only".to_owned();
        return mcp::not_admitted(
            message,
            &NotAdmitted { status: 404, text, challenge: None, retry_after_seconds: None },
        );
    }
    let env = &ServerWorld { server, ..*env };
    let path = server.map_or(MCP_PATH, |server| server.path.as_str());
    let guard = Guard { env, path, authenticate };
    let mut headers = HeaderMap::new();
    let field = HeaderValue::from_str(authorization.reveal()).ok();
    // What is no header field gets the answer of a malformed one.
    let mut field = field.unwrap_or_else(|| HeaderValue::from_static("Bearer ?"));
    field.set_sensitive(true);
    headers.insert(AUTHORIZATION, field);
    let request = Request {
        method: Method::POST,
        authority: None,
        path: path.to_owned(),
        query: None,
        headers,
        body: Vec::new(),
        client_address: client_address.map(str::to_owned),
    };
    let admitted = match guard.admit(&request).await {
        Ok(admitted) => admitted,
        Err(refusal) => return mcp::not_admitted(message, &in_words(&guard.refuse(refusal))),
    };
    let caller = admitted.caller(&env.entra);
    let response = match mcp::on_connection(&Peer::Remote(env, &*caller), channel, message).await {
        Reply::Nothing => return None,
        Reply::Message { json, .. } => return Some(json),
        Reply::SignInAgain => guard.sign_in_again(),
        Reply::StepUp => guard.step_up(),
        Reply::ClaimsChallenge(claims) => guard.claims_challenge(&claims),
        Reply::InsufficientScope(scopes) => guard.insufficient_scope(&scopes),
        Reply::TooMany(after) => guard.too_many_calls(after),
    };
    mcp::not_admitted(message, &in_words(&response))
}

/// What an answer of HTTP says.
fn in_words(response: &Response<Vec<u8>>) -> NotAdmitted {
    let field = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let body = serde_json::from_slice::<serde_json::Value>(response.body()).ok();
    let description = body.as_ref().and_then(|body| body.get("error_description")).and_then(|text| text.as_str());
    NotAdmitted {
        status: response.status().as_u16(),
        text: match description {
            Some(description) => description.to_owned(),
            None => String::from_utf8_lossy(response.body()).into_owned(),
        },
        challenge: field(WWW_AUTHENTICATE).map(str::to_owned),
        retry_after_seconds: field(RETRY_AFTER).and_then(|seconds| seconds.parse().ok()),
    }
}
