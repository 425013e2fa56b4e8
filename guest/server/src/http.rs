//! The remote server: what is served at which path, and the rules that hold for all of it.
//!
//! A request passes the checks in this order: its `Host` is the server's, its path is known, its method fits, its
//! `Origin` may call. Everything that a request needs from here on is in its own endpoint. Every answer, a refusal
//! included, leaves through `headers`, so that no page is without security headers.

pub mod authorized;
mod bearer;
pub(crate) mod forward_auth;
mod headers;
mod index;
mod legacy_sse;
mod negotiation;
mod origin;
pub(crate) mod relay;
mod routes;
mod streamable;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::time::Duration;

use base::Secret;
use base::settings::ServerKind;
use caller::session;
use entra::{EntraWorld, token};
use http::header::{ALLOW, CACHE_CONTROL};
use http::{HeaderName, HeaderValue, Method, Response};
use world::BodyOnce;
use world::records::{Namespace, Partition, Ttl};

pub(crate) use self::bearer::Guard;

use self::bearer::{Authenticate, SessionLookup};
use self::origin::Sharing;
use self::routes::Route;
use crate::authorization_server::{self, authority_metadata, metadata};
use crate::gatekeeper::identity;
use crate::message::{self, HttpResponse, Request, text, with_body};
use crate::server_world::ServerWorld;
use crate::site::{MCP_PATH, SSE_PATH, Site};

/// Names the request in answers about errors, as in the log and the audit records.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// How long `readyz` believes that the store can be written, so that a monitor that asks often does not make the disk busy.
const WRITTEN: Duration = Duration::from_secs(5);
/// What `readyz` writes, to find out whether anything can be written.
const READY: Namespace<()> = Namespace::marks(Partition::Store, "ready", Ttl::For(WRITTEN));

thread_local! {
    /// When this instance has written last, by the monotonic clock. Not in the store: what another replica could write says
    /// nothing about this one.
    static WRITTEN_AT: Cell<Option<Duration>> = const { Cell::new(None) };
}
/// How long the keys of assertions may be kept. A key is published for much longer before it signs.
const KEYS_CACHED: &str = "public, max-age=3600";
/// Seconds after which something that is unavailable now is worth another try.
const RETRY_AFTER_SECONDS: u64 = 2;

/// Answers one request.
#[inline(never)]
pub fn handle<'f>(env: &'f ServerWorld<'_>, request: Request) -> BodyOnce<'f, HttpResponse> {
    Box::pin(async move { handle_with(env, request, by_session).await })
}

/// The same, unless the answer may be a stream: for that, the host has to ask in another way, so nothing is done.
#[inline(never)]
pub fn handle_whole<'f>(env: &'f ServerWorld<'_>, request: Request) -> BodyOnce<'f, Option<Response<Vec<u8>>>> {
    Box::pin(async move {
        if request.method == Method::GET && request.path.ends_with(SSE_PATH) {
            return None;
        }
        match handle(env, request).await {
            HttpResponse::Full(response) => Some(response),
            HttpResponse::Stream(..) => None,
        }
    })
}

/// Finds sessions in the store.
fn by_session<'a>(env: &'a EntraWorld<'a>, token: &'a Secret<String>, resources: &'a [&'a str]) -> SessionLookup<'a> {
    Box::pin(session::authenticate(env, token, resources))
}

/// Answers a request that could not be read, with a status of 4xx or 5xx.
pub fn unreadable(env: &ServerWorld<'_>, status: u16) -> HttpResponse {
    let message = match status {
        413 => "The request is larger than 1 MiB",
        431 => "The header fields of the request are larger than 32 KiB",
        _ => "The request cannot be read",
    };
    let mut answer = HttpResponse::Full(text(status, message));
    headers::secure(&env.site, &Route::Unknown, answer.head());
    name(env, &mut answer);
    answer
}

/// The answer to every request where the component is not set up as a remote server.
pub fn not_set_up() -> HttpResponse {
    HttpResponse::Full(text(404, "This component is not set up as a remote server: it has no public URL"))
}

