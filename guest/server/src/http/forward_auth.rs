//! `/auth`: answers a proxy that asks whether it may let a request through to a server behind it (nginx `auth_request`,
//! Caddy and Traefik `forward_auth`, Envoy `ext_authz` over HTTP).
//!
//! The answer 200 lets the request through, and its header fields tell the server who calls. Every field that tells of an
//! identity is in it, empty where there is nothing to tell, so that a proxy which copies them overwrites what a client has
//! sent under their names. Any other answer is for the client.
//!
//! The proxy sends no body, and only 2026-07-28 repeats the tool in a header field, which nothing here can compare with the
//! body. So the rules that hold here are those for everything (`*`), and a configuration with others is refused.
//!
//! Threats:
//! - A client that reaches `/auth` itself is handed what is for the server behind. So the proxy has a secret, which is
//!   compulsory where that is a token.
//! - A client names another path than it asks for. So all paths that the proxy may have said are looked at.
//! - A preflight request needs no token: answered with 204, it would count as let through. So no method is special here.

use base::encoding::{digest, same_secret};
use base::policy::{Denial, EVERYTHING, Target, TargetKind};
use base::settings::{ForwardAuthSettings, HttpSettings, ServerIdentity, ServerKind, ServerSettings, Settings};
use caller::Caller;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, Response};
use world::limits;

use super::bearer::{Authenticate, Guard};
use super::negotiation::field;
use super::{empty, origin, unavailable};
use crate::access::Access;
use crate::gatekeeper::identity::{self, Addressed, IdentityError};
use crate::mcp::{RepeatedField, Reply, challenge};
use crate::message::{Request, text};
use crate::server_world::ServerWorld;
use crate::site::{FORWARD_AUTH, Site};

/// The secret of the proxy.
const SECRET: HeaderName = HeaderName::from_static("x-entra-mcp-proxy-secret");
/// What the client has asked the proxy for: as the documentation of nginx has it, and as Caddy and Traefik do. A client may
/// have sent the other one.
const ORIGINAL: [HeaderName; 2] =
    [HeaderName::from_static("x-original-uri"), HeaderName::from_static("x-forwarded-uri")];
/// Which host the client has asked the proxy for.
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The operation of the rate limiter: that of a message.
const CALL: &str = "call";
/// What a request may be for.
const KINDS: [TargetKind; 5] =
    [TargetKind::Tool, TargetKind::Resource, TargetKind::Prompt, TargetKind::Completion, TargetKind::Task];
/// Characters of SHA-256 as base64url.
const HASH_LENGTH: usize = 43;

/// Answers the proxy.
pub(super) async fn answer(env: &ServerWorld<'_>, request: &Request, authenticate: Authenticate) -> Response<Vec<u8>> {
    let not_found = || text(404, "Not found");
    let Some(settings) = &env.site.settings.forward_auth else { return not_found() };
    if !is_the_proxy(settings, request) {
        return not_found();
    }
    let Some(server) = server_of(env.entra.settings, settings) else { return not_found() };
    let env = &ServerWorld { server: Some(server), ..*env };
    let query = match original(&env.site, server, request) {
        Ok(query) => query,
        Err((status, message)) => return text(status, message),
    };
    let guard = Guard { env, path: &server.path, authenticate };
    let asked = Request { query: Some(query), body: Vec::new(), ..request.clone() };
    let admitted = match guard.admit(&asked).await {
        Ok(admitted) => admitted,
        Err(refusal) => return understood(guard.refuse(refusal)),
    };
    if let Err(after) = limits::admit_caller(env.limiter, env.entra.trail, CALL, admitted.identity()).await {
        return guard.too_many_calls(after);
    }
    let caller = admitted.caller(&env.entra);
    if let Err(denial) = judge(env, &*caller, server).await {
        return match denial {
            Denial::ScopesMissing { required } => guard.insufficient_scope(&required),
            Denial::SessionEnded => guard.sign_in_again(),
            denial if denial.is_undecided() => unavailable(&denial.to_string()),
            denial if denial.is_shown() => match challenge::of_denial(caller.kind(), &denial) {
                Some(Reply::StepUp) => guard.step_up(),
                Some(Reply::ClaimsChallenge(claims)) => guard.claims_challenge(&claims),
                _ => text(403, &denial.to_string()),
            },
            denial => text(403, &denial.to_string()),
        };
    }
    match tell(env, &*caller, server).await {
        Ok(answer) => answer,
        Err(error) => {
            let target = Target { server: &server.name, kind: TargetKind::Tool, name: EVERYTHING };
            identity::record_refusal(env, &*caller, &target, &error).await;
            refuse(&guard, &error)
        }
    }
}

