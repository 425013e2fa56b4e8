//! AI agents (Microsoft Entra Agent ID): how an agent identity gets tokens by its blueprint, in the three forms.
//!
//! A blueprint proves itself with a credential of its own and names an agent identity (`fmi_path`): the answer is a token for
//! the exchange, and no API takes it. The agent identity, which has no credential, presents that token as its assertion: for
//! itself (client credentials), on behalf of a person whose token is for the blueprint, or, with a second token for the
//! exchange, for the user account that belongs to it (`user_fic`).

use serde_json::{Map, Value, json};

use super::authorize::missing;
use super::client_authentication;
use super::config::Application;
use super::errors::{self, Refusal};
use super::jwt::{self, Unverified};
use super::state::{Contexts, Grant, Platform};
use super::tenants;
use super::token_endpoint::{TokenRequest, respond, service_principal};
use super::tokens::{self, ClientProof};
use super::{World, config};

/// The audience of tokens for the exchange.
pub(crate) const EXCHANGE: &str = "api://AzureADTokenExchange";
/// The token for the exchange by which an agent identity acts as its user.
const CREDENTIAL: &str = "user_federated_identity_credential";
/// The grant of an agent's user.
pub(crate) const USER_FIC_GRANT: &str = "user_fic";
/// Facets of what is no agent, and of an agent identity and an agent's user beside them.
const NO_FACET: &str = "3";
const AGENT_IDENTITY: &str = "3 9 11";
const AGENT_USER: &str = "3 13";

/// Whether a token request is for the exchange, and not for an API.
pub(crate) fn is_exchange(scope: &str) -> bool {
    scope.strip_suffix("/.default") == Some(EXCHANGE)
}

/// The subject of the token by which a blueprint vouches for an agent identity.
fn subject(tenant: &str, blueprint: &str, agent: &str) -> String {
    format!("/eid1/c/pub/t/{tenant}/a/{blueprint}/{agent}")
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

/// Checks the assertion of an agent identity: a token for the exchange by which its blueprint vouches for it.
pub(crate) fn check_assertion(
    world: &World,
    client: &Application,
    blueprint: &str,
    assertion: &Unverified,
) -> Result<(), Refusal> {
    check_exchange_token(world, client, assertion)?;
    let vouches = assertion.text("azp") == Some(blueprint)
        && assertion.text("sub") == Some(subject(&client.tenant, blueprint, &client.id).as_str());
    match vouches {
        true => Ok(()),
        false => Err(errors::FEDERATION_SUBJECT.because(format!(
            "No matching federated identity record found for presented assertion subject '{}'. The agent identity '{}' takes \
             assertions of its blueprint alone.",
            assertion.text("sub").unwrap_or_default(),
            client.id
        ))),
    }
}

/// What holds for every token for the exchange that an agent identity presents.
fn check_exchange_token(world: &World, client: &Application, token: &Unverified) -> Result<(), Refusal> {
    let key = token.header_text("kid").and_then(|id| world.keys.find(id));
    if !key.is_some_and(|key| token.is_signed_rs256(key.modulus(), key.exponent())) {
        return Err(errors::ASSERTION_SIGNATURE
            .because("Client assertion failed signature validation. [Reason - The signature is invalid.]"));
    }
    if token.text("iss") != Some(world.issuer(&client.tenant).as_str()) {
        return Err(
            errors::FEDERATION_ISSUER.because("The issuer of the assertion is not the tenant of the agent identity.")
        );
    }
    if !token.has_audience(EXCHANGE) {
        return Err(errors::FEDERATION_AUDIENCE.because(format!("The audience of the assertion is not '{EXCHANGE}'.")));
    }
    if token.seconds("exp").unwrap_or(0) <= world.clock.now() {
        return Err(errors::ASSERTION_LIFETIME.because("Client assertion is not within its valid time range."));
    }
    Ok(())
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

/// The claims by which a token says that an agent takes part. `user`: the account that it stands for.
pub(crate) fn facets(claims: &mut Map<String, Value>, client: &Application, user: Option<&config::User>) {
    let Some(blueprint) = &client.blueprint else { return };
    let subject = match user {
        None => AGENT_IDENTITY,
        Some(user) if user.agent.as_deref() == Some(client.id.as_str()) => AGENT_USER,
        Some(_) => NO_FACET,
    };
    claims.insert("xms_act_fct".to_owned(), json!(AGENT_IDENTITY));
    claims.insert("xms_sub_fct".to_owned(), json!(subject));
    claims.insert("xms_par_app_azp".to_owned(), json!(blueprint));
}
