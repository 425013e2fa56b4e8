//! The opaque `requestState` of 2026-07-28: what a client carries from one round of a call to the next.
//!
//! It comes back from outside, so it is sealed (AES-256-GCM) and holds its expiry, the principal it was given to,
//! and a digest of the request it belongs to. The attempt it names can be completed once only.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Caller;
use crate::encoding::{base64url, digest, from_base64url};
use crate::environment::{Environment, StoreError};
use crate::secret::Secret;
use crate::sign_in::accounts;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Binds the ciphertext to its purpose and form.
const PURPOSE: &[u8] = b"entra-mcp request-state v1";
/// A longer state is not one of ours.
const MAX_LENGTH: usize = 4096;
#[derive(Serialize, Deserialize)]
struct State {
    attempt: String,
    /// Unix time in seconds.
    expires_at: u64,
    principal: String,
    request: String,
}

/// What a presented state turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Genuine: the attempt to go on with.
    Attempt(String),
    /// Genuine, but its time is up.
    Expired,
    /// Not ours, altered, another caller's, or for another request.
    Refused,
}

/// What the state belongs to: the tool and its arguments.
pub(super) fn request_digest(tool: &str, arguments: Option<&Value>) -> String {
    let arguments = arguments.map(Value::to_string).unwrap_or_default();
    digest(format!("tools/call\n{tool}\n{arguments}").as_bytes())
}

/// Seals the way back to an attempt, for `caller` only.
pub(super) fn seal(
    env: &Environment,
    caller: &Caller<'_>,
    attempt: &str,
    expires_at: u64,
    request: String,
) -> Result<String, StoreError> {
    let state = State { attempt: attempt.to_owned(), expires_at, principal: caller.principal(), request };
    let plain = serde_json::to_vec(&state).map_err(|_| StoreError::TooLarge)?;
    let mut nonce = [0; NONCE_BYTES];
    env.random.fill(&mut nonce);
    let sealed = cipher(&key(env)?)?
        .encrypt(&Nonce::from(nonce), Payload { msg: &plain, aad: PURPOSE })
        .map_err(|_| StoreError::TooLarge)?;
    Ok(base64url(&[nonce.as_slice(), &sealed].concat()))
}

/// Opens a state that `caller` presents with a request.
pub(super) fn open(env: &Environment, caller: &Caller<'_>, state: &str, request: &str) -> Result<Opened, StoreError> {
    let opened = (state.len() <= MAX_LENGTH).then(|| from_base64url(state)).flatten();
    let Some((nonce, sealed)) = opened.as_deref().and_then(|bytes| bytes.split_first_chunk::<NONCE_BYTES>()) else {
        return Ok(Opened::Refused);
    };
    let plain = cipher(&key(env)?)?.decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: PURPOSE });
    let Some(state) = plain.ok().and_then(|plain| serde_json::from_slice::<State>(&plain).ok()) else {
        return Ok(Opened::Refused);
    };
    if state.principal != caller.principal() || state.request != request {
        return Ok(Opened::Refused);
    }
    if state.expires_at <= env.clock.now() {
        return Ok(Opened::Expired);
    }
    Ok(Opened::Attempt(state.attempt))
}

fn cipher(key: &Secret<Vec<u8>>) -> Result<Aes256Gcm, StoreError> {
    Aes256Gcm::new_from_slice(key.reveal()).map_err(|_| StoreError::Unreadable)
}

