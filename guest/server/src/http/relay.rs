//! What HTTP checks of a request to a server behind the component, and what it adds to the answer: the same as for the
//! component's own endpoints, in the same order.

use base::settings::{ServerKind, ServerSettings};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};

use super::bearer::{Authenticate, Guard};
use super::negotiation::{ResponseFormat, acceptable, is_json};
use super::routes::{self, Route};
use super::{ResponseHead, headers, name, origin, refuse, streamable};
use crate::mcp::{RepeatedFields, Reply};
use crate::message::{HttpResponse, Request};
use crate::server_world::ServerWorld;
use crate::site::Site;

/// What becomes of a request.
pub(crate) enum Relayed<T> {
    /// The component serves the path itself.
    OwnPath,
    /// It goes on.
    On(T),
    /// This is the answer.
    Answer(Response<Vec<u8>>),
}

/// Checks a request: its `Host`, path, method and `Origin`, and then what `decide` says.
pub(crate) async fn admit<T>(
    env: &ServerWorld<'_>,
    request: Request,
    decide: impl AsyncFnOnce(&Guard<'_>, &ServerSettings, &Request) -> Result<T, Response<Vec<u8>>>,
) -> Relayed<T> {
    admit_with(env, request, super::by_session, decide).await
}

pub(crate) async fn admit_with<T>(
    env: &ServerWorld<'_>,
    mut request: Request,
    authenticate: Authenticate,
    decide: impl AsyncFnOnce(&Guard<'_>, &ServerSettings, &Request) -> Result<T, Response<Vec<u8>>>,
) -> Relayed<T> {
    env.entra.trail.set_address(request.client_address.as_deref());
    let site = &env.site;
    let (route, path) = routes::find(site, &request.path);
    let server = match route {
        Route::Server(server) if server.kind == ServerKind::Upstream => server,
        _ => return Relayed::OwnPath,
    };
    request.path = path;
    let env = &ServerWorld { server: Some(server), ..*env };
    let decided = match refuse(site, &route, &request) {
        Some(refusal) => Err(refusal),
        None => decide(&Guard { env, path: &server.path, authenticate }, server, &request).await,
    };
    match decided {
        Ok(on) => Relayed::On(on),
        Err(refusal) => {
            let mut answer = HttpResponse::Full(refusal);
            origin::share(site, &route, &request, answer.head());
            Relayed::Answer(dressed(env, &route, answer))
        }
    }
}

/// An answer in place of that of a server behind.
pub(crate) fn failure(
    env: &ServerWorld<'_>,
    of: &ServerSettings,
    origin: Option<&str>,
    mut answer: Response<Vec<u8>>,
) -> Response<Vec<u8>> {
    share(origin, answer.headers_mut());
    dressed(env, &Route::Server(of), HttpResponse::Full(answer))
}

/// The answer that tells a client what to bring, in place of that of a server behind.
pub(crate) fn challenge(
    env: &ServerWorld<'_>,
    of: &ServerSettings,
    origin: Option<&str>,
    reply: Reply,
) -> Response<Vec<u8>> {
    let env = &ServerWorld { server: Some(of), ..*env };
    let guard = Guard { env, path: &of.path, authenticate: super::by_session };
    failure(env, of, origin, streamable::respond(&guard, reply, ResponseFormat::Json))
}

/// The fields that every answer of a server behind gets.
pub(crate) fn fields_of_answer(site: &Site<'_>, of: &ServerSettings, origin: Option<&str>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    headers::secure(site, &Route::Server(of), ResponseHead { status: http::StatusCode::OK, headers: &mut fields });
    share(origin, &mut fields);
    fields
}

fn share(origin: Option<&str>, fields: &mut HeaderMap) {
    if let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(origin).ok()) {
        fields.append(VARY, HeaderValue::from_static("Origin"));
        origin::share_with(origin, fields);
    }
}

fn dressed(env: &ServerWorld<'_>, route: &Route<'_>, mut answer: HttpResponse) -> Response<Vec<u8>> {
    headers::secure(&env.site, route, answer.head());
    name(env, &mut answer);
    match answer {
        HttpResponse::Full(answer) => answer,
        HttpResponse::Stream(head, _) => head.map(|()| Vec::new()),
    }
}

/// The origin of the web page that sent a request, and that may read the answer.
pub(crate) fn reader(site: &Site<'_>, request: &Request) -> Option<String> {
    origin::reader(site, request)
}

/// What the header fields of a request say of its message.
pub(crate) fn message_fields(headers: &HeaderMap) -> RepeatedFields<'_> {
    streamable::fields(headers)
}

/// Whether the body is what two programs read alike: JSON in UTF-8, with nothing around it. An error says what it has to be
/// (415).
pub(crate) fn check_body(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err("A message must not be sent with a Content-Encoding");
    }
    let type_of_body = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parameters = type_of_body.split(';').skip(1).map(|parameter| parameter.trim().to_ascii_lowercase());
    let is_utf8 = parameters.all(|parameter| matches!(parameter.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\""));
    if is_json(headers) && is_utf8 { Ok(()) } else { Err("A message has to be sent as application/json in UTF-8") }
}

/// The answer of HTTP to a message that does not go on.
pub(crate) fn respond(guard: &Guard<'_>, headers: &HeaderMap, reply: Reply) -> Response<Vec<u8>> {
    streamable::respond(guard, reply, acceptable(headers).unwrap_or(ResponseFormat::Json))
}
