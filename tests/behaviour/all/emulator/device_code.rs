//! Device code: the polling answers, and the page where a person types the code.

use entra_mcp_emulator::user_agent::Person;
use entra_mcp_emulator::{DeviceOutcome, DeviceScript, Endpoint};

use crate::support::lab::{Answer, CONTOSO, GRAPH_SCOPE, LOCAL, Lab, PASSWORD, REMOTE, Refusal, app, refused};

const ALICE: &str = "alice@contoso.example";

async fn start(lab: &Lab) -> Answer {
    let url = format!("{}/{CONTOSO}/oauth2/v2.0/devicecode", lab.endpoints().authority);
    lab.post(&url, &[("client_id", &app(LOCAL)), ("scope", GRAPH_SCOPE)]).await
}

async fn poll(lab: &Lab, device_code: &str) -> Answer {
    let client = app(LOCAL);
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", client.as_str()),
        ("device_code", device_code),
    ];
    lab.token(CONTOSO, &form).await
}

#[tokio::test]
async fn a_person_types_the_code_signs_in_and_confirms() {
    let mut lab = Lab::new().await;
    let started = start(&lab).await;
    assert_eq!((&started.body["expires_in"], &started.body["interval"]), (&900.into(), &5.into()));
    assert!(started.body["verification_uri_complete"].is_null());
    let (device, user) = (started.text("device_code").to_owned(), started.text("user_code").to_owned());
    assert!(started.text("message").contains(&user));
    assert_eq!(poll(&lab, &device).await.refusal(), (400, "authorization_pending", 70_016));
    let typed = user.to_ascii_lowercase();
    let landing =
        lab.browser.approve_device_code(started.text("verification_uri"), &typed, ALICE, PASSWORD).await.unwrap();
    assert_eq!(landing.pages, ["Sign in", "Enter password", "Confirm the device"]);
    assert!(landing.body.contains("You're signed in"));
    let answer = poll(&lab, &device).await;
    assert_eq!(answer.claims("id_token")["preferred_username"], ALICE);
    assert!(answer.body["refresh_token"].is_string());
    assert_eq!(poll(&lab, &device).await.refusal(), (400, "invalid_grant", 54_005));
}

#[tokio::test]
async fn a_person_declines() {
    let mut lab = Lab::new().await;
    let started = start(&lab).await;
    let person = Person::new(ALICE, PASSWORD).declining();
    let outcome =
        lab.browser.approve_device_code_as(started.text("verification_uri"), started.text("user_code"), &person).await;
    assert_eq!(refused(outcome).0, 65_004);
    assert_eq!(poll(&lab, started.text("device_code")).await.refusal(), (400, "authorization_declined", 70_018));
}

#[tokio::test]
async fn a_code_expires_after_fifteen_minutes() {
    let mut lab = Lab::new().await;
    let started = start(&lab).await;
    lab.advance(900);
    assert_eq!(poll(&lab, started.text("device_code")).await.refusal(), (400, "expired_token", 70_020));
    let outcome =
        lab.browser.approve_device_code(started.text("verification_uri"), started.text("user_code"), ALICE, PASSWORD);
    assert!(outcome.await.is_err(), "an expired code cannot be typed any more");
}

#[tokio::test]
async fn an_unknown_code_is_refused() {
    let lab = Lab::new().await;
    assert_eq!(poll(&lab, "Dnothing").await.refusal(), (400, "bad_verification_code", 70_019));
}

#[tokio::test]
async fn outcomes_can_be_scripted() {
    let lab = Lab::new().await;
    let script = DeviceScript { interval: Some(0), slow_down: 2, ..DeviceScript::default() };
    lab.control().script_device_codes(script.clone());
    let started = start(&lab).await;
    assert_eq!(started.body["interval"], 0);
    for expected in ["slow_down", "slow_down", "authorization_pending"] {
        assert_eq!(poll(&lab, started.text("device_code")).await.text("error"), expected);
    }
    let cases = [(DeviceOutcome::Declined, 70_018), (DeviceOutcome::Expired, 70_020)];
    for (outcome, code) in cases {
        lab.control().script_device_codes(DeviceScript { outcome: Some(outcome), ..DeviceScript::default() });
        let started = start(&lab).await;
        assert_eq!(poll(&lab, started.text("device_code")).await.refusal().2, code);
    }
    let approved = DeviceOutcome::ApprovedBy(ALICE.to_owned());
    lab.control().script_device_codes(DeviceScript { outcome: Some(approved), ..DeviceScript::default() });
    let started = start(&lab).await;
    assert_eq!(poll(&lab, started.text("device_code")).await.status, 200);
    assert_eq!(lab.control().request_count(Endpoint::DeviceCode), 4);
}

#[tokio::test]
async fn the_code_endpoint_refuses_what_entra_refuses() {
    let lab = Lab::new().await;
    let url = format!("{}/{CONTOSO}/oauth2/v2.0/devicecode", lab.endpoints().authority);
    let (local, remote) = (app(LOCAL), app(REMOTE));
    type Form<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Form<'_>, Refusal<'_>); 5] = [
        ("no client id", &[("scope", "openid")], (400, "invalid_request", 900_144)),
        ("no scope", &[("client_id", &local)], (400, "invalid_request", 900_144)),
        ("unknown client", &[("client_id", "x"), ("scope", "openid")], (400, "unauthorized_client", 700_016)),
        ("confidential client", &[("client_id", &remote), ("scope", "openid")], (401, "invalid_client", 7_000_218)),
        ("unknown scope", &[("client_id", &local), ("scope", "Nope")], (400, "invalid_scope", 70_011)),
    ];
    for (case, form, expected) in cases {
        assert_eq!(lab.post(&url, form).await.refusal(), expected, "{case}");
    }
}
