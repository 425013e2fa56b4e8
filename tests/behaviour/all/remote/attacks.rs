//! What an attacker tries, and gets nothing from.

use serde_json::json;

use entra_mcp_emulator::Endpoint;
use entra_mcp_emulator::user_agent::Person;

use crate::support::lab::PASSWORD;
use crate::support::remote::{
    ALICE, Authorize, BOB, Fleet, PUBLIC_URL, REDIRECT, REFRESH_GRACE, Tab, Tokens, call_request, input, parameter,
    path_of,
};

#[tokio::test]
async fn a_replayed_code_is_refused_and_revokes_what_it_gave() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    let tokens = Tokens::of(&client, &fleet.redeem(&client, &code).await);
    fleet.details(&tokens.access).await;
    assert_eq!(fleet.redeem(&client, &code).await.refusal(), (400, "invalid_grant"));
    assert_eq!(fleet.call(&tokens.access).await.status, 401);
    assert_eq!(fleet.refresh(&client, &tokens.refresh).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_stolen_code_is_worthless_without_the_verifier() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    let other = "another-verifier-another-verifier-another-verifier";
    assert_eq!(fleet.redeem_with(&client, &code, &[("code_verifier", other)]).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_code_is_for_the_client_and_the_redirect_uri_it_was_given_to() {
    let fleet = Fleet::new().await;
    let (client, thief) = (fleet.register(REDIRECT).await, fleet.register(REDIRECT).await);
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    assert_eq!(fleet.redeem(&thief, &code).await.refusal(), (400, "invalid_grant"));
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    let elsewhere = [("redirect_uri", "https://client.example.com/other")];
    assert_eq!(fleet.redeem_with(&client, &code, &elsewhere).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_code_lives_for_a_minute() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    fleet.advance(59);
    assert_eq!(fleet.redeem(&client, &code).await.status, 200);
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    fleet.advance(61);
    assert_eq!(fleet.redeem(&client, &code).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_reused_refresh_token_ends_the_whole_session() {
    let fleet = Fleet::new().await;
    let stolen = fleet.session(ALICE).await;
    let renewed = Tokens::of(&stolen.client_id, &fleet.refresh(&stolen.client_id, &stolen.refresh).await);
    fleet.details(&renewed.access).await;
    fleet.advance(u64::from(REFRESH_GRACE) + 1);
    assert_eq!(fleet.refresh(&stolen.client_id, &stolen.refresh).await.refusal(), (400, "invalid_grant"));
    assert_eq!(fleet.call(&renewed.access).await.status, 401);
    assert_eq!(fleet.refresh(&renewed.client_id, &renewed.refresh).await.refusal(), (400, "invalid_grant"));
    assert!(fleet.audited().iter().any(|name| name == "session.reused"), "{:?}", fleet.audited());
}

/// A thief with the old token shares the grace, but gets nothing that the client does not have.
#[tokio::test]
async fn a_stolen_refresh_token_brings_what_its_owner_has_and_ends_the_session_when_that_was_used() {
    let fleet = Fleet::new().await;
    let stolen = fleet.session(ALICE).await;
    let renewed = Tokens::of(&stolen.client_id, &fleet.refresh(&stolen.client_id, &stolen.refresh).await);
    let thief = Tokens::of(&stolen.client_id, &fleet.refresh(&stolen.client_id, &stolen.refresh).await);
    assert_eq!((&thief.access, &thief.refresh), (&renewed.access, &renewed.refresh));
    assert_eq!(fleet.refresh(&stolen.client_id, &renewed.refresh).await.status, 200);
    assert_eq!(fleet.refresh(&stolen.client_id, &stolen.refresh).await.refusal(), (400, "invalid_grant"));
    assert_eq!(fleet.call(&renewed.access).await.status, 401);
}

#[tokio::test]
async fn without_a_grace_a_second_use_ends_the_session_at_once() {
    let fleet = Fleet::with(|settings| {
        settings.http.as_mut().expect("a remote server").refresh_grace_seconds = 0;
    })
    .await;
    let tokens = fleet.session(ALICE).await;
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.status, 200);
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.refusal(), (400, "invalid_grant"));
    assert!(fleet.audited().iter().any(|name| name == "session.reused"), "{:?}", fleet.audited());
}

#[tokio::test]
async fn a_refresh_token_is_for_its_own_client() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let thief = fleet.register(REDIRECT).await;
    assert_eq!(fleet.refresh(&thief, &tokens.refresh).await.refusal(), (400, "invalid_grant"));
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.status, 200, "the owner is not harmed");
}

#[tokio::test]
async fn an_answer_of_entra_is_taken_from_the_browser_that_asked_only() {
    // Login CSRF: the attacker signs in, and lets the victim's browser open the callback.
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let mut attacker = Tab::default();
    let entra = attacker.consent(&fleet, &Authorize::new(&client)).await;
    let callback = attacker.sign_in(&entra, &Person::new(BOB, PASSWORD)).await;
    let mut victim = Tab::default();
    victim.open(&fleet, &Authorize::new(&client).path()).await;
    let answer = victim.open(&fleet, &path_of(&callback)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.header("location").is_empty());
    let answer = Tab::default().open(&fleet, &path_of(&callback)).await;
    assert_eq!(answer.status, 400, "a browser without a cookie");
}

#[tokio::test]
async fn a_swapped_state_leads_nowhere() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let (mut one, mut other) = (Tab::default(), Tab::default());
    let entra = one.consent(&fleet, &Authorize::new(&client)).await;
    let to_one = one.sign_in(&entra, &Person::new(ALICE, PASSWORD)).await;
    let entra = other.consent(&fleet, &Authorize::new(&client)).await;
    let to_other = other.sign_in(&entra, &Person::new(BOB, PASSWORD)).await;
    let state = parameter(&to_other, "state").expect("a state");
    let code = parameter(&to_one, "code").expect("a code");
    let swapped = format!("/auth/callback?code={code}&state={state}");
    let answer = one.open(&fleet, &swapped).await;
    assert_eq!(answer.status, 400);
    assert!(answer.header("location").is_empty());
}

