//! Parameters that several endpoints read: what they ask for, and the refusal of a request without one.

use super::config::{Config, GRAPH_APP_ID};
use super::errors::{self, Refusal};
use super::http::Params;
use super::resources::{self, Resource};
use super::state::Contexts;
use super::world::World;

pub(crate) fn missing(parameter: &str) -> Refusal {
    errors::MISSING_PARAMETER.because(format!("The request body must contain the following parameter: '{parameter}'."))
}

/// A `resource` parameter has to name the resource the scopes are for (RFC 8707 as Entra ID understands it).
pub(crate) fn check_resource(
    world: &World,
    config: &Config,
    parameters: &Params,
    asked: Option<&Resource>,
) -> Result<(), Refusal> {
    let Some(written) = parameters.get("resource") else {
        return Ok(());
    };
    let named = resources::resource(world, config, written);
    let asked_id = asked.map_or(GRAPH_APP_ID, Resource::id);
    // Entra ID compares with the App ID URI as registered; a resource it does not know cannot match either.
    if named.is_some_and(|resource| resource.id() == asked_id) {
        return Ok(());
    }
    Err(errors::RESOURCE_MISMATCH
        .because("The resource parameter provided in the request doesn't match with the requested scopes."))
}

/// What the `claims` parameter asks for, as far as it is understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// The client handles claims challenges.
    pub(crate) continuous: bool,
    pub(crate) wants_mfa: bool,
    pub(crate) contexts: Contexts,
}

/// The authentication contexts of Conditional Access, `c1` to `c99`, in one request for the claim `acrs`.
fn contexts(asked: Option<&serde_json::Value>) -> Vec<String> {
    let is_context = |id: &&str| {
        let number = id.strip_prefix('c').filter(|number| !number.starts_with('0'));
        number.and_then(|number| number.parse::<u8>().ok()).is_some_and(|number| (1..=99).contains(&number))
    };
    let one = asked.and_then(|asked| asked.get("value")).into_iter();
    let many = asked.and_then(|asked| asked.get("values")).and_then(serde_json::Value::as_array).into_iter().flatten();
    one.chain(many).filter_map(serde_json::Value::as_str).filter(is_context).map(str::to_owned).collect()
}

/// Reads the `claims` parameter.
pub(crate) fn read_claims(parameters: &Params) -> Result<Claims, Refusal> {
    let Some(text) = parameters.get("claims") else {
        return Ok(Claims::default());
    };
    let document: serde_json::Value = serde_json::from_str(text)
        .map_err(|_| errors::CLAIMS_UNREADABLE.because("The 'claims' parameter is not a valid JSON object."))?;
    let contains = |pointer: &str, wanted: &str| {
        let value = document.pointer(pointer);
        let one = value.and_then(|value| value.get("value")).and_then(serde_json::Value::as_str);
        let many = value.and_then(|value| value.get("values")).and_then(serde_json::Value::as_array);
        one.is_some_and(|one| one.eq_ignore_ascii_case(wanted))
            || many.is_some_and(|many| {
                many.iter().any(|one| one.as_str().is_some_and(|one| one.eq_ignore_ascii_case(wanted)))
            })
    };
    let contexts = Contexts {
        access_token: contexts(document.pointer("/access_token/acrs")),
        id_token: contexts(document.pointer("/id_token/acrs")),
    };
    Ok(Claims {
        continuous: contains("/access_token/xms_cc", "cp1"),
        wants_mfa: contains("/access_token/amr", "mfa")
            || contains("/id_token/amr", "mfa")
            // Here every authentication context stands for a second factor.
            || !contexts.is_empty()
            // The claims of a 50076 or 53003 name the policies to satisfy; here that is always a second factor.
            || document.pointer("/access_token/capolids").is_some(),
        contexts,
    })
}
