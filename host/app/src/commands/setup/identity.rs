//! The managed identity that the application shall trust: which one it is, and how the server has to name it.
//!
//! Entra ID knows it by its object id, which is the subject of its tokens. The service of the machine gives the token of the
//! machine's own identity, unless a client id names one that a person has assigned to it.

use serde_json::Value;

use super::error::SetupError;
use super::{READS_APPLICATIONS, text};
use crate::config::SetupConfig;
use crate::console;
use crate::registration::graph::Graph;

/// What `alternativeNames` has for an identity that a person has made (user-assigned).
const USER_ASSIGNED: &str = "isExplicit=True";

/// A managed identity.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IdentityToServe {
    /// Its object id, as Entra ID writes it.
    pub(super) object_id: String,
    /// Its client id, if the server has to name it.
    client_id: Option<String>,
    /// What else it is called, such as the id of the resource in Azure.
    names: Vec<String>,
}

impl IdentityToServe {
    /// Asks Graph for the identity with this object id.
    pub(super) async fn find(graph: &Graph<'_>, object_id: &str, tenant: &str) -> Result<Self, SetupError> {
        let missing = || SetupError::NoIdentity { id: object_id.to_owned(), tenant: tenant.to_owned() };
        // It goes into a path.
        if !object_id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(missing());
        }
        let path = format!("/servicePrincipals/{object_id}?$select=id,appId,servicePrincipalType,alternativeNames");
        let read = SetupError::during("read the managed identity", READS_APPLICATIONS);
        let found = graph.find(&path).await.map_err(read)?;
        found.as_ref().and_then(Self::of).ok_or_else(missing)
    }

    /// `None` for the service principal of anything else.
    fn of(principal: &Value) -> Option<Self> {
        if text(principal, "servicePrincipalType") != "ManagedIdentity" {
            return None;
        }
        let names = principal.get("alternativeNames").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<_> = names.filter_map(Value::as_str).map(str::to_owned).collect();
        let is_user_assigned = names.iter().any(|name| name == USER_ASSIGNED);
        let client_id = is_user_assigned.then(|| text(principal, "appId"));
        Some(Self { object_id: text(principal, "id"), client_id, names })
    }

    /// Lets the configuration name it, unless it does already.
    pub(super) fn configure(&self, config: &mut SetupConfig) {
        let is_it = |id: &String| {
            let names = self.client_id.iter().chain(&self.names);
            names.into_iter().any(|name| name.eq_ignore_ascii_case(id))
        };
        match (&self.client_id, &config.managed_identity) {
            (_, Some(known)) if is_it(known) => {}
            (Some(client_id), _) => config.given.push(("managed-identity-id", client_id.as_str().into())),
            (None, Some(other)) => console::notice(&format!(
                "The server asks for the managed identity {other}, and this one is the machine's own: remove \
                 managed-identity-id from the configuration."
            )),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_identity_that_a_person_has_made_is_named_by_its_client_id() {
        let principal = |kind: &str, explicit: &str| {
            let names = [format!("isExplicit={explicit}"), "/subscriptions/0/mcp".to_owned()];
            json!({ "id": "o", "appId": "a", "servicePrincipalType": kind, "alternativeNames": names })
        };
        let client_id = |principal: &Value| IdentityToServe::of(principal).map(|identity| identity.client_id);
        assert_eq!(client_id(&principal("ManagedIdentity", "True")), Some(Some("a".to_owned())));
        assert_eq!(client_id(&principal("ManagedIdentity", "False")), Some(None));
        assert_eq!(client_id(&principal("Application", "True")), None);
    }
}
