//! What the server has to know in advance about the paths of the component, declared once.
//!
//! The component decides what is served where, and to which caller. This table only repeats what follows from the head
//! of a request: whether its answer depends on its body. Where it does not, the component is asked without the body, so
//! its answer is what it always was. `tests/behaviour/all/remote/bodies.rs` compares the two.
//!
//! The component itself is not asked first: each call would cost two, and the records of the first would be about a
//! request that is not here yet.

use std::borrow::Cow;

use entra_mcp_plugin::environment::{HttpSettings, ServerKind, ServerSettings, TokenMode};
use entra_mcp_server::{BodyNeed, path_below};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use url::Url;

/// Bytes of the largest MCP message: what the component reads at most.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Bytes of the largest body of an OAuth endpoint, and of a form in place of a message: 32 KiB are the most that a
/// registration may have, and a form has tokens of a few KiB.
const OAUTH_BYTES: usize = 64 * 1024;

/// What is posted to a path.
struct Posted {
    media: Media,
    most: usize,
    /// Without an access token the answer is a challenge.
    needs_token: bool,
}

/// The media type without which a body is refused unread.
enum Media {
    Json,
    /// Or a type that ends with `+json`.
    AnyJson,
    Form,
}

/// Which settings a path depends on.
enum Served {
    Always,
    WithSse,
    WithSessions,
    WithRegistration,
}

/// A path with something that the server has to know.
struct Route {
    path: &'static str,
    served: Served,
    posted: Option<Posted>,
    /// The operation that is counted by client address.
    counted: Option<&'static str>,
}

const MESSAGE: Option<Posted> = Some(Posted { media: Media::Json, most: MESSAGE_BYTES, needs_token: true });
const FORM: Option<Posted> = Some(Posted { media: Media::Form, most: OAUTH_BYTES, needs_token: false });
const REGISTRATION: Option<Posted> = Some(Posted { media: Media::AnyJson, most: OAUTH_BYTES, needs_token: false });

#[rustfmt::skip]
static ROUTES: [Route; 7] = [
    Route { path: "/mcp", served: Served::Always, posted: MESSAGE, counted: None },
    Route { path: "/message", served: Served::WithSse, posted: MESSAGE, counted: None },
    Route { path: "/authorize", served: Served::WithSessions, posted: FORM, counted: Some("address:authorize") },
    Route { path: "/token", served: Served::WithSessions, posted: FORM, counted: Some("address:token") },
    Route { path: "/register", served: Served::WithRegistration, posted: REGISTRATION, counted: Some("address:register") },
    Route { path: "/auth/callback", served: Served::WithSessions, posted: None, counted: Some("address:callback") },
    Route { path: "/revoke", served: Served::WithSessions, posted: FORM, counted: Some("address:revoke") },
];

/// The event stream of HTTP+SSE.
const STREAM: &str = "/sse";
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// The paths of a component with given settings. They are below the public URL.
#[derive(Debug, Default)]
pub struct Routes {
    sse: bool,
    sessions: bool,
    registration: bool,
    /// The header in which a gateway hands over a token.
    token_header: Option<HeaderName>,
    /// The path of the public URL, without a slash at its end.
    prefix: String,
    /// The paths of the servers that the component protects, and whether the gate sends requests on to them.
    servers: Vec<(String, bool)>,
}

impl Routes {
    /// What a component with these settings serves.
    pub fn of(settings: &HttpSettings) -> Self {
        let sessions = settings.token_mode != TokenMode::Bearer;
        Self {
            sse: settings.legacy_sse,
            sessions,
            registration: sessions && settings.dynamic_registration,
            token_header: settings.token_header.as_ref().and_then(|name| HeaderName::try_from(name).ok()),
            prefix: Url::parse(&settings.public_url)
                .map(|url| url.path().trim_end_matches('/').to_owned())
                .unwrap_or_default(),
            servers: Vec::new(),
        }
    }

    /// Besides, the paths of the servers that the component protects.
    #[must_use]
    pub fn with_servers(mut self, servers: &[ServerSettings]) -> Self {
        let server = |server: &ServerSettings| (server.path.clone(), server.kind == ServerKind::Upstream);
        self.servers = servers.iter().map(server).collect();
        self
    }

    /// The path of a request below the public URL.
    pub(super) fn path<'u>(&self, uri: &'u Uri) -> Cow<'u, str> {
        path_below(uri, &self.prefix)
    }

    /// Whether requests to the path go to a server behind the gate.
    pub(super) fn is_behind(&self, path: &str) -> bool {
        self.servers.iter().any(|(server, behind)| server == path && *behind)
    }

    /// What the answer to a request needs of its body. A body that may matter in any way is needed.
    pub fn body_need(&self, method: &Method, path: &str, headers: &HeaderMap) -> BodyNeed {
        let route = ROUTES.iter().find(|route| route.path == path && self.serves(&route.served));
        let is_server = self.servers.iter().any(|(server, _)| server == path);
        let posted = if is_server { MESSAGE.as_ref() } else { route.and_then(|route| route.posted.as_ref()) };
        let posted = posted.filter(|_| *method == Method::POST);
        let Some(posted) = posted else { return BodyNeed::Nothing };
        if posted.media.is_said_in(headers) && self.may_call(posted, headers) {
            return BodyNeed::UpTo(posted.most);
        }
        // A form may have an access token in it, and the answer is about that.
        if posted.needs_token && Media::Form.is_said_in(headers) {
            return BodyNeed::UpTo(OAUTH_BYTES);
        }
        BodyNeed::Nothing
    }

    fn serves(&self, served: &Served) -> bool {
        match served {
            Served::Always => true,
            Served::WithSse => self.sse,
            Served::WithSessions => self.sessions,
            Served::WithRegistration => self.registration,
        }
    }

    fn may_call(&self, posted: &Posted, headers: &HeaderMap) -> bool {
        let is_handed_over = || self.token_header.as_ref().is_some_and(|name| headers.contains_key(name));
        !posted.needs_token || headers.get_all(AUTHORIZATION).iter().any(is_bearer) || is_handed_over()
    }
}

/// The operation that is counted by client address, if any. A preflight request does nothing, so it is not counted.
pub(super) fn operation(method: &Method, path: &str) -> Option<&'static str> {
    ROUTES.iter().find(|route| route.path == path && *method != Method::OPTIONS)?.counted
}

/// Whether the answer is an event stream that lasts.
pub(super) fn lasts(method: &Method, path: &str) -> bool {
    *method == Method::GET && path == STREAM
}

pub(super) fn is_health_check(path: &str) -> bool {
    HEALTH.contains(&path)
}

impl Media {
    /// Whether any field says so: a request with two of them is the component's to judge.
    fn is_said_in(&self, headers: &HeaderMap) -> bool {
        headers.get_all(CONTENT_TYPE).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            match self {
                Self::Json => essence == "application/json",
                Self::AnyJson => essence == "application/json" || essence.ends_with("+json"),
                Self::Form => essence == "application/x-www-form-urlencoded",
            }
        })
    }
}

/// Whether a field has the form of an access token (RFC 6750 section 2.1): the scheme, a space, and something else.
fn is_bearer(field: &HeaderValue) -> bool {
    const SCHEME: &[u8] = b"Bearer ";
    let field = field.as_bytes();
    let is_scheme = field.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
    is_scheme && field.get(SCHEME.len()..).is_some_and(|token| !token.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests;
