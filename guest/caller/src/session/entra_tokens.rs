//! The tokens of Entra ID behind a session. They never leave the server.
//!
//! They are a record of their own, which ends with the session. One call at a time refreshes them, across all servers
//! on one store; the others wait for it. That call stores what Entra ID hands out before it does anything else.
//!
//! The token for the profile is the session's own: without it there is no session. When a tool wants tokens for more of
//! Graph, or for another API, the same refresh token gets them. A missing consent to more says nothing against the
//! session, and neither does what the policies of another API want: the person signs in once more for that API, and the
//! session goes on for all others.

pub(super) mod stored;

use std::time::Duration;

use base::Secret;
use base::audit::Outcome;
use base::settings::Settings;
use entra::graph::GraphChallenge;
use entra::graph::profile::{is_of_graph, profile_scope};
use entra::oauth::error::EntraRefusal;
use entra::oauth::{OAuthError, TokenSet, refresh, with_openid};
use entra::{AcquireError, EntraWorld};
use world::StoreError;
use world::once::{Asked, Moment, NotAsked, Policy, Question, once_with};
use world::records::{Holder, Namespace, Partition, Records, Stored, Ttl, Version};

use self::stored::{EntraTokensRecord, More, TOKENS};
use super::{Membership, Owner, claims, ending};
use crate::renewal::margin;

pub use self::stored::EntraTokens;

/// How long it is remembered that Entra ID gives no token for more: long enough that a client which repeats itself is
/// no flood at Entra ID, and short enough that a consent which is given now soon works.
const REFUSAL: Duration = Duration::from_secs(5);

/// The scopes that Entra ID is asked for: those of the profile, and those that give an ID token and a refresh token.
pub fn scopes(settings: &Settings) -> Vec<String> {
    with_openid(&[profile_scope(settings)])
}

/// An access token that lives for a while, and what is known of its person.
#[derive(Clone)]
pub(super) struct Live {
    /// For Microsoft Graph. Opaque.
    pub(super) access_token: Secret<String>,
    /// Unix time in seconds.
    pub(super) expires_at: u64,
    pub(super) membership: Membership,
}

impl EntraTokensRecord {
    /// The access token for a scope, if there is one.
    fn access(&self, scope: &Scope) -> Option<Live> {
        let (access_token, expires_at) = match scope {
            Scope::Profile => (&self.tokens.access_token, self.tokens.expires_at),
            Scope::More(scope) => self.more.get(scope).map(|more| (&more.access_token, more.expires_at))?,
        };
        let membership = self.tokens.membership.clone();
        Some(Live { access_token: access_token.clone(), expires_at, membership })
    }
}

/// The right to refresh them, by session.
const REFRESHING: Namespace<Holder> = Namespace::leases(Partition::Application, "session-refreshing");
/// That there is no consent, by session and scope.
const REFUSALS: Namespace<EntraRefusal> = Namespace::json(Partition::Application, "session-refused", Ttl::For(REFUSAL))
    .last_part_hashed()
    .absent_if_unreadable();

/// What an access token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// The profile, which every session is allowed to see.
    Profile,
    /// This, in the qualified form.
    More(String),
}

impl Scope {
    /// Of a scope in the qualified form.
    pub(super) fn of(settings: &Settings, scope: String) -> Self {
        if scope == profile_scope(settings) { Self::Profile } else { Self::More(scope) }
    }

    /// Whether it is of another resource than the one that the person signed in for. What that resource wants says nothing
    /// about the sign-in.
    fn is_foreign(&self, settings: &Settings) -> bool {
        match self {
            Self::Profile => false,
            Self::More(scope) => !is_of_graph(settings, scope),
        }
    }

    fn requested(&self, settings: &Settings) -> Vec<String> {
        match self {
            Self::Profile => scopes(settings),
            Self::More(scope) => with_openid(std::slice::from_ref(scope)),
        }
    }
}

