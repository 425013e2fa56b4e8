//! What Entra ID says of the person behind a session: application roles and groups.
//!
//! They are claims of the ID token that came with the sign-in, and of those that come when Entra's tokens are refreshed.
//! A session carries them, so that a request needs no other record.

use serde::{Deserialize, Serialize};

use super::Owner;
use crate::environment::Environment;
use crate::secret::Secret;
use crate::token::{self, Groups, IdTokenExpectations, ValidatedIdToken};

/// A client that refreshes its session is told anew what its user is, unless that is not older than this, in seconds.
/// With the life of an access token (3600 s) it is the longest that a role may outlive its removal: 90 minutes, as long
/// as Entra's own access tokens live.
pub(super) const RECENT_SECONDS: u64 = 1800;

/// Groups that are kept, the number that Entra ID puts into a token; Microsoft Graph is asked for more.
const MAX_GROUPS: usize = 200;

/// Roles and groups of a person. Bounded by the ID token that they are from, which has 16 KiB at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Application roles.
    pub roles: Vec<String>,
    /// Groups, or that they did not fit.
    pub groups: Groups,
    /// When the ID token was accepted, in Unix seconds. Zero if none ever was, and then there are no roles and groups.
    as_of: u64,
}

impl Membership {
    /// What an ID token says.
    pub fn of(env: &Environment, token: &ValidatedIdToken) -> Self {
        let groups = match token.groups() {
            Groups::Listed(groups) if groups.len() > MAX_GROUPS => Groups::Overage,
            groups => groups.clone(),
        };
        Self { roles: token.roles().to_vec(), groups, as_of: env.clock.now() }
    }

    /// With these roles and groups, accepted at this time.
    #[cfg(test)]
    pub(crate) fn at(as_of: u64, roles: &[&str], groups: Groups) -> Self {
        Self { roles: roles.iter().map(|role| (*role).to_owned()).collect(), groups, as_of }
    }

    /// Whether this was said lately. What was said in the future was said before the clock was set back.
    pub(super) fn is_recent(&self, now: u64) -> bool {
        (self.as_of..self.as_of.saturating_add(RECENT_SECONDS)).contains(&now)
    }

    /// What the ID token of a refresh says. One that is refused, or is somebody else's, takes roles and groups away;
    /// where there is none, or it cannot be judged now, they stay as they are.
    pub(super) async fn renewed(self, env: &Environment, owner: &Owner, id_token: Option<&Secret<String>>) -> Self {
        let Some(id_token) = id_token else { return self };
        let expected = IdTokenExpectations { nonce: None };
        match token::validate_id_token(env, id_token.reveal(), &expected).await {
            Ok(token) if token.tenant_id() == owner.tenant_id && token.object_id() == owner.object_id => {
                Self::of(env, &token)
            }
            Err(error) if !error.is_refusal() => self,
            _ => Self::default(),
        }
    }
}
