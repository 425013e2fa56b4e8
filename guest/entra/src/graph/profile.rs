//! The profile of the signed-in user: `GET /me`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::{self, Bearer, TokenSource};
use super::error::{Evidence, GraphError};
use crate::environment::Environment;
use crate::identity::Identity;
use crate::secret::Secret;
use crate::sign_in::accounts;
use crate::sign_in::silent::AccessToken;

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
pub fn profile_scope(env: &Environment) -> String {
    format!("{}/{PROFILE_SCOPE}", env.settings.graph_resource)
}

#[derive(Serialize, Deserialize)]
struct Cached {
    /// Unix time in seconds.
    read_at: u64,
    profile: Value,
}

/// Reads the profile, from the cache if it is fresh enough. The cache belongs to one account.
pub async fn me(
    env: &Environment,
    tokens: &dyn TokenSource<Token = AccessToken>,
    account: Option<&str>,
) -> Result<Value, GraphError> {
    let lifetime = env.settings.profile_cache;
    if let Some(profile) = account.and_then(|account| cached(env, account, lifetime)) {
        return Ok(profile);
    }
    let (profile, token) = read_profile(env, tokens).await?;
    if !lifetime.is_zero() {
        let entry = Cached { read_at: env.clock.now(), profile: profile.clone() };
        if let Ok(bytes) = serde_json::to_vec(&entry) {
            // A cache that cannot be written costs a request, not the answer.
            let record = accounts::profile_record(env, &token.account.home_account_id);
            let _ = env.store.put(&record, &bytes, Some(lifetime));
        }
    }
    Ok(profile)
}

async fn read_profile<T: Bearer>(
    env: &Environment,
    tokens: &dyn TokenSource<Token = T>,
) -> Result<(Value, T), GraphError> {
    let path = format!("/me?$select={}", PROFILE_PROPERTIES.join(","));
    let (profile, token) = client::get(env, tokens, &path).await?;
    // What the output schema promises.
    if !profile.get("id").is_some_and(Value::is_string) {
        return Err(GraphError::Malformed(Evidence::default()));
    }
    Ok((profile, token))
}

fn cached(env: &Environment, account: &str, lifetime: Duration) -> Option<Value> {
    if lifetime.is_zero() {
        return None;
    }
    let raw = env.store.get(&accounts::profile_record(env, account)).ok()??;
    let cached: Cached = serde_json::from_slice(raw.reveal()).ok()?;
    (env.clock.now().saturating_sub(cached.read_at) < lifetime.as_secs()).then_some(cached.profile)
}

/// Reads the profile of a remote client's user, from the cache if it is fresh enough: what [`me`] reads, as JSON. The
/// cache belongs to one user of one tenant, whichever client asks.
pub async fn whole(
    env: &Environment,
    who: Identity<'_>,
    tokens: &dyn TokenSource<Token = Secret<String>>,
) -> Result<String, GraphError> {
    once(env, &user_record(env, "profile-of", who, &PROFILE_PROPERTIES), async || {
        Ok(read_profile(env, tokens).await?.0.to_string())
    })
    .await
}

/// Reads how a user is called and reached, from the cache if it is fresh enough: an object with
/// [`CONTACT_PROPERTIES`], as JSON. The cache belongs to one user of one tenant, whichever client asks.
pub async fn contact(
    env: &Environment,
    who: Identity<'_>,
    tokens: &dyn TokenSource<Token = Secret<String>>,
) -> Result<String, GraphError> {
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
    env: &Environment,
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
#[cfg(test)]
pub(crate) fn remember(env: &Environment, who: Identity<'_>, contact: &str) {
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

fn contact_record(env: &Environment, who: Identity<'_>) -> String {
    user_record(env, "contact", who, &CONTACT_PROPERTIES)
}

/// The tenant and the object are GUIDs of a validated token: they contain no slash, so no two users share a record.
fn user_record(env: &Environment, kind: &str, who: Identity<'_>, properties: &[&str]) -> String {
    let (graph, application) = (&env.settings.graph, &env.settings.client_id);
    let Identity { tenant_id: tenant, object_id: object, .. } = who;
    [kind, graph, application, tenant, object, &properties.join(",")].join("/")
}
