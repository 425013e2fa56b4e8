//! Microsoft Graph: the asking principal, what it may see, and the profile itself.
//!
//! Reads that a signed-in application needs are here, and writing of app registrations. There is no OData beyond
//! `$select`, `$top`, `$skiptoken`, `$count` and simple forms of `$filter`, and no `beta`.

mod batch;
mod directory;
mod groups;
mod messages;
mod pages;
mod registrations;
mod users;

use http::StatusCode;
use serde_json::{Value, json};

use super::clock::graph_timestamp;
use super::config::{Config, Requirement, User};
use super::endpoint::Endpoint;
use super::http::{Incoming, Reply};
use super::policy;
use super::state::{Grant, GraphSubject, GraphToken};
use super::world::World;

/// A caller with a valid token.
#[derive(Clone, Debug)]
pub(crate) struct GraphCaller {
    subject: GraphSubject,
    permissions: Vec<String>,
}

impl GraphCaller {
    /// Whether the token carries one of these permissions.
    fn may(&self, any_of: &[&str]) -> bool {
        self.permissions.iter().any(|held| any_of.contains(&held.as_str()))
    }

    fn grant(&self) -> Option<&Grant> {
        match &self.subject {
            GraphSubject::User(grant) => Some(grant),
            GraphSubject::Application { .. } => None,
        }
    }

    fn tenant(&self) -> &str {
        match &self.subject {
            GraphSubject::User(grant) => &grant.tenant,
            GraphSubject::Application { tenant } => tenant,
        }
    }
}

/// A refusal in Graph's words.
#[derive(Clone, Debug)]
pub(crate) struct GraphError {
    status: StatusCode,
    code: &'static str,
    message: String,
    challenge: Option<String>,
    /// Code and target of the one entry of `details`.
    detail: Option<(&'static str, &'static str)>,
}

impl GraphError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), challenge: None, detail: None }
    }

    fn denied() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
        )
    }

    fn not_found(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Request_ResourceNotFound",
            format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present."),
        )
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The refusal of a query that Graph understands and does not serve.
    fn unsupported_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Request_UnsupportedQuery", message)
    }

    fn reply(&self, world: &World, incoming: &Incoming) -> Reply {
        let request = world.random.guid();
        let client = incoming.correlation_id().unwrap_or(&request).to_owned();
        let mut body = json!({
            "error": {
                "code": self.code,
                "message": self.message,
                "innerError": {
                    "date": graph_timestamp(world.clock.now()),
                    "request-id": request,
                    "client-request-id": client,
                },
            },
        });
        if let (Some((code, target)), Some(error)) = (self.detail, body.get_mut("error").and_then(Value::as_object_mut))
        {
            let detail = json!({ "code": code, "target": target, "message": self.message });
            error.insert("details".to_owned(), json!([detail]));
        }
        let reply = Reply::json(self.status, &body);
        match &self.challenge {
            Some(challenge) => reply.with("www-authenticate", challenge),
            None => reply,
        }
        .with("request-id", &request)
        .with("client-request-id", &client)
    }
}

/// Serves everything below `/graph`.
pub(crate) fn serve(world: &World, endpoint: Endpoint, incoming: &Incoming) -> Reply {
    let config = world.config();
    let answer = authenticate(world, incoming).and_then(|caller| match endpoint {
        Endpoint::GraphBatch => batch::serve(world, &config, &caller, incoming),
        _ => dispatch(world, &config, &caller, incoming),
    });
    match answer {
        Ok(reply) if reply.headers.contains_key("request-id") => reply,
        Ok(reply) => {
            let request = world.random.guid();
            let client = incoming.correlation_id().unwrap_or(&request).to_owned();
            reply.with("request-id", &request).with("client-request-id", &client).with("odata-version", "4.0")
        }
        Err(error) => error.reply(world, incoming),
    }
}

/// Serves one request of a known caller; also each request of a batch.
fn dispatch(world: &World, config: &Config, caller: &GraphCaller, incoming: &Incoming) -> Result<Reply, GraphError> {
    let path = incoming.path.trim_matches('/');
    let segments: Vec<&str> = path.strip_prefix("graph/").unwrap_or(path).split('/').collect();
    if let ["oidc", "userinfo"] = segments.as_slice() {
        return user_info(config, caller);
    }
    if let ["v1.0", rest @ ..] = segments.as_slice()
        && let Some(answer) = registrations::serve(world, config, caller, incoming, rest)
    {
        return answer;
    }
    let read_only = incoming.method == http::Method::GET;
    if matches!(segments.as_slice(), ["v1.0", "users"]) && read_only {
        return users::list(world, config, caller, incoming);
    }
    let (user, rest) = match segments.as_slice() {
        ["v1.0", "me", rest @ ..] => (me(config, caller)?, rest),
        ["v1.0", "users", id, rest @ ..] => (other(config, caller, id)?, rest),
        ["v1.0", ..] => {
            let first = segments.get(1).copied().unwrap_or_default();
            return Err(GraphError::bad_request(format!("Resource not found for the segment '{first}'.")));
        }
        _ => {
            return Err(GraphError::new(StatusCode::BAD_REQUEST, "BadRequest", "Invalid version."));
        }
    };
    match rest {
        [] if read_only => directory::profile(world, caller, user, incoming),
        ["memberOf" | "transitiveMemberOf"] if read_only => {
            groups::member_of(world, caller, user, incoming, groups::Cast::None)
        }
        ["memberOf" | "transitiveMemberOf", cast] if read_only => {
            groups::member_of(world, caller, user, incoming, groups::Cast::of(cast)?)
        }
        ["getMemberObjects" | "getMemberGroups"] if incoming.method == http::Method::POST => {
            groups::member_objects(world, caller, user, incoming)
        }
        ["messages"] if read_only => messages::list(world, caller, user, incoming),
        ["photo", "$value"] if read_only => directory::photo(caller, user),
        ["photo"] if read_only => directory::photo_metadata(world, caller, user),
        [first, ..] if read_only => {
            Err(GraphError::bad_request(format!("Resource not found for the segment '{first}'.")))
        }
        _ => Err(GraphError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Request_BadRequest",
            "Specified HTTP method is not allowed for the request target.",
        )),
    }
}