/// The key, made on first use. Kept in the store: the next round may reach another instance.
fn key(env: &Environment) -> Result<Secret<Vec<u8>>, StoreError> {
    let record = accounts::record(env, "request-state-key");
    if let Some(key) = env.store.get(&record)? {
        return Ok(key);
    }
    let mut key = Secret::new(vec![0; KEY_BYTES]).reveal().clone();
    env.random.fill(&mut key);
    let key = Secret::new(key);
    if env.store.compare_and_swap(&record, None, key.reveal(), None)? {
        return Ok(key);
    }
    env.store.get(&record)?.ok_or(StoreError::Unreadable)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::environment::fake::{START, World};
    use crate::mcp::Who;
    use crate::session::Session;

    const PERSON: Caller<'static> = Caller { who: Who::Person, correlation_id: "c-1" };

    fn sealed(env: &Environment) -> String {
        seal(env, &PERSON, "attempt-1", START + 600, request_digest("tool", None)).unwrap()
    }

    #[test]
    fn a_state_leads_back_to_its_attempt() {
        let env = World::default().environment();
        let state = sealed(&env);
        assert_eq!(
            open(&env, &PERSON, &state, &request_digest("tool", None)).unwrap(),
            Opened::Attempt("attempt-1".to_owned())
        );
    }

    #[test]
    fn a_state_for_another_request_is_refused() {
        let env = World::default().environment();
        let state = sealed(&env);
        assert_eq!(open(&env, &PERSON, &state, &request_digest("other", None)).unwrap(), Opened::Refused);
        let arguments = serde_json::json!({"a": 1});
        assert_eq!(open(&env, &PERSON, &state, &request_digest("tool", Some(&arguments))).unwrap(), Opened::Refused);
    }

    #[test]
    fn a_state_whose_time_is_up_is_expired() {
        let world = World::default();
        let env = world.environment();
        let state = sealed(&env);
        world.advance(Duration::from_secs(600));
        assert_eq!(open(&env, &PERSON, &state, &request_digest("tool", None)).unwrap(), Opened::Expired);
    }

    #[test]
    fn any_changed_byte_of_a_state_is_refused() {
        let env = World::default().environment();
        let bytes = from_base64url(&sealed(&env)).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(
                open(&env, &PERSON, &base64url(&changed), &request_digest("tool", None)).unwrap(),
                Opened::Refused
            );
        }
    }

    #[test]
    fn a_state_of_another_store_is_refused() {
        let state = sealed(&World::default().environment());
        let other = World::default();
        let mut skip = [0; 8];
        crate::environment::Random::fill(&other, &mut skip);
        assert_eq!(
            open(&other.environment(), &PERSON, &state, &request_digest("tool", None)).unwrap(),
            Opened::Refused
        );
    }

    #[test]
    fn a_state_of_one_caller_is_refused_from_every_other() {
        let env = World::default().environment();
        let session = |tenant: &str, object: &str, client: &str| Session {
            id: "s".to_owned(),
            client_id: client.to_owned(),
            resource: "https://mcp.example.com/mcp".to_owned(),
            scopes: vec!["User.Read".to_owned()],
            tenant_id: tenant.to_owned(),
            object_id: object.to_owned(),
            expires_at: START + 600,
        };
        let request = request_digest("tool", None);
        let alice = session("t", "alice", "client");
        let alice = Caller { who: Who::Session(&alice), correlation_id: "c-1" };
        let state = seal(&env, &alice, "attempt-1", START + 600, request.clone()).unwrap();
        assert_eq!(open(&env, &alice, &state, &request).unwrap(), Opened::Attempt("attempt-1".to_owned()));
        assert_eq!(open(&env, &PERSON, &state, &request).unwrap(), Opened::Refused);
        for (tenant, object, client) in [("u", "alice", "client"), ("t", "bob", "client"), ("t", "alice", "other")] {
            let other = session(tenant, object, client);
            let other = Caller { who: Who::Session(&other), correlation_id: "c-1" };
            assert_eq!(open(&env, &other, &state, &request).unwrap(), Opened::Refused, "{tenant} {object} {client}");
            assert_eq!(open(&env, &other, &sealed(&env), &request).unwrap(), Opened::Refused);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let env = World::default().environment();
        for state in ["", "x", "====", "AAAA", &"A".repeat(5000)] {
            assert_eq!(open(&env, &PERSON, state, "").unwrap(), Opened::Refused);
        }
    }
}
