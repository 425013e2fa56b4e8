//! What is served at which path.

use base::settings::{ServerKind, ServerSettings};
use http::{HeaderValue, Method};

use crate::authorization_server::Endpoint;
use crate::site::{FORWARD_AUTH, Site};

/// RFC 9728 section 3.1.
const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// RFC 8414 section 3.
const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";
/// OpenID Connect Discovery section 4; what clients try when they do not find the other one.
const OPENID_CONFIGURATION: &str = "/.well-known/openid-configuration";
/// RFC 7517 section 5, at the path that is customary.
const KEY_SET: &str = "/.well-known/jwks.json";
const WELL_KNOWN: &str = "/.well-known/";

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// Nothing.
    Unknown,
    /// Nothing, where clients look for metadata: a web page may learn that.
    UnknownMetadata,
    Index,
    Health,
    Ready,
    Mcp,
    Sse,
    Message,
    /// A server behind the component.
    Server(&'a ServerSettings),
    OAuth(Endpoint),
    /// RFC 9728, of the resource at this path.
    ProtectedResource(&'a str),
    /// RFC 8414.
    AuthorizationServer,
    /// The keys of assertions.
    KeySet,
    /// What a proxy asks.
    ForwardAuth,
}

/// Finds what a path leads to, and says the path without the path prefix of the public URL. A gateway may have taken the
/// prefix off already: no prefix is one of the paths here, so nothing is taken for something else.
pub(super) fn find<'a>(site: &Site<'a>, path: &str) -> (Route<'a>, String) {
    if path.starts_with(WELL_KNOWN)
        && let Some(route) = well_known(site, path, site.prefix)
    {
        return (enabled(site, route), path.to_owned());
    }
    let inside = path.strip_prefix(site.prefix).filter(|inside| inside.is_empty() || inside.starts_with('/'));
    let inside = inside.unwrap_or(path);
    if let Some(server) = site.server_at(inside) {
        return (Route::Server(server), inside.to_owned());
    }
    let route = match inside {
        "" | "/" => Route::Index,
        "/mcp" => Route::Mcp,
        "/sse" => Route::Sse,
        "/message" => Route::Message,
        "/authorize" => Route::OAuth(Endpoint::Authorize),
        "/auth/callback" => Route::OAuth(Endpoint::Callback),
        "/token" => Route::OAuth(Endpoint::Token),
        "/register" => Route::OAuth(Endpoint::Register),
        "/revoke" => Route::OAuth(Endpoint::Revoke),
        inside if inside.strip_prefix(FORWARD_AUTH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) => {
            Route::ForwardAuth
        }
        "/healthz" => Route::Health,
        "/readyz" => Route::Ready,
        // Clients that take the resource for the issuer append the name.
        inside if inside.strip_suffix(OPENID_CONFIGURATION).is_some_and(|path| is_endpoint(site, path)) => {
            Route::AuthorizationServer
        }
        // Clients that append the name to a base URL with a path, and proxies that pass on nothing else.
        inside if inside.starts_with(WELL_KNOWN) => well_known(site, inside, "").unwrap_or(Route::UnknownMetadata),
        _ => Route::Unknown,
    };
    (enabled(site, route), if inside.is_empty() { "/".to_owned() } else { inside.to_owned() })
}

/// Whether a resource with a path of its own is there.
fn is_endpoint(site: &Site<'_>, path: &str) -> bool {
    !path.is_empty() && site.resource_path(path).is_some()
}

/// The document at a well-known path: the name, the path prefix, and perhaps the path of a resource.
fn well_known<'a>(site: &Site<'a>, path: &str, prefix: &str) -> Option<Route<'a>> {
    if path == KEY_SET {
        return Some(Route::KeySet);
    }
    let resource = |name: &str| site.resource_path(path.strip_prefix(name)?.strip_prefix(prefix)?);
    if let Some(resource) = resource(PROTECTED_RESOURCE) {
        return Some(Route::ProtectedResource(resource));
    }
    resource(AUTHORIZATION_SERVER).or_else(|| resource(OPENID_CONFIGURATION)).map(|_| Route::AuthorizationServer)
}

fn enabled<'a>(site: &Site<'_>, route: Route<'a>) -> Route<'a> {
    match route {
        // The component's own tools are not served beside other servers.
        Route::Mcp | Route::Sse | Route::Message if !site.servers.is_empty() => Route::Unknown,
        Route::Sse | Route::Message if !site.settings.legacy_sse => Route::Unknown,
        Route::ForwardAuth if site.settings.forward_auth.is_none() => Route::Unknown,
        // With Entra ID as the only authorization server, there is none here.
        Route::OAuth(_) if !site.settings.token_mode.has_sessions() => Route::Unknown,
        Route::AuthorizationServer if site.settings.stands_in_for_the_authority() => route,
        Route::AuthorizationServer if !site.settings.token_mode.has_sessions() => Route::UnknownMetadata,
        route => route,
    }
}

impl Route<'_> {
    /// The methods that are served, besides `HEAD` and `OPTIONS`.
    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Unknown | Self::UnknownMetadata => &[],
            Self::Index | Self::Health | Self::Ready | Self::Sse => &[Method::GET],
            Self::ProtectedResource(_) | Self::AuthorizationServer | Self::KeySet => &[Method::GET],
            // And any other: it is that of the client's request, or one that the proxy chooses.
            Self::ForwardAuth => &[Method::GET],
            Self::Mcp | Self::Message => &[Method::POST],
            Self::Server(server) => match server.kind {
                ServerKind::Tools => &[Method::POST],
                ServerKind::Upstream => &[Method::GET, Method::POST, Method::DELETE],
            },
            Self::OAuth(Endpoint::Authorize) => &[Method::GET, Method::POST],
            Self::OAuth(Endpoint::Callback) => &[Method::GET],
            Self::OAuth(Endpoint::Token | Endpoint::Register | Endpoint::Revoke) => &[Method::POST],
        }
    }

    /// Whether a `GET` is only read, so that a `HEAD` can say what it would answer.
    pub(super) fn has_head(&self) -> bool {
        matches!(
            self,
            Self::Index
                | Self::Health
                | Self::Ready
                | Self::ProtectedResource(_)
                | Self::AuthorizationServer
                | Self::KeySet
        )
    }

    /// The methods, for `Allow`.
    pub(super) fn allow(&self) -> HeaderValue {
        HeaderValue::from_static(match self.methods() {
            [Method::POST] => "POST, OPTIONS",
            [Method::GET] if self.has_head() => "GET, HEAD, OPTIONS",
            [Method::GET] => "GET, OPTIONS",
            [_, _, Method::DELETE] => "GET, POST, DELETE, OPTIONS",
            _ => "GET, POST, OPTIONS",
        })
    }
}
