//! Tokens for Graph that are the application's own: what a remote server asks with where no person is signed in.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::audit::Outcome;
use base::secret::reveal;
use serde::{Deserialize, Serialize};
use world::once::{Failure, Policy, once};
use world::records::{Namespace, Partition, Ttl};

use super::client::{GraphChallenge, TokenSource};
use super::error::GraphError;
use crate::acquire::AcquireError;
use crate::entra_world::EntraWorld;
use crate::oauth::{OAuthError, TokenSet, client_credentials};
use crate::tenants::is_guid;

/// A token that expires sooner than this is replaced first.
const EXPIRY_MARGIN_SECONDS: u64 = 300;

/// How often at most a token is given up because it does not permit enough.
const FORGET_PAUSE: Duration = Duration::from_secs(60);

/// The application's tokens in one tenant, from the store or from the token endpoint.
pub struct AppTokens<'a> {
    /// The world.
    pub env: &'a EntraWorld<'a>,
    /// The tenant whose directory is asked. A GUID: it becomes part of a URL.
    pub tenant: &'a str,
}

/// A token as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredAppToken {
    #[serde(serialize_with = "reveal")]
    token: Secret<String>,
    /// Unix time in seconds.
    expires_at: u64,
}

impl StoredAppToken {
    fn ttl(&self, now: u64) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(now))
    }
}

/// By authority, tenant, application and scope.
const TOKENS: Namespace<StoredAppToken> =
    Namespace::json(Partition::Store, "app-token", Ttl::Computed(StoredAppToken::ttl)).absent_if_unreadable();
/// That a token was given up lately, under the name of the token.
const FORGOTTEN: Namespace<()> =
    Namespace::marks(Partition::Store, "app-token", Ttl::For(FORGET_PAUSE)).ending_with("/forgotten");

#[async_trait(?Send)]
impl TokenSource for AppTokens<'_> {
    type Error = AcquireError;

    async fn token(&self, challenge: Option<&GraphChallenge>) -> Result<Secret<String>, GraphError> {
        let env = self.env;
        if !is_guid(self.tenant) {
            return Err(GraphError::NoToken(Failure::new("the tenant is not named by a GUID").into()));
        }
        let scope = self.scope();
        let key = self.key(&scope);
        let lives = |stored: &StoredAppToken, seconds: u64| {
            stored.expires_at > env.clock.now() + seconds
                && challenge.is_none_or(|challenge| challenge.refused.reveal() != stored.token.reveal())
        };
        let fresh = |stored: &StoredAppToken| lives(stored, EXPIRY_MARGIN_SECONDS);
        let ask = async |_| self.request(&scope, challenge).await;
        let asked: Result<StoredAppToken, AcquireError> =
            once(&env.records, &TOKENS, &key, &Policy::ANSWER, fresh, ask).await;
        match asked {
            Ok(stored) => Ok(stored.token),
            // Entra ID is out of reach, but the token at hand is still good for a while.
            Err(error) => match env.records.get(&TOKENS, &key).await {
                Ok(Some(stored)) if lives(&stored, 0) => Ok(stored.token),
                _ => Err(GraphError::NoToken(error.at(env.clock.now()))),
            },
        }
    }

    async fn forbidden(&self) {
        self.forget().await;
    }
}

impl<'a> AppTokens<'a> {
    /// Forgets the token: what an administrator grants the application is in the next one only. Not all the time: Entra
    /// ID counts the requests of the application, and a caller that is denied over and over must not use them up for
    /// all callers.
    async fn forget(&self) {
        let scope = self.scope();
        let key = self.key(&scope);
        if let Ok(true) = self.env.records.insert_new(&FORGOTTEN, &key, &()).await {
            // A token that cannot be forgotten expires.
            let _ = self.env.records.delete(&TOKENS, &key).await;
        }
    }

    fn scope(&self) -> String {
        format!("{}/.default", self.env.settings.graph_resource)
    }

    /// Which of [`TOKENS`].
    fn key<'k>(&self, scope: &'k str) -> [&'k str; 4]
    where
        'a: 'k,
    {
        let settings = self.env.settings;
        [&settings.authority, self.tenant, &settings.client_id, scope]
    }

    async fn request(&self, scope: &str, challenge: Option<&GraphChallenge>) -> Result<StoredAppToken, AcquireError> {
        let env = self.env;
        let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
        let began = env.clock.monotonic();
        let answer = client_credentials::request(env, self.tenant, scope, claims).await;
        let (outcome, reason) = match &answer {
            Ok(_) => (Outcome::Success, None),
            Err(OAuthError::Refused(refusal)) => (Outcome::Failure, Some(refusal.reason())),
            // Nothing was decided, so there is nothing to record.
            Err(_) => return Ok(answer?.into()),
        };
        let mut event = env.trail.event("app-token.issued", outcome);
        event.tenant_id = Some(self.tenant.to_owned());
        event.reason = reason;
        env.trail.record(event.lasting(env.clock.monotonic().saturating_sub(began))).await?;
        Ok(answer?.into())
    }
}

impl From<TokenSet> for StoredAppToken {
    fn from(set: TokenSet) -> Self {
        Self { token: set.access_token, expires_at: set.expires_at }
    }
}
