//! What an authorization request may ask for, and which party learns that it may not.

use std::time::Duration;

use base::policy::{Rule, ToolRule};
use entra::testing::OBJECT;
use http::header::LOCATION;
use serde_json::json;
use world::testing::run;

use crate::authorization_server::testing::*;
use crate::authorization_server::{Endpoint, handle};
use crate::testing::{change, configure};

fn html(response: &http::Response<Vec<u8>>) -> String {
    String::from_utf8_lossy(response.body()).into_owned()
}

#[test]
fn without_a_client_and_a_redirect_uri_that_belong_together_nothing_is_redirected() {
    let flow = Flow::new();
    let long = "x".repeat(2049);
    for changes in [
        &[("client_id", "")][..],
        &[("client_id", "unregistered")],
        &[("client_id", &long)],
        &[("redirect_uri", "https://evil.example/callback")],
        &[("redirect_uri", "https://app.example.com/callback?x=1")],
        &[("redirect_uri", "https://app.example.com/callback\r\nX: y")],
        &[("state", "a"), ("state", "b")],
    ] {
        let response = flow.authorize(changes);
        assert_eq!((response.status().as_u16(), response.headers().get(LOCATION)), (400, None), "{changes:?}");
    }
    assert!(flow.world.record_names().iter().all(|name| !name.contains("/pending/")));
}

#[test]
fn what_a_known_client_gets_wrong_it_is_told() {
    let flow = Flow::new();
    let long = "x".repeat(2049);
    for (changes, error) in [
        (&[("response_type", "")][..], "invalid_request"),
        (&[("response_type", "token")], "unsupported_response_type"),
        (&[("response_mode", "fragment")], "invalid_request"),
        (&[("request", "x")], "request_not_supported"),
        (&[("request_uri", "https://app.example.com/r")], "request_uri_not_supported"),
        (&[("code_challenge", "")], "invalid_request"),
        (&[("code_challenge", "short")], "invalid_request"),
        (&[("code_challenge_method", "")], "invalid_request"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("scope", "Mail.Read")], "invalid_scope"),
        (&[("resource", "https://mcp.example.com//")], "invalid_target"),
        (&[("resource", "https://mcp.example.com"), ("resource", "https://mcp.example.com")], "invalid_target"),
        (&[("prompt", "create")], "invalid_request"),
        (&[("prompt", "none login")], "invalid_request"),
        (&[("prompt", "none")], "consent_required"),
        (&[("state", &long)], "invalid_request"),
        (&[("state", "a\u{1}b")], "invalid_request"),
        (&[("state", "\u{e9}")], "invalid_request"),
        (&[("login_hint", "olga@contoso.example\u{0}")], "invalid_request"),
    ] {
        let response = flow.authorize(changes);
        assert_eq!(parameter(&response, "error").as_deref(), Some(error), "{changes:?}");
        assert_eq!(parameter(&response, "iss").as_deref(), Some("https://mcp.example.com"));
        assert!(parameter(&response, "error_description").unwrap().ends_with("(correlation id c-1)"));
        let state = (changes[0].0 != "state").then_some("s");
        assert_eq!(parameter(&response, "state").as_deref(), state, "a state that cannot be carried is not sent back");
    }
}

/// A self-registered client at a site that no person has reviewed.
fn stranger(flow: &Flow, redirect_uri: &str) -> String {
    let body = json!({ "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none" });
    let response = run(handle(&flow.env, Endpoint::Register, &registration(&body.to_string())));
    answer(&response)["client_id"].as_str().unwrap().to_owned()
}

/// RFC 9700 section 4.11.2: a link to this server must not be a link to any site.
#[test]
fn no_person_is_sent_to_a_stranger_without_being_asked() {
    let flow = Flow::new();
    let evil = "https://evil.example/landing";
    let client = stranger(&flow, evil);
    let us = [("client_id", client.as_str()), ("redirect_uri", evil)];
    for wrong in [("scope", "x"), ("prompt", "create"), ("response_type", "bogus"), ("resource", "x")] {
        let response = flow.authorize(&[us[0], us[1], wrong]);
        assert_eq!((response.status().as_u16(), response.headers().get(LOCATION)), (400, None), "{wrong:?}");
        let html = html(&response);
        assert!(html.contains("evil.example"), "the person is told where the link goes: {html}");
        assert!(html.contains("<a href=\"https://evil.example/landing?error="), "{html}");
    }
    let page = flow.authorize(&us);
    assert_eq!(
        parameter(&flow.decide(&page, "deny"), "error").as_deref(),
        Some("access_denied"),
        "a person that denies is sent back"
    );
}

