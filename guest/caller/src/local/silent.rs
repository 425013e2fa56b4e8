//! A token without asking the person: from the cache, else by the refresh token.

use base::Secret;
use base::audit::Outcome;
use entra::EntraWorld;
use entra::graph::GraphChallenge;
use entra::graph::profile::is_of_graph;
use entra::oauth::{OAuthError, TokenSet, refresh};
use world::StoreError;
use world::once::{Asked, Moment, NotAsked, Policy, Question, once_with};
use world::records::{Holder, Namespace, Partition};

use super::SignInError;
use super::accounts::{self, Account, AccountTokens};
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
pub async fn acquire(
    env: &EntraWorld<'_>,
    account: &Account,
    scopes: &[String],
    challenge: Option<&GraphChallenge>,
) -> Result<AccessToken, SignInError> {
    with_margin(env, account, scopes, challenge, margin(env.random)).await
}

/// The same for a call that is going on: the token may end sooner.
pub async fn for_call(
    env: &EntraWorld<'_>,
    account: &Account,
    scopes: &[String],
    challenge: Option<&GraphChallenge>,
) -> Result<AccessToken, SignInError> {
    with_margin(env, account, scopes, challenge, LEFT_FOR_A_CALL).await
}

/// The same with a token that lives for more than `margin` seconds.
pub(super) async fn with_margin(
    env: &EntraWorld<'_>,
    account: &Account,
    scopes: &[String],
    challenge: Option<&GraphChallenge>,
    margin: u64,
) -> Result<AccessToken, SignInError> {
    let mut refresh = TokenQuestion { env, account, scopes, challenge, margin, found: AccountTokens::default() };
    once_with(&env.records, &REFRESHING, &account.home_account_id, &mut refresh).await
}

/// One call's question for a token.
struct TokenQuestion<'r> {
    env: &'r EntraWorld<'r>,
    account: &'r Account,
    scopes: &'r [String],
    challenge: Option<&'r GraphChallenge>,
    /// A token that ends sooner than this is refreshed first, in seconds.
    margin: u64,
    /// What the last look has found.
    found: AccountTokens,
}

impl TokenQuestion<'_> {
    /// The token that was found, if it lives for so many seconds more and was not refused.
    fn cached(&self, seconds: u64) -> Option<AccessToken> {
        let cached = self.found.access.get(&accounts::scope_key(self.scopes))?;
        let is_refused = self.challenge.is_some_and(|challenge| challenge.refused.reveal() == cached.token.reveal());
        let lives = cached.expires_at > self.env.clock.now() + seconds;
        (lives && !is_refused).then(|| self.token(cached.token.clone(), cached.expires_at))
    }

    /// Whether the token is for another resource than the one that people sign in for.
    fn is_foreign(&self) -> bool {
        !self.scopes.iter().any(|scope| is_of_graph(self.env, scope))
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
        self.found = accounts::tokens(self.env, &self.account.home_account_id).await?;
        if let Some(token) = self.cached(self.margin) {
            return Ok(Some(token));
        }
        if self.found.refresh_token.is_some() {
            return Ok(None);
        }
        Err(SignInError::InteractionRequired {
            reason: "The session has ended: sign in again.".to_owned(),
            claims: self.challenge.and_then(|challenge| challenge.claims.clone()),
        })
    }

    /// Uses the refresh token, and stores what comes back.
    async fn ask(&mut self) -> Result<Asked<AccessToken>, SignInError> {
        let Self { env, account, scopes, challenge, .. } = *self;
        let id = &account.home_account_id;
        let Some(used) = &self.found.refresh_token else { return Ok(Asked::Overtaken) };
        let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
        match refresh::refresh(env, used, scopes, claims).await {
            Ok(set) => {
                env.trail.record(account.event("token.refreshed", Outcome::Success)).await?;
                let put = accounts::put_refreshed(env, id, scopes, used, &set).await;
                let TokenSet { access_token, expires_at, .. } = set;
                match put {
                    Ok(()) => Ok(Asked::Answer(self.token(access_token, expires_at))),
                    Err(error) => self.still_good(error.into()),
                }
            }
            // Consent to one permission is missing, or an API wants more of the person. The session is good for all others:
            // its refresh token stays.
            Err(OAuthError::Refused(refusal))
                if refusal.needs_consent() || (refusal.is_of_resource() && self.is_foreign()) =>
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
                let forgotten = forget(env, id, used).await;
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
    /// Entra ID or the store is out of reach, but the token at hand is still good for a while.
    fn still_good(&self, error: SignInError) -> Result<Asked<AccessToken>, SignInError> {
        self.cached(0).map(Asked::Answer).ok_or(error)
    }
}

/// Forgets a refresh token that Entra ID has refused. `false` if there is another one now.
async fn forget(env: &EntraWorld<'_>, id: &str, refused: &Secret<String>) -> Result<bool, StoreError> {
    let now = accounts::tokens(env, id).await?;
    if now.refresh_token.is_some() && !now.has(refused) {
        return Ok(false);
    }
    accounts::forget_refresh_token(env, id, refused).await?;
    Ok(true)
}
