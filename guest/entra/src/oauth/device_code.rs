//! The device authorization grant (RFC 8628), for machines without a browser.

use std::future::Future;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::client::EntraClient;
use super::form::Form;
use super::token_response::{self, SuccessResponse, TokenResponse};
use super::{OAuthError, TokenSet};
use crate::entra_world::EntraWorld;
use base::Secret;
use base::secret::{reveal, reveal_optional};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Pause between two polls where Entra ID names none (RFC 8628 section 3.2).
const DEFAULT_INTERVAL_SECONDS: u64 = 5;
/// What each `slow_down` adds to the pause for good (RFC 8628 section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// A poll that fails on its way doubles the pause (RFC 8628 section 3.5), but not beyond this: the person is waiting,
/// and most such failures are not about the load of Entra ID.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// A device authorization response (RFC 8628 section 3.2). It is stored in this form.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    #[serde(serialize_with = "reveal")]
    device_code: Secret<String>,
    #[serde(serialize_with = "reveal")]
    user_code: Secret<String>,
    /// `verification_url` in drafts of the RFC.
    #[serde(alias = "verification_url", deserialize_with = "absolute_url")]
    verification_uri: String,
    /// Has the user code in it.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "reveal_optional")]
    verification_uri_complete: Option<Secret<String>>,
    expires_in: u64,
    #[serde(default = "default_interval", deserialize_with = "interval")]
    interval: u64,
}

impl SuccessResponse for Details {
    const MALFORMED: &'static str = "the device authorization response";
    const EMPTY: &'static str = "an empty device authorization response";
}

/// Takes the text of an absolute URL as it is.
fn absolute_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn default_interval() -> u64 {
    DEFAULT_INTERVAL_SECONDS
}

/// `null` counts as absent.
fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(DEFAULT_INTERVAL_SECONDS))
}

/// A code that waits for a person to enter it.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceCode {
    details: Details,
    /// Unix time in seconds; the lifetime in `details` counts from the moment of the answer.
    pub expires_at: u64,
}

/// What a poll means for the next one.
enum Poll {
    Done(TokenSet),
    /// The person is not done.
    Pending,
    /// The same, and Entra ID wants longer pauses.
    SlowDown,
    /// No answer has arrived.
    Lost,
}

impl DeviceCode {
    /// Asks Entra ID for a code.
    pub async fn request(env: &EntraWorld<'_>, scopes: &[String]) -> Result<Self, OAuthError> {
        let client = EntraClient::new(env)?;
        let form = Form::default().with_scopes(scopes);
        let response = client.post(form, &client.device_authorization).await?;
        let details: Details = token_response::read(&response)?;
        let expires_at = env.clock.now().saturating_add(details.expires_in);
        Ok(Self { details, expires_at })
    }

    /// Where the person enters the code.
    pub fn verification_uri(&self) -> &str {
        &self.details.verification_uri
    }

    /// What the person enters.
    pub fn user_code(&self) -> &str {
        self.details.user_code.reveal()
    }

    /// Polls until the person is done, at the pace that Entra ID asks for (`interval`, `slow_down`).
    /// `pause` waits between two polls, and returns whether to go on.
    pub async fn poll<P, F>(&self, env: &EntraWorld<'_>, timeout: Duration, pause: P) -> Result<TokenSet, OAuthError>
    where
        P: Fn(Duration) -> F,
        F: Future<Output = bool>,
    {
        let client = EntraClient::new(env)?;
        let began = env.clock.now();
        let timeout = timeout.min(Duration::from_secs(self.expires_at.saturating_sub(began)));
        if timeout.is_zero() {
            return Err(OAuthError::Expired);
        }
        let deadline = Duration::from_secs(began).saturating_add(timeout);
        let mut interval = Duration::from_secs(self.details.interval);
        loop {
            match self.poll_once(&client).await? {
                Poll::Done(tokens) => return Ok(tokens),
                Poll::Pending => {}
                Poll::SlowDown => interval = interval.saturating_add(SLOW_DOWN),
                // Never shorter than what `slow_down` has asked for.
                Poll::Lost => interval = interval.max(interval.saturating_mul(2).min(MAX_BACKOFF)),
            }
            if !pause(interval).await || Duration::from_secs(env.clock.now()) > deadline {
                return Err(OAuthError::Expired);
            }
        }
    }

    /// Asks the token endpoint once (RFC 8628 sections 3.4 and 3.5).
    async fn poll_once(&self, client: &EntraClient<'_>) -> Result<Poll, OAuthError> {
        let form = Form::of_grant(GRANT).with_secret("device_code", &self.details.device_code);
        let Ok(response) = client.post(form, &client.token).await else { return Ok(Poll::Lost) };
        match token_response::read::<TokenResponse>(&response) {
            Ok(tokens) => Ok(Poll::Done(tokens.into_token_set(client.env().clock))),
            Err(OAuthError::Refused(refusal)) => match refusal.error.as_str() {
                "authorization_pending" => Ok(Poll::Pending),
                "slow_down" => Ok(Poll::SlowDown),
                "expired_token" => Err(OAuthError::Expired),
                _ => Err(OAuthError::Refused(refusal)),
            },
            Err(error) => Err(error),
        }
    }
}
