//! AI agents (Microsoft Entra Agent ID): how a blueprint vouches for an agent identity, and what tokens say of agents.
//!
//! A blueprint proves itself with a credential of its own and names an agent identity (`fmi_path`): the answer is a token for
//! the exchange, and no API takes it. The agent identity, which has no credential, presents that token as its assertion: for
//! itself (client credentials), on behalf of a person whose token is for the blueprint, or, with a second token for the
//! exchange, for the user account that belongs to it (`user_fic`).
//!
//! Here is what those tokens say and how they are checked. [`agent_grants`](super::agent_grants) issues them.

use serde_json::{Map, Value, json};

use super::config::{Application, User};
use super::errors::{self, Refusal};
use super::jwt::Unverified;
use super::world::World;

/// The audience of tokens for the exchange.
pub(crate) const EXCHANGE: &str = "api://AzureADTokenExchange";
/// Facets of what is no agent, and of an agent identity and an agent's user beside them.
const NO_FACET: &str = "3";
const AGENT_IDENTITY: &str = "3 9 11";
const AGENT_USER: &str = "3 13";

/// The subject of the token by which a blueprint vouches for an agent identity.
pub(crate) fn subject(tenant: &str, blueprint: &str, agent: &str) -> String {
    format!("/eid1/c/pub/t/{tenant}/a/{blueprint}/{agent}")
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
pub(crate) fn check_exchange_token(world: &World, client: &Application, token: &Unverified) -> Result<(), Refusal> {
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

/// The claims by which a token says that an agent takes part. `user`: the account that it stands for.
pub(crate) fn facets(claims: &mut Map<String, Value>, client: &Application, user: Option<&User>) {
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
