//! The groups that the signed-in user is in, directly or through other groups.

use std::error::Error;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::Source;
use super::collection::{self, CollectionBounds, Query};
use super::error::{Evidence, GraphError};
use crate::entra_world::EntraWorld;

/// The permission that the names of groups need. With less, Graph answers with ids only.
pub const GROUPS_PERMISSION: &str = "GroupMember.Read.All";
/// Groups in one page: few requests for most people, and far below the limit of an answer (1 MiB).
const PAGE: usize = 250;
/// Groups in an answer. More than that no model reads; Graph has up to 11,000 for a user.
pub const MAX_GROUPS: usize = 500;
/// Requests for one answer: twice what full pages need.
const MAX_PAGES: usize = 4;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Object id.
    pub id: String,
    /// Null where the user may not see it.
    #[serde(rename = "displayName")]
    pub display_name: Option<String>,
}

/// What is known of a user's groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Memberships {
    /// The first of them.
    #[schemars(length(max = MAX_GROUPS))]
    pub groups: Vec<Group>,
    /// There are more than these.
    pub truncated: bool,
}

/// Reads the groups of the user that the tokens are for.
pub async fn of_user<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
) -> Result<Memberships, GraphError<E>> {
    // Without the cast there would be directory roles and administrative units as well. A cast is an advanced query,
    // which needs `$count`.
    let path = format!("/me/transitiveMemberOf/microsoft.graph.group?$select=id,displayName&$count=true&$top={PAGE}");
    let bounds = CollectionBounds { items: MAX_GROUPS, pages: MAX_PAGES };
    let found = collection::read(env, tokens, &path, Query::Advanced, bounds).await?;
    let groups = found.items.into_iter().map(Group::deserialize).collect::<Result<_, _>>();
    let groups = groups.map_err(|_| GraphError::Malformed(Evidence::default()))?;
    Ok(Memberships { groups, truncated: found.truncated })
}
