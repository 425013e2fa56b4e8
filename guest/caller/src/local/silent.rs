//! A token without asking the person: from the cache, else by the refresh token or from the identity broker.

use base::Secret;
use base::audit::Outcome;
use base::settings::BrokerUse;
use entra::EntraWorld;
use entra::graph::GraphChallenge;
use entra::graph::profile::is_of_graph;
use entra::oauth::{OAuthError, TokenSet, refresh};
use world::once::{Asked, Moment, NotAsked, Policy, Question, once_with};
use world::records::{Holder, Namespace, Partition, Records};
use world::{BodyOnce, BrokerError, StoreError};

use super::accounts::{self, Account, AccountTokens, CachedAccessToken};
use super::{PersonWorld, SignInError, broker};
use crate::renewal::margin;

/// The right to refresh the tokens of an account, by home account id.
const REFRESHING: Namespace<Holder> = Namespace::leases(Partition::Application, "refreshing");

/// A token for a downstream API.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// Opaque.
    pub token: Secret<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// The account that the token belongs to.
    pub account: Account,
}

/// How long a token has to live for a call that is going on, in seconds: longer than a request to an API lasts. Tokens are
/// renewed before that in the background ([`background`](super::background)), so that a call need not wait.
const LEFT_FOR_A_CALL: u64 = 60;

/// Returns a token for `scopes` that lives for five minutes more. With a challenge, the refused token is not returned again.
#[inline(never)]
pub fn acquire<'f>(
    person: &'f PersonWorld<'_>,
    account: &'f Account,
    scopes: &'f [String],
    challenge: Option<&'f GraphChallenge>,
) -> BodyOnce<'f, Result<AccessToken, SignInError>> {
    Box::pin(async move { with_margin(person, account, scopes, challenge, margin(person.entra.random)).await })
}

/// The same for a call that is going on: the token may end sooner.
#[inline(never)]
pub fn for_call<'f>(
    person: &'f PersonWorld<'_>,
    account: &'f Account,
    scopes: &'f [String],
    challenge: Option<&'f GraphChallenge>,
) -> BodyOnce<'f, Result<AccessToken, SignInError>> {
    Box::pin(async move { with_margin(person, account, scopes, challenge, LEFT_FOR_A_CALL).await })
}

/// Returns a token that lives for more than `margin` seconds, before any call asks. A token that the store does not keep is
/// a failure: no call would find it. A refusal ends no session: it may be for these scopes alone, and the call that needs
/// them finds it out.
pub(super) async fn ahead_of_calls(
    person: &PersonWorld<'_>,
    account: &Account,
    scopes: &[String],
    margin: u64,
) -> Result<AccessToken, SignInError> {
    let question = TokenQuestion { is_call: false, ..TokenQuestion::new(person, account, scopes, None, margin) };
    question.answered().await
}

/// The same for a call.
async fn with_margin(
    person: &PersonWorld<'_>,
    account: &Account,
    scopes: &[String],
    challenge: Option<&GraphChallenge>,
    margin: u64,
) -> Result<AccessToken, SignInError> {
    TokenQuestion::new(person, account, scopes, challenge, margin).answered().await
}

/// One question for a token.
struct TokenQuestion<'r> {
    person: &'r PersonWorld<'r>,
    env: &'r EntraWorld<'r>,
    account: &'r Account,
    scopes: &'r [String],
    challenge: Option<&'r GraphChallenge>,
    /// A token that ends sooner than this is refreshed first, in seconds.
    margin: u64,
    /// A call asks, and not the renewal in the background.
    is_call: bool,
    /// What the last look has found.
    found: AccountTokens,
}

impl<'r> TokenQuestion<'r> {
    fn new(
        person: &'r PersonWorld<'r>,
        account: &'r Account,
        scopes: &'r [String],
        challenge: Option<&'r GraphChallenge>,
        margin: u64,
    ) -> Self {
        let env = &person.entra;
        Self { person, env, account, scopes, challenge, margin, is_call: true, found: AccountTokens::default() }
    }

