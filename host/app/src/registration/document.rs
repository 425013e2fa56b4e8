//! A registration as Graph shows it, as far as this program has a use for it.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The properties that are asked for.
pub(crate) const SELECTED: &str = "?$select=id,appId,displayName,createdDateTime,identifierUris,isFallbackPublicClient,\
                                   publicClient,web,api,appRoles,groupMembershipClaims,optionalClaims,\
                                   requiredResourceAccess,keyCredentials,passwordCredentials";

/// A registration. Lists are kept as they are, because a list that is written replaces the one before.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RegistrationDocument {
    /// The object id, which is not the application's id.
    pub(crate) id: String,
    pub(crate) app_id: String,
    pub(crate) display_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) created_date_time: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) identifier_uris: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) is_fallback_public_client: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) public_client: Platform,
    #[serde(deserialize_with = "or_default")]
    pub(crate) web: Platform,
    #[serde(deserialize_with = "or_default")]
    pub(crate) api: Api,
    #[serde(deserialize_with = "or_default")]
    pub(crate) app_roles: Vec<Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) group_membership_claims: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) optional_claims: Value,
    #[serde(deserialize_with = "or_default")]
    pub(crate) required_resource_access: Vec<Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) key_credentials: Vec<Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) password_credentials: Vec<Value>,
}

/// The redirect URIs of one kind of client.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Platform {
    #[serde(deserialize_with = "or_default")]
    pub(crate) redirect_uris: Vec<String>,
}

/// What the application offers clients.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Api {
    pub(crate) requested_access_token_version: Option<u8>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) oauth2_permission_scopes: Vec<Value>,
}

/// Graph writes `null` for what is not set.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The entry whose `value` this is.
pub(crate) fn entry<'a>(entries: &'a [Value], value: &str) -> Option<&'a Value> {
    entries.iter().find(|entry| entry.get("value").and_then(Value::as_str) == Some(value))
}

/// Whether an entry is in force.
pub(crate) fn is_enabled(entry: &Value) -> bool {
    entry.get("isEnabled").and_then(Value::as_bool) != Some(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_set_is_empty() {
        let bare = json!({ "id": "o", "appId": "a", "displayName": "n", "web": null, "api": null, "appRoles": null });
        let document: RegistrationDocument = serde_json::from_value(bare).unwrap();
        let named = ["o", "a", "n"].map(str::to_owned);
        let [id, app_id, display_name] = named;
        assert_eq!(document, RegistrationDocument { id, app_id, display_name, ..RegistrationDocument::default() });
    }
}