/// Whether the secret is that of the proxy, if it has one.
fn is_the_proxy(settings: &ForwardAuthSettings, request: &Request) -> bool {
    let Some(hash) = &settings.secret_hash else { return true };
    match field(&request.headers, &SECRET) {
        RepeatedField::Value(secret) => same_secret(digest(secret.as_bytes()).as_bytes(), hash.as_bytes()),
        RepeatedField::Absent | RepeatedField::Malformed => false,
    }
}

fn server_of<'a>(settings: &'a Settings, forward: &ForwardAuthSettings) -> Option<&'a ServerSettings> {
    settings.servers.iter().find(|server| server.name == forward.server)
}

/// What the client has asked the proxy for: its query, if all else is of this server. An answer of 400 is for the operator:
/// nginx writes it into its log.
fn original(site: &Site<'_>, server: &ServerSettings, request: &Request) -> Result<String, (u16, &'static str)> {
    match field(&request.headers, &ORIGINAL_HOST) {
        RepeatedField::Absent => {}
        RepeatedField::Value(host) if origin::is_allowed_host(site, host) => {}
        RepeatedField::Value(_) | RepeatedField::Malformed => {
            return Err((403, "This server does not answer for this host name: see the setting `allowed_hosts`"));
        }
    }
    let mut targets = Vec::new();
    if let Some(path) = request.path.strip_prefix(FORWARD_AUTH).and_then(|rest| rest.strip_prefix('/')) {
        // Then the proxy sets no field, and one that is there is the client's.
        targets.push((["/", path].concat(), request.query.clone().unwrap_or_default()));
    } else {
        for name in &ORIGINAL {
            match field(&request.headers, name) {
                RepeatedField::Absent => {}
                RepeatedField::Value(target) => {
                    let (path, query) = target.split_once('?').unwrap_or((target, ""));
                    targets.push((path.to_owned(), query.to_owned()));
                }
                RepeatedField::Malformed => return Err((400, "The proxy has to name the original URI once")),
            }
        }
    }
    if targets.is_empty() {
        return Err((400, "The proxy does not name the original URI: it has to set X-Original-URI"));
    }
    if !targets.iter().all(|(path, _)| is_of_server(site, &server.path, path)) {
        return Err((403, "This path is not that of the server: see the setting `forward-auth`"));
    }
    // In a query, an access token is refused.
    Ok(targets.into_iter().map(|(_, query)| query).collect::<Vec<_>>().join("&"))
}

/// Whether a path is that of the server, or below it. Proxies and servers read unusual paths differently, so these are none.
fn is_of_server(site: &Site<'_>, server_path: &str, path: &str) -> bool {
    let inside = path.strip_prefix(site.prefix).filter(|inside| inside.starts_with('/')).unwrap_or(path);
    let Some(below) = inside.strip_prefix(server_path) else { return false };
    let Some(below) = below.strip_prefix('/') else { return below.is_empty() };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let is_segment =
        |segment: &str| !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(is_plain);
    below.strip_suffix('/').unwrap_or(below).split('/').all(is_segment) || below.is_empty()
}

/// Decides by the rules for everything that the server has: the request may be for anything.
async fn judge(env: &ServerWorld<'_>, caller: &dyn Caller, server: &ServerSettings) -> Result<(), Denial> {
    let access = Access::new(env, caller);
    let HttpSettings { access: rules, deny_unlisted, .. } = env.site.settings;
    let has_rules = |kind| rules.iter().flatten().any(|rule| rule.is_about(&server.name, kind));
    for kind in KINDS {
        // A task is the call of a tool, and here the caller is permitted all of them.
        if kind == TargetKind::Task && !deny_unlisted && !has_rules(kind) {
            continue;
        }
        access.admit_to(&Target { server: &server.name, kind, name: EVERYTHING }).await?;
    }
    Ok(())
}