/// A hidden frame shows no page to a person.
#[test]
fn a_client_that_wants_no_page_is_told_by_redirect() {
    let flow = Flow::new();
    let redirect = "https://site.example/callback";
    let client = stranger(&flow, redirect);
    let silent = [("client_id", client.as_str()), ("redirect_uri", redirect), ("prompt", "none")];
    assert_eq!(parameter(&flow.authorize(&silent), "error").as_deref(), Some("consent_required"));
    let wrong = [silent[0], silent[1], silent[2], ("scope", "x")];
    assert_eq!(parameter(&flow.authorize(&wrong), "error").as_deref(), Some("invalid_scope"));
    let both = [silent[0], silent[1], ("prompt", "login none")];
    assert_eq!(parameter(&flow.authorize(&both), "error").as_deref(), Some("invalid_request"));
    let elsewhere = [silent[0], ("redirect_uri", "https://evil.example/"), silent[2]];
    assert_eq!(flow.authorize(&elsewhere).headers().get(LOCATION), None, "a redirect URI that is not the client's");
}

/// Whatever scopes the consent was for.
#[test]
fn a_site_that_a_consent_has_led_to_is_told_at_once() {
    let mut flow = Flow::new();
    let rule = Rule::users().with_scopes(&["Mcp.All"]);
    configure(&mut flow.env, |http| http.access = Some(vec![ToolRule::for_tool("getUserDetails", rule)]));
    let redirect = "https://site.example/callback";
    let client = stranger(&flow, redirect);
    let us = [("client_id", client.as_str()), ("redirect_uri", redirect)];
    let more = [us[0], us[1], ("scope", "User.Read Mcp.All")];
    assert!(parameter(&flow.walk(&more), "code").is_some());
    assert_eq!(parameter(&flow.authorize(&[us[0], us[1], ("scope", "x")]), "error").as_deref(), Some("invalid_scope"));
    flow.forget_cookie();
    assert_eq!(flow.authorize(&[us[0], us[1], ("scope", "x")]).headers().get(LOCATION), None, "another person");
}

#[test]
fn a_client_that_is_trusted_is_told_that_the_store_fails() {
    let flow = Flow::new();
    let redirect = "https://site.example/callback";
    let client = stranger(&flow, redirect);
    let us = [("client_id", client.as_str()), ("redirect_uri", redirect)];
    assert_eq!(flow.authorize(&[]).status(), 200);
    // The first of the set-up client's request; the stranger's registration is read before.
    for (changes, failing, told) in
        [(&[][..], 0, true), (&[us[0], us[1], ("prompt", "none")], 2, true), (&us, 2, false)]
    {
        // The instance remembers the key of cookies no longer: it is one of the records that are read.
        flow.world.advance(Duration::from_secs(10));
        flow.world.break_store(failing);
        let response = flow.authorize(changes);
        assert!(flow.world.heal_store());
        let error = response.headers().get(LOCATION).and_then(|_| parameter(&response, "error"));
        assert_eq!(error.as_deref(), told.then_some("temporarily_unavailable"), "{changes:?}");
        assert_eq!(response.status().as_u16(), if told { 303 } else { 503 });
    }
}

#[test]
fn a_program_on_the_persons_own_machine_is_told_at_once() {
    let flow = Flow::new();
    let client = stranger(&flow, "http://127.0.0.1/callback");
    let us = [("client_id", client.as_str()), ("redirect_uri", "http://127.0.0.1:4711/callback")];
    let response = flow.authorize(&[us[0], us[1], ("scope", "x")]);
    assert_eq!(parameter(&response, "error").as_deref(), Some("invalid_scope"));
}

#[test]
fn a_stranger_that_the_person_has_consented_to_is_told_at_once() {
    let flow = Flow::new();
    let redirect = "https://site.example/callback";
    let client = stranger(&flow, redirect);
    let us = [("client_id", client.as_str()), ("redirect_uri", redirect)];
    assert!(parameter(&flow.walk(&us), "code").is_some());
    assert_eq!(parameter(&flow.authorize(&[us[0], us[1], ("scope", "x")]), "error").as_deref(), Some("invalid_scope"));
    let silent = flow.authorize(&[us[0], us[1], ("prompt", "none")]);
    assert_eq!(parameter(&silent, "error").as_deref(), Some("login_required"));
}