fn me<'a>(config: &'a Config, caller: &GraphCaller) -> Result<&'a User, GraphError> {
    let grant = caller
        .grant()
        .ok_or_else(|| GraphError::bad_request("/me request is only valid with delegated authentication flow."))?;
    config.user(&grant.user).ok_or_else(|| GraphError::not_found(&grant.user))
}

/// A user by object id or user principal name, if a member or guest of the caller's directory.
fn other<'a>(config: &'a Config, caller: &GraphCaller, id: &str) -> Result<&'a User, GraphError> {
    // Without any permission to read others, Graph does not say whether a user exists.
    let own = caller.grant().and_then(|grant| config.user(&grant.user));
    let found = config
        .users
        .iter()
        .find(|user| user.username.eq_ignore_ascii_case(id) || user.id_in(caller.tenant()) == Some(id))
        .filter(|user| user.id_in(caller.tenant()).is_some());
    let is_own = matches!((own, found), (Some(own), Some(found)) if own.id == found.id);
    if !is_own && !caller.may(&["User.ReadBasic.All", "User.Read.All", "Directory.Read.All"]) {
        return Err(GraphError::denied());
    }
    found.ok_or_else(|| GraphError::not_found(id))
}

fn user_info(config: &Config, caller: &GraphCaller) -> Result<Reply, GraphError> {
    let user = me(config, caller)?;
    let object = user.id_in(caller.tenant()).unwrap_or(&user.id);
    let sub =
        super::tokens::pairwise(caller.grant().map_or("", |grant| grant.client.as_str()), object, caller.tenant());
    Ok(Reply::ok(&json!({
        "sub": sub,
        "name": user.display_name(),
        "given_name": user.property("givenName"),
        "family_name": user.property("surname"),
        "email": user.property("mail"),
    })))
}

fn authenticate(world: &World, incoming: &Incoming) -> Result<GraphCaller, GraphError> {
    let unauthorized = |message: &str| GraphError {
        challenge: Some(format!("{}, error=\"invalid_token\"", realm(world))),
        ..GraphError::new(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message)
    };
    let header = incoming.header("authorization").unwrap_or_default();
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => token.trim(),
        _ => return Err(unauthorized("Access token is empty.")),
    };
    let found: Option<GraphToken> = world.state().graph_tokens.get(token).cloned();
    let Some(found) = found else {
        return Err(unauthorized("Access token validation failure. Invalid audience."));
    };
    if world.clock.now() >= found.expires {
        return Err(unauthorized("Lifetime validation failed, the token is expired."));
    }
    if world.take_challenge() || (found.continuous && is_revoked(world, &found.subject)) {
        let claims =
            json!({ "access_token": { "nbf": { "essential": true, "value": world.clock.now().to_string() } } });
        return Err(challenge(world, "TokenIssuedBeforeRevocationTimestamp", &claims.to_string()));
    }
    if !found.in_context && needs_context(world, &found.subject) {
        return Err(challenge(world, "AuthenticationContextMissing", &policy::context_claims()));
    }
    Ok(GraphCaller { subject: found.subject, permissions: found.permissions })
}

fn is_revoked(world: &World, subject: &GraphSubject) -> bool {
    match subject {
        GraphSubject::User(grant) => grant.epoch < world.state().epoch(&grant.user),
        GraphSubject::Application { .. } => false,
    }
}

fn needs_context(world: &World, subject: &GraphSubject) -> bool {
    let GraphSubject::User(grant) = subject else { return false };
    world.config().user(&grant.user).is_some_and(|user| user.must == Requirement::AuthenticationContext)
}

fn realm(world: &World) -> String {
    format!(
        "Bearer realm=\"\", authorization_uri=\"{}/common/oauth2/authorize\", client_id=\"{}\"",
        world.base,
        super::config::GRAPH_APP_ID
    )
}

/// The claims challenge of continuous access evaluation, or of a policy.
fn challenge(world: &World, code: &str, claims: &str) -> GraphError {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(claims);
    GraphError {
        challenge: Some(format!(
            "{}, errorDescription=\"Continuous access evaluation resulted in challenge with result: InteractionRequired and \
             code: {code}\", error=\"insufficient_claims\", claims=\"{encoded}\"",
            realm(world)
        )),
        ..GraphError::new(
            StatusCode::UNAUTHORIZED,
            "InvalidAuthenticationToken",
            format!(
                "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: {code}"
            ),
        )
    }
}

fn context(world: &World, fragment: &str) -> Value {
    Value::from(format!("{}/v1.0/$metadata#{fragment}", world.graph))
}
