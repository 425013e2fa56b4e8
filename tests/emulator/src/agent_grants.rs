//! The grants of AI agents ([`agents`](super::agents)): tokens for the exchange, and of the user account of an agent.

use serde_json::{Value, json};

use super::agents::{EXCHANGE, check_exchange_token, subject};
use super::client_authentication;
use super::errors::{self, Refusal};
use super::jwt;
use super::parameters::missing;
use super::state::{Contexts, Grant, Platform};
use super::tenants::{self, service_principal};
use super::token_request::{TokenRequest, respond};
use super::tokens::{self, ClientProof};

/// The token for the exchange by which an agent identity acts as its user.
const CREDENTIAL: &str = "user_federated_identity_credential";
/// The grant of an agent's user.
pub(crate) const USER_FIC_GRANT: &str = "user_fic";

/// Whether a token request is for the exchange, and not for an API.
pub(crate) fn is_exchange(scope: &str) -> bool {
    scope.strip_suffix("/.default") == Some(EXCHANGE)
}

/// A token for the exchange: of a blueprint for the agent identity in `fmi_path`, or of an agent identity for itself.
pub(crate) fn exchange_token(request: &TokenRequest<'_>, tenant: &str) -> Result<Value, Refusal> {
    let TokenRequest { world, config, client, .. } = *request;
    let (subject, object) = match (request.form.get("fmi_path"), &client.blueprint) {
        (Some(agent), None) => {
            let known =
                config.application(agent).filter(|agent| agent.blueprint.as_deref() == Some(client.id.as_str()));
            let agent = known.ok_or_else(|| {
                errors::FEDERATION_SUBJECT
                    .because(format!("The path '{agent}' is no agent identity of the blueprint '{}'.", client.id))
            })?;
            (subject(tenant, &client.id, &agent.id), service_principal(&client.id, tenant))
        }
        (None, Some(_)) => {
            let object = service_principal(&client.id, tenant);
            (object.clone(), object)
        }
        (None, None) => return Err(missing("fmi_path")),
        (Some(_), Some(_)) => {
            return Err(errors::INVALID_REQUEST.because("An agent identity vouches for no other ('fmi_path')."));
        }
    };
    let now = world.clock.now();
    let expires_in = config.policy.access_token_shortest;
    let claims = json!({
        "aud": EXCHANGE, "iss": world.issuer(tenant), "iat": now, "nbf": now, "exp": now + expires_in,
        "azp": client.id, "azpacr": "2", "idtyp": "app", "oid": object, "sub": subject, "tid": tenant,
        "uti": world.random.text::<16>(), "ver": "2.0",
    });
    let token = tokens::sign(&world.keys.current(), &claims)
        .ok_or_else(|| errors::INVALID_REQUEST.because("The emulator could not sign a token."))?;
    Ok(json!({
        "token_type": "Bearer", "expires_in": expires_in, "ext_expires_in": expires_in, "access_token": token,
    }))
}

/// Serves the grant `user_fic`: the agent identity acts as the user account that belongs to it.
pub(crate) fn user_fic(request: &TokenRequest<'_>) -> Result<Value, Refusal> {
    let TokenRequest { world, config, client, .. } = *request;
    if request.proof == ClientProof::None {
        return Err(client_authentication::required());
    }
    if client.blueprint.is_none() {
        return Err(errors::UNKNOWN_GRANT.because("The grant 'user_fic' is for agent identities."));
    }
    let credential = request.form.get(CREDENTIAL).ok_or_else(|| missing(CREDENTIAL))?;
    let credential = jwt::parse(credential)
        .map_err(|_| errors::ASSERTION_MALFORMED.because("JWT token is invalid or malformed."))?;
    check_exchange_token(world, client, &credential)?;
    // Of the agent identity itself: what its blueprint vouches with is the client assertion.
    if credential.text("azp") != Some(client.id.as_str()) {
        return Err(errors::FEDERATION_SUBJECT
            .because(format!("The credential of the user was not issued to the agent identity '{}'.", client.id)));
    }
    let named =
        request.form.get("user_id").or_else(|| request.form.get("username")).ok_or_else(|| missing("user_id"))?;
    let found = config.user(named).or_else(|| config.user_named(named));
    let user = found
        .filter(|user| user.agent.as_deref() == Some(client.id.as_str()))
        .ok_or_else(|| tenants::no_such_user(named, &client.tenant))?;
    let scope = request.form.get("scope").ok_or_else(|| missing("scope"))?;
    let asked = request.parse(scope)?;
    let grant = Grant {
        user: user.id.clone(),
        tenant: user.tenant.clone(),
        client: client.id.clone(),
        signed_in_at: world.clock.now(),
        with_mfa: false,
        contexts: Contexts::default(),
        session: world.random.guid(),
        epoch: world.state().epoch(&user.id),
    };
    let refresh = asked.has("offline_access").then(|| (Platform::Web, world.clock.now()));
    respond(request, &grant, &asked, None, refresh)
}
