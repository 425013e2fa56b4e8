//! The whole flow, with each operation of the store failing in its turn, and requests that make no sense.

use entra::testing::OBJECT;
use http::Response;
use http::header::LOCATION;
use proptest::prelude::*;

use super::Endpoint;
use super::testing::*;

/// What a step answers when the store fails once: that it is `done`, or that the store fails, which a client is told by way of
/// the browser.
fn step(name: &str, done: u16, response: &Response<Vec<u8>>, failing: usize) -> u16 {
    let status = response.status().as_u16();
    let is_told = status == 303 && parameter(response, "error").is_some();
    assert!(status == done || status == 503 || is_told, "{name} answers {status} when operation {failing} fails");
    let body = String::from_utf8_lossy(response.body());
    assert!(!body.contains("disk"), "{name} shows the store's own words: {body}");
    status
}

/// Walks with operation `failing` of the store out of order; false when there are fewer operations than that.
fn walk(failing: usize) -> bool {
    let flow = Flow::new();
    flow.world.fail_store(failing);

    let mut page = flow.authorize(&[]);
    if step("authorize", 200, &page, failing) != 200 {
        page = flow.authorize(&[]);
    }
    let mut to = flow.decide(&page, "allow");
    if step("consent", 303, &to, failing) == 503 || parameter(&to, "error").is_some() {
        to = flow.decide(&flow.authorize(&[]), "allow");
    }
    let mut back = flow.sign_in(&to, OBJECT);
    if step("callback", 303, &back, failing) == 503 || parameter(&back, "error").is_some() {
        if back.status() == 303 {
            assert_eq!(parameter(&back, "error").as_deref(), Some("temporarily_unavailable"));
            assert!(
                flow.audited().contains(&"authorization.completed/failure/store".to_owned()),
                "{:?}",
                flow.audited()
            );
        }
        back = flow.walk(&[("prompt", "consent")]);
    }
    let code = parameter(&back, "code").unwrap_or_else(|| panic!("no code when operation {failing} fails"));

    let mut answered = flow.exchange(&code, &[]);
    if step("token", 200, &answered, failing) != 200 {
        assert_eq!(refusal(&answered), (503, "temporarily_unavailable".to_owned()), "{failing}");
        answered = flow.exchange(&code, &[]);
        assert_eq!(answered.status(), 200, "the code was lost when operation {failing} failed: {:?}", flow.audited());
    }
    assert_eq!(flow.sessions().0, 1, "a code becomes one session, operation {failing}");
    let refresh = answer(&answered)["refresh_token"].as_str().unwrap().to_owned();

    flow.world.advance(std::time::Duration::from_secs(ENTRA_LIFETIME - 100));
    let mut renewed = flow.refresh(&refresh, &[]);
    if step("refresh", 200, &renewed, failing) != 200 {
        assert_eq!(refusal(&renewed), (503, "temporarily_unavailable".to_owned()), "{failing}");
        renewed = flow.refresh(&refresh, &[]);
        assert_eq!(renewed.status(), 200, "the refresh token was lost when operation {failing} failed");
    }
    let refresh = answer(&renewed)["refresh_token"].as_str().unwrap().to_owned();

    let form = [("client_id", CLIENT), ("token", refresh.as_str())];
    if step("revoke", 200, &flow.post(Endpoint::Revoke, &form), failing) != 200 {
        assert_eq!(flow.post(Endpoint::Revoke, &form).status(), 200);
    }
    let reached = flow.world.heal_store();
    assert_eq!(flow.sessions().0, 0, "a revoked session is gone, operation {failing}");
    assert_eq!(flow.refresh(&refresh, &[]).status(), 400);
    reached
}

#[test]
fn a_store_that_fails_once_anywhere_loses_and_doubles_nothing() {
    let steps = (0..).take_while(|failing| walk(*failing)).count();
    assert!(steps > 30, "only {steps} operations were tried");
}

/// As if the process had crashed: everything fails from operation `failing` of the step on, until the client tries
/// again. False when the step has fewer operations.
fn crash<T>(flow: &Flow, failing: usize, step: impl FnOnce() -> T) -> (T, bool) {
    flow.world.break_store(failing);
    let answered = step();
    (answered, flow.world.heal_store())
}

