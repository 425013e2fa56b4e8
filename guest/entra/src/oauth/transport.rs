//! Sends requests to the token and device authorization endpoints, with the retry rules of MSAL.
//!
//! A server error is retried once after a second, unless the answer carries `Retry-After`. All instances that share the
//! store honour that wait: until then none of them sends anything.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response};
use world::records::{Namespace, Partition, Ttl};
use world::{HttpError, limits};
use zeroize::Zeroizing;

use super::error::OAuthError;
use crate::clock_offset;
use crate::entra_world::EntraWorld;

/// Pause before the one retry after a server error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A longer `Retry-After` is cut to this, so that a broken answer cannot lock the users out for days.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// What a throttled answer without `Retry-After` is taken to mean.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Until when Entra ID asks an application to send nothing about a tenant. Unix time in seconds.
const THROTTLED: Namespace<u64> = Namespace::json(Partition::Store, "throttled", Ttl::Kept).absent_if_malformed();

/// Sends one request. Answers of status 200 to 499 other than 429 are returned for the caller to read.
///
/// What is sent and what is returned is zeroised on drop. The copy that a single attempt hands to the HTTP client is the
/// client's: the streams of `wasi:http` take bytes that cannot be wiped.
pub(super) async fn send(
    env: &EntraWorld<'_>,
    mut request: Request<Zeroizing<Vec<u8>>>,
) -> Result<Response<Zeroizing<Vec<u8>>>, OAuthError> {
    // Entra ID counts by application and tenant, and so does the wait.
    let tenant = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    let throttle = [env.settings.authority.as_str(), &tenant, &env.settings.client_id];
    if let Some(until) = env.records.get(&THROTTLED, &throttle).await? {
        let left = until.saturating_sub(env.clock.now());
        if left > 0 {
            return Err(OAuthError::Throttled(Duration::from_secs(left)));
        }
    }
    request.headers_mut().insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
    let mut retried = false;
    loop {
        let answer = env.http.send(request.clone().map(|mut body| std::mem::take(&mut *body))).await;
        let failure = match answer {
            Ok(response) => {
                let response = response.map(Zeroizing::new);
                clock_offset::observe(env, response.headers());
                let status = response.status();
                if let Some(pause) = asked_to_wait(&response) {
                    let until = env.clock.now() + pause.as_secs();
                    limits::throttled(env.trail, "entra", None).await;
                    env.records.put(&THROTTLED.kept_for(pause), &throttle, &until).await?;
                    return Err(OAuthError::Throttled(pause));
                }
                if !status.is_server_error() {
                    return Ok(response);
                }
                OAuthError::ServerError(status.as_u16())
            }
            // Nothing was sent, so sending again is safe. A broken exchange may have consumed a code.
            Err(error @ HttpError::Connect(_)) => OAuthError::Unreachable(error),
            Err(error) => return Err(OAuthError::Unreachable(error)),
        };
        if retried {
            return Err(failure);
        }
        retried = true;
        env.clock.sleep(RETRY_PAUSE).await;
    }
}

/// How long the answer asks to wait, if it is one of a server that wants to be left alone.
fn asked_to_wait<B>(response: &Response<B>) -> Option<Duration> {
    let status = response.status();
    if status.as_u16() != 429 && !status.is_server_error() {
        return None;
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(retry_after);
    match asked {
        Some(pause) => Some(pause.max(Duration::from_secs(1))),
        None if status.as_u16() == 429 => Some(DEFAULT_RETRY_AFTER),
        None => None,
    }
}

/// Delay seconds of `Retry-After` (RFC 9110 section 10.2.3). Entra ID and Graph do not use the date form.
/// At most [`MAX_RETRY_AFTER`].
pub(crate) fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let asked = value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)?;
    Some(asked.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::EntraWorlds as _;
    use world::testing::{World, json as response, run};

    fn ask(env: &EntraWorld<'_>, tenant: &str) -> Result<(), OAuthError> {
        let url = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
        run(send(env, Request::post(url).body(Zeroizing::default()).unwrap())).map(drop)
    }

    /// Otherwise the people of one tenant could keep those of all others from signing in.
    #[test]
    fn entra_is_left_alone_in_the_tenant_that_it_asks_it_for() {
        let world = World::default();
        let env = world.entra();
        world.once(|_| {
            let mut busy = response(429, &json!({}));
            busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
            Ok(busy)
        });
        world.always(|_| Ok(response(200, &json!({}))));
        let throttled = |seconds| Err(OAuthError::Throttled(Duration::from_secs(seconds)));
        assert_eq!(ask(&env, "one"), throttled(60));
        assert_eq!((ask(&env, "other"), ask(&env, "one")), (Ok(()), throttled(60)));
        assert_eq!(world.sent().len(), 2);
        world.advance(Duration::from_secs(60));
        assert_eq!(ask(&env, "one"), Ok(()));
    }
}
