//! What Entra ID says of the person behind a session: application roles, groups, and authentication contexts.
//!
//! They are claims of the ID token that came with the sign-in, and of those that come when the tokens of Entra ID are
//! refreshed. A session carries them, so that a request needs no other record.
//!
//! They count for [`MAX_AGE_SECONDS`]. A decision that depends on older ones asks Entra ID; while Entra ID does not
//! answer, the person's roles and groups are unknown, and such a decision admits no caller.
//!
//! Authentication contexts are what a sign-in has satisfied. They count for [`CONTEXTS_SECONDS`] from that sign-in; after that,
//! the person signs in with them again. A refresh of the tokens can take them away only.

use std::time::Duration;

use base::Secret;
use base::principal::Groups;
use entra::oauth::OAuthError;
use entra::token::{IdTokenExpectations, ValidatedIdToken};
use entra::{AcquireError, EntraWorld, token};
use serde::{Deserialize, Serialize};
use world::Clock;
use world::once::{Failure, OnceError as _, Policy, once};
use world::records::{Holder, Namespace, Partition, Ttl};

use super::entra_tokens::{self, Wanted};
use super::record::{self, CLOCK_DIFFERENCE_SECONDS};
use super::{Owner, Session, lifecycle};

/// A client that refreshes its session is told anew what its user is, unless that is not older than this, in seconds.
/// With the life of an access token (3600 s) it is the longest that a role may outlive its removal while Entra ID
/// answers: 90 minutes, as long as the access tokens of Entra ID live.
pub(super) const RECENT_SECONDS: u64 = 1800;

/// What an ID token says counts for this long, in seconds, if Entra ID is out of reach after it: four hours, so that
/// people work on through a short outage. The session itself lives on for as long as the access token of Entra ID, up
/// to 28 hours with continuous access evaluation: too long for a role that was taken away.
pub(super) const MAX_AGE_SECONDS: u64 = 4 * 3600;

/// How long a sign-in with an authentication context counts, in seconds: 90 minutes, the longest that an access token of
/// Entra ID lives, so that a client with a session is asked as often as one that brings such tokens.
pub(super) const CONTEXTS_SECONDS: u64 = 90 * 60;

/// How long an answer of Entra ID is kept for the calls that wait for it. All later ones find it in the session.
const CONFIRMED: Duration = Duration::from_secs(1);

/// How long it is remembered that Entra ID was out of reach: longer than one more question takes. Until then one call
/// at a time asks, so that an outage in which questions wait for long leaves the instances to the calls that need no
/// role.
const OUTAGE: Duration = Duration::from_secs(120);

/// How long one call may hold the right to ask in an outage: longer than a question with its retry usually takes. A call
/// that was cancelled in the middle delays the end of the outage by no more.
const ATTEMPT: Duration = Duration::from_secs(25);

/// Groups that are kept, the number that Entra ID puts into a token; Microsoft Graph is asked for more.
const MAX_GROUPS: usize = 200;

/// Roles and groups of a person, and whether they are a guest. Bounded by the ID token that they are from, which has 16
/// KiB at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Application roles.
    pub roles: Vec<String>,
    /// Groups, or that they did not fit.
    pub groups: Groups,
    /// Whether the person is a guest of the tenant. What an earlier version wrote does not say it, and counts as too old.
    #[serde(default)]
    guest: Option<bool>,
    /// Authentication contexts. What an earlier version wrote has none.
    #[serde(default)]
    contexts: Vec<String>,
    /// When the ID token of the sign-in that named them was accepted, in Unix seconds.
    #[serde(default)]
    contexts_as_of: u64,
    /// When the ID token was accepted, in Unix seconds. Zero if none ever was, and then there are no roles and groups.
    as_of: u64,
}

