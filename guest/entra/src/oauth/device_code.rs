//! The device authorization grant (RFC 8628), for machines without a browser.

use std::future::Future;
use std::time::Duration;

use oauth2::{
    DeviceAuthorizationResponse, DeviceCodeErrorResponseType, EmptyExtraDeviceAuthorizationFields, RequestTokenError,
    Scope,
};
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::{OAuthError, TokenSet, client};
use crate::entra_world::EntraWorld;

type Details = DeviceAuthorizationResponse<EmptyExtraDeviceAuthorizationFields>;

/// Unix time after every deadline, 9999-12-31T23:59:59Z.
const NEVER: u64 = 253_402_300_799;

/// A code that waits for a person to enter it.
#[derive(Serialize, Deserialize)]
pub struct DeviceCode {
    details: Details,
    /// Unix time in seconds; the lifetime in `details` counts from the moment of the answer.
    pub expires_at: u64,
}

impl DeviceCode {
    /// Asks Entra for a code.
    pub async fn request(env: &EntraWorld<'_>, scopes: &[String]) -> Result<Self, OAuthError> {
        let prepared = client::prepare(env)?;
        let mut request = prepared.client.exchange_device_code().add_scopes(scopes.iter().cloned().map(Scope::new));
        for (name, value) in prepared.extra {
            request = request.add_extra_param(name, value);
        }
        let answer = request.request_async(&|request| client::send(env, request)).await;
        let details: Details = answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(response) => OAuthError::Refused(response.into()),
            RequestTokenError::Request(error) => error,
            RequestTokenError::Parse(..) => OAuthError::Malformed("the device authorization response"),
            RequestTokenError::Other(_) => OAuthError::Malformed("an empty device authorization response"),
        })?;
        let expires_at = env.clock.now().saturating_add(details.expires_in().as_secs());
        Ok(Self { details, expires_at })
    }

    /// Where the person enters the code.
    pub fn verification_uri(&self) -> &str {
        self.details.verification_uri().as_str()
    }

    /// What the person enters.
    pub fn user_code(&self) -> &str {
        self.details.user_code().secret()
    }

    /// Polls until the person is done, at the pace that Entra asks for (`interval`, `slow_down`).
    /// `pause` waits between two polls, and returns whether to go on.
    pub async fn poll<P, F>(&self, env: &EntraWorld<'_>, timeout: Duration, pause: P) -> Result<TokenSet, OAuthError>
    where
        P: Fn(Duration) -> F,
        F: Future<Output = bool>,
    {
        let prepared = client::prepare(env)?;
        let left = self.expires_at.saturating_sub(env.clock.now());
        let timeout = timeout.min(Duration::from_secs(left));
        if timeout.is_zero() {
            return Err(OAuthError::Expired);
        }
        // `oauth2` asks its clock for the deadline before the first poll. Ours is read through a shared cell
        // because the crate wants a clock that can be sent between threads.
        let clock = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(env.clock.now()));
        let reading = std::sync::Arc::clone(&clock);
        let mut request = prepared
            .client
            .exchange_device_access_token(&self.details)
            .set_time_fn(move || client::date(reading.load(std::sync::atomic::Ordering::Relaxed)));
        for (name, value) in prepared.extra {
            request = request.add_extra_param(name, value);
        }
        let send = |request| {
            clock.store(env.clock.now(), std::sync::atomic::Ordering::Relaxed);
            client::send(env, request)
        };
        let answer = request
            .request_async(
                &send,
                |duration| {
                    let pause = pause(duration);
                    let clock = &clock;
                    async move {
                        let now = if pause.await { env.clock.now() } else { NEVER };
                        clock.store(now, std::sync::atomic::Ordering::Relaxed);
                    }
                },
                Some(timeout),
            )
            .await;
        match answer {
            Ok(response) => Ok(client::into_token_set(env, &response)),
            Err(RequestTokenError::ServerResponse(response)) => {
                if *response.error() == DeviceCodeErrorResponseType::ExpiredToken {
                    return Err(OAuthError::Expired);
                }
                let error = serde_json::to_value(response.error()).ok();
                let error = error.as_ref().and_then(|error| error.as_str()).unwrap_or("unknown");
                Err(OAuthError::Refused(Refusal::new(error, &[], response.error_description().map(String::as_str))))
            }
            Err(RequestTokenError::Request(error)) => Err(error),
            Err(RequestTokenError::Parse(..)) => Err(OAuthError::Malformed("the token response")),
            Err(RequestTokenError::Other(_)) => Err(OAuthError::Malformed("an empty token response")),
        }
    }
}
