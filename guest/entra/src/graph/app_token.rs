//! Tokens for Graph that are the application's own: what a remote server asks with where nobody is signed in.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::audit::Outcome;
use serde::{Deserialize, Serialize};
use world::single_flight::{self, Answer};
use zeroize::Zeroizing;

use super::client::{Challenge, TokenSource};
use super::error::GraphError;
use crate::acquire::AcquireError;
use crate::entra_world::EntraWorld;
use crate::oauth::{OAuthError, client_credentials};
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

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    token: T,
    /// Unix time in seconds.
    expires_at: u64,
}

impl Answer for Stored<Secret<String>> {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored { token: self.token.reveal(), expires_at: self.expires_at };
        Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    fn lifetime(&self, now: u64) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(now))
    }
}

#[async_trait(?Send)]
impl TokenSource for AppTokens<'_> {
    type Error = AcquireError;

    async fn token(&self, challenge: Option<&Challenge>) -> Result<Secret<String>, GraphError> {
        let env = self.env;
        if !is_guid(self.tenant) {
            return Err(GraphError::NoToken("the tenant is not named by a GUID".to_owned()));
        }
        let (scope, record) = (self.scope(), self.record());
        let lives = |stored: &Stored<Secret<String>>, seconds: u64| {
            stored.expires_at > env.clock.now() + seconds
                && challenge.is_none_or(|challenge| challenge.refused.reveal() != stored.token.reveal())
        };
        let fresh = |stored: &Stored<_>| lives(stored, EXPIRY_MARGIN_SECONDS);
        let asked = single_flight::ask_once(env, &record, fresh, async || self.request(&scope, challenge).await).await;
        match asked {
            Ok(stored) => Ok(stored.token),
            // Entra is out of reach, but the token at hand is still good for a while.
            Err(reason) => match single_flight::remembered(env, &record) {
                Ok(Some(stored)) if lives(&stored, 0) => Ok(stored.token),
                _ => Err(GraphError::NoToken(reason)),
            },
        }
    }

    fn forbidden(&self) {
        self.forget();
    }
}

impl AppTokens<'_> {
    /// Forgets the token: what an administrator grants the application is in the next one only. Not all the time: Entra
    /// counts the requests of the application, and whoever is denied over and over must not use them up for everybody.
    fn forget(&self) {
        let forgotten = format!("{}/forgotten", self.record());
        if let Ok(true) = self.env.store.compare_and_swap(&forgotten, None, b"", Some(FORGET_PAUSE)) {
            // A token that cannot be forgotten expires.
            let _ = self.env.store.delete(&self.record());
        }
    }

    fn scope(&self) -> String {
        format!("{}/.default", self.env.settings.graph_resource)
    }

    fn record(&self) -> String {
        let settings = &self.env.settings;
        format!("app-token/{}/{}/{}/{}", settings.authority, self.tenant, settings.client_id, self.scope())
    }

    async fn request(&self, scope: &str, challenge: Option<&Challenge>) -> Result<Stored<Secret<String>>, String> {
        let env = self.env;
        let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
        let began = env.clock.monotonic();
        let answer = client_credentials::request(env, self.tenant, scope, claims).await;
        let (outcome, reason) = match &answer {
            Ok(_) => (Outcome::Success, None),
            Err(OAuthError::Refused(refusal)) => (Outcome::Failure, Some(refusal.reason())),
            // Nobody has decided anything.
            Err(error) => return Err(error.to_string()),
        };
        let mut event = env.trail.event("app-token.issued", outcome);
        event.tenant_id = Some(self.tenant.to_owned());
        event.reason = reason;
        env.trail
            .record(event.lasting(env.clock.monotonic().saturating_sub(began)))
            .map_err(|error| error.to_string())?;
        let set = answer.map_err(|error| error.to_string())?;
        Ok(Stored { token: set.access_token, expires_at: set.expires_at })
    }
}