    async fn answered(mut self) -> Result<AccessToken, SignInError> {
        once_with(&self.env.records, &REFRESHING, &self.account.home_account_id, &mut self).await
    }

    /// Notes that a call uses the token that was found, so that it is renewed.
    async fn note_use(&self) {
        let is_noted = |cached: &CachedAccessToken| cached.asked_for;
        if self.is_call && !self.found.access.get(&accounts::scope_key(self.scopes)).is_some_and(is_noted) {
            // What cannot be noted costs a later call a wait.
            let id = &self.account.home_account_id;
            let _ = accounts::note_asked_for(&self.env.records, id, self.scopes, true).await;
        }
    }

    /// The token that was found, if it lives for so many seconds more and was not refused.
    fn cached(&self, seconds: u64) -> Option<AccessToken> {
        let cached = self.found.access.get(&accounts::scope_key(self.scopes))?;
        let is_refused = self.challenge.is_some_and(|challenge| challenge.refused.reveal() == cached.token.reveal());
        let lives = cached.expires_at > self.env.clock.now() + seconds;
        (lives && !is_refused).then(|| self.token(cached.token.clone(), cached.expires_at))
    }

    /// Whether the token is for another resource than the one that people sign in for.
    fn is_foreign(&self) -> bool {
        !self.scopes.iter().any(|scope| is_of_graph(self.env.settings, scope))
    }

    fn token(&self, token: Secret<String>, expires_at: u64) -> AccessToken {
        AccessToken { token, expires_at, account: self.account.clone() }
    }
}

impl Question for TokenQuestion<'_> {
    type Answer = AccessToken;
    type Error = SignInError;

    fn policy(&self) -> Policy {
        Policy::REFRESH
    }

    async fn look(&mut self, _: Moment) -> Result<Option<AccessToken>, SignInError> {
        self.found = accounts::tokens(&self.env.records, &self.account.home_account_id).await?;
        if let Some(token) = self.cached(self.margin) {
            self.note_use().await;
            return Ok(Some(token));
        }
        if self.can_ask() {
            return Ok(None);
        }
        Err(self.session_has_ended())
    }

    /// Uses the refresh token, and stores what comes back, if the store takes it.
    async fn ask(&mut self) -> Result<Asked<AccessToken>, SignInError> {
        let Self { env, account, scopes, challenge, is_call, .. } = *self;
        let id = &account.home_account_id;
        if self.found.by_broker {
            return self.ask_broker().await;
        }
        let Some(used) = &self.found.refresh_token else { return Ok(Asked::Overtaken) };
        let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
        match refresh::refresh(env, used, scopes, claims).await {
            Ok(set) => {
                env.trail.record(account.event("token.refreshed", Outcome::Success)).await?;
                let kept = accounts::put_refreshed(env, id, scopes, used, &set, is_call).await;
                // What cannot be kept is good for this call. The next one refreshes with the token that was used now.
                if !is_call {
                    kept?;
                }
                let TokenSet { access_token, expires_at, .. } = set;
                Ok(Asked::Answer(self.token(access_token, expires_at)))
            }
            // Consent to one permission is missing, or an API wants more of the person. The session is good for all others:
            // its refresh token stays. So it does where no call has asked.
            Err(OAuthError::Refused(refusal))
                if refusal.needs_consent()
                    || (refusal.is_of_resource() && self.is_foreign())
                    || (refusal.needs_interaction() && !is_call) =>
            {
                let event = account.event("token.refreshed", Outcome::Failure);
                env.trail.record(event.because(refusal.reason())).await?;
                Err(SignInError::InteractionRequired {
                    reason: refusal.advice(),
                    claims: refusal.claims.or_else(|| claims.map(str::to_owned)),
                })
            }
            Err(OAuthError::Refused(refusal)) if refusal.needs_interaction() => {
                let event = account.event("token.refreshed", Outcome::Failure);
                env.trail.record(event.because(refusal.reason())).await?;
                let forgotten = forget(&env.records, id, used).await;
                match forgotten {
                    Ok(true) => Err(SignInError::InteractionRequired {
                        reason: refusal.advice(),
                        claims: refusal.claims.or_else(|| claims.map(str::to_owned)),
                    }),
                    // A sign-in or another refresh has replaced the token that Entra ID has refused.
                    Ok(false) => Ok(Asked::Overtaken),
                    Err(error) => self.still_good(error.into()),
                }
            }
            Err(error) => self.still_good(error.into()),
        }
    }

    /// An impatient call asks ([`Policy::REFRESH`]), so this is not reached.
    async fn instead(&mut self, _: NotAsked) -> Result<AccessToken, SignInError> {
        Err(StoreError::Contended.into())
    }
}

