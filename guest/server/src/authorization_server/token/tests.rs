//! What the token and revocation endpoints refuse, and what they do when things happen at once.

use std::rc::Rc;
use std::time::Duration;

use entra::AcquireError;
use entra::oauth::OAuthError;
use http::header::{CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;
use world::once::Failure;

use super::TokenRequestError;
use crate::authorization_server::Endpoint;
use crate::authorization_server::testing::*;

const INVALID: (u16, &str) = (400, "invalid_grant");

fn is(response: &http::Response<Vec<u8>>, expected: (u16, &str)) {
    assert_eq!(refusal(response), (expected.0, expected.1.to_owned()));
}

fn text(response: &http::Response<Vec<u8>>, member: &str) -> String {
    answer(response)[member].as_str().unwrap().to_owned()
}

/// A flow with a session; its access and refresh token.
fn session() -> (Flow, String, String) {
    let flow = Flow::new();
    let response = flow.exchange(&flow.code(), &[]);
    let (access, refresh) = (text(&response, "access_token"), text(&response, "refresh_token"));
    (flow, access, refresh)
}

#[test]
fn a_code_becomes_a_session_and_no_cache_may_keep_the_answer() {
    let flow = Flow::new();
    let response = flow.exchange(&flow.code(), &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(response.headers()[PRAGMA], "no-cache");
    let body = answer(&response);
    assert_eq!(
        (&body["token_type"], &body["expires_in"], &body["scope"]),
        (&json!("Bearer"), &json!(3600), &json!("User.Read"))
    );
    assert_eq!(flow.sessions(), (1, 1));
    let audited = [
        "consent.given/success",
        "authorization.started/started",
        "signing-keys.refresh/success",
        "authorization.completed/success",
        "session.created/success",
    ];
    assert_eq!(flow.audited(), audited);
}

#[test]
fn what_an_exchange_lacks_or_gets_wrong_is_refused_and_uses_nothing_up() {
    let flow = Flow::new();
    let code = flow.code();
    let other_verifier = "x".repeat(43);
    for (changes, expected) in [
        (&[("grant_type", "")][..], (400, "invalid_request")),
        (&[("grant_type", "password")], (400, "unsupported_grant_type")),
        (&[("client_id", "")], (400, "invalid_request")),
        (&[("client_id", "unregistered")], (401, "invalid_client")),
        (&[("client_secret", "a secret of a public client")], (401, "invalid_client")),
        (&[("client_assertion", "x")], (401, "invalid_client")),
        (&[("code", "")], (400, "invalid_request")),
        (&[("code_verifier", "")], (400, "invalid_request")),
        (&[("code", "another")], INVALID),
        (&[("code", &"x".repeat(65))], INVALID),
        (&[("client_id", OTHER)], INVALID),
        (&[("redirect_uri", "")], INVALID),
        (&[("redirect_uri", "https://app.example.com/other")], INVALID),
        (&[("code_verifier", &other_verifier)], INVALID),
        (&[("code_verifier", &"x".repeat(42))], INVALID),
        (&[("code_verifier", &"x".repeat(129))], INVALID),
        (&[("resource", "https://mcp.example.com/sse")], (400, "invalid_target")),
        (&[("resource", "https://mcp.example.com")], (400, "invalid_target")),
        (
            &[("resource", "https://mcp.example.com/mcp"), ("resource", "https://mcp.example.com/mcp")],
            (400, "invalid_target"),
        ),
    ] {
        is(&flow.exchange(&code, changes), expected);
    }
    let audited = flow.audited();
    for (reason, times) in [("other-client", 1), ("other-redirect-uri", 2), ("wrong-verifier", 3)] {
        let event = format!("code.refused/failure/{reason}");
        assert_eq!(audited.iter().filter(|audited| **audited == event).count(), times, "{audited:?}");
    }
    assert_eq!(flow.exchange(&code, &[("resource", "https://mcp.example.com/mcp")]).status(), 200);
}

#[test]
fn a_code_without_a_resource_may_be_narrowed_down() {
    let flow = Flow::new();
    for (resource, status) in [("https://mcp.example.com/sse", 200), ("", 200), ("https://other.example.com", 400)] {
        let code = parameter(&flow.walk(&[("resource", "")]), "code").unwrap_or_default();
        assert_eq!(flow.exchange(&code, &[("resource", resource)]).status(), status, "{resource}");
    }
}

#[test]
fn a_confidential_client_has_to_prove_itself() {
    let flow = Flow::new();
    let confidential = ("client_id", CONFIDENTIAL);
    let code = parameter(&flow.walk(&[confidential]), "code").unwrap();
    for secret in ["", "Client secret"] {
        let refused = flow.exchange(&code, &[confidential, ("client_secret", secret)]);
        is(&refused, (401, "invalid_client"));
        assert_eq!(refused.headers().get(WWW_AUTHENTICATE), None);
    }
    assert_eq!(flow.exchange(&code, &[confidential, ("client_secret", "client secret")]).status(), 200);
    let refused = "client.refused/failure/unauthenticated";
    assert_eq!(flow.audited().iter().filter(|event| *event == refused).count(), 2, "{:?}", flow.audited());
}

#[test]
fn a_code_expires_after_a_minute_whichever_way_the_clock_goes() {
    for past in [false, true] {
        let flow = Flow::new();
        flow.world.advance(Duration::from_secs(2000));
        let code = flow.code();
        if past {
            flow.world.set_back(Duration::from_secs(1000))
        } else {
            flow.world.advance(Duration::from_secs(60))
        }
        is(&flow.exchange(&code, &[]), INVALID);
    }
}

#[test]
fn a_code_that_comes_again_ends_what_it_gave() {
    let flow = Flow::new();
    let code = flow.code();
    let refresh = text(&flow.exchange(&code, &[]), "refresh_token");
    is(&flow.exchange(&code, &[("client_id", OTHER)]), INVALID);
    assert_eq!(flow.sessions(), (1, 1), "of another client it is a guess");
    is(&flow.exchange(&code, &[]), INVALID);
    assert_eq!(flow.sessions(), (0, 0));
    is(&flow.refresh(&refresh, &[]), INVALID);
    assert!(flow.audited().contains(&"session.revoked/success/code-replayed".to_owned()));
}

#[test]
fn a_used_code_without_its_verifier_or_redirect_uri_ends_nothing() {
    let flow = Flow::new();
    let code = flow.code();
    let refresh = text(&flow.exchange(&code, &[]), "refresh_token");
    for wrong in [
        ("code_verifier", "x".repeat(43)),
        ("redirect_uri", "https://app.example.com/other".to_owned()),
        ("redirect_uri", String::new()),
    ] {
        is(&flow.exchange(&code, &[(wrong.0, &wrong.1)]), INVALID);
        assert_eq!(flow.sessions(), (1, 1), "{wrong:?}");
    }
    let refused = |reason: &str| flow.audited().contains(&format!("code.refused/failure/{reason}"));
    assert!(refused("wrong-verifier") && refused("other-redirect-uri"));
    assert_eq!(flow.refresh(&refresh, &[]).status(), 200);
    is(&flow.exchange(&code, &[]), INVALID);
    assert_eq!(flow.sessions(), (0, 0), "with the right ones it is a second use");
}

/// Every place in an exchange at which the same code can come a second time.
#[test]
fn of_two_exchanges_at_once_none_leaves_a_session() {
    let operations = {
        let flow = Flow::new();
        let code = flow.code();
        let before = flow.world.store_operations();
        assert_eq!(flow.exchange(&code, &[]).status(), 200);
        flow.world.store_operations() - before
    };
    for at in 0..operations {
        let flow = Rc::new(Flow::new());
        let code = flow.code();
        let (other, other_code) = (Rc::clone(&flow), code.clone());
        let answered = Rc::new(std::cell::Cell::new(0));
        let other_answered = Rc::clone(&answered);
        flow.world.interrupt_store(at, move || {
            other_answered.set(other.exchange(&other_code, &[]).status().as_u16());
        });
        let status = flow.exchange(&code, &[]).status().as_u16();
        let both = (status, answered.get());
        assert!(matches!(both, (200, 400) | (400, 200) | (400, 400)), "before operation {at}: {both:?}");
        assert_eq!(flow.sessions(), (0, 0), "before operation {at}: {:?}", flow.audited());
    }
}

#[test]
fn a_stranger_cannot_spoil_a_code_that_is_being_used() {
    let operations = 8;
    for at in 0..operations {
        let flow = Rc::new(Flow::new());
        let code = flow.code();
        let (other, other_code) = (Rc::clone(&flow), code.clone());
        flow.world.interrupt_store(at, move || {
            assert_eq!(other.exchange(&other_code, &[("client_id", OTHER)]).status(), 400);
        });
        assert_eq!(flow.exchange(&code, &[]).status(), 200, "before operation {at}");
    }
}

#[test]
fn a_refresh_that_is_refused_uses_nothing_up() {
    let (flow, access, refresh) = session();
    for (token, changes, expected) in [
        ("", &[][..], (400, "invalid_request")),
        ("nonsense", &[], INVALID),
        (access.as_str(), &[], INVALID),
        (&refresh, &[("client_id", OTHER)], INVALID),
        (&refresh, &[("scope", "User.Read Mail.Read")], (400, "invalid_scope")),
        (&refresh, &[("resource", "https://mcp.example.com/sse")], (400, "invalid_target")),
        (&refresh, &[("resource", "a"), ("resource", "b")], (400, "invalid_target")),
    ] {
        is(&flow.refresh(token, changes), expected);
    }
    let good = [("scope", "openid User.Read"), ("resource", "https://mcp.example.com/mcp")];
    assert_eq!(flow.refresh(&refresh, &good).status(), 200);
}

#[test]
fn a_refresh_token_that_comes_again_ends_the_session() {
    let (flow, _, refresh) = session();
    let renewed = text(&flow.refresh(&refresh, &[]), "refresh_token");
    flow.world.advance(world::testing::REFRESH_GRACE + Duration::from_secs(1));
    is(&flow.refresh(&refresh, &[]), INVALID);
    assert_eq!(flow.sessions(), (0, 0));
    is(&flow.refresh(&renewed, &[]), INVALID);
    let audited = flow.audited();
    let expected =
        ["session.refreshed/success", "session.reused/failure", "session.revoked/success/refresh-token-reused"];
    assert_eq!(audited[audited.len() - 3..], expected);
}

#[test]
fn a_refresh_that_is_repeated_at_once_is_answered_in_the_same_words() {
    let (flow, _, refresh) = session();
    let first = flow.refresh(&refresh, &[]);
    flow.world.advance(world::testing::REFRESH_GRACE);
    let again = flow.refresh(&refresh, &[]);
    assert_eq!((again.status(), again.headers(), again.body()), (first.status(), first.headers(), first.body()));
    assert_eq!(flow.sessions(), (1, 1));
    assert_eq!(flow.audited().last().unwrap(), "session.refresh-repeated/success");
    assert_eq!(flow.refresh(&text(&first, "refresh_token"), &[]).status(), 200);
    is(&flow.refresh(&refresh, &[("client_id", OTHER)]), INVALID);
    assert_eq!(flow.sessions(), (0, 0));
}

#[test]
fn a_session_that_is_revoked_during_a_refresh_stays_so() {
    for at in 0.. {
        let (flow, _, refresh) = session();
        let flow = Rc::new(flow);
        // Entra ID is asked as well.
        flow.world.advance(Duration::from_secs(ENTRA_LIFETIME - 100));
        let (other, token) = (Rc::clone(&flow), refresh.clone());
        let came = Rc::new(std::cell::Cell::new(false));
        let comes = Rc::clone(&came);
        flow.world.interrupt_store(at, move || {
            comes.set(true);
            let answer = other.post(Endpoint::Revoke, &[("client_id", CLIENT), ("token", &token)]);
            assert_eq!(answer.status(), 200);
        });
        let response = flow.refresh(&refresh, &[]);
        if !came.get() {
            assert!(at > 5, "a refresh takes that many steps at least");
            break;
        }
        // Once the refresh is stored, the old token that was to be revoked still proves whose session it is.
        if response.status() != 200 {
            is(&response, INVALID);
        }
        assert_eq!(flow.sessions(), (0, 0), "before operation {at}");
        let revoked = flow.audited().iter().filter(|event| event.starts_with("session.revoked")).count();
        assert_eq!(revoked, 1, "before operation {at}: {:?}", flow.audited());
    }
}

#[test]
fn a_refusal_of_the_servers_own_credential_by_entra_is_not_told_to_clients() {
    let (flow, _, refresh) = session();
    flow.world.advance(Duration::from_secs(ENTRA_LIFETIME));
    flow.entra_answers(401, &json!({ "error": "invalid_client", "error_codes": [7_000_215] }));
    let refused = flow.refresh(&refresh, &[]);
    is(&refused, (503, "temporarily_unavailable"));
    assert!(refused.headers().contains_key(RETRY_AFTER));
    let description = text(&refused, "error_description");
    assert_eq!(
        description,
        "The server is not set up correctly at Microsoft Entra ID: ask its operator. (AADSTS7000215) (correlation id c-1)"
    );
    assert_eq!(flow.sessions(), (1, 1), "the session waits for the operator");
}

#[test]
fn a_refusal_of_the_person_by_entra_ends_the_session() {
    let (flow, _, refresh) = session();
    flow.world.advance(Duration::from_secs(ENTRA_LIFETIME));
    flow.entra_answers(400, &json!({ "error": "invalid_grant", "error_codes": [50173] }));
    is(&flow.refresh(&refresh, &[]), INVALID);
    assert_eq!(flow.sessions(), (0, 0));
    let audited = flow.audited();
    assert_eq!(
        audited[audited.len() - 2..],
        ["token.refreshed/failure/aadsts-50173", "session.revoked/success/aadsts-50173"]
    );
}

#[test]
fn nothing_is_given_that_cannot_be_recorded_and_nothing_is_lost() {
    let flow = Flow::new();
    let code = flow.code();
    flow.world.refuse_audit(true);
    is(&flow.exchange(&code, &[]), (503, "temporarily_unavailable"));
    assert_eq!(flow.sessions(), (0, 0));
    flow.world.refuse_audit(false);
    let refresh = text(&flow.exchange(&code, &[]), "refresh_token");
    flow.world.refuse_audit(true);
    is(&flow.refresh(&refresh, &[]), (503, "temporarily_unavailable"));
    flow.world.refuse_audit(false);
    assert_eq!(flow.refresh(&refresh, &[]).status(), 200);
}

#[test]
fn a_client_revokes_its_own_sessions_only_by_either_token() {
    for by_access in [false, true] {
        let (flow, access, refresh) = session();
        let token = if by_access { access } else { refresh };
        for (client, token) in [(OTHER, token.as_str()), (CLIENT, "nonsense"), (CLIENT, &"A".repeat(64))] {
            let answered = flow.post(Endpoint::Revoke, &[("client_id", client), ("token", token)]);
            assert_eq!((answered.status().as_u16(), flow.sessions()), (200, (1, 1)));
        }
        is(&flow.post(Endpoint::Revoke, &[("client_id", CLIENT)]), (400, "invalid_request"));
        is(&flow.post(Endpoint::Revoke, &[("client_id", "unregistered"), ("token", &token)]), (401, "invalid_client"));
        let answered = flow.post(Endpoint::Revoke, &[("client_id", CLIENT), ("token", &token)]);
        assert_eq!((answered.status().as_u16(), flow.sessions()), (200, (0, 0)));
        assert_eq!(flow.audited().last().unwrap(), "session.revoked/success/revoked-by-client");
    }
}

#[test]
fn a_refresh_token_that_was_replaced_revokes_its_session_and_a_made_up_one_does_not() {
    let (flow, access, refresh) = session();
    assert_eq!(flow.refresh(&refresh, &[]).status(), 200);
    let bytes = |token: &str| base::encoding::from_base64url(token).unwrap();
    // The holder of an access token knows the id of the session, and not the family.
    let made_up = base::encoding::base64url(&[bytes(&access), vec![0; 18]].concat());
    assert_eq!(made_up.len(), refresh.len());
    for (client, token, sessions) in [(CLIENT, &made_up, (1, 1)), (OTHER, &refresh, (1, 1)), (CLIENT, &refresh, (0, 0))]
    {
        let answered = flow.post(Endpoint::Revoke, &[("client_id", client), ("token", token)]);
        assert_eq!((answered.status().as_u16(), flow.sessions()), (200, sessions));
    }
    assert_eq!(flow.audited().last().unwrap(), "session.revoked/success/revoked-by-client");
}

#[test]
fn too_many_requests_of_a_client_are_told_when_to_come_back() {
    let flow = Flow::new();
    let code = flow.code();
    flow.world.exhaust("token", Duration::from_secs(7));
    let refused = flow.exchange(&code, &[]);
    is(&refused, (429, "too_many_requests"));
    assert_eq!(refused.headers()[RETRY_AFTER], "7");
}

const WINDOW: Duration = Duration::from_secs(900);

/// A client id is public, so a stranger can name it from as many networks as it has.
#[test]
fn strangers_from_128_networks_do_not_lock_a_public_client_out() {
    let flow = Flow::new();
    for operation in ["token", "revoke"] {
        flow.world.bound(operation, 3, WINDOW);
    }
    for number in 0..128 {
        flow.moves_to(&format!("2001:db8:0:{number:x}::1"));
        is(&flow.exchange("nonsense", &[]), (400, "invalid_grant"));
        is(&flow.refresh(&"A".repeat(110), &[]), (400, "invalid_grant"));
        let answered = flow.post(Endpoint::Revoke, &[("client_id", CLIENT), ("token", "nonsense")]);
        assert_eq!(answered.status(), 200);
    }
    assert!(!flow.world.counted().iter().any(|(_, subject)| subject == CLIENT));
    flow.moves_to("203.0.113.7");
    let tokens = answer(&flow.exchange(&flow.code(), &[]));
    let renewed = flow.refresh(tokens["refresh_token"].as_str().unwrap(), &[]);
    assert_eq!(renewed.status(), 200);
    let person = format!("{CLIENT}\n{}/{}", world::testing::TENANT, entra::testing::OBJECT);
    let of_the_person = flow.world.counted().into_iter().filter(|(_, subject)| *subject == person).count();
    assert_eq!(of_the_person, 2, "what was genuine");
}

/// A refresh token that is refused, or answered again, is not used up: one person may present it as often as they like.
#[test]
fn one_person_does_not_lock_a_public_client_out_for_others() {
    let (flow, _, refresh) = session();
    flow.world.bound("token", 3, WINDOW);
    let wrong = [("resource", "https://mcp.example.com/sse")];
    let statuses: Vec<u16> = (0..5)
        .map(|number| {
            flow.moves_to(&format!("203.0.113.{number}"));
            flow.refresh(&refresh, &wrong).status().as_u16()
        })
        .collect();
    assert_eq!(statuses, [400, 400, 400, 429, 429]);
    flow.forget_cookie();
    let to = flow.decide(&flow.authorize(&[]), "allow");
    let code = parameter(&flow.sign_in(&to, entra::testing::OTHER_TENANT), "code").unwrap();
    let tokens = flow.exchange(&code, &[]);
    assert_eq!(tokens.status(), 200, "another person");
    assert_eq!(flow.refresh(&text(&tokens, "refresh_token"), &[]).status(), 200);
}

#[test]
fn what_is_refused_at_the_token_and_revocation_endpoints_counts_for_the_address() {
    let refused_by = |send: fn(&Flow) -> http::Response<Vec<u8>>| {
        let flow = Flow::new();
        for operation in ["token", "revoke"] {
            flow.world.bound(operation, 3, WINDOW);
        }
        let mut statuses: Vec<u16> = (0..5).map(|_| send(&flow).status().as_u16()).collect();
        flow.moves_to("203.0.113.8");
        statuses.push(send(&flow).status().as_u16());
        let throttled = flow.audited().iter().filter(|event| event.starts_with("request.throttled")).count();
        (statuses, throttled)
    };
    let of = |status| (vec![status, status, status, 429, 429, status], 1);
    assert_eq!(refused_by(|flow| flow.exchange("nonsense", &[])), of(400));
    assert_eq!(refused_by(|flow| flow.refresh("nonsense", &[])), of(400));
    assert_eq!(refused_by(|flow| flow.exchange("code", &[("client_id", "unregistered")])), of(401));
    assert_eq!(refused_by(|flow| flow.exchange("code", &[("client_id", "")])), of(400));
    assert_eq!(refused_by(|flow| flow.exchange("code", &[("client_id", CONFIDENTIAL)])), of(401));
    let revoke = |flow: &Flow| flow.post(Endpoint::Revoke, &[("client_id", CLIENT), ("token", "nonsense")]);
    assert_eq!(refused_by(revoke), of(200));
}

#[test]
fn a_client_that_has_authenticated_itself_is_counted_by_its_id_whatever_it_presents() {
    let flow = Flow::new();
    flow.world.bound("token", 2, WINDOW);
    let secret = [("client_id", CONFIDENTIAL), ("client_secret", "client secret")];
    let statuses: Vec<u16> = (0..3)
        .map(|number| {
            flow.moves_to(&format!("203.0.113.{number}"));
            flow.exchange("nonsense", &secret).status().as_u16()
        })
        .collect();
    assert_eq!(statuses, [400, 400, 429]);
}

#[test]
fn a_refresh_token_over_the_bound_of_its_client_is_not_used_up() {
    let (flow, _, refresh) = session();
    flow.world.bound("token", 1, WINDOW);
    let renewed = answer(&flow.refresh(&refresh, &[]));
    let refresh = renewed["refresh_token"].as_str().unwrap();
    is(&flow.refresh(refresh, &[]), (429, "too_many_requests"));
    flow.world.advance(WINDOW);
    assert_eq!(flow.refresh(refresh, &[]).status(), 200);
}

#[test]
fn a_grant_is_refused_where_its_person_has_to_sign_in_again_and_else_good_for_later() {
    let refused = |text: &str| Err(("invalid_grant", text.to_owned()));
    let later = |text: &str, seconds: u64| Ok((text.to_owned(), seconds));
    let not_asked = Failure { retry_at: Some(u64::MAX), ..Failure::new("another call was told to wait") };
    for (error, expected) in [
        (AcquireError::NeedsPerson { reason: "Sign in again.".to_owned(), claims: None }, refused("Sign in again.")),
        (AcquireError::StepUp { reason: "Once more.".to_owned(), claims: None }, later("Once more.", 5)),
        (
            AcquireError::Unavailable(OAuthError::Throttled(Duration::from_secs(30))),
            later("Microsoft Entra ID asks to wait 30 seconds before the next attempt", 30),
        ),
        (
            AcquireError::Unavailable(OAuthError::NotAsked(not_asked)),
            later("Microsoft Entra ID cannot be reached now. Try again later.", 5),
        ),
        (world::StoreError::Contended.into(), later("other calls change the record all the time", 5)),
    ] {
        let answered = match TokenRequestError::from(error) {
            TokenRequestError::Unavailable(text, seconds) => Ok((text, seconds)),
            TokenRequestError::Refused(refusal) => Err((refusal.error, refusal.description)),
            TokenRequestError::TooMany(after) => panic!("no bound is reached: {after:?}"),
        };
        assert_eq!(answered, expected);
    }
}