async fn handle_with(env: &ServerWorld<'_>, mut request: Request, authenticate: Authenticate) -> HttpResponse {
    env.entra.trail.set_address(request.client_address.as_deref());
    let site = &env.site;
    let (route, path) = routes::find(site, &request.path);
    request.path = path;
    let mut answer = match refuse(site, &route, &request) {
        Some(refusal) => HttpResponse::Full(refusal),
        None => serve(env, &route, &request, authenticate).await,
    };
    headers::secure(site, &route, answer.head());
    origin::share(site, &route, &request, answer.head());
    name(env, &mut answer);
    match answer {
        HttpResponse::Full(mut response) if request.method == Method::HEAD => {
            response.body_mut().clear();
            HttpResponse::Full(response)
        }
        answer => answer,
    }
}

/// The answer to a request that reaches no endpoint.
fn refuse(site: &Site<'_>, route: &Route<'_>, request: &Request) -> Option<Response<Vec<u8>>> {
    // A monitor of the process asks by address, and learns nothing that a stranger must not know.
    if !matches!(route, Route::Health | Route::Ready) && !origin::is_our_host(site, request) {
        return Some(text(421, "This server does not answer for this host name: see the setting `allowed_hosts`"));
    }
    let methods = route.methods();
    if methods.is_empty() {
        return Some(text(404, "Not found"));
    }
    // Proxies take every answer of 2xx for leave to let the request through.
    let takes_any_method = *route == Route::ForwardAuth;
    if request.method == Method::OPTIONS && !takes_any_method {
        return Some(origin::preflight(site, route, request));
    }
    let method = if request.method == Method::HEAD { &Method::GET } else { &request.method };
    let is_served = methods.contains(method) && (request.method != Method::HEAD || route.has_head());
    if !is_served && !takes_any_method {
        let mut response = text(405, "This method is not served here");
        response.headers_mut().insert(ALLOW, route.allow());
        return Some(response);
    }
    if !origin::may_call(site, route, request) {
        return Some(text(403, "Web pages of this origin may not call this server: see the setting `allowed_origins`"));
    }
    None
}

async fn serve(
    env: &ServerWorld<'_>,
    route: &Route<'_>,
    request: &Request,
    authenticate: Authenticate,
) -> HttpResponse {
    let site = &env.site;
    let guard = |path: &'static str| Guard { env, path, authenticate };
    // The rare ones are in boxes, so that a message is not as large as a sign-in.
    HttpResponse::Full(match route {
        Route::Unknown | Route::UnknownMetadata => text(404, "Not found"),
        Route::Index => index::page(site),
        Route::Health => text(200, "ok"),
        Route::Ready => ready(env).await,
        Route::Mcp => streamable::serve(&guard(MCP_PATH), request).await,
        Route::Server(server) => match server.kind {
            ServerKind::Tools => {
                let env = ServerWorld { server: Some(server), ..*env };
                streamable::serve(&Guard { env: &env, path: &server.path, authenticate }, request).await
            }
            ServerKind::Upstream => {
                text(501, "Requests to this server pass through the gate of the host, which is not on")
            }
        },
        Route::Sse => return Box::pin(legacy_sse::open(&guard(SSE_PATH), request)).await,
        Route::Message => Box::pin(legacy_sse::receive(&guard(SSE_PATH), request)).await,
        Route::OAuth(endpoint) => Box::pin(authorization_server::handle(env, *endpoint, request)).await,
        Route::ProtectedResource(path) => {
            message::json(200, &metadata::protected_resource(env.entra.settings, site, path))
        }
        Route::AuthorizationServer if site.settings.stands_in_for_the_authority() => {
            match authority_metadata::document(env).await {
                Ok(document) => message::json(200, &document),
                Err(_) => unavailable("The metadata of the authorization server cannot be read now"),
            }
        }
        Route::AuthorizationServer => message::json(200, &metadata::authorization_server(site)),
        Route::KeySet => key_set(env).await,
        Route::ForwardAuth => Box::pin(forward_auth::answer(env, request, authenticate)).await,
    })
}