impl Membership {
    /// What the ID token of a sign-in says.
    pub fn of(clock: &dyn Clock, token: &ValidatedIdToken) -> Self {
        let groups = match token.groups() {
            Groups::Listed(groups) if groups.len() > MAX_GROUPS => Groups::Overage,
            groups => groups.clone(),
        };
        let now = clock.now();
        Self {
            roles: token.roles().to_vec(),
            groups,
            guest: Some(token.guest()),
            contexts: token.contexts().unwrap_or_default().to_vec(),
            contexts_as_of: now,
            as_of: now,
        }
    }

    /// The authentication contexts that the person has satisfied lately.
    pub fn contexts(&self, now: u64) -> &[String] {
        let counts = self.contexts_as_of <= now.saturating_add(CLOCK_DIFFERENCE_SECONDS)
            && now < self.contexts_as_of.saturating_add(CONTEXTS_SECONDS);
        if counts { &self.contexts } else { &[] }
    }

    /// With these authentication contexts, named at this time.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_contexts(self, as_of: u64, contexts: &[&str]) -> Self {
        let contexts = contexts.iter().map(|context| (*context).to_owned()).collect();
        Self { contexts, contexts_as_of: as_of, ..self }
    }

    /// Whether the person is a guest of the tenant. So is a person of whom that is not known.
    pub fn is_guest(&self) -> bool {
        self.guest.unwrap_or(true)
    }

    /// With these roles and groups, accepted at this time.
    #[cfg(any(test, feature = "testing"))]
    pub fn at(as_of: u64, roles: &[&str], groups: Groups) -> Self {
        Self {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            groups,
            guest: Some(false),
            as_of,
            ..Self::default()
        }
    }

    /// The same of a guest.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn of_a_guest(self) -> Self {
        Self { guest: Some(true), ..self }
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

    /// Whether this is not too old to decide by. Another server's clock may be a little ahead; what was said later than
    /// that was said before the clock was set back, and how old it is cannot be said.
    pub fn counts(&self, now: u64) -> bool {
        self.guest.is_some()
            && self.as_of <= now.saturating_add(CLOCK_DIFFERENCE_SECONDS)
            && now < self.as_of.saturating_add(MAX_AGE_SECONDS)
    }

    /// What the ID token of a refresh says. One that is refused, or belongs to another person, takes roles and groups
    /// away; where there is none, or it cannot be judged now, they stay as they are.
    pub(super) async fn renewed(self, env: &EntraWorld<'_>, owner: &Owner, id_token: Option<&Secret<String>>) -> Self {
        let Some(id_token) = id_token else { return self };
        let expected = IdTokenExpectations { nonce: None };
        match token::validate_id_token(env, id_token.reveal(), &expected).await {
            Ok(token) if token.tenant_id() == owner.tenant_id && token.object_id() == owner.object_id => {
                let renewed = Self::of(env.clock, &token);
                let mut contexts = self.contexts;
                // A refresh is no sign-in: what it says takes contexts away, and neither brings one nor makes one younger.
                if let Some(said) = token.contexts() {
                    contexts.retain(|context| said.contains(context));
                }
                Self { contexts, contexts_as_of: self.contexts_as_of, ..renewed }
            }
            Err(error) if !error.is_refusal() => self,
            _ => Self::default(),
        }
    }
}

/// Why it is not known what the person of a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unconfirmed {
    /// Entra ID wants the person again, and the session has ended.
    Ended,
    /// Entra ID has not said it.
    Unavailable {
        /// For the log.
        reason: String,
        /// When Entra ID may be asked again, if it has said so. Unix time in seconds.
        retry_at: Option<u64>,
    },
}

/// What Entra ID has said, by session.
const ANSWERS: Namespace<Membership> =
    Namespace::json(Partition::Application, "session-confirmed", Ttl::For(CONFIRMED)).absent_if_unreadable();
/// That Entra ID was out of reach.
const OUT_OF_REACH: Namespace<()> = Namespace::marks(Partition::Application, "entra-out-of-reach", Ttl::For(OUTAGE));
/// The right to ask nevertheless.
const ASKING: Namespace<Holder> =
    Namespace::leases(Partition::Application, "entra-out-of-reach").ending_with("/asking");