/// What a call needs of the tokens of Entra ID.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// That they live.
    Live,
    /// That what Entra ID says with them of the person is recent as well, if Entra ID can be reached.
    Recent,
    /// That what Entra ID says with them of the person counts. Tokens alone are of no use.
    Confirmed,
    /// That they are not those that were refused.
    Other(&'a GraphChallenge),
}

/// The session that a token is for.
#[derive(Clone, Copy)]
struct Of<'a> {
    id: &'a str,
    owner: &'a Owner,
}

/// A token for the profile that lives for some minutes more: [`live_for`].
pub(super) async fn live(
    env: &EntraWorld<'_>,
    id: &str,
    owner: &Owner,
    wanted: Wanted<'_>,
) -> Result<Live, AcquireError> {
    live_for(env, id, owner, &Scope::Profile, wanted).await
}

/// A token that lives for some minutes more: the one in the store, refreshed first if it is about to expire or is not
/// what is wanted.
///
/// [`AcquireError::NeedsPerson`] means that the session has ended, and that it was removed;
/// [`AcquireError::StepUp`] that the resource of this scope wants the person, and the session goes on;
/// [`AcquireError::Refused`] that there is no token for this scope.
pub(super) async fn live_for(
    env: &EntraWorld<'_>,
    id: &str,
    owner: &Owner,
    scope: &Scope,
    wanted: Wanted<'_>,
) -> Result<Live, AcquireError> {
    let mut refresh =
        SessionTokenQuestion { env, of: Of { id, owner }, scope, wanted, margin: margin(env.random), found: None };
    once_with(&env.records, &REFRESHING, id, &mut refresh).await
}

/// One call's question for a token.
struct SessionTokenQuestion<'r> {
    env: &'r EntraWorld<'r>,
    of: Of<'r>,
    scope: &'r Scope,
    wanted: Wanted<'r>,
    /// A token that ends sooner than this is refreshed first, in seconds.
    margin: u64,
    /// What the last look has found, if it has to be refreshed.
    found: Option<StaleTokens>,
}

/// Tokens that have to be refreshed.
struct StaleTokens {
    record: EntraTokensRecord,
    version: Version,
    refresh_token: Secret<String>,
    /// The token at hand, if it still lives and was not refused.
    usable: Option<Live>,
    /// Whether what Entra ID has said of the person does not count any more, where it has to.
    unconfirmed: bool,
}

impl<'r> SessionTokenQuestion<'r> {
    fn challenge(&self) -> Option<&'r GraphChallenge> {
        match self.wanted {
            Wanted::Live | Wanted::Recent | Wanted::Confirmed => None,
            Wanted::Other(challenge) => Some(challenge),
        }
    }
}

