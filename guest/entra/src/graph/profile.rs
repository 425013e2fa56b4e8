//! The profile of the signed-in user: `GET /me`.

use base::Identity;
use serde_json::{Map, Value};

use super::client::{self, Source, TokenSource};
use super::error::{Evidence, GraphError};
use crate::entra_world::EntraWorld;

/// The profile properties that are asked for: what Graph documents as the default set of `user`.
pub const PROFILE_PROPERTIES: [&str; 11] = [
    "id",
    "displayName",
    "givenName",
    "surname",
    "userPrincipalName",
    "mail",
    "jobTitle",
    "officeLocation",
    "mobilePhone",
    "businessPhones",
    "preferredLanguage",
];

/// The profile properties of a remote client's user.
pub const CONTACT_PROPERTIES: [&str; 3] = ["displayName", "mail", "userPrincipalName"];

/// The permission that `/me` needs.
pub const PROFILE_SCOPE: &str = "User.Read";

/// The scope to request a token with, qualified by the resource as Entra wants it.
pub fn profile_scope(env: &EntraWorld<'_>) -> String {
    format!("{}/{PROFILE_SCOPE}", env.settings.graph_resource)
}

/// Reads the profile of the user whom the tokens are for.
pub async fn read<S: TokenSource + ?Sized>(
    env: &EntraWorld<'_>,
    tokens: &S,
) -> Result<(Value, S::Token), GraphError<S::Error>> {
    let path = format!("/me?$select={}", PROFILE_PROPERTIES.join(","));
    let (profile, token) = client::get(env, tokens, &path).await?;
    // What the output schema promises.
    if !profile.get("id").is_some_and(Value::is_string) {
        return Err(GraphError::Malformed(Evidence::default()));
    }
    Ok((profile, token))
}

/// Reads the profile of a remote client's user, from the cache if it is fresh enough: the whole profile, as JSON. The
/// cache belongs to one user of one tenant, whichever client asks.
pub async fn whole(env: &EntraWorld<'_>, who: Identity<'_>, tokens: &Source<'_>) -> Result<String, GraphError> {
    once(env, &user_record(env, "profile-of", who, &PROFILE_PROPERTIES), async || {
        Ok(read(env, tokens).await?.0.to_string())
    })
    .await
}

/// Reads how a user is called and reached, from the cache if it is fresh enough: an object with
/// [`CONTACT_PROPERTIES`], as JSON. The cache belongs to one user of one tenant, whichever client asks.
pub async fn contact(env: &EntraWorld<'_>, who: Identity<'_>, tokens: &Source<'_>) -> Result<String, GraphError> {
    once(env, &contact_record(env, who), async || {
        let path = format!("/me?$select={}", CONTACT_PROPERTIES.join(","));
        let (profile, _) = client::get(env, tokens, &path).await?;
        let contact = contact_of(&profile).ok_or_else(|| GraphError::Malformed(Evidence::default()))?;
        Ok(contact.to_string())
    })
    .await
}

/// What is in the record, or else what `read` reads, which is then kept there for as long as the settings say.
async fn once(
    env: &EntraWorld<'_>,
    record: &str,
    read: impl AsyncFnOnce() -> Result<String, GraphError>,
) -> Result<String, GraphError> {
    let lifetime = env.settings.profile_cache;
    if !lifetime.is_zero()
        && let Ok(Some(cached)) = env.store.get(record)
        && let Ok(cached) = std::str::from_utf8(cached.reveal())
    {
        return Ok(cached.to_owned());
    }
    let answer = read().await?;
    if !lifetime.is_zero() {
        // A cache that cannot be written costs a request, not the answer.
        let _ = env.store.put(record, answer.as_bytes(), Some(lifetime));
    }
    Ok(answer)
}

/// Keeps what [`contact`] answers, without asking.
#[cfg(any(test, feature = "testing"))]
pub fn remember(env: &EntraWorld<'_>, who: Identity<'_>, contact: &str) {
    let record = contact_record(env, who);
    let _ = env.store.put(&record, contact.as_bytes(), Some(env.settings.profile_cache));
}

/// What the output schema promises, and nothing else that Graph may have said.
fn contact_of(profile: &Value) -> Option<Value> {
    let mut contact = Map::new();
    for name in CONTACT_PROPERTIES {
        let value = profile.get(name).unwrap_or(&Value::Null);
        if !value.is_string() && !value.is_null() {
            return None;
        }
        contact.insert(name.to_owned(), value.clone());
    }
    Some(Value::Object(contact))
}

fn contact_record(env: &EntraWorld<'_>, who: Identity<'_>) -> String {
    user_record(env, "contact", who, &CONTACT_PROPERTIES)
}

/// The tenant and the object are GUIDs of a validated token: they contain no slash, so no two users share a record.
fn user_record(env: &EntraWorld<'_>, kind: &str, who: Identity<'_>, properties: &[&str]) -> String {
    let (graph, application) = (&env.settings.graph, &env.settings.client_id);
    let Identity { tenant_id: tenant, object_id: object, .. } = who;
    [kind, graph, application, tenant, object, &properties.join(",")].join("/")
}
