//! The groups of a user whose token does not list them: `POST /users/{id}/getMemberObjects`.
//!
//! Graph is asked with a token of the application in the user's own tenant, at the configured address. The token
//! that is being validated is not sent anywhere, and the address that it names for its groups is not looked at.
//!
//! Threat: whoever has a genuine token decides how often a validation asks. Answers are remembered for five minutes
//! and failures for five seconds, in the store, and one call asks while the others wait.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::app_token::AppTokens;
use super::client;
use super::error::{Evidence, GraphError};
use crate::entra::tenants::is_guid;
use crate::environment::{ClientType, Environment};
use crate::single_flight::{self, Answer};
use crate::token::{GroupResolver, Principal, PrincipalKind};

/// How long an answer is remembered, and with it how long a change of membership may go unnoticed.
const CACHE: Duration = Duration::from_secs(300);

/// The most that Graph lists; for a user in more groups it answers with an error. The answer then has 430 KB, the
/// record 176 KB: below the limits of a response (1 MiB) and of a record (256 KiB).
const MAX_GROUPS: usize = 11_000;

/// Asks Graph as the application.
struct Membership;

/// How groups in overage are resolved: not at all by a public client, which has no token of its own.
pub fn resolver(env: &Environment) -> Option<&'static dyn GroupResolver> {
    match env.settings.client_type {
        ClientType::Public => None,
        ClientType::Confidential => Some(&Membership),
    }
}

#[async_trait(?Send)]
impl GroupResolver for Membership {
    async fn groups(&self, env: &Environment, principal: &Principal) -> Result<Vec<String>, String> {
        let Principal { tenant_id, object_id, kind, .. } = principal;
        if *kind != PrincipalKind::User {
            return Err("the groups of an application are not resolved".to_owned());
        }
        // Both become parts of a URL. The validation has checked them; this is where it matters.
        if !is_guid(tenant_id) || !is_guid(object_id) {
            return Err("the principal is not identified by GUIDs".to_owned());
        }
        let settings = &env.settings;
        let record = format!("groups/{}/{}/{tenant_id}/{object_id}", settings.graph, settings.client_id);
        let groups =
            single_flight::ask_once(env, &record, |_: &GroupIds| true, async || ask(env, tenant_id, object_id).await);
        Ok(groups.await?.0)
    }
}

async fn ask(env: &Environment, tenant_id: &str, object_id: &str) -> Result<GroupIds, GraphError> {
    #[derive(Deserialize)]
    struct Page {
        value: Vec<String>,
        #[serde(rename = "@odata.nextLink")]
        next: Option<serde::de::IgnoredAny>,
    }
    let tokens = AppTokens { env, tenant: tenant_id };
    let path = format!("/users/{object_id}/getMemberObjects");
    let (answer, _) = client::post_read_only(env, &tokens, &path, &json!({ "securityEnabledOnly": true })).await?;
    let malformed = || GraphError::Malformed(Evidence::default());
    let page = Page::deserialize(answer).map_err(|_| malformed())?;
    // Graph documents one whole answer. A part of it would say of the rest that it is not there.
    if page.next.is_some() || page.value.len() > MAX_GROUPS || !page.value.iter().all(|id| is_guid(id)) {
        return Err(malformed());
    }
    Ok(GroupIds(page.value))
}

/// Object ids, stored as 16 bytes each: as text they would not fit into a record.
#[derive(Debug, PartialEq, Eq)]
struct GroupIds(Vec<String>);

impl Answer for GroupIds {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let ids = self.0.iter().filter_map(|id| u128::from_str_radix(&id.replace('-', ""), 16).ok());
        Zeroizing::new(ids.flat_map(u128::to_be_bytes).collect())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ids, rest) = bytes.as_chunks::<16>();
        rest.is_empty().then(|| Self(ids.iter().map(|id| guid(u128::from_be_bytes(*id))).collect()))
    }

    fn lifetime(&self, _: &Environment) -> Duration {
        CACHE
    }
}

fn guid(id: u128) -> String {
    let part = |from: u32, bits: u32| (id >> from) & ((1 << bits) - 1);
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", part(96, 32), part(80, 16), part(64, 16), part(48, 16), part(0, 48))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::fake::TENANT;
    use crate::token::testing::{GROUP, OBJECT};

    #[test]
    fn stored_ids_are_the_ids_that_were_stored() {
        let ids = GroupIds([GROUP, TENANT, OBJECT, "00000000-0000-0000-0000-000000000001"].map(str::to_owned).into());
        let bytes = ids.to_bytes();
        assert_eq!(bytes.len(), 64);
        assert_eq!(GroupIds::from_bytes(&bytes), Some(ids));
        assert_eq!(GroupIds::from_bytes(&bytes[1..]), None);
    }
}