#[tokio::test]
async fn a_callback_works_once_and_for_ten_minutes() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let mut tab = Tab::default();
    let entra = tab.consent(&fleet, &Authorize::new(&client)).await;
    let callback = tab.sign_in(&entra, &Person::new(ALICE, PASSWORD)).await;
    assert_eq!(tab.open(&fleet, &path_of(&callback)).await.location().host_str(), Some("client.example.com"));
    let again = tab.open(&fleet, &path_of(&callback)).await;
    assert_eq!(again.status, 400);

    let entra = tab.consent(&fleet, &Authorize::new(&client)).await;
    let callback = tab.sign_in(&entra, &Person::new(ALICE, PASSWORD)).await;
    fleet.advance(599);
    assert_eq!(tab.open(&fleet, &path_of(&callback)).await.location().host_str(), Some("client.example.com"));

    let entra = tab.consent(&fleet, &Authorize::new(&client)).await;
    let callback = tab.sign_in(&entra, &Person::new(ALICE, PASSWORD)).await;
    fleet.advance(601);
    let late = tab.open(&fleet, &path_of(&callback)).await;
    assert_eq!(late.status, 400);
}

#[tokio::test]
async fn the_consent_page_cannot_be_framed_kept_or_scripted() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let page = Tab::default().open(&fleet, &Authorize::new(&client).path()).await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(page.header("x-frame-options").to_ascii_uppercase(), "DENY");
    assert!(page.header("cache-control").contains("no-store"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("referrer-policy"), "same-origin", "no Origin otherwise");
    assert!(!page.html().contains("<script"));
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    for attribute in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
}

#[tokio::test]
async fn consent_takes_our_page_in_the_same_browser() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let mut victim = Tab::default();
    let page = victim.open(&fleet, &Authorize::new(&client).path()).await;
    let (request_id, csrf) = (input(&page, "request_id"), input(&page, "csrf_token"));
    let form = |csrf: &str| {
        [("request_id", request_id.clone()), ("csrf_token", csrf.to_owned()), ("decision", "allow".to_owned())]
    };
    // The attacker's browser has a cookie of its own, and the victim's form.
    let mut attacker = Tab::default();
    attacker.open(&fleet, &Authorize::new(&client).path()).await;
    assert_eq!(attacker.submit(&fleet, &form(&csrf)).await.status, 403);
    assert_eq!(Tab::default().submit(&fleet, &form(&csrf)).await.status, 403);
    // A page of the attacker makes the victim's browser send a form without the server's token.
    assert_eq!(victim.submit(&fleet, &form("guessed")).await.status, 403);
    assert_eq!(fleet.control().request_count(Endpoint::Authorize), 0);
}

