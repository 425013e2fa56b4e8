//! What a single call requires of a token that is otherwise accepted.

use async_trait::async_trait;
use base::principal::{CallerKind, Groups, Principal};
use world::once::Failure;

use super::error::TokenError;
use crate::entra_world::EntraWorld;

/// All of these have to hold; the default requires nothing more than an accepted token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Every one of these scopes, in the short form of `scp`. An application has no scopes.
    pub all_scopes: Vec<String>,
    /// At least one of these roles.
    pub any_role: Vec<String>,
    /// Membership in at least one of these groups, by object id.
    pub any_group: Vec<String>,
    /// Only people, only applications, or only AI agents.
    pub kind: Option<CallerKind>,
    /// Only tokens obtained by one of these applications.
    pub any_client: Vec<String>,
}

/// Asks Microsoft Graph for the groups that did not fit into a token.
#[async_trait(?Send)]
pub trait GroupResolver {
    /// Object ids of all groups the principal is in, transitively; the reason of a failure is for the log. The resolver
    /// uses a token that was issued to the server (on behalf of, or app-only), never the one that is being validated.
    async fn groups(&self, env: &EntraWorld<'_>, principal: &Principal) -> Result<Vec<String>, Failure>;
}

impl Requirements {
    /// Checks what the token itself shows. Everything is compared exactly.
    pub(super) async fn check(
        &self,
        env: &EntraWorld<'_>,
        principal: &Principal,
        resolver: Option<&dyn GroupResolver>,
    ) -> Result<(), TokenError> {
        let actual = principal.caller_kind();
        if let Some(required) = self.kind.filter(|required| *required != actual) {
            return Err(TokenError::PrincipalKindMismatch { required, actual });
        }
        if !self.any_client.is_empty() && !self.any_client.contains(&principal.client_id) {
            return Err(TokenError::ClientNotAllowed {
                expected: self.any_client.clone(),
                actual: principal.client_id.clone(),
            });
        }
        let missing: Vec<String> =
            self.all_scopes.iter().filter(|scope| !principal.scopes.contains(scope)).cloned().collect();
        if !missing.is_empty() {
            return Err(TokenError::ScopesMissing { required: self.all_scopes.clone(), missing });
        }
        if !self.any_role.is_empty() && !self.any_role.iter().any(|role| principal.roles.contains(role)) {
            return Err(TokenError::RolesMissing { any_of: self.any_role.clone() });
        }
        if self.any_group.is_empty() {
            return Ok(());
        }
        let resolved;
        let groups: &[String] = match &principal.groups {
            Groups::Absent => &[],
            Groups::Listed(groups) => groups,
            Groups::Overage => {
                let Some(resolver) = resolver else {
                    let reason = "the token's groups are in overage and nothing resolves them".to_owned();
                    return Err(TokenError::GroupsUnavailable { reason, retry_after: None });
                };
                resolved = resolver.groups(env, principal).await.map_err(|failure| {
                    let now = env.clock.now();
                    let retry_after = failure.retry_at.map(|at| at.saturating_sub(now).max(1));
                    TokenError::GroupsUnavailable { reason: failure.reason, retry_after }
                })?;
                &resolved
            }
        };
        if self.any_group.iter().any(|group| groups.contains(group)) {
            Ok(())
        } else {
            Err(TokenError::GroupsMissing { any_of: self.any_group.clone() })
        }
    }
}
