//! On-behalf-of: a middle tier exchanges a user's token for one to the next API.

use serde_json::Value;

use super::client_authentication;
use super::errors::{self, Refusal};
use super::jwt;
use super::parameters::{missing, read_claims};
use super::policy;
use super::state::Platform;
use super::token_request::{TokenRequest, respond};
use super::tokens::ClientProof;

pub(crate) fn exchange(request: &TokenRequest<'_>) -> Result<Value, Refusal> {
    let world = request.world;
    if request.proof == ClientProof::None {
        return Err(client_authentication::required());
    }
    let assertion = request.form.get("assertion").ok_or_else(|| missing("assertion"))?;
    match request.form.get("requested_token_use") {
        Some("on_behalf_of") => {}
        Some(_) => {
            return Err(errors::INVALID_REQUEST.because("The 'requested_token_use' parameter must be 'on_behalf_of'."));
        }
        None => return Err(missing("requested_token_use")),
    }
    let assertion = jwt::parse(assertion).map_err(|_| invalid("The token is malformed."))?;
    let key = assertion.header_text("kid").and_then(|id| world.keys.find(id));
    if !key.is_some_and(|key| assertion.is_signed_rs256(key.modulus(), key.exponent())) {
        return Err(invalid("The signature is invalid."));
    }
    let client = request.client;
    // The token that an agent identity acts on is one for its blueprint, which people consent to.
    let blueprint = client.blueprint.as_deref().and_then(|id| request.config.application(id));
    let resource = blueprint.unwrap_or(client);
    let for_client =
        assertion.has_audience(&resource.id) || resource.identifier_uris.iter().any(|uri| assertion.has_audience(uri));
    if !for_client {
        return Err(errors::ON_BEHALF_AUDIENCE.because(format!(
            "Assertion audience does not match the Client app presenting the assertion. The audience in the assertion was '{}' \
             and the expected audience is '{}' or one of the Application Uris of this application with App ID '{}'({}).",
            assertion.text("aud").unwrap_or_default(),
            client.id,
            client.id,
            client.name
        )));
    }
    if assertion.seconds("exp").unwrap_or(0) <= world.clock.now() {
        return Err(errors::ON_BEHALF_EXPIRED.because(
            "Assertion is not within its valid time range. Ensure that the access token is not expired before using it for user \
             assertion, or request a new token.",
        ));
    }
    if assertion.text("scp").is_none() {
        return Err(errors::ON_BEHALF_APP_ONLY
            .because(format!("Application '{}' is not allowed to make application on-behalf-of calls.", client.id)));
    }
    let found = assertion.text("uti").and_then(|id| world.state().issued.get(id).cloned());
    let mut grant = found.ok_or_else(|| invalid("The token was not issued by this emulator, or too long ago."))?;
    let user = request.user(&grant)?;
    if grant.epoch < world.state().epoch(&user.id) {
        return Err(errors::SESSION_REVOKED
            .because("The provided grant has expired due to it being revoked, a fresh auth token is needed."));
    }
    let Some(scope) = request.form.get("scope") else {
        return Err(missing("scope"));
    };
    let asked = request.parse(scope)?;
    let target = asked.single_target()?;
    let claims = read_claims(request.form)?;
    policy::check(user, grant.with_mfa, claims.wants_mfa, &target, policy::Through::OnBehalfOf)?;
    grant.client.clone_from(&client.id);
    let refresh = asked.has("offline_access").then(|| (Platform::Web, world.clock.now()));
    respond(request, &grant, &asked, None, refresh)
}

fn invalid(reason: &str) -> Refusal {
    errors::ON_BEHALF_ASSERTION
        .because(format!("Assertion failed signature validation, or is malformed. [Reason - {reason}]"))
}