#[test]
fn a_decision_counts_once_from_our_page_in_the_same_browser() {
    let flow = Flow::new();
    let page = flow.authorize(&[]);
    let form = |decision| [("request_id", "x"), ("csrf_token", "y"), ("decision", decision)];
    assert_eq!(flow.post(Endpoint::Authorize, &form("allow")).status(), 403);
    assert_eq!(flow.post(Endpoint::Authorize, &[("decision", "allow")]).status(), 400);
    assert_eq!(flow.decide(&page, "perhaps").status(), 400);
    assert_eq!(flow.decide(&page, "allow").status(), 303);
    assert_eq!(flow.decide(&page, "allow").status(), 400);
    let page = flow.authorize(&[]);
    flow.forget_cookie();
    assert_eq!(flow.decide(&page, "allow").status(), 403);
}

#[test]
fn a_sign_in_that_cannot_begin_is_told_and_recorded() {
    let mut flow = Flow::new();
    let page = flow.authorize(&[]);
    change(&mut flow.env, |settings| settings.authority = "not a url".to_owned());
    assert_eq!(parameter(&flow.decide(&page, "allow"), "error").as_deref(), Some("server_error"));
    assert_eq!(flow.audited(), ["consent.given/success", "authorization.completed/failure/misconfigured"]);
}

#[test]
fn nothing_begins_that_cannot_be_recorded() {
    let flow = Flow::new();
    let page = flow.authorize(&[]);
    flow.world.refuse_audit(true);
    let back = flow.decide(&page, "allow");
    assert_eq!(parameter(&back, "error").as_deref(), Some("temporarily_unavailable"));
}

#[test]
fn debug_of_parameters_shows_no_value() {
    let mut request = request(http::Method::GET, "/auth/callback");
    request.query = Some("code=hunter2&state=s".to_owned());
    request.body = b"hunter2".to_vec();
    request.headers.insert("cookie", "hunter2".parse().unwrap());
    let parameters = crate::authorization_server::parameters::Parameters::of_query(&request).unwrap();
    let shown = format!("{parameters:?} {request:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("/auth/callback"), "{shown}");
}

/// A stranger chooses it, and sends as much of it as a URL may hold.
#[test]
fn a_client_id_without_end_is_recorded_by_its_beginning_and_not_counted() {
    let flow = Flow::new();
    let endless = "ü".repeat(10_000);
    assert_eq!(flow.authorize(&[("client_id", &endless)]).status(), 400);
    flow.world.exhaust("authorize", std::time::Duration::from_secs(7));
    assert_eq!(flow.authorize(&[("client_id", &endless)]).status(), 429);
    let recorded: Vec<_> = flow.world.audited().into_iter().map(|event| (event.name, event.client_id)).collect();
    let beginning = "ü".repeat(128);
    assert_eq!(recorded, [("client.refused", Some(beginning)), ("request.throttled", None)]);
}

#[test]
fn an_address_that_starts_too_many_sign_ins_stops_no_other_one() {
    let flow = Flow::new();
    flow.world.bound("authorize", 3, std::time::Duration::from_secs(900));
    let mut answers: Vec<u16> = (0..5).map(|_| flow.authorize(&[]).status().as_u16()).collect();
    flow.moves_to("2001:db8::1");
    answers.push(flow.authorize(&[]).status().as_u16());
    assert_eq!(answers, [200, 200, 200, 429, 429, 200], "of one client");
}

/// The client in the settings is Cursor; the person is asked every time, because any program can claim the scheme.
#[test]
fn a_redirect_by_a_scheme_works_and_is_asked_about_every_time() {
    const CURSOR: &str = "cursor://anysphere.cursor-mcp/oauth/callback";
    let mut flow = Flow::new();
    configure(&mut flow.env, |http| {
        for client in &mut http.clients {
            client.redirect_uris = vec![CURSOR.to_owned()];
        }
    });
    for _ in 0..2 {
        let asked = flow.authorize(&[("redirect_uri", CURSOR)]);
        assert_eq!(asked.status(), 200, "the page is shown");
        let back = flow.sign_in(&flow.decide(&asked, "allow"), OBJECT);
        let location = back.headers()[LOCATION].to_str().unwrap();
        assert!(location.starts_with(&format!("{CURSOR}?code=")), "{location}");
    }
}

/// Parsers of URLs put a slash behind an origin.
#[test]
fn a_resource_is_the_same_with_the_slash_that_parsers_put_behind_an_origin() {
    let flow = Flow::new();
    let resource = "https://mcp.example.com/";
    assert_eq!(flow.authorize(&[("resource", resource)]).status(), 200);
    assert_eq!(
        parameter(&flow.authorize(&[("resource", "https://mcp.example.com//")]), "error").as_deref(),
        Some("invalid_target")
    );
}