impl Question for SessionTokenQuestion<'_> {
    type Answer = Live;
    type Error = AcquireError;

    fn policy(&self) -> Policy {
        Policy::REFRESH
    }

    async fn look(&mut self, _: Moment) -> Result<Option<Live>, AcquireError> {
        let (Self { env, of: Of { id, owner }, scope, .. }, challenge) = (&*self, self.challenge());
        let Some(Stored { value: record, version }) = env.records.read(&TOKENS, *id).await? else {
            ending::end_without_tokens(env, id, owner).await?;
            return Err(ended(challenge));
        };
        let now = env.clock.now();
        let was_refused = |live: &Live| challenge.is_some_and(|it| it.refused.reveal() == live.access_token.reveal());
        let usable = record.access(scope).filter(|live| !was_refused(live) && live.expires_at > now);
        let unconfirmed = matches!(self.wanted, Wanted::Confirmed) && !record.tokens.membership.counts(now);
        let outdated = unconfirmed || matches!(self.wanted, Wanted::Recent) && !record.tokens.membership.is_recent(now);
        if usable.as_ref().is_some_and(|live| !outdated && live.expires_at > now + self.margin) {
            return Ok(usable);
        }
        let Some(refresh_token) = record.tokens.refresh_token.clone() else {
            // Roles must not live on for as long as a token of continuous access evaluation, which is a day.
            if let Some(live) = usable.filter(|live| !outdated || !live.membership.names_something()) {
                return Ok(Some(live));
            }
            // Without consent to `offline_access` and without more than the profile a session lives until its token expires.
            if **scope != Scope::Profile && challenge.is_none() {
                return Err(EntraRefusal::new("consent_required", &[], None).into());
            }
            want(&env.records, owner, challenge).await;
            if scope.is_foreign(env.settings) {
                return Err(step_up(STEP_UP.to_owned(), challenge.and_then(|challenge| challenge.claims.clone())));
            }
            ending::end(env, id, owner, "no-refresh-token").await?;
            return Err(ended(challenge));
        };
        if let Scope::More(scope) = scope
            && let Some(refusal) = env.records.get(&REFUSALS, &[id, scope.as_str()]).await?
        {
            return Err(of_resource(refusal));
        }
        self.found = Some(StaleTokens { record, version, refresh_token, usable, unconfirmed });
        Ok(None)
    }

    async fn ask(&mut self) -> Result<Asked<Live>, AcquireError> {
        let Some(found) = self.found.take() else { return Ok(Asked::Overtaken) };
        let Self { env, of, scope, .. } = *self;
        let claims = self.challenge().and_then(|challenge| challenge.claims.as_deref());
        let answer = refresh::refresh(env, &found.refresh_token, &scope.requested(env.settings), claims).await;
        match answer {
            Ok(set) => {
                let before = found.record.tokens.membership.clone();
                let membership = before.renewed(env, of.owner, set.id_token.as_ref()).await;
                took(env, of, scope, (found.record, &found.version), (set, membership)).await.map(Asked::Answer)
            }
            Err(OAuthError::Refused(refusal)) if *scope != Scope::Profile && refusal.needs_consent() => {
                Err(no_more(env, of, scope, refusal).await)
            }
            Err(OAuthError::Refused(refusal))
                if scope.is_foreign(env.settings) && (refusal.is_of_resource() || refusal.is_unassigned()) =>
            {
                let claims = refusal.claims.or_else(|| claims.map(str::to_owned));
                if let Some(claims) = &claims {
                    claims::want(&env.records, of.owner, claims).await;
                }
                Err(no_more(env, of, scope, EntraRefusal { claims, ..refusal }).await)
            }
            // If another call has refreshed meanwhile, its tokens are there.
            Err(OAuthError::Refused(refusal)) if refusal.needs_interaction() => {
                refused_for_good(env, of, &found.version, &refusal, claims).await.map(|()| Asked::Overtaken)
            }
            // Entra ID is out of reach, but the token at hand is still good for a while.
            Err(error) => {
                let usable = found.usable.filter(|_| !found.unconfirmed);
                usable.map(Asked::Answer).ok_or_else(|| error.into())
            }
        }
    }

    /// An impatient call asks ([`Policy::REFRESH`]), so this is not reached.
    async fn instead(&mut self, _: NotAsked) -> Result<Live, AcquireError> {
        Err(StoreError::Contended.into())
    }
}

/// Stores what a refresh answered, unless the session has ended or was refreshed by another call meanwhile.
async fn took(
    env: &EntraWorld<'_>,
    of: Of<'_>,
    scope: &Scope,
    before: (EntraTokensRecord, &Version),
    answer: (TokenSet, Membership),
) -> Result<Live, AcquireError> {
    let Of { id, owner } = of;
    let ((mut record, version), (set, membership)) = (before, answer);
    let live = Live { access_token: set.access_token, expires_at: set.expires_at, membership };
    record.tokens.membership = live.membership.clone();
    match scope {
        Scope::Profile => {
            record.tokens.access_token = live.access_token.clone();
            record.tokens.expires_at = live.expires_at;
        }
        Scope::More(scope) => {
            let more = More { access_token: live.access_token.clone(), expires_at: live.expires_at };
            record.more.insert(scope.clone(), more);
        }
    }
    if set.refresh_token.is_some() {
        record.tokens.refresh_token = set.refresh_token;
    }
    // What Entra ID has rotated must not be lost, so it is stored first. No caller gets it before it is on record.
    let stored = env.records.replace(&TOKENS, id, version, &record).await?;
    env.trail.record(owner.event("token.refreshed", Outcome::Success)).await?;
    // A session that was ended meanwhile stays so: its token is not used any more.
    if stored.is_none() && env.records.get(&TOKENS, id).await?.is_none() {
        return Err(ended(None));
    }
    Ok(live)
}