/// Asks Entra ID what the person of a session is, as what the session says does not count any more. A failure is
/// remembered for five seconds, so that a client which repeats itself is no flood at Entra ID.
pub async fn confirm(env: &EntraWorld<'_>, session: &Session) -> Result<Membership, Unconfirmed> {
    let counts = |membership: &Membership| membership.counts(env.clock.now());
    let ask = async |_| ask(env, session).await;
    let asked: Result<Membership, AcquireError> =
        once(&env.records, &ANSWERS, &session.id, &Policy::ANSWER, counts, ask).await;
    let error = match asked {
        Ok(membership) => return Ok(membership),
        Err(error) => error,
    };
    Err(match record::look(&env.records, &session.id).await {
        Ok(None) => Unconfirmed::Ended,
        Ok(Some(_)) | Err(_) => Unconfirmed::Unavailable {
            reason: error.to_string(),
            retry_at: error.failure(env.clock.now()).and_then(|failure| failure.retry_at),
        },
    })
}

/// Refreshes the tokens of Entra ID for the ID token that comes with them.
async fn ask(env: &EntraWorld<'_>, session: &Session) -> Result<Membership, AcquireError> {
    let was_out_of_reach = env.records.exists(&OUT_OF_REACH, ()).await?;
    let attempt =
        if was_out_of_reach {
            let attempt = env.records.lease(&ASKING, (), ATTEMPT).await?;
            Some(attempt.ok_or_else(|| {
                unknown("Microsoft Entra ID was out of reach, and another call asks whether it is back")
            })?)
        } else {
            None
        };
    let answer = entra_tokens::live(env, &session.id, &session.owner(), Wanted::Confirmed).await;
    // What cannot be remembered costs others a wait.
    let _ = match &answer {
        Err(AcquireError::Unavailable(_)) => env.records.put(&OUT_OF_REACH, (), &()).await,
        Ok(live) if was_out_of_reach && live.membership.counts(env.clock.now()) => {
            env.records.delete(&OUT_OF_REACH, ()).await
        }
        _ => Ok(()),
    };
    if let Some(attempt) = attempt {
        attempt.release().await;
    }
    let membership = answer?.membership;
    if !membership.counts(env.clock.now()) {
        return Err(unknown("Microsoft Entra ID has not said which roles and groups the person has"));
    }
    lifecycle::note(&env.records, session, &membership).await;
    Ok(membership)
}

