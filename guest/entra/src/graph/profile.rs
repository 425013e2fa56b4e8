//! The profile of the signed-in user: `GET /me`.

use std::error::Error;

use base::Identity;
use base::settings::Settings;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use world::records::{Namespace, Partition, Ttl};

use super::client::{self, Source};
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

/// How a user is called and reached: what [`contact`] answers, for its schema. Graph answers `null` for what is not filled
/// in.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    display_name: Option<String>,
    mail: Option<String>,
    user_principal_name: Option<String>,
}

/// Graph's `user` as far as it is asked for: what [`whole`] answers, for its schema. Graph answers `null` for what is not
/// filled in.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    surname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_principal_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    office_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile_phone: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    business_phones: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_language: Option<String>,
}

/// Whole profiles as JSON, by the address of Graph, application, tenant, object and properties.
const PROFILES: Namespace<String> = Namespace::text(Partition::Store, "profile-of", Ttl::Kept).absent_if_malformed();
/// How users are called and reached, in the same way.
const CONTACTS: Namespace<String> = Namespace::text(Partition::Store, "contact", Ttl::Kept).absent_if_malformed();

/// The permission that `/me` needs.
pub const PROFILE_SCOPE: &str = "User.Read";

/// The scope to request a token with, qualified by the resource as Entra ID wants it.
pub fn profile_scope(settings: &Settings) -> String {
    format!("{}/{PROFILE_SCOPE}", settings.graph_resource)
}

/// Whether a scope, in the qualified form, is one of Graph: the resource that people sign in for. Of several scopes in one
/// text, which are of one resource, the first one says it.
pub fn is_of_graph(settings: &Settings, scope: &str) -> bool {
    scope.strip_prefix(settings.graph_resource.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

/// Reads the profile of the user that the tokens are for.
pub async fn read<E: Error + 'static>(env: &EntraWorld<'_>, tokens: &Source<'_, E>) -> Result<Value, GraphError<E>> {
    let path = format!("/me?$select={}", PROFILE_PROPERTIES.join(","));
    let profile = client::get(env, tokens, &path).await?;
    // What the output schema promises.
    if !profile.get("id").is_some_and(Value::is_string) {
        return Err(GraphError::Malformed(Evidence::default()));
    }
    Ok(profile)
}

/// Reads the profile of a remote client's user, from the cache if it is fresh enough: the whole profile, as JSON. The
/// cache belongs to one user of one tenant, whichever client asks.
pub async fn whole<E: Error + 'static>(
    env: &EntraWorld<'_>,
    who: Identity<'_>,
    tokens: &Source<'_, E>,
) -> Result<String, GraphError<E>> {
    cached(env, &PROFILES, who, &PROFILE_PROPERTIES, async || Ok(read(env, tokens).await?.to_string())).await
}

/// Reads how a user is called and reached, from the cache if it is fresh enough: an object with
/// [`CONTACT_PROPERTIES`], as JSON. The cache belongs to one user of one tenant, whichever client asks.
pub async fn contact<E: Error + 'static>(
    env: &EntraWorld<'_>,
    who: Identity<'_>,
    tokens: &Source<'_, E>,
) -> Result<String, GraphError<E>> {
    cached(env, &CONTACTS, who, &CONTACT_PROPERTIES, async || {
        let path = format!("/me?$select={}", CONTACT_PROPERTIES.join(","));
        let profile = client::get(env, tokens, &path).await?;
        let contact = contact_of(&profile).ok_or_else(|| GraphError::Malformed(Evidence::default()))?;
        Ok(contact.to_string())
    })
    .await
}

/// What is in the record, or else what `read` reads, which is then kept there for as long as the settings say. The tenant
/// and the object are GUIDs of a validated token: they contain no slash, so no two users share a record.
async fn cached<E: Error + 'static>(
    env: &EntraWorld<'_>,
    records: &Namespace<String>,
    who: Identity<'_>,
    properties: &[&str],
    read: impl AsyncFnOnce() -> Result<String, GraphError<E>>,
) -> Result<String, GraphError<E>> {
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
