//! `/revoke` (RFC 7009): a client ends a session of its own, by either of its tokens.

use base::Secret;
use caller::session::lifecycle;
use http::Response;
use serde_json::json;

use super::answers::{self, OAuthRefusal};
use super::parameters::Parameters;
use super::token;
use crate::message::{Request, json as json_answer};
use crate::server_world::ServerWorld;

/// The operation of the rate limiter.
const REVOKE: &str = "revoke";

/// Answers a request to `/revoke`. What is unknown, or another client's, is none of the client's business: 200
/// (RFC 7009 section 2.2).
pub(super) async fn handle(env: &ServerWorld<'_>, request: &Request) -> Response<Vec<u8>> {
    let parameters = match Parameters::of_form(request) {
        Ok(parameters) => parameters,
        Err(error) => return answers::refusal(env, 400, &error.into()),
    };
    let client = match token::client(env, REVOKE, &parameters, request).await {
        Ok(client) => client,
        Err(answer) => return answer,
    };
    let Some(presented) = parameters.get("token") else {
        return answers::refusal(env, 400, &OAuthRefusal::new("invalid_request", "token is missing."));
    };
    match lifecycle::revoke(&env.entra, &Secret::from(presented), &client.client_id).await {
        // The end of a session uses it up, so no client id has to be counted for it.
        Ok(true) => json_answer(200, &json!({})),
        Ok(false) => token::not_genuine(env, REVOKE, json_answer(200, &json!({}))).await,
        // The client has to try again (RFC 7009 section 2.2.1).
        Err(error) => answers::unavailable(env, &error.public(), 5),
    }
}