/// The public keys of assertions.
async fn key_set(env: &ServerWorld<'_>) -> Response<Vec<u8>> {
    if !identity::signs(env.entra.settings) {
        return text(404, "Not found");
    }
    let Ok(keys) = identity::key_set(&env.entra).await else {
        return unavailable("The keys cannot be read now");
    };
    let mut response = message::json(200, &keys);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(KEYS_CACHED));
    response
}

/// A server is ready if its store can be written and Entra ID was reached: without the one nothing works, without the other
/// no person can sign in and no token of Entra ID can be judged.
async fn ready(env: &ServerWorld<'_>) -> Response<Vec<u8>> {
    let records = &env.entra.records;
    let now = env.entra.clock.monotonic();
    let is_recent = |at: Duration| now.checked_sub(at).is_some_and(|since| since < WRITTEN);
    if !WRITTEN_AT.get().is_some_and(is_recent) {
        if records.put(&READY, (), &()).await.is_err() {
            return unavailable("The secret store cannot be written now");
        }
        WRITTEN_AT.set(Some(now));
    }
    if !token::knows_authority(&env.entra).await && token::check_authority(&env.entra).await.is_err() {
        return unavailable("Microsoft Entra ID was not reached yet: the log says why");
    }
    text(200, "ready")
}

/// 503.
fn unavailable(message: &str) -> Response<Vec<u8>> {
    retry_later(text(503, message))
}

fn retry_later(mut response: Response<Vec<u8>>) -> Response<Vec<u8>> {
    response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    response
}

/// An answer without a body.
fn empty(status: u16) -> Response<Vec<u8>> {
    let mut response = with_body(status, "text/plain", Vec::new());
    response.headers_mut().remove(http::header::CONTENT_TYPE);
    response
}

/// An answer that is JSON already.
fn json_text(status: u16, json: String) -> Response<Vec<u8>> {
    with_body(status, "application/json", json.into_bytes())
}

/// An error carries the correlation id, so that a person who reports it can name it.
fn name(env: &ServerWorld<'_>, answer: &mut HttpResponse) {
    let head = answer.head();
    if (head.status.is_client_error() || head.status.is_server_error())
        && let Ok(id) = HeaderValue::from_str(env.correlation_id())
    {
        head.headers.insert(CORRELATION_ID, id);
    }
}

/// The part of an answer that comes before its body.
struct ResponseHead<'a> {
    status: http::StatusCode,
    headers: &'a mut http::HeaderMap,
}

impl HttpResponse {
    fn head(&mut self) -> ResponseHead<'_> {
        match self {
            Self::Full(response) => ResponseHead { status: response.status(), headers: response.headers_mut() },
            Self::Stream(response, _) => ResponseHead { status: response.status(), headers: response.headers_mut() },
        }
    }
}

impl Route<'_> {
    /// Which web pages may read the answers.
    fn sharing(&self) -> Sharing {
        match self {
            // Browser clients discover with them before a person has signed in. They are the same for every client,
            // hold nothing private and are read without credentials.
            Self::ProtectedResource(_) | Self::AuthorizationServer | Self::KeySet | Self::UnknownMetadata => {
                Sharing::EveryPage
            }
            Self::Mcp | Self::Sse | Self::Message | Self::Server(_) => Sharing::AllowedOrigins,
            Self::OAuth(endpoint) => match endpoint {
                authorization_server::Endpoint::Token
                | authorization_server::Endpoint::Register
                | authorization_server::Endpoint::Revoke => Sharing::AllowedOrigins,
                // People navigate to them; no page has to read them.
                authorization_server::Endpoint::Authorize | authorization_server::Endpoint::Callback => Sharing::NoPage,
            },
            Self::Unknown | Self::Index | Self::Health | Self::Ready | Self::ForwardAuth => Sharing::NoPage,
        }
    }
}
