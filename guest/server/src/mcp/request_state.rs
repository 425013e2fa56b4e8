//! The opaque `requestState` of 2026-07-28: what a client carries from one round of a call to the next.
//!
//! It comes back from outside, so it is sealed (AES-256-GCM) and holds its expiry, the principal it was given to,
//! and a digest of the request it belongs to. The attempt it names can be completed once only.

use base::encoding::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use world::StoreError;
use world::records::{Partition, Sealed};

use super::Peer;

/// Binds the ciphertext to its purpose and form.
const PURPOSE: &[u8] = b"entra-mcp request-state v1";

#[derive(Serialize, Deserialize)]
struct RequestState {
    attempt: String,
    /// Unix time in seconds.
    expires_at: u64,
    principal: String,
    request: String,
}

/// States as they go out.
const STATES: Sealed<RequestState> = Sealed::json(Partition::Application, "request-state-key");

/// What a presented state turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OpenedState {
    /// Genuine: the attempt to go on with.
    Attempt(String),
    /// Genuine, but its time is up.
    Expired,
    /// Not sealed by this server, altered, another caller's, or for another request.
    Refused,
}

/// What the state belongs to: the tool and its arguments.
pub(super) fn request_digest(tool: &str, arguments: Option<&Value>) -> String {
    let arguments = arguments.map(Value::to_string).unwrap_or_default();
    digest(format!("tools/call\n{tool}\n{arguments}").as_bytes())
}

/// Seals the way back to an attempt, for `peer` only.
pub(super) async fn seal(
    peer: &Peer<'_>,
    attempt: &str,
    expires_at: u64,
    request: String,
) -> Result<String, StoreError> {
    let state = RequestState { attempt: attempt.to_owned(), expires_at, principal: peer.principal(), request };
    peer.entra().records.seal(&STATES, PURPOSE, &state).await
}

/// Opens a state that `peer` presents with a request.
pub(super) async fn open(peer: &Peer<'_>, state: &str, request: &str) -> Result<OpenedState, StoreError> {
    let Some(state) = peer.entra().records.open(&STATES, PURPOSE, state).await? else {
        return Ok(OpenedState::Refused);
    };
    if state.principal != peer.principal() || state.request != request {
        return Ok(OpenedState::Refused);
    }
    if state.expires_at <= peer.entra().clock.now() {
        return Ok(OpenedState::Expired);
    }
    Ok(OpenedState::Attempt(state.attempt))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::encoding::{base64url, from_base64url};
    use caller::SessionCaller;
    use caller::session::Session;
    use world::testing::{START, World, run};

    use super::*;
    use crate::local_world::LocalWorld;
    use crate::testing::ServerWorlds as _;

    fn sealed(person: &LocalWorld<'_>) -> String {
        run(seal(&Peer::Local(person), "attempt-1", START + 600, request_digest("tool", None))).unwrap()
    }

    #[test]
    fn a_state_leads_back_to_its_attempt() {
        let env = World::default().local();
        let state = sealed(&env);
        assert_eq!(
            run(open(&Peer::Local(&env), &state, &request_digest("tool", None))).unwrap(),
            OpenedState::Attempt("attempt-1".to_owned())
        );
    }

    #[test]
    fn a_state_for_another_request_is_refused() {
        let env = World::default().local();
        let state = sealed(&env);
        assert_eq!(
            run(open(&Peer::Local(&env), &state, &request_digest("other", None))).unwrap(),
            OpenedState::Refused
        );
        let arguments = serde_json::json!({"a": 1});
        assert_eq!(
            run(open(&Peer::Local(&env), &state, &request_digest("tool", Some(&arguments)))).unwrap(),
            OpenedState::Refused
        );
    }

    #[test]
    fn a_state_whose_time_is_up_is_expired() {
        let world = World::default();
        let env = world.local();
        let state = sealed(&env);
        world.advance(Duration::from_secs(600));
        assert_eq!(run(open(&Peer::Local(&env), &state, &request_digest("tool", None))).unwrap(), OpenedState::Expired);
    }

    #[test]
    fn any_changed_byte_of_a_state_is_refused() {
        let env = World::default().local();
        let bytes = from_base64url(&sealed(&env)).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(
                run(open(&Peer::Local(&env), &base64url(&changed), &request_digest("tool", None))).unwrap(),
                OpenedState::Refused
            );
        }
    }

    #[test]
    fn a_state_of_another_store_is_refused() {
        let state = sealed(&World::default().local());
        let other = World::default();
        let mut skip = [0; 8];
        world::Random::fill(&other, &mut skip);
        assert_eq!(
            run(open(&Peer::Local(&other.local()), &state, &request_digest("tool", None))).unwrap(),
            OpenedState::Refused
        );
    }

    #[test]
    fn a_state_of_one_caller_is_refused_from_every_other() {
        let world = World::default();
        let (env, server) = (world.local(), world.remote());
        let session = |tenant: &str, object: &str, client: &str| Session {
            id: "s".to_owned(),
            client_id: client.to_owned(),
            resource: "https://mcp.example.com/mcp".to_owned(),
            scopes: vec!["User.Read".to_owned()],
            tenant_id: tenant.to_owned(),
            object_id: object.to_owned(),
            expires_at: START + 600,
            membership: Default::default(),
        };
        let request = request_digest("tool", None);
        let alice = session("t", "alice", "client");
        let alice = SessionCaller { env: &server.entra, session: &alice };
        let alice = Peer::Remote(&server, &alice);
        let state = run(seal(&alice, "attempt-1", START + 600, request.clone())).unwrap();
        assert_eq!(run(open(&alice, &state, &request)).unwrap(), OpenedState::Attempt("attempt-1".to_owned()));
        assert_eq!(run(open(&Peer::Local(&env), &state, &request)).unwrap(), OpenedState::Refused);
        for (tenant, object, client) in [("u", "alice", "client"), ("t", "bob", "client"), ("t", "alice", "other")] {
            let other = session(tenant, object, client);
            let other = SessionCaller { env: &server.entra, session: &other };
            let other = Peer::Remote(&server, &other);
            assert_eq!(
                run(open(&other, &state, &request)).unwrap(),
                OpenedState::Refused,
                "{tenant} {object} {client}"
            );
            assert_eq!(run(open(&other, &sealed(&env), &request)).unwrap(), OpenedState::Refused);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let env = World::default().local();
        for state in ["", "x", "====", "AAAA", &"A".repeat(5000)] {
            assert_eq!(run(open(&Peer::Local(&env), state, "")).unwrap(), OpenedState::Refused);
        }
    }
}
