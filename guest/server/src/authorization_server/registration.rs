//! Dynamic client registration (RFC 7591), for clients that know no other way.
//!
//! Any program may register, so nothing of a registration is believed: it gives a client an id of its own, and a place
//! where its users are sent back to. A registration without use goes away by itself.

use std::time::Duration;

use base::audit::Outcome;
use base::encoding::{digest, from_base64url};
use base::strict_json;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use world::random::random_token;
use world::records::{Namespace, Next, Partition, Ttl};
use world::{StoreError, limits};

use super::client::{Client, ClientOrigin};
use super::client_metadata_document::{MAX_NAME, MAX_REDIRECT_URIS, is_json};
use super::metadata::{AUTH_METHODS, GRANT_TYPES, RESPONSE_TYPES};
use super::redirect_uri;
use super::redirect_uri::private_use::{self, AdmittedSchemes};
use super::text::visible;
use super::unused::RING;
use crate::message::{Request, json as json_answer};
use crate::server_world::ServerWorld;
use crate::site::SCOPE;

#[cfg(test)]
mod tests;

/// The largest registration, in bytes: 32 redirect URIs of some length, and members that are ignored.
const MAX_BODY: usize = 32 * 1024;
/// How long a registration waits for its first use.
const UNUSED_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long it lives on after its last use: as long as a refresh token of Entra ID.
const USED_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// A use is noted once in this time, so that not every refresh writes.
const TOUCH_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a client id, by which the server knows an id as its own before it asks the store.
const CLIENT_ID_BYTES: usize = 32;

/// A registration in the store.
#[derive(Clone, Serialize, Deserialize)]
struct Registration {
    name: Option<String>,
    redirect_uris: Vec<String>,
    secret_hash: Option<String>,
    /// Unix time in seconds.
    used_at: Option<u64>,
}

impl Registration {
    /// How long the record is kept.
    fn ttl(&self, _: u64) -> Duration {
        if self.used_at.is_some() { USED_LIFETIME } else { UNUSED_LIFETIME }
    }
}

/// Registrations that are in use, by client id; and those from before there were [`UNUSED`].
const REGISTRATIONS: Namespace<Registration> =
    Namespace::json(Partition::AuthorizationServer, "registration", Ttl::Computed(Registration::ttl))
        .absent_if_malformed();
/// Registrations that wait for their first use, by client id. They give way when there are too many.
const UNUSED: Namespace<Registration> =
    Namespace::json(Partition::AuthorizationServer, "registration-unused", Ttl::Computed(Registration::ttl))
        .absent_if_malformed();

/// Why a registration is refused (RFC 7591 section 3.2.2). The texts are for the client's developer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RegistrationError {
    #[error("{0}")]
    RedirectUri(String),
    #[error("{0}")]
    Metadata(&'static str),
}

/// What is registered, checked.
#[derive(Debug, PartialEq, Eq)]
struct RegistrationMetadata {
    name: Option<String>,
    redirect_uris: Vec<String>,
    auth_method: &'static str,
    application_type: &'static str,
}

