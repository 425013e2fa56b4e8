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

    /// Whether it names roles or groups, which may be taken away. Groups that Graph is asked for are asked for anew.
    pub(super) fn names_something(&self) -> bool {
        !self.roles.is_empty() || matches!(&self.groups, Groups::Listed(groups) if !groups.is_empty())
    }

    /// Whether this may take the place of `other`: it was not said before it, or says that nothing is left.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.as_of >= other.as_of || *self == Self::default()
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::environment::HttpError;
    use crate::environment::fake::{TENANT, run};
    use crate::token::testing::{FakeAuthority, GROUP, OBJECT, OTHER_TENANT, TestKey, header, id_claims, sign, with};

    fn owner() -> Owner {
        Owner { client_id: "client".to_owned(), tenant_id: TENANT.to_owned(), object_id: OBJECT.to_owned() }
    }

    /// What a person with the role `Old` becomes by the ID token of a refresh.
    fn renewed(authority: &FakeAuthority, changes: Value) -> Membership {
        let claims = with(with(id_claims("n"), json!({ "nonce": null, "roles": ["New"], "groups": [GROUP] })), changes);
        let token = Secret::new(sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa")));
        run(old().renewed(&authority.env, &owner(), Some(&token)))
    }

    fn old() -> Membership {
        Membership::at(1, &["Old"], Groups::Absent)
    }

    #[test]
    fn the_id_token_of_a_refresh_says_what_the_person_is_now() {
        let authority = FakeAuthority::new();
        let now = authority.env.clock.now();
        let groups = |groups: &[&str]| Groups::Listed(groups.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(renewed(&authority, json!({})), Membership::at(now, &["New"], groups(&[GROUP])));
        let nothing = json!({ "roles": null, "groups": null });
        assert_eq!(renewed(&authority, nothing), Membership::at(now, &[], Groups::Absent));
        let overage = json!({ "groups": null, "_claim_names": { "groups": "src1" } });
        assert_eq!(renewed(&authority, overage).groups, Groups::Overage);
        for (count, kept) in [(MAX_GROUPS, groups(&vec![GROUP; MAX_GROUPS])), (MAX_GROUPS + 1, Groups::Overage)] {
            assert_eq!(renewed(&authority, json!({ "groups": vec![GROUP; count] })).groups, kept);
        }
    }

    #[test]
    fn an_id_token_that_is_refused_or_somebody_elses_takes_roles_away() {
        let authority = FakeAuthority::new();
        for changes in [
            json!({ "oid": OTHER_TENANT }),
            json!({ "tid": OTHER_TENANT }),
            json!({ "aud": OTHER_TENANT }),
            json!({ "nonce": "n" }),
            json!({ "exp": 1 }),
        ] {
            assert_eq!(renewed(&authority, changes.clone()), Membership::default(), "{changes}");
        }
    }

    #[test]
    fn without_an_id_token_that_can_be_judged_everything_stays_and_is_asked_for_again() {
        let authority = FakeAuthority::new();
        assert_eq!(run(old().renewed(&authority.env, &owner(), None)), old());
        *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
        assert_eq!(renewed(&authority, json!({})), old());
        assert!(!old().is_recent(authority.env.clock.now()));
    }

    #[test]
    fn what_was_said_is_recent_for_half_an_hour_and_never_before_it_was_said() {
        let said = Membership::at(10_000, &[], Groups::Absent);
        let recent = [9_999, 10_000, 11_799, 11_800].map(|now| said.is_recent(now));
        assert_eq!(recent, [false, true, true, false]);
        assert!(!Membership::default().is_recent(RECENT_SECONDS));
    }
}
