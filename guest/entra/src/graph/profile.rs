//! The profile of the signed-in user: `GET /me`.

use base::Identity;
use serde_json::{Map, Value};
use world::records::{Namespace, Partition, Ttl};

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

/// Whole profiles as JSON, by the address of Graph, application, tenant, object and properties.
const PROFILES: Namespace<String> = Namespace::text(Partition::Store, "profile-of", Ttl::Kept).absent_if_malformed();
/// How users are called and reached, in the same way.
const CONTACTS: Namespace<String> = Namespace::text(Partition::Store, "contact", Ttl::Kept).absent_if_malformed();

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
    cached(env, &PROFILES, who, &PROFILE_PROPERTIES, async || Ok(read(env, tokens).await?.0.to_string())).await
}

/// Reads how a user is called and reached, from the cache if it is fresh enough: an object with
/// [`CONTACT_PROPERTIES`], as JSON. The cache belongs to one user of one tenant, whichever client asks.
pub async fn contact(env: &EntraWorld<'_>, who: Identity<'_>, tokens: &Source<'_>) -> Result<String, GraphError> {
    cached(env, &CONTACTS, who, &CONTACT_PROPERTIES, async || {
        let path = format!("/me?$select={}", CONTACT_PROPERTIES.join(","));
        let (profile, _) = client::get(env, tokens, &path).await?;
        let contact = contact_of(&profile).ok_or_else(|| GraphError::Malformed(Evidence::default()))?;
        Ok(contact.to_string())
    })
    .await
}

/// What is in the record, or else what `read` reads, which is then kept there for as long as the settings say. The tenant
/// and the object are GUIDs of a validated token: they contain no slash, so no two users share a record.
async fn cached(
    env: &EntraWorld<'_>,
    records: &Namespace<String>,
    who: Identity<'_>,
    properties: &[&str],
    read: impl AsyncFnOnce() -> Result<String, GraphError>,
) -> Result<String, GraphError> {
    let lifetime = env.settings.profile_cache;
    if lifetime.is_zero() {
        return read().await;
    }
    let properties = properties.join(",");
    let key = user(env, who, &properties);
    if let Ok(Some(cached)) = env.records.get(records, &key).await {
        return Ok(cached);
    }
    let answer = read().await?;
    // A cache that cannot be written costs a request, not the answer.
    let _ = env.records.put(&records.kept_for(lifetime), &key, &answer).await;
    Ok(answer)
}

/// Which of [`PROFILES`] or [`CONTACTS`].
fn user<'k>(env: &EntraWorld<'k>, who: Identity<'k>, properties: &'k str) -> [&'k str; 5] {
    let Identity { tenant_id, object_id, .. } = who;
    [&env.settings.graph, &env.settings.client_id, tenant_id, object_id, properties]
}

/// Keeps what [`contact`] answers, without asking.
#[cfg(any(test, feature = "testing"))]
pub async fn remember(env: &EntraWorld<'_>, who: Identity<'_>, contact: &str) {
    let contacts = CONTACTS.kept_for(env.settings.profile_cache);
    let _ = env.records.put(&contacts, &user(env, who, &CONTACT_PROPERTIES.join(",")), &contact.to_owned()).await;
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