/// Answers a request to `/register`.
pub async fn handle(env: &ServerWorld<'_>, request: &Request) -> Response<Vec<u8>> {
    let enabled = env.site.settings.dynamic_registration;
    if !enabled {
        let text =
            "Clients cannot register themselves here. Use a client id that the operator of the server gives you.";
        return refusal(env, 404, "invalid_request", text);
    }
    if request.method != Method::POST {
        let mut response = refusal(env, 405, "invalid_request", "Register with POST.");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let subject = request.client_address.as_deref().unwrap_or("unknown");
    if let Err(retry_after) = limits::admit(env.limiter, env.entra.trail, "register", subject, None).await {
        let mut response = refusal(env, 429, "too_many_requests", "Too many registrations: try again later.");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        return response;
    }
    if request.body.len() > MAX_BODY {
        return refusal(env, 413, "invalid_client_metadata", "The registration is longer than 32 KiB.");
    }
    let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(is_json) {
        return refusal(env, 400, "invalid_client_metadata", "Send the registration as application/json.");
    }
    let metadata = match strict_json::parse_object(&request.body) {
        Ok(mut members) => {
            // Some clients write `null` for what they leave out.
            members.retain(|_, value| !value.is_null());
            check(&members, &env.site.settings.allowed_redirect_schemes)
        }
        Err(_) => Err(RegistrationError::Metadata("The registration is not one JSON object.")),
    };
    match metadata {
        Ok(metadata) => register(env, metadata).await,
        Err(error @ RegistrationError::RedirectUri(_)) => refusal(env, 400, "invalid_redirect_uri", &error.to_string()),
        Err(error @ RegistrationError::Metadata(_)) => refusal(env, 400, "invalid_client_metadata", &error.to_string()),
    }
}

/// The client of a registration that has not expired.
pub(super) async fn client(env: &ServerWorld<'_>, client_id: &str) -> Result<Option<Client>, StoreError> {
    if from_base64url(client_id).is_none_or(|bytes| bytes.len() != CLIENT_ID_BYTES) {
        return Ok(None);
    }
    let registration = match env.entra.records.get(&REGISTRATIONS, client_id).await? {
        Some(registration) => Some(registration),
        None => match env.entra.records.get(&UNUSED, client_id).await? {
            Some(registration) => Some(registration),
            // Its first use may have moved it between the two looks.
            None => env.entra.records.get(&REGISTRATIONS, client_id).await?,
        },
    };
    // A scheme that the operator no longer lets in ends what was registered with it.
    let schemes = &env.site.settings.allowed_redirect_schemes;
    let may_be_used =
        |uri: &String| private_use::scheme(uri).is_none_or(|scheme| schemes.iter().any(|it| it == scheme));
    Ok(registration.map(|registration| Client {
        client_id: client_id.to_owned(),
        name: registration.name,
        origin: ClientOrigin::Registration,
        redirect_uris: registration.redirect_uris.into_iter().filter(may_be_used).collect(),
        secret_hash: registration.secret_hash,
    }))
}

/// Notes that a registration is in use.
pub(super) async fn touch(env: &ServerWorld<'_>, client_id: &str) -> Result<(), StoreError> {
    let now = env.entra.clock.now();
    if let Some(registration) = env.entra.records.get(&UNUSED, client_id).await? {
        let used = Registration { used_at: Some(now), ..registration };
        env.entra.records.put(&REGISTRATIONS, client_id, &used).await?;
        // What cannot be deleted expires.
        let _ = env.entra.records.delete(&UNUSED, client_id).await;
        return Ok(());
    }
    let noted = env.entra.records.update(&REGISTRATIONS, client_id, |registration| match registration {
        Some(registration) if registration.used_at.is_none_or(|at| now.abs_diff(at) >= TOUCH_INTERVAL.as_secs()) => {
            Next::Write(Registration { used_at: Some(now), ..registration }, ())
        }
        _ => Next::Leave(()),
    });
    noted.await
}

async fn register(env: &ServerWorld<'_>, metadata: RegistrationMetadata) -> Response<Vec<u8>> {
    let client_id = random_token(env.entra.random);
    let secret = (metadata.auth_method != "none").then(|| random_token(env.entra.random));
    let registration = Registration {
        name: metadata.name.clone(),
        redirect_uris: metadata.redirect_uris.clone(),
        secret_hash: secret.as_ref().map(|secret| digest(secret.as_bytes())),
        used_at: None,
    };
    let unavailable = || refusal(env, 503, "temporarily_unavailable", "Registration is not possible now.");
    if env.entra.records.put_in(&RING, 0, &UNUSED, &client_id, &registration).await.is_err() {
        return unavailable();
    }
    let mut event = env.entra.trail.event("client.registered", Outcome::Success);
    event.client_id = Some(client_id.clone());
    if env.entra.trail.record(event).await.is_err() {
        // What cannot be recorded is not done. If it cannot be undone either, it expires: no client knows the id.
        let _ = env.entra.records.delete(&UNUSED, &client_id).await;
        return unavailable();
    }
    let mut answer = json!({
        "client_id": client_id,
        "client_id_issued_at": env.entra.clock.now(),
        "redirect_uris": metadata.redirect_uris,
        "token_endpoint_auth_method": metadata.auth_method,
        "application_type": metadata.application_type,
        "grant_types": GRANT_TYPES,
        "response_types": RESPONSE_TYPES,
        "scope": SCOPE,
    });
    if let Some(members) = answer.as_object_mut() {
        if let Some(name) = metadata.name {
            members.insert("client_name".to_owned(), name.into());
        }
        if let Some(secret) = secret {
            members.insert("client_secret".to_owned(), secret.into());
            // It ends with the registration, which lives as long as it is used.
            members.insert("client_secret_expires_at".to_owned(), 0.into());
        }
    }
    json_answer(201, &answer)
}

/// Checks what a client says of itself. Members that are not listed here are ignored (RFC 7591 section 2).
fn check(members: &Map<String, Value>, schemes: &[String]) -> Result<RegistrationMetadata, RegistrationError> {
    use RegistrationError::Metadata as Refused;
    let auth_method = match members.get("token_endpoint_auth_method") {
        // The default of RFC 7591.
        None => "client_secret_basic",
        Some(wanted) => AUTH_METHODS
            .into_iter()
            .find(|method| wanted == method)
            .ok_or(Refused("token_endpoint_auth_method has to be none, client_secret_basic or client_secret_post."))?,
    };
    // Grants that are not offered are left out of the answer, as RFC 7591 allows.
    if !lists(members, "grant_types", "authorization_code") {
        return Err(Refused("grant_types has to be a list with authorization_code."));
    }
    if !lists(members, "response_types", "code") {
        return Err(Refused("response_types has to be a list with code."));
    }
    let name = match members.get("client_name") {
        None => None,
        Some(Value::String(name)) if name.chars().count() <= MAX_NAME => {
            Some(visible(name)).filter(|name| !name.is_empty())
        }
        Some(_) => return Err(Refused("client_name has to be a text of at most 200 characters.")),
    };
    let redirect_uris = redirect_uris(members, schemes)?;
    let native = redirect_uris.iter().any(|uri| redirect_uri::leads_to_a_program(uri));
    let application_type = match members.get("application_type").map(Value::as_str) {
        // OpenID Connect would take it for `web`; older MCP clients say nothing and use loopback redirects.
        None if native => "native",
        None => "web",
        Some(Some("native")) => "native",
        Some(Some("web")) if native => {
            let text = "a client of application_type web has no redirect URI on the person's own machine: \
                register as native, or use https";
            return Err(RegistrationError::RedirectUri(text.to_owned()));
        }
        Some(Some("web")) => "web",
        Some(_) => return Err(Refused("application_type has to be native or web.")),
    };
    Ok(RegistrationMetadata { name, redirect_uris, auth_method, application_type })
}

fn redirect_uris(members: &Map<String, Value>, schemes: &[String]) -> Result<Vec<String>, RegistrationError> {
    let refused = |text: &str| RegistrationError::RedirectUri(text.to_owned());
    let listed = members.get("redirect_uris").and_then(Value::as_array).filter(|listed| !listed.is_empty());
    let listed = listed.ok_or_else(|| refused("redirect_uris has to be a list of at least one URI"))?;
    if listed.len() > MAX_REDIRECT_URIS {
        return Err(refused("redirect_uris has more than 32 URIs"));
    }
    let mut checked: Vec<String> = Vec::with_capacity(listed.len());
    for uri in listed {
        let uri = uri.as_str().ok_or_else(|| refused("redirect_uris has to be a list of texts"))?;
        private_use::check(uri, AdmittedSchemes::Named(schemes))
            .map_err(|error| RegistrationError::RedirectUri(error.to_string()))?;
        if !checked.iter().any(|known| known == uri) {
            checked.push(uri.to_owned());
        }
    }
    Ok(checked)
}

/// Whether the list has `wanted`, or is not there: then the default is taken, which has it.
fn lists(members: &Map<String, Value>, list: &str, wanted: &str) -> bool {
    match members.get(list) {
        Some(Value::Array(values)) => values.iter().all(Value::is_string) && values.iter().any(|value| value == wanted),
        Some(_) => false,
        None => true,
    }
}

fn refusal(env: &ServerWorld<'_>, status: u16, error: &str, description: &str) -> Response<Vec<u8>> {
    let description = format!("{description} (correlation id {})", env.correlation_id());
    json_answer(status, &json!({ "error": error, "error_description": description }))
}
