//! The metadata of Entra ID under the server's own issuer, for clients that need what it lacks.
//!
//! Entra ID supports PKCE with S256 and does not say so, for which some clients refuse it; and it publishes no RFC 8414
//! document. The endpoints stay its own: clients sign in there, nothing of it passes through here, and the access
//! tokens have the issuer of Entra ID, which the server checks and the client does not. Nothing makes a client believe
//! in an ID token of the server's issuer: `openid` is not offered. RFC 9207's `iss` is not promised either, because
//! Entra ID does not send it.

use entra::token::{self, TokenError};
use serde_json::{Map, Value, json};

use super::metadata::{GRANT_TYPES, RESPONSE_TYPES};
use crate::server_world::ServerWorld;

/// What a refresh token is asked for with. Entra ID gives none without.
const OFFLINE_ACCESS: &str = "offline_access";
/// RFC 8628.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// A public client has nothing to authenticate with. Entra ID accepts that and does not say it.
const PUBLIC_CLIENT: &str = "none";

/// The document (RFC 8414, and what OpenID Connect Discovery requires on top of it). The authority's metadata is kept in
/// the store, as for the validation of tokens.
pub async fn document(env: &ServerWorld<'_>) -> Result<Value, TokenError> {
    let endpoints = token::endpoints(&env.entra).await?;
    let mut grant_types = GRANT_TYPES.to_vec();
    let mut auth_methods = endpoints.auth_methods;
    if !auth_methods.iter().any(|method| method == PUBLIC_CLIENT) {
        auth_methods.insert(0, PUBLIC_CLIENT.to_owned());
    }
    let mut document = Map::new();
    let mut say = |name: &str, value: Value| document.insert(name.to_owned(), value);
    say("issuer", json!(env.site.settings.public_url));
    say("authorization_endpoint", json!(endpoints.authorization));
    say("token_endpoint", json!(endpoints.token));
    if let Some(device) = endpoints.device_authorization {
        grant_types.push(DEVICE_CODE);
        say("device_authorization_endpoint", json!(device));
    }
    say("jwks_uri", json!(endpoints.jwks_uri));
    let mut scopes: Vec<_> = env.site.application_paths().map(|path| env.site.requested_scope(path)).collect();
    scopes.dedup();
    scopes.push(OFFLINE_ACCESS.to_owned());
    say("scopes_supported", json!(scopes));
    say("response_types_supported", json!(RESPONSE_TYPES));
    say("grant_types_supported", json!(grant_types));
    say("token_endpoint_auth_methods_supported", json!(auth_methods));
    say("code_challenge_methods_supported", json!(["S256"]));
    for (name, values) in [
        ("response_modes_supported", endpoints.response_modes),
        ("subject_types_supported", endpoints.subject_types),
        ("id_token_signing_alg_values_supported", endpoints.signing_algorithms),
    ] {
        if !values.is_empty() {
            say(name, json!(values));
        }
    }
    Ok(Value::Object(document))
}
