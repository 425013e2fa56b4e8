//! Callers share instances of the component, and nothing else.

use std::collections::BTreeMap;

use entra_mcp_plugin::environment::TokenMode;
use futures_util::future::join_all;
use http::HeaderValue;
use serde_json::{Value, json};

use super::bearer::{ALICES_OBJECT, fleet_with, token};
use crate::support::remote::{ALICE, BOB, call_request};

/// Calls of each caller.
const CALLS: usize = 25;

#[tokio::test]
async fn callers_that_take_turns_in_an_instance_share_neither_answers_nor_records() {
    for profile_cache_seconds in [0, 60] {
        let fleet = fleet_with(TokenMode::Both, |settings| {
            settings.profile_cache_seconds = profile_cache_seconds;
            settings.http.as_mut().expect("a remote server").client_address_header = Some("x-client-address".into());
        })
        .await;
        let callers = [
            (ALICE, fleet.session(ALICE).await.access),
            (BOB, token(&fleet, BOB).await),
            (ALICE, token(&fleet, ALICE).await),
            (BOB, fleet.session(BOB).await.access),
            ("", "made-up".to_owned()),
        ];
        // Each call comes from an address of its own, by which its record is found.
        let calls = (0..CALLS).flat_map(|turn| callers.iter().enumerate().map(move |caller| (turn, caller)));
        let answers = join_all(calls.map(|(turn, (number, (user, token)))| {
            let address = format!("10.0.{number}.{turn}");
            let mut request = call_request(token);
            request.headers_mut().insert("x-client-address", HeaderValue::try_from(&address).expect("a field"));
            let fleet = &fleet;
            async move { (address, *user, fleet.send(request).await) }
        }))
        .await;

        let recorded: BTreeMap<_, _> = fleet
            .audit
            .events()
            .into_iter()
            .filter(|(_, event)| matches!(event.name.as_str(), "tool.called" | "token.refused"))
            .filter_map(|(_, event)| Some((event.address.clone()?, event)))
            .collect();
        for (address, user, answer) in answers {
            let event = &recorded[&address];
            let named = &answer.body["result"]["structuredContent"]["userPrincipalName"];
            if user.is_empty() {
                assert_eq!((answer.status, named), (401, &Value::Null));
                assert_eq!((event.name.as_str(), &event.object_id, &event.session), ("token.refused", &None, &None));
                assert_eq!(answer.header("x-correlation-id"), event.correlation_id);
                continue;
            }
            assert_eq!((answer.status, named), (200, &json!(user)), "{address}");
            assert_eq!(event.name, "tool.called");
            let is_alices = event.object_id.as_deref() == Some(ALICES_OBJECT);
            assert_eq!(is_alices, user == ALICE, "{address}: {event:?}");
        }
    }
}
