//! What the audit records hold: every event once, the caller it belongs to, and nothing secret or private.

use std::collections::BTreeMap;

use entra_mcp_emulator::{Endpoint, Fault};
use entra_mcp_plugin::audit::{Event, Outcome};
use entra_mcp_plugin::environment::{CallerKind, TokenMode, ToolRule};
use serde_json::json;

use super::bearer::{app_only, fleet_with, signed, token};
use crate::support::component::modern;
use crate::support::lab::VERIFIER;
use crate::support::remote::{
    ALICE, Answer, Authorize, Fleet, PUBLIC_URL, REDIRECT, REFRESH_GRACE, Tab, Tokens, call_request, parameter,
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const ADDRESS: &str = "203.0.113.7";

/// A fleet that is told where its clients are.
async fn fleet(mode: TokenMode, audit_usernames: bool) -> Fleet {
    fleet_with(mode, |settings| {
        settings.audit_usernames = audit_usernames;
        settings.http.as_mut().expect("a remote server").client_address_header = Some("x-client-address".to_owned());
    })
    .await
}

/// A call that comes from [`ADDRESS`], and is part of [`TRACE`].
async fn call(fleet: &Fleet, token: &str) -> Answer {
    let mut request = call_request(token);
    let parameters = json!({ "name": "getUserDetails", "arguments": {} });
    let mut message = modern("tools/call", parameters, json!({}));
    message["params"]["_meta"]["traceparent"] = json!(TRACE);
    *request.body_mut() = message.to_string().into_bytes();
    request.headers_mut().insert("x-client-address", http::HeaderValue::from_static(ADDRESS));
    fleet.send(request).await
}

fn events(fleet: &Fleet) -> Vec<Event> {
    fleet.audit.events().into_iter().map(|(_, event)| event).collect()
}

/// The one event of this name.
fn only(fleet: &Fleet, name: &str) -> Event {
    let mut found: Vec<_> = events(fleet).into_iter().filter(|event| event.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

fn how(event: &Event) -> String {
    let outcome = match event.outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Started => "started",
    };
    format!(
        "{}/{outcome}{}",
        event.name,
        event.reason.as_deref().map(|reason| format!("/{reason}")).unwrap_or_default()
    )
}

/// Does everything that a client and its user can do, and what they must not do. Returns the secrets that occur.
async fn everything(fleet: &Fleet) -> Vec<String> {
    let client = fleet.register(REDIRECT).await;
    let authorize = Authorize::new(&client);

    // The person denies consent.
    let mut tab = Tab::default();
    let page = tab.open(fleet, &authorize.path()).await;
    tab.decide(fleet, &page, "deny").await;

    // A sign-in, a code that an attacker tries with a wrong verifier, a session.
    let mut tab = Tab::default();
    let back = tab.walk(fleet, &authorize, ALICE).await;
    let code = parameter(&back, "code").expect("there is a code");
    fleet.redeem_with(&client, &code, &[("code_verifier", &"x".repeat(43))]).await;
    let first = Tokens::of(&client, &fleet.redeem(&client, &code).await);
    assert_eq!(call(fleet, &first.access).await.status, 200);

    // Graph throttles.
    fleet.control().inject(Fault::on(Endpoint::GraphMe).status(429).header("retry-after", "3600"));
    call(fleet, &first.access).await;
    fleet.control().clear_faults();

    // The client refreshes, and refreshes again with the used token: at once, and when it is too late.
    let second = Tokens::of(&client, &fleet.refresh(&client, &first.refresh).await);
    assert_eq!(fleet.refresh(&client, &first.refresh).await.status, 200);
    fleet.advance(u64::from(REFRESH_GRACE) + 1);
    fleet.refresh(&client, &first.refresh).await;
    assert_eq!(call(fleet, &second.access).await.status, 401);

    // The server refreshes the Entra ID token; the client ends the session.
    fleet.shorten_tokens(900);
    let third = fleet.session_of(&client, ALICE).await;
    fleet.advance(700);
    let renewed = Tokens::of(&client, &fleet.refresh(&client, &third.refresh).await);
    fleet.post_form("/revoke", &[("client_id", &client), ("token", &renewed.access)]).await;

    // A client that does not prove its identity.
    let metadata = json!({
        "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post",
    });
    let confidential = fleet.post_json("/register", &metadata).await.body;
    let id = confidential["client_id"].as_str().expect("there is an id").to_owned();
    let form = [("grant_type", "refresh_token"), ("client_id", id.as_str()), ("refresh_token", "x")];
    fleet.post_form("/token", &form).await;

    // Tokens of Entra ID: for a user, for an application, and one that is invalid.
    let (user, application) = (token(fleet, ALICE).await, app_only(fleet).await);
    assert_eq!(call(fleet, &user).await.status, 200);
    assert_eq!(call(fleet, &user).await.status, 200);
    call(fleet, &application).await;
    call(fleet, "a.b.c").await;

    let mut secrets = vec![
        code,
        VERIFIER.to_owned(),
        fleet.emulator.endpoints().client_secret.clone(),
        confidential["client_secret"].as_str().expect("there is a secret").to_owned(),
        "the client's state".to_owned(),
        user,
        application,
    ];
    for tokens in [first, second, third, renewed] {
        secrets.extend([tokens.access, tokens.refresh]);
    }
    secrets.extend(tab.cookies.into_iter().map(|(_, value)| value));
    // Secrets in the requests of the server and of browsers to Entra ID and Graph.
    for endpoint in fleet.control().request_counts().into_keys() {
        for request in fleet.control().requests(endpoint) {
            const SECRET: [&str; 8] = [
                "code",
                "refresh_token",
                "assertion",
                "client_secret",
                "code_verifier",
                "state",
                "nonce",
                "authorization",
            ];
            let parameters = request.form.iter().chain(&request.query).chain(&request.headers);
            let secret = parameters.filter(|(name, _)| SECRET.contains(&name.as_str()));
            secrets.extend(secret.map(|(_, value)| value.trim_start_matches("Bearer ").to_owned()));
        }
    }
    secrets.retain(|secret| secret.len() > 3);
    secrets
}

#[tokio::test]
async fn every_event_is_recorded_once() {
    let fleet = fleet(TokenMode::Both, false).await;
    everything(&fleet).await;
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for event in events(&fleet) {
        *counted.entry(how(&event)).or_default() += 1;
    }
    let expected = [
        ("authorization.completed/success", 2),
        ("authorization.started/started", 2),
        ("client.refused/failure/unauthenticated", 1),
        ("client.registered/success", 2),
        ("code.refused/failure/wrong-verifier", 1),
        ("consent.denied/failure", 1),
        ("consent.given/success", 2),
        ("on-behalf-of.issued/success", 1),
        ("request.throttled/failure/graph", 1),
        ("session.created/success", 2),
        ("session.refresh-repeated/success", 1),
        ("session.refreshed/success", 2),
        ("session.reused/failure", 1),
        ("session.revoked/success/refresh-token-reused", 1),
        ("session.revoked/success/revoked-by-client", 1),
        ("signing-keys.refresh/success", 1),
        // The user's by either replica, and the application's.
        ("token.accepted/success", 3),
        ("token.refreshed/success", 1),
        ("token.refused/failure/encoding-invalid", 1),
        ("token.refused/failure/session-unknown", 1),
        ("tool.called/failure/graph-throttled", 1),
        ("tool.called/success", 3),
        ("tool.denied/failure/kind-not-allowed", 1),
    ];
    assert_eq!(counted, expected.map(|(name, times)| (name.to_owned(), times)).into());
}

#[tokio::test]
async fn no_record_holds_a_secret_or_a_name() {
    let fleet = fleet(TokenMode::Both, false).await;
    let secrets = everything(&fleet).await;
    let text = format!("{:?}", fleet.audit.events());
    assert!(secrets.len() > 30, "{}", secrets.len());
    for secret in secrets {
        assert!(!text.contains(&secret), "a record holds {secret}");
    }
    for name in ["alice", "contoso.example", "Alice", "getuserdetails@"] {
        assert!(!text.contains(name), "a record holds {name}");
    }
}

#[tokio::test]
async fn every_event_is_in_the_contract() {
    let fleet = fleet(TokenMode::Both, false).await;
    everything(&fleet).await;
    let contract = include_str!("../../../../wit/audit.wit");
    for event in events(&fleet) {
        assert!(contract.contains(&format!("`{}`", event.name)), "wit/audit.wit does not name {}", event.name);
        assert!(!event.correlation_id.is_empty(), "{event:?}");
        assert_eq!(event.further, [], "{}: the host knows every attribute of its component", event.name);
    }
}

#[tokio::test]
async fn a_call_says_where_it_comes_from_with_which_token_in_which_trace_and_how_long_it_took() {
    let fleet = fleet(TokenMode::Bearer, false).await;
    let token = token(&fleet, ALICE).await;
    call(&fleet, &token).await;
    for name in ["token.accepted", "on-behalf-of.issued", "tool.called"] {
        let event = only(&fleet, name);
        assert_eq!(event.address.as_deref(), Some(ADDRESS), "{name}");
        assert!(event.token_id.as_deref().is_some_and(|id| id.len() >= 16), "{event:?}");
        assert_eq!((event.session, event.username), (None, None), "{name}");
    }
    let called = only(&fleet, "tool.called");
    assert_eq!((called.trace_parent.as_deref(), called.tool.as_deref()), (Some(TRACE), Some("getUserDetails")));
    assert!(called.latency_us.is_some() && only(&fleet, "on-behalf-of.issued").latency_us.is_some());
    // When the token is checked, its trace is not known yet.
    assert_eq!(only(&fleet, "token.accepted").trace_parent, None);
}

#[tokio::test]
async fn every_record_of_a_call_says_that_an_agent_acted() {
    const BLUEPRINT: &str = "30cf4c22-9985-4ef7-8756-91cc888176bd";
    let agents = ToolRule { kinds: vec![CallerKind::Agent], ..super::access::rule() };
    let fleet = fleet_with(TokenMode::Bearer, |settings| {
        let http = settings.http.as_mut().expect("a remote server");
        http.client_address_header = Some("x-client-address".to_owned());
        http.access = Some(vec![agents]);
    })
    .await;
    let claims = [("xms_act_fct", json!("9 11 3")), ("xms_sub_fct", json!("3")), ("xms_par_app_azp", json!(BLUEPRINT))];
    call(&fleet, &signed(&fleet, &claims, false)).await;
    for name in ["token.accepted", "tool.called"] {
        let event = only(&fleet, name);
        assert_eq!(event.agent.as_deref(), Some("on-behalf-of-user"), "{name}");
        assert_eq!((event.agent_blueprint.as_deref(), event.further), (Some(BLUEPRINT), Vec::new()), "{name}");
    }
}

#[tokio::test]
async fn a_session_has_one_name_from_its_beginning_to_its_end_and_on_every_replica() {
    let fleet = fleet(TokenMode::Session, false).await;
    let tokens = fleet.session(ALICE).await;
    call(&fleet, &tokens.access).await;
    call(&fleet, &tokens.access).await;
    let renewed = Tokens::of(&tokens.client_id, &fleet.refresh(&tokens.client_id, &tokens.refresh).await);
    fleet.post_form("/revoke", &[("client_id", &tokens.client_id), ("token", &renewed.refresh)]).await;
    let name = only(&fleet, "session.created").session.expect("a session has a name");
    let of_it = ["session.created", "session.refreshed", "session.revoked", "tool.called"];
    for event in events(&fleet).iter().filter(|event| of_it.contains(&event.name.as_str())) {
        assert_eq!(event.session.as_deref(), Some(name.as_str()), "{event:?}");
    }
    fleet.session(ALICE).await;
    let second = events(&fleet).into_iter().rfind(|event| event.name == "session.created").expect("another session");
    assert_ne!(second.session.as_deref(), Some(name.as_str()));
    assert_eq!(name.len(), 32);
}

#[tokio::test]
async fn people_are_named_if_the_settings_ask_for_it() {
    let fleet = fleet(TokenMode::Both, true).await;
    let tokens = fleet.session(ALICE).await;
    call(&fleet, &tokens.access).await;
    call(&fleet, &token(&fleet, ALICE).await).await;
    for name in ["authorization.completed", "session.created", "on-behalf-of.issued"] {
        assert_eq!(only(&fleet, name).username.as_deref(), Some(ALICE), "{name}");
    }
    let calls: Vec<_> = events(&fleet).into_iter().filter(|event| event.name == "tool.called").collect();
    assert_eq!(calls.iter().map(|event| event.username.as_deref()).collect::<Vec<_>>(), [Some(ALICE); 2]);
}

#[tokio::test]
async fn one_callers_facts_are_never_in_the_record_of_the_next() {
    let fleet = fleet(TokenMode::Both, true).await;
    let bearer = token(&fleet, ALICE).await;
    // Both replicas have served Alice, and then serve an unknown caller.
    for _ in 0..2 {
        call(&fleet, &bearer).await;
    }
    let before = events(&fleet).len();
    for _ in 0..2 {
        fleet.send(call_request("unknown")).await;
    }
    for event in &events(&fleet)[before..] {
        assert_eq!(event.name, "token.refused");
        let known = (&event.address, &event.token_id, &event.session, &event.username, &event.trace_parent);
        assert_eq!(known, (&None, &None, &None, &None, &None));
    }
    assert_eq!(fleet.get(&format!("/?{PUBLIC_URL}")).await.status, 200);
}