#[test]
fn a_crash_during_an_exchange_gives_a_session_once_or_not_at_all() {
    let (mut again, mut lost) = (0, 0);
    for failing in 0.. {
        let flow = Flow::new();
        let code = flow.code();
        let (answered, crashed) = crash(&flow, failing, || flow.exchange(&code, &[]));
        if !crashed {
            assert_eq!(answered.status(), 200);
            break;
        }
        assert_eq!(refusal(&answered), (503, "temporarily_unavailable".to_owned()), "{failing}");
        let answered = flow.exchange(&code, &[]);
        match answered.status().as_u16() {
            200 => {
                again += 1;
                assert_eq!(flow.sessions(), (1, 1), "operation {failing}");
            }
            _ => {
                lost += 1;
                assert_eq!(refusal(&answered), (400, "invalid_grant".to_owned()), "operation {failing}");
            }
        }
    }
    assert!(again >= 2 && lost >= 1, "{again} {lost}");
}

#[test]
fn a_crash_during_a_refresh_never_costs_the_refresh_token() {
    for failing in 0.. {
        let flow = Flow::new();
        let tokens = answer(&flow.exchange(&flow.code(), &[]));
        let refresh = tokens["refresh_token"].as_str().unwrap();
        flow.world.advance(std::time::Duration::from_secs(ENTRA_LIFETIME - 100));
        let (answered, crashed) = crash(&flow, failing, || flow.refresh(refresh, &[]));
        if !crashed {
            assert!(failing > 8);
            break;
        }
        let renewed = match answered.status().as_u16() {
            200 => answered,
            // A lease of the crash is waited for.
            _ => flow.refresh(refresh, &[]),
        };
        assert_eq!(renewed.status(), 200, "operation {failing}: {:?}", flow.audited());
    }
}

/// Parameters that mean something here, or nothing, with values that do or do not.
fn parameters() -> impl Strategy<Value = Vec<(String, String)>> {
    let names = [
        "response_type",
        "client_id",
        "redirect_uri",
        "state",
        "scope",
        "resource",
        "prompt",
        "code_challenge",
        "code_challenge_method",
        "request",
        "login_hint",
        "code",
        "error",
        "request_id",
        "csrf_token",
        "decision",
        "grant_type",
        "code_verifier",
        "refresh_token",
        "token",
        "client_secret",
    ];
    let values = [
        "",
        "code",
        CLIENT,
        CONFIDENTIAL,
        REDIRECT,
        "https://evil.example/",
        "User.Read",
        "none",
        "login consent",
        "S256",
        "https://mcp.example.com/mcp",
        "authorization_code",
        "refresh_token",
        VERIFIER,
        "allow",
        "a\r\nLocation: b",
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    ];
    let value =
        prop_oneof![4 => proptest::sample::select(values.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    let name = prop_oneof![8 => proptest::sample::select(names.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    proptest::collection::vec((name, value), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_asked_is_answered_and_leads_to_no_other_site(parameters in parameters()) {
        thread_local!(static FLOW: Flow = Flow::new());
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        FLOW.with(|flow| {
            let answers = [
                flow.get(Endpoint::Authorize, &parameters),
                flow.authorize(&parameters),
                flow.post(Endpoint::Authorize, &parameters),
                flow.get(Endpoint::Callback, &parameters),
                flow.post(Endpoint::Token, &parameters),
                flow.post(Endpoint::Revoke, &parameters),
            ];
            // 503: a client id may be the address of a document that cannot be read.
            for answer in answers {
                let status = answer.status().as_u16();
                prop_assert!(matches!(status, 200 | 303 | 400 | 401 | 403 | 503), "{status}");
                if let Some(location) = answer.headers().get(LOCATION) {
                    prop_assert!(location.to_str().unwrap().starts_with(&format!("{REDIRECT}?error=")), "{location:?}");
                }
            }
            prop_assert_eq!(flow.sessions(), (0, 0));
            Ok(())
        })?;
    }
}