/// Lets the request through.
async fn tell(
    env: &ServerWorld<'_>,
    caller: &dyn Caller,
    server: &ServerSettings,
) -> Result<Response<Vec<u8>>, IdentityError> {
    let told = identity::told_of(env, server, caller).await?;
    let request = Addressed { caller, method: None, tool: None, body: None };
    let identity = identity::headers(env, server, &told, &request).await?;
    let mut response = empty(200);
    for name in identity::NAMES {
        response.headers_mut().insert(name, HeaderValue::from_static(""));
    }
    for (name, value) in &identity {
        response.headers_mut().insert(name, value.clone());
    }
    Ok(response)
}

/// The answer to a client whose identity cannot be passed on.
pub(crate) fn refuse(guard: &Guard<'_>, error: &IdentityError) -> Response<Vec<u8>> {
    match error {
        IdentityError::SignInAgain => guard.sign_in_again(),
        IdentityError::StepUp => guard.step_up(),
        IdentityError::ClaimsChallenge(claims) => guard.claims_challenge(claims),
        IdentityError::Refused { .. } | IdentityError::NoUser => text(403, &error.to_string()),
        IdentityError::TooMany(after) => guard.too_many_calls(*after),
        IdentityError::Unavailable { retry_after } => {
            let mut response = unavailable(&error.to_string());
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(*seconds));
            }
            response
        }
    }
}

/// A refusal as proxies pass it on: for nginx, 400 is an error of this server. The challenge says what is wrong.
fn understood(mut refusal: Response<Vec<u8>>) -> Response<Vec<u8>> {
    if refusal.status() == 400 && refusal.headers().contains_key(WWW_AUTHENTICATE) {
        *refusal.status_mut() = http::StatusCode::FORBIDDEN;
    }
    refusal
}

/// What an operator has to correct: sentences.
pub(crate) fn problems(settings: &Settings, http: &HttpSettings) -> Vec<String> {
    let Some(forward) = &http.forward_auth else { return Vec::new() };
    let name = &forward.server;
    let Some(server) = server_of(settings, forward) else {
        return vec![format!("the setting forward-auth names the server {name:?}, which is not configured")];
    };
    let mut problems = Vec::new();
    if server.kind != ServerKind::Upstream {
        problems
            .push(format!("the setting forward-auth names the server {name:?}, which the host runs: name an upstream"));
    }
    match &forward.secret_hash {
        None if matches!(server.identity, ServerIdentity::Assertion { .. } | ServerIdentity::Token { .. }) => {
            problems.push(format!(
                "the setting forward-auth needs a secret, because the server {name:?} learns the caller from a token: \
                 a client that reaches {FORWARD_AUTH} itself would get it"
            ));
        }
        Some(hash) if hash.len() != HASH_LENGTH => {
            problems.push("the secret of the setting forward-auth is not a SHA-256 as base64url".to_owned());
        }
        None | Some(_) => {}
    }
    let about = |kind| http.access.iter().flatten().filter(move |rule| rule.is_about(name, kind));
    for kind in KINDS {
        let rules = about(kind).filter(|rule| rule.tool != EVERYTHING);
        problems.extend(rules.map(|rule| {
            format!(
                "the rule for the {} {:?} cannot be kept with the setting forward-auth: a proxy passes no body on, and \
                 nothing else says reliably what a request is for. Write rules for \"*\", or let this server pass \
                 requests on itself",
                kind.name(),
                rule.tool
            )
        }));
        if http.deny_unlisted && about(kind).all(|rule| rule.tool != EVERYTHING) {
            problems.push(format!(
                "with the settings forward-auth and deny-unlisted every request to the server {name:?} is denied, because \
                 it may be for a {}: write a rule with this kind for \"*\"",
                kind.name()
            ));
        }
    }
    problems
}
