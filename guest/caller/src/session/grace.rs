//! The answer to a refresh, kept for a client that did not get it.
//!
//! A client may lose an answer, or refresh twice at once from two of its machines. For a short time, the refresh token
//! that was replaced gets the very answer again that replaced it. Nothing new is ever made for it.
//!
//! The record is named after the session and the hash of the *new* refresh token. It is written before the session
//! changes, so that there is no moment at which the change is seen and the answer is not; of several calls that prepare an
//! answer, the session says which one counts. As soon as the session has another refresh token, no name leads there.
//!
//! The answer is sealed under the secret of the *old* refresh token, which the store does not have: a copy of the store,
//! with its key, holds no token of a client. To open it is the proof that exactly the token before was presented.

use std::time::Duration;

use base::Secret;
use base::secret::reveal;
use base::settings::{Mode, Settings};
use entra::EntraWorld;
use serde::{Deserialize, Serialize};
use world::StoreError;
use world::records::{Namespace, Partition, SealedUnder, Ttl};

use super::IssuedTokens;
use super::record::{CLOCK_DIFFERENCE_SECONDS, RefreshToken};

/// How answers are sealed.
const SEALED: SealedUnder<Answer> = SealedUnder::json("entra-mcp answer to a refresh");
/// Answers, by session and hash of the refresh token in them. [`keep`] says for how long.
const ANSWERS: Namespace<Secret<Vec<u8>>> = Namespace::bytes(Partition::Application, "session-answer", Ttl::Kept);

/// How much longer than the grace an answer is kept: a request that arrived in the last second of the grace may take as
/// long as a request may take (60 s) until it looks for the answer.
const REQUEST: Duration = Duration::from_secs(61);

/// An answer as it was given.
#[derive(Serialize, Deserialize)]
struct Answer {
    #[serde(serialize_with = "reveal")]
    access_token: Secret<String>,
    #[serde(serialize_with = "reveal")]
    refresh_token: Secret<String>,
    /// As the client was told: it counts from `answered_at`.
    expires_in: u64,
    scopes: Vec<String>,
    /// Unix time in seconds.
    answered_at: u64,
}

/// How long an answer is given again. None: not at all.
pub(super) fn time(settings: &Settings) -> Option<Duration> {
    match &settings.mode {
        Mode::Remote(http) => Some(http.refresh_grace).filter(|grace| !grace.is_zero()),
        Mode::Local(_) | Mode::Validator => None,
    }
}

/// Keeps the answer to `old`, which begins to count when the session's refresh token has the hash `new`.
pub(super) async fn keep(
    env: &EntraWorld<'_>,
    id: &str,
    old: &RefreshToken,
    new: &str,
    tokens: &IssuedTokens,
) -> Result<(), StoreError> {
    let Some(time) = time(env.settings) else { return Ok(()) };
    let answer = Answer {
        access_token: tokens.access_token.clone(),
        refresh_token: tokens.refresh_token.clone(),
        expires_in: tokens.expires_in,
        scopes: tokens.scopes.clone(),
        answered_at: env.clock.now(),
    };
    let sealed = env.records.seal_under(&SEALED, &old.secret, &bound(id, new), &answer)?;
    let answers = ANSWERS.kept_for(time + REQUEST);
    env.records.put(&answers, &[id, new], &sealed).await
}

/// The answer that has made `current` the hash of the session's refresh token, if it was an answer to `old` and the grace
/// had not passed when the request arrived (Unix time in seconds).
pub(super) async fn find(
    env: &EntraWorld<'_>,
    id: &str,
    old: &RefreshToken,
    current: &str,
    arrived: u64,
) -> Result<Option<IssuedTokens>, StoreError> {
    let Some(time) = time(env.settings) else { return Ok(None) };
    let found = env.records.get(&ANSWERS, &[id, current]).await?;
    let opened = found.and_then(|sealed| SEALED.open(&old.secret, &bound(id, current), sealed.reveal()));
    let now = env.clock.now();
    // The setting may have changed since, and the clock may have been set back.
    let counts = |answer: &Answer| {
        arrived.saturating_sub(answer.answered_at) <= time.as_secs()
            && answer.answered_at <= now.saturating_add(CLOCK_DIFFERENCE_SECONDS)
    };
    Ok(opened.filter(counts).map(|answer| IssuedTokens {
        access_token: answer.access_token,
        refresh_token: answer.refresh_token,
        expires_in: answer.expires_in,
        scopes: answer.scopes,
    }))
}

/// Forgets the answer that has, or would have, made `hash` that of the session's refresh token. What cannot be removed
/// now leads nowhere, and ends by itself.
pub(super) async fn forget(env: &EntraWorld<'_>, id: &str, hash: &str) {
    if time(env.settings).is_some() {
        let _ = env.records.delete(&ANSWERS, &[id, hash]).await;
    }
}

/// Both have a fixed length, so the two cannot run together.
fn bound(id: &str, hash: &str) -> Vec<u8> {
    [id.as_bytes(), hash.as_bytes()].concat()
}
