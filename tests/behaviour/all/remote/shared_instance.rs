//! Callers who share instances of the component never get each other's answers: neither from what an instance remembers, nor
//! where calls of several instances go on in turns while they wait for the store and for Graph.

use std::collections::HashMap;

use entra_mcp_emulator::Endpoint;
use entra_mcp_plugin::environment::TokenMode;
use futures_util::future::join_all;
use serde_json::json;

use super::bearer::{register_api, token};
use crate::support::lab::CONTOSO;
use crate::support::remote::{Fleet, REDIRECT, RESOURCE};

const CALLERS: usize = 8;
const ROUNDS: usize = 12;

/// A fleet of which each replica has so many instances, and callers of it: by turns with a session and with a token of Entra
/// ID. The first call of each has been answered, so that what all have in common is known.
async fn fleet(instances: usize) -> (Fleet, Vec<(String, String)>) {
    let fleet = Fleet::built(
        HashMap::new(),
        |settings| {
            settings.http.as_mut().expect("a remote server").token_mode = TokenMode::Both;
            settings.token.audiences.push(RESOURCE.to_owned());
        },
        |builder| builder.max_instances(instances).max_idle_instances(instances),
    )
    .await;
    register_api(&fleet);
    let client = fleet.register(REDIRECT).await;
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        let username = format!("caller-{number}@contoso.example");
        let user = json!({
            "id": format!("44444444-0000-4000-a000-{number:012}"),
            "tenant": CONTOSO,
            "username": username,
            "password": "emulator",
        });
        fleet.control().put_user(serde_json::from_value(user).expect("a user")).expect("the tenant exists");
        let token = match number % 2 {
            0 => fleet.session_of(&client, &username).await.access,
            _ => token(&fleet, &username).await,
        };
        assert_eq!(fleet.details(&token).await["userPrincipalName"], username);
        callers.push((username, token));
    }
    (fleet, callers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_share_instances_get_their_own_answers() {
    // With one, all calls go through the same memory. With three, calls overlap, and each instance serves every caller.
    for instances in [1, 3] {
        let (fleet, callers) = fleet(instances).await;
        // A call that waits for another one waits by the clock.
        let flying = fleet.let_time_fly();
        fleet.control().clear_requests();
        for _ in 0..ROUNDS {
            let calls = callers.iter().map(|(username, token)| {
                let fleet = &fleet;
                async move { assert_eq!(fleet.details(token).await["userPrincipalName"], **username) }
            });
            join_all(calls).await;
        }
        flying.abort();
        assert_eq!(
            fleet.control().request_count(Endpoint::GraphMe),
            (CALLERS * ROUNDS) as u64,
            "none is answered from a cache"
        );
        for statistics in fleet.statistics() {
            let made = usize::try_from(statistics.created).expect("few");
            assert!(made <= instances && statistics.trapped + statistics.cancelled == 0, "{statistics:?}");
        }
        let called = fleet.audit.events().into_iter().filter(|(_, event)| event.name == "tool.called");
        let mut by_caller: HashMap<String, usize> = HashMap::new();
        for (_, event) in called {
            let object = event.object_id.expect("a caller");
            *by_caller.entry(object).or_default() += 1;
        }
        assert_eq!(by_caller.into_values().collect::<Vec<_>>(), [ROUNDS + 1; CALLERS]);
    }
}