/// There is no consent to more than the profile, or not what its resource wants. The session goes on.
async fn no_more(env: &EntraWorld<'_>, of: Of<'_>, scope: &Scope, refusal: EntraRefusal) -> AcquireError {
    let Of { id, owner } = of;
    let event = owner.event("token.refreshed", Outcome::Failure);
    if let Err(error) = env.trail.record(event.because(refusal.reason())).await {
        return error.into();
    }
    if let Scope::More(scope) = scope {
        // A refusal that cannot be remembered costs a request.
        let _ = env.records.put(&REFUSALS, &[id, scope.as_str()], &refusal).await;
    }
    of_resource(refusal)
}

/// What a refusal of more than the profile means.
fn of_resource(refusal: EntraRefusal) -> AcquireError {
    match refusal.is_of_resource() && !refusal.needs_consent() && !refusal.is_unassigned() {
        true => step_up(refusal.public_advice(), refusal.claims),
        false => refusal.into(),
    }
}

/// What a caller is told whose person has to sign in once more.
const STEP_UP: &str = "An API behind this tool wants you to sign in once more: connect to this server again.";

fn step_up(reason: String, claims: Option<String>) -> AcquireError {
    AcquireError::StepUp { reason, claims }
}

/// Entra ID does not accept the refresh token any more. `Ok` if there is another one now.
async fn refused_for_good(
    env: &EntraWorld<'_>,
    of: Of<'_>,
    version: &Version,
    refusal: &EntraRefusal,
    claims: Option<&str>,
) -> Result<(), AcquireError> {
    let Of { id, owner } = of;
    let event = owner.event("token.refreshed", Outcome::Failure);
    env.trail.record(event.because(refusal.reason())).await?;
    // Replaced by what is no record: a call that refreshes at this moment finds that the session has ended.
    if !env.records.retire(&TOKENS, id, version).await? {
        return Ok(());
    }
    // What Entra ID says now is newer than what Graph has said.
    let claims = refusal.claims.as_deref().or(claims);
    if let Some(claims) = claims {
        claims::want(&env.records, owner, claims).await;
    }
    ending::end(env, id, owner, &refusal.reason()).await?;
    Err(AcquireError::NeedsPerson { reason: refusal.public_advice(), claims: claims.map(str::to_owned) })
}

/// The API refuses the new token too, so only the person can bring what it wants. If it is Graph, the session ends, unless
/// another call has got other tokens meanwhile. What the caller has to be told.
pub(super) async fn unsatisfied(
    env: &EntraWorld<'_>,
    id: &str,
    owner: &Owner,
    scope: &Scope,
    challenge: &GraphChallenge,
) -> Result<AcquireError, AcquireError> {
    if scope.is_foreign(env.settings) {
        want(&env.records, owner, Some(challenge)).await;
        return Ok(step_up(STEP_UP.to_owned(), challenge.claims.clone()));
    }
    let found = env.records.get(&TOKENS, id).await?.and_then(|record| record.access(scope));
    if found.is_some_and(|live| live.access_token.reveal() == challenge.refused.reveal()) {
        want(&env.records, owner, Some(challenge)).await;
        ending::end(env, id, owner, "claims-challenge").await?;
    }
    Ok(ended(Some(challenge)))
}

async fn want(records: &Records<'_>, owner: &Owner, challenge: Option<&GraphChallenge>) {
    if let Some(claims) = challenge.and_then(|challenge| challenge.claims.as_deref()) {
        claims::want(records, owner, claims).await;
    }
}

fn ended(challenge: Option<&GraphChallenge>) -> AcquireError {
    AcquireError::NeedsPerson {
        reason: "The session has ended: sign in again.".to_owned(),
        claims: challenge.and_then(|challenge| challenge.claims.clone()),
    }
}