#[tokio::test]
async fn a_request_with_a_wrong_client_or_redirect_uri_is_never_redirected() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let evil = [
        "https://evil.example.com/callback",
        "https://client.example.com/callback#fragment",
        "https://client.example.com/callback/",
        "https://client.example.com/Callback",
        "https://CLIENT.example.com/callback",
        "https://client.example.com:443/callback",
        "https://client.example.com:8443/callback",
        "http://client.example.com/callback",
        "https://client.example.com/callback?next=https://evil.example.com",
        "https://client.example.com@evil.example.com/callback",
        "https://client.example.com.evil.example.com/callback",
        "https://user:password@client.example.com/callback",
        "https://client.example.com\\@evil.example.com/callback",
        "https://client.example.com/callback/../evil",
        "https://client.example.com/%63allback",
        "//evil.example.com/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://cl\u{456}ent.example.com/callback",
        "",
    ];
    for redirect in evil {
        let answer = Tab::default().open(&fleet, &Authorize::new(&client).set("redirect_uri", redirect).path()).await;
        assert_eq!((answer.status, answer.header("location")), (400, ""), "{redirect}");
        assert!(!answer.html().contains("evil.example.com\""), "the page links to {redirect}");
    }
    let answer = Tab::default().open(&fleet, &Authorize::new("unknown").path()).await;
    assert_eq!((answer.status, answer.header("location")), (400, ""));
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.example.com", Authorize::new(&client).path());
    let answer = Tab::default().open(&fleet, &twice).await;
    assert_eq!((answer.status, answer.header("location")), (400, ""));
}

#[tokio::test]
async fn an_unsafe_or_malformed_redirect_uri_cannot_be_registered() {
    let fleet = Fleet::new().await;
    for redirect in [
        "http://client.example.com/callback",
        "https://client.example.com/callback#fragment",
        "https://user@client.example.com/callback",
        "https://*.example.com/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://",
        "callback",
        "",
        "https://client.example.com\\evil",
        "https://client.example.com/call back",
    ] {
        let metadata = json!({ "client_name": "x", "redirect_uris": [redirect] });
        let answer = fleet.post_json("/register", &metadata).await;
        assert_eq!(answer.refusal(), (400, "invalid_redirect_uri"), "{redirect}");
    }
}

#[tokio::test]
async fn only_the_port_of_a_loopback_redirect_may_differ() {
    let fleet = Fleet::new().await;
    let client = fleet.register("http://127.0.0.1:1234/callback").await;
    for (redirect, status) in [
        ("http://127.0.0.1:1234/callback", 200),
        ("http://127.0.0.1:49152/callback", 200),
        ("http://127.0.0.1/callback", 200),
        ("http://localhost:1234/callback", 400),
        ("http://[::1]:1234/callback", 400),
        ("http://127.0.0.1:1234/other", 400),
        ("https://127.0.0.1:1234/callback", 400),
        ("http://127.0.0.2:1234/callback", 400),
        ("http://127.0.0.1:1234/callback?x=1", 400),
        ("http://127.0.0.1:1234@evil.example.com/callback", 400),
        ("http://127.0.0.1.evil.example.com/callback", 400),
    ] {
        let answer = Tab::default().open(&fleet, &Authorize::new(&client).set("redirect_uri", redirect).path()).await;
        assert_eq!(answer.status, status, "{redirect}");
    }
}