fn unknown(reason: &str) -> AcquireError {
    OAuthError::NotAsked(Failure::new(reason)).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use entra::testing::{FakeAuthority, GROUP, OBJECT, OTHER_TENANT, TestKey, header, id_claims, sign, with};
    use world::HttpError;
    use world::testing::{TENANT, run};

    fn owner() -> Owner {
        Owner { client_id: "client".to_owned(), tenant_id: TENANT.to_owned(), object_id: OBJECT.to_owned() }
    }

    /// What a person with the role `Old` becomes by the ID token of a refresh.
    fn renewed(authority: &FakeAuthority, changes: Value) -> Membership {
        renewed_from(authority, old(), changes)
    }

    fn renewed_from(authority: &FakeAuthority, before: Membership, changes: Value) -> Membership {
        run(before.renewed(&authority.env, &owner(), Some(&id_token(changes))))
    }

    /// What the ID token of a sign-in says.
    fn signed_in(authority: &FakeAuthority, changes: Value) -> Membership {
        let expected = IdTokenExpectations { nonce: None };
        let token = run(token::validate_id_token(&authority.env, id_token(changes).reveal(), &expected)).unwrap();
        Membership::of(authority.env.clock, &token)
    }

    fn id_token(changes: Value) -> Secret<String> {
        let claims = with(with(id_claims("n"), json!({ "nonce": null, "roles": ["New"], "groups": [GROUP] })), changes);
        Secret::new(sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa")))
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
    fn the_id_token_says_whether_the_person_is_a_guest_and_without_that_the_person_counts_as_one() {
        let authority = FakeAuthority::new();
        let elsewhere = format!("https://sts.windows.net/{OTHER_TENANT}/");
        for (changes, guest) in [
            (json!({}), false),
            (json!({ "idp": elsewhere }), true),
            (json!({ "idp": "live.com" }), true),
            (json!({ "acct": 1 }), true),
            (json!({ "acct": 0 }), false),
        ] {
            assert_eq!(renewed(&authority, changes.clone()).is_guest(), guest, "{changes}");
        }
        let now = authority.env.clock.now();
        let mut written = serde_json::to_value(Membership::at(now, &["Old"], Groups::Absent)).unwrap();
        let read = |written: &Value| serde_json::from_value::<Membership>(written.clone()).unwrap();
        assert!(read(&written).counts(now) && !read(&written).is_guest());
        written.as_object_mut().unwrap().remove("guest").unwrap();
        assert!(!read(&written).counts(now) && read(&written).is_guest(), "of an earlier version");
    }

    #[test]
    fn a_context_counts_for_ninety_minutes_from_the_sign_in_that_named_it() {
        let authority = FakeAuthority::new();
        let now = authority.env.clock.now();
        let named = signed_in(&authority, json!({ "acrs": ["c1"] }));
        assert_eq!(named.contexts(now), ["c1"]);
        assert_eq!((named.contexts(now + 5_399), named.contexts(now + 5_400)), (&["c1".to_owned()][..], &[][..]));
        assert_eq!(named.contexts(now - 3_600), [""; 0], "the clock was set back");
        // A refresh is no sign-in: it makes no context younger and brings none. One that says contexts takes the others away.
        let before = || old().with_contexts(now - 60, &["c1"]);
        let after = |changes: Value| renewed_from(&authority, before(), changes);
        assert_eq!(after(json!({})).contexts(now + 5_339), ["c1"]);
        assert_eq!(after(json!({})).contexts(now + 5_340), [""; 0]);
        let both = || old().with_contexts(now - 60, &["c1", "c2"]);
        let narrowed = renewed_from(&authority, both(), json!({ "acrs": ["c3", "c2"] }));
        assert_eq!((narrowed.contexts(now + 5_339), narrowed.contexts(now + 5_340)), (&["c2".to_owned()][..], &[][..]));
        let again = renewed_from(&authority, narrowed, json!({ "acrs": ["c1", "c2"] }));
        assert_eq!((again.contexts(now + 5_339), again.contexts(now + 5_340)), (&["c2".to_owned()][..], &[][..]));
        assert_eq!(after(json!({ "acrs": ["c2"] })).contexts(now), [""; 0]);
        assert_eq!(after(json!({ "acrs": [] })).contexts(now), [""; 0]);
        assert_eq!(after(json!({ "oid": OTHER_TENANT })).contexts(now), [""; 0], "another person's");
        let mut written = serde_json::to_value(before()).unwrap();
        written.as_object_mut().unwrap().retain(|name, _| !name.starts_with("contexts"));
        let read: Membership = serde_json::from_value(written).unwrap();
        assert_eq!(read.contexts(now), [""; 0], "of an earlier version");
    }

    #[test]
    fn an_id_token_that_is_refused_or_another_persons_takes_roles_away() {
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

    #[test]
    fn what_was_said_counts_for_four_hours_and_a_minute_before_it_was_said() {
        let said = Membership::at(100_000, &[], Groups::Absent);
        let counting = [99_939, 99_940, 100_000, 114_399, 114_400].map(|now| said.counts(now));
        assert_eq!(counting, [false, true, true, true, false]);
        assert!(!Membership::default().counts(MAX_AGE_SECONDS));
    }
}
