//! A rule that wants an authentication context: the client is challenged for exactly that one, for that tool only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entra_mcp_emulator::Requirement;
use entra_mcp_emulator::user_agent::Person;
use entra_mcp_plugin::environment::{TokenMode, ToolRule};
use serde_json::{Value, json};

use super::access::rule;
use super::bearer::{SCOPE, app_only, authorize, fleet_with, token, token_by, tool_error};
use crate::support::lab::{PASSWORD, claims as claims_of};
use crate::support::remote::{ALICE, Answer, Authorize, BOB, Fleet, REDIRECT, Tab, Tokens, parameter, path_of};

const OTHER: &str = "GetUserDetailsFromGraph";
/// How long a sign-in with a context counts for a session, in seconds.
const LIFETIME: u64 = 5_400;

/// `getUserDetails` needs `c7`, and the other tool only a person.
async fn fleet(mode: TokenMode) -> Fleet {
    let step_up = ToolRule { acrs: Some(vec!["c7".to_owned(), "c8".to_owned()]), ..rule() };
    let rules = vec![step_up, ToolRule { tool: OTHER.to_owned(), ..rule() }];
    fleet_with(mode, |settings| settings.http.as_mut().expect("a remote server").access = Some(rules)).await
}

/// The claims of a challenge.
fn challenged(answer: &Answer) -> Value {
    let challenge = answer.header("www-authenticate");
    assert_eq!(answer.status, 401, "{challenge} {}", answer.body);
    assert!(challenge.starts_with("Bearer error=\"insufficient_claims\", "), "{challenge}");
    let rest = challenge.split("claims=\"").nth(1).expect("there are claims");
    let encoded = rest.split('"').next().expect("a quoted text");
    serde_json::from_slice(&STANDARD.decode(encoded).expect("base64")).expect("JSON")
}

/// What the tool's error says.
fn refusal(answer: &Answer) -> String {
    tool_error(answer).to_owned()
}