impl TokenQuestion<'_> {
    /// Whether another token can be had without the person.
    fn can_ask(&self) -> bool {
        let AccountTokens { refresh_token, by_broker, .. } = &self.found;
        match self.person.settings.broker {
            BrokerUse::Off => refresh_token.is_some() && !by_broker,
            BrokerUse::Automatic => refresh_token.is_some() || *by_broker,
            BrokerUse::Require => *by_broker,
        }
    }

    fn session_has_ended(&self) -> SignInError {
        SignInError::InteractionRequired {
            reason: "The session has ended: sign in again.".to_owned(),
            claims: self.challenge.and_then(|challenge| challenge.claims.clone()),
        }
    }

    /// Asks the identity broker of the machine, and stores what it gives.
    async fn ask_broker(&self) -> Result<Asked<AccessToken>, SignInError> {
        let Self { person, env, account, scopes, challenge, .. } = *self;
        let id = account.home_account_id.as_str();
        let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
        let request = broker::request(env, scopes, Some(id), None, claims);
        let judged = match person.broker.acquire_silently(&request) {
            Ok(answer) => broker::judge(env, answer, Some(id), scopes).await,
            Err(error) => Err(SignInError::Broker(error)),
        };
        let error = match judged {
            Ok(judged) => {
                env.trail.record(account.event("token.refreshed", Outcome::Success)).await?;
                let kept = accounts::put_from_broker(env, id, scopes, &judged.tokens, self.is_call).await;
                // What cannot be kept is good for this call.
                if !self.is_call {
                    kept?;
                }
                let TokenSet { access_token, expires_at, .. } = judged.tokens;
                return Ok(Asked::Answer(self.token(access_token, expires_at)));
            }
            Err(error) => error,
        };
        let event = account.event("token.refreshed", Outcome::Failure);
        env.trail.record(event.because(error.reason())).await?;
        match error {
            SignInError::Broker(error) if broker::needs_person(&error) => {
                // One permission or one API may want more of the person; the sign-in is good for all others. So it stays where
                // no call has asked.
                if self.is_call && challenge.is_none() && !self.is_foreign() {
                    accounts::forget_broker(&env.records, id).await?;
                }
                Err(self.session_has_ended())
            }
            // It was removed: the person can sign in without it.
            SignInError::Broker(BrokerError::Absent(_)) if person.settings.broker == BrokerUse::Automatic => {
                Err(self.session_has_ended())
            }
            error => self.still_good(error),
        }
    }

    /// Entra ID or the store is out of reach, but the token at hand is still good for a while.
    fn still_good(&self, error: SignInError) -> Result<Asked<AccessToken>, SignInError> {
        self.cached(0).map(Asked::Answer).ok_or(error)
    }
}

/// Forgets a refresh token that Entra ID has refused. `false` if there is another one now.
async fn forget(records: &Records<'_>, id: &str, refused: &Secret<String>) -> Result<bool, StoreError> {
    let now = accounts::tokens(records, id).await?;
    if now.refresh_token.is_some() && !now.has(refused) {
        return Ok(false);
    }
    accounts::forget_refresh_token(records, id, refused).await?;
    Ok(true)
}