#[tokio::test]
async fn a_request_without_pkce_is_refused() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let plain = Authorize::new(&client).set("code_challenge_method", "plain");
    let missing = Authorize::new(&client).without("code_challenge").without("code_challenge_method");
    let default_is_plain = Authorize::new(&client).without("code_challenge_method");
    for request in [plain, missing, default_is_plain] {
        let back = Tab::default().open(&fleet, &request.path()).await.link();
        assert_eq!(parameter(&back, "error").as_deref(), Some("invalid_request"), "{back}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_or_in_a_form_is_never_taken() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let mut request = call_request("");
    *request.uri_mut() = format!("/mcp?access_token={}", tokens.access).parse().expect("a target");
    let answer = fleet.send(request).await;
    assert_eq!(answer.status, 400);
    assert_ne!(answer.body["result"]["structuredContent"]["userPrincipalName"], ALICE);
    let mut request = call_request(&tokens.access);
    *request.uri_mut() = format!("/mcp?access_token={}", tokens.access).parse().expect("a target");
    assert_eq!(fleet.send(request).await.status, 400, "two ways at once");
}

#[tokio::test]
async fn two_authorization_headers_are_one_too_many() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let mut request = call_request(&tokens.access);
    let again = format!("Bearer {}", tokens.access).parse().expect("a header");
    request.headers_mut().append("authorization", again);
    assert_eq!(fleet.send(request).await.status, 400);
    let mut request = call_request("");
    let lower = format!("bearer {}", tokens.access).parse().expect("a header");
    request.headers_mut().insert("authorization", lower);
    assert_eq!(fleet.send(request).await.status, 200, "the scheme is case-insensitive");
}

#[tokio::test]
async fn a_session_cannot_be_chosen_by_a_client() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    for name in ["session_id", "code", "access_token", "iss", "request_id"] {
        let authorize = Authorize::new(&client).set(name, "chosen-by-the-attacker");
        let back = Tab::default().walk(&fleet, &authorize, ALICE).await;
        let code = parameter(&back, "code").expect("a code");
        assert_ne!(code, "chosen-by-the-attacker");
        let tokens = Tokens::of(&client, &fleet.redeem(&client, &code).await);
        assert_ne!(tokens.access, "chosen-by-the-attacker");
    }
    let mut fixed = Tab::default();
    fixed.cookies.push(("__Host-entra-mcp".to_owned(), "chosen-by-the-attacker".to_owned()));
    let page = fixed.open(&fleet, &Authorize::new(&client).path()).await;
    assert_eq!(page.status, 200);
    assert!(!page.header("set-cookie").is_empty(), "a cookie that the server did not set is replaced");
}

#[tokio::test]
async fn a_page_elsewhere_may_not_call() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    for (origin, status) in [
        ("https://evil.example.com", 403),
        ("null", 403),
        ("https://app.example.com.evil.example.com", 403),
        ("http://app.example.com", 403),
        ("https://app.example.com", 200),
        (PUBLIC_URL, 200),
    ] {
        let mut request = call_request(&tokens.access);
        request.headers_mut().insert("origin", origin.parse().expect("a header"));
        let answer = fleet.send(request).await;
        assert_eq!(answer.status, status, "{origin}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, if status == 200 { origin } else { "" });
    }
}

#[tokio::test]
async fn a_name_with_markup_stays_text() {
    let fleet = Fleet::new().await;
    let metadata = json!({
        "client_name": "<script>alert(1)</script>\" onload=\"x",
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "none",
    });
    let answer = fleet.post_json("/register", &metadata).await;
    if answer.status == 201 {
        let client = answer.body["client_id"].as_str().expect("an id");
        let html = Tab::default().open(&fleet, &Authorize::new(client).path()).await.html();
        assert!(!html.contains("<script>") && !html.contains("\" onload=\""), "{html}");
    } else {
        assert_eq!(answer.refusal(), (400, "invalid_client_metadata"));
    }
}

#[tokio::test]
async fn many_bearers_of_nonsense_are_refused_alike() {
    let fleet = Fleet::new().await;
    let good = fleet.session(ALICE).await.access;
    let mut flipped = good.clone().into_bytes();
    let last = flipped.len() - 5;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("text");
    for token in ["x", &"A".repeat(64), &"A".repeat(4000), &flipped, &good[..good.len() - 1], &format!("{good}A")] {
        let answer = fleet.call(token).await;
        assert_eq!(answer.status, 401, "{token}");
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    }
}