async fn list(fleet: &Fleet, token: &str) -> Vec<String> {
    let mut request = crate::support::remote::call_request(token);
    let message = crate::support::component::modern("tools/list", json!({}), json!({}));
    *request.body_mut() = message.to_string().into_bytes();
    request.headers_mut().remove("mcp-name");
    request.headers_mut().insert("mcp-method", http::HeaderValue::from_static("tools/list"));
    let answer = fleet.send(request).await;
    let tools = answer.body["result"]["tools"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).clone();
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn a_client_with_a_token_asks_entra_for_the_context_of_the_challenge_and_calls_again() {
    let fleet = fleet(TokenMode::Bearer).await;
    let plain = token(&fleet, ALICE).await;
    assert_eq!(list(&fleet, &plain).await, ["getUserDetails", OTHER], "what can be reached is shown");
    let claims = challenged(&fleet.call(&plain).await);
    assert_eq!(claims, json!({ "access_token": { "acrs": { "essential": true, "value": "c7" } } }));
    fleet.structured(&plain, OTHER, &json!({})).await;
    // Another context is not this one.
    let other = json!({ "access_token": { "acrs": { "essential": true, "value": "c1" } } });
    let elsewhere = token_by(&fleet, &authorize(SCOPE).with("claims", &other.to_string()), ALICE).await;
    assert_eq!(claims_of(&elsewhere)["acrs"], json!(["c1"]));
    assert_eq!(challenged(&fleet.call(&elsewhere).await), claims);
    let stepped_up = token_by(&fleet, &authorize(SCOPE).with("claims", &claims.to_string()), ALICE).await;
    assert_eq!(fleet.details(&stepped_up).await["userPrincipalName"], ALICE);
    // The one token does not make the other strong, and a person's context is no one else's.
    challenged(&fleet.call(&plain).await);
    challenged(&fleet.call(&token(&fleet, BOB).await).await);
    let reasons: Vec<_> = fleet.audit.events().into_iter().filter(|(_, event)| event.name == "tool.denied").collect();
    assert!(reasons.iter().all(|(_, event)| event.reason.as_deref() == Some("authentication-context-missing")));
    // An application can satisfy none, and is not sent for one.
    let said = refusal(&fleet.call(&app_only(&fleet).await).await);
    assert!(said.contains("an application (app-only)"), "{said}");
}

/// A person at their browser signs a client in; where the browser is sent to in the end.
async fn way(fleet: &Fleet, client: &str, tab: &mut Tab) -> (Vec<Value>, url::Url) {
    let mut carried = Vec::new();
    let mut next = tab.consent(fleet, &Authorize::new(client)).await;
    while next.as_str().starts_with(&fleet.emulator.endpoints().authority) {
        let claims = parameter(&next, "claims").expect("there are claims");
        carried.push(serde_json::from_str(&claims).expect("JSON"));
        let callback = tab.sign_in(&next, &Person::new(ALICE, PASSWORD)).await;
        next = tab.open(fleet, &path_of(&callback)).await.location();
    }
    (carried, next)
}

#[tokio::test]
async fn the_person_of_a_session_is_sent_to_entra_once_more_with_the_context_of_the_rule() {
    let fleet = fleet(TokenMode::Session).await;
    let (client, mut tab) = (fleet.register(REDIRECT).await, Tab::default());
    let (carried, back) = way(&fleet, &client, &mut tab).await;
    assert_eq!((carried.len(), &carried[0]["id_token"]), (1, &Value::Null));
    let answer = fleet.redeem(&client, &parameter(&back, "code").expect("a code")).await;
    let plain = Tokens::of(&client, &answer);
    assert_eq!(list(&fleet, &plain.access).await, ["getUserDetails", OTHER]);
    let refused = fleet.call(&plain.access).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("insufficient_scope")));
    fleet.structured(&plain.access, OTHER, &json!({})).await;

    let (carried, back) = way(&fleet, &client, &mut tab).await;
    assert_eq!(carried.len(), 2, "{carried:?}");
    assert_eq!(carried[1]["id_token"]["acrs"], json!({ "essential": true, "value": "c7" }));
    let answer = fleet.redeem(&client, &parameter(&back, "code").expect("a code")).await;
    let strong = Tokens::of(&client, &answer);
    assert_eq!(fleet.details(&strong.access).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.call(&plain.access).await.status, 403, "the other session is as it was");
    // A refresh is no sign-in: it neither takes the context away nor makes it younger.
    fleet.advance(3_000);
    let strong = Tokens::of(&client, &fleet.refresh(&client, &strong.refresh).await);
    assert_eq!(fleet.details(&strong.access).await["userPrincipalName"], ALICE);
    fleet.advance(LIFETIME - 3_000);
    let strong = Tokens::of(&client, &fleet.refresh(&client, &strong.refresh).await);
    assert_eq!(fleet.call(&strong.access).await.status, 403);
    fleet.structured(&strong.access, OTHER, &json!({})).await;
}

#[tokio::test]
async fn a_person_whom_conditional_access_refuses_the_context_gets_no_session_for_it() {
    let fleet = fleet(TokenMode::Session).await;
    let (client, mut tab) = (fleet.register(REDIRECT).await, Tab::default());
    let (_, back) = way(&fleet, &client, &mut tab).await;
    let answer = fleet.redeem(&client, &parameter(&back, "code").expect("a code")).await;
    let plain = Tokens::of(&client, &answer);
    assert_eq!(fleet.call(&plain.access).await.status, 403);
    // The second factor is refused by the policy between the two sign-ins.
    let entra = tab.consent(&fleet, &Authorize::new(&client)).await;
    let callback = tab.sign_in(&entra, &Person::new(ALICE, PASSWORD)).await;
    let again = tab.open(&fleet, &path_of(&callback)).await.location();
    fleet.control().set_requirement(ALICE, Requirement::UseCompliantDevice).expect("Alice exists");
    let mut browser = entra_mcp_emulator::user_agent::HeadlessBrowser::new().staying();
    let refused = browser.sign_in_as(again.as_str(), &Person::new(ALICE, PASSWORD)).await;
    assert_eq!(crate::support::lab::refused(refused).0, 53_003);
    assert_eq!(fleet.call(&plain.access).await.status, 403);
    fleet.structured(&plain.access, OTHER, &json!({})).await;
}
