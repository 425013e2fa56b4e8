//! Two processes of `serve` on one store file: any of them can do any step.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::Request;
use serde_json::{Value, json};

use super::replicas::{Replicas, sign_in};
use crate::support::patience::until;
use crate::support::remote::{ALICE, BOB, PUBLIC_URL, REDIRECT, Tokens, call_request};

/// Longer than any test.
const AN_HOUR: i64 = 3_600;

#[tokio::test]
async fn with_rate_limits_in_the_store_two_processes_admit_together_what_one_would() {
    for (counted_in, expected) in [("process", 405), ("store", 429)] {
        let arguments = ["--rate-limit", "token=3/1h", "--rate-limits-in", counted_in];
        let fleet = Replicas::start(2, AN_HOUR, "warn", &arguments).await;
        let ask = async |process: usize| {
            let request = Request::get("/token").body(Vec::new()).unwrap();
            fleet.send_to(process, request).await.status
        };
        for process in [0, 1, 0] {
            assert_eq!(ask(process).await, 405, "{counted_in}");
        }
        assert_eq!(ask(1).await, expected, "{counted_in}");
    }
}

#[tokio::test]
async fn every_step_of_a_session_is_done_by_the_other_process_and_no_log_tells_a_secret() {
    // At this level the libraries say all they can say.
    let fleet = Replicas::start(2, AN_HOUR, "trace,h2=info,wasmtime=info,cranelift=off,mio=off", &[]).await;
    let resource = fleet.get("/.well-known/oauth-protected-resource/mcp").await;
    assert_eq!(resource.body["authorization_servers"], json!([PUBLIC_URL]));
    let server = fleet.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(server.body["token_endpoint"], format!("{PUBLIC_URL}/token"));

    let client_id = fleet.register().await;
    let (cookies, entra) = fleet.consent(&client_id).await;
    let callback = sign_in(&entra, ALICE).await;
    let code = fleet.call_back(&cookies, &callback).await;
    let answer = fleet.redeem(&client_id, &code).await;
    assert_eq!(answer.status, 200, "{}", answer.html());
    let first = Tokens::of(&client_id, &answer);
    for process in [0, 1] {
        let answer = fleet.send_to(process, call_request(&first.access)).await;
        assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], ALICE, "{}", answer.html());
    }
    let answer = fleet.refresh(&first).await;
    assert_eq!(answer.status, 200, "{}", answer.html());
    let second = Tokens::of(&client_id, &answer);
    for process in [0, 1] {
        let answer = fleet.send_to(process, call_request(&second.access)).await;
        assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], ALICE, "{}", answer.html());
    }
    let answer = fleet.post_form("/revoke", &[("client_id", &client_id), ("token", &second.refresh)]).await;
    assert_eq!(answer.status, 200);
    for process in [0, 1] {
        for token in [&first.access, &second.access] {
            assert_eq!(fleet.send_to(process, call_request(token)).await.status, 401);
        }
    }
    assert_eq!(fleet.refresh(&second).await.refusal(), (400, "invalid_grant"));

    let log = fleet.log();
    let secret = fleet.emulator.endpoints().client_secret.clone();
    let browser = cookies.split_once('=').unwrap().1.to_owned();
    let tokens = [first.access, first.refresh, second.access, second.refresh];
    for told in tokens.into_iter().chain([secret, code, browser, ALICE.to_owned(), "Anderson".to_owned()]) {
        assert!(!log.contains(&told), "the log tells {told}");
    }
    assert!(!log.contains("eyJ"), "the log tells a token of Entra ID");
}

#[tokio::test]
async fn a_process_that_is_killed_in_the_middle_of_a_sign_in_is_not_missed() {
    let mut fleet = Replicas::start(2, AN_HOUR, "info", &[]).await;
    let client_id = fleet.register().await;
    // The page comes from one process, the decision is taken by the other, which would be asked third and dies.
    let (cookies, entra) = fleet.consent(&client_id).await;
    let callback = sign_in(&entra, ALICE).await;
    fleet.kill_next().await;
    let code = fleet.call_back(&cookies, &callback).await;
    let answer = fleet.redeem(&client_id, &code).await;
    assert_eq!(answer.status, 200, "{}", answer.html());
    let tokens = Tokens::of(&client_id, &answer);
    let answer = fleet.send(call_request(&tokens.access)).await;
    assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], ALICE, "{}", answer.html());
}

#[tokio::test]
async fn a_session_that_one_process_revokes_is_refused_by_the_other_at_once_while_both_write() {
    let fleet = Replicas::start(2, AN_HOUR, "warn", &["--rate-limit", "off"]).await;
    for round in 0..5 {
        let tokens = fleet.session(if round % 2 == 0 { ALICE } else { BOB }).await;
        // Each remembers the session, in all of its readers.
        let calls = (0..16).map(|number| fleet.send_to(number % 2, call_request(&tokens.access)));
        assert!(futures_util::future::join_all(calls).await.iter().all(|answer| answer.status == 200));
        let writing = async {
            let metadata = json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none" }).to_string();
            let writes = (0..40).map(|_| {
                let request = Request::post("/register").header("content-type", "application/json");
                fleet.send(request.body(metadata.clone().into_bytes()).unwrap())
            });
            futures_util::future::join_all(writes).await
        };
        let revoking = async {
            let body = format!("client_id={}&token={}", tokens.client_id, tokens.refresh);
            let request = Request::post("/revoke").header("content-type", "application/x-www-form-urlencoded");
            assert_eq!(fleet.send_to(round % 2, request.body(body.into_bytes()).unwrap()).await.status, 200);
            let calls = (0..16).map(|number| fleet.send_to((round + number + 1) % 2, call_request(&tokens.access)));
            futures_util::future::join_all(calls).await
        };
        let (written, refused) = tokio::join!(writing, revoking);
        assert!(written.iter().all(|answer| answer.status == 201), "round {round}");
        assert!(refused.iter().all(|answer| answer.status == 401), "round {round}");
    }
}

/// Each process has its own instances, and SQLite alone is between them.
#[tokio::test]
async fn fifty_refreshes_at_once_on_two_processes_have_one_successor() {
    let fleet = Replicas::start(2, AN_HOUR, "warn", &["--rate-limit", "off"]).await;
    let tokens = fleet.session(ALICE).await;
    let answers = futures_util::future::join_all((0..50).map(|_| fleet.refresh(&tokens))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body), "{}", fleet.log());
    }
    let renewed = Tokens::of(&tokens.client_id, &answers[0]);
    let answer = fleet.send(call_request(&renewed.access)).await;
    assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], ALICE, "{}", answer.html());
    assert_eq!(fleet.refresh(&renewed).await.status, 200, "the session goes on");
    assert_eq!(fleet.refresh(&tokens).await.refusal(), (400, "invalid_grant"), "and with one token only");
    assert_eq!(fleet.send(call_request(&renewed.access)).await.status, 401);
}

/// The record of the session is in the journal until then. The other process goes on, so SQLite does not clear it up.
#[tokio::test]
async fn a_process_that_ends_leaves_no_journal_of_what_was_revoked() {
    let mut fleet = Replicas::start(2, AN_HOUR, "warn", &[]).await;
    let tokens = fleet.session(ALICE).await;
    let form = [("client_id", tokens.client_id.as_str()), ("token", &tokens.refresh)];
    assert_eq!(fleet.post_form("/revoke", &form).await.status, 200);
    assert_eq!(fleet.terminate(0).await, Some(0));
    assert_eq!(fleet.journal_bytes(), 0);
    assert_eq!(fleet.send_to(1, call_request(&tokens.access)).await.status, 401);
}

/// What one process seals with a new key, the other one opens, while both are at work.
#[tokio::test]
async fn while_the_data_key_is_replaced_again_and_again_no_request_fails() {
    let fleet = Replicas::start(2, AN_HOUR, "warn", &["--rate-limit", "off"]).await;
    let (done, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    let work = async |username: &str| {
        let mut tokens = fleet.session(username).await;
        let mut last = false;
        while !last {
            last = done.load(Ordering::SeqCst);
            for _ in 0..2 {
                let answer = fleet.send(call_request(&tokens.access)).await;
                assert_eq!(answer.status, 200, "{}\n{}", answer.html(), fleet.log());
            }
            let answer = fleet.refresh(&tokens).await;
            assert_eq!(answer.status, 200, "{}\n{}", answer.html(), fleet.log());
            tokens = Tokens::of(&tokens.client_id, &answer);
            rounds.fetch_add(1, Ordering::SeqCst);
        }
    };
    let rotate = async {
        for _ in 0..4 {
            let next = rounds.load(Ordering::SeqCst) + 6;
            until(|| rounds.load(Ordering::SeqCst) >= next).await.expect("both processes work");
            let output = fleet.run(&["store", "rotate-key"]).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            // Every step of a sign-in works at once.
            fleet.session(BOB).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(work(ALICE), work(BOB), work(ALICE), rotate);

    let output = fleet.run(&["store", "check", "--json"]).await;
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found[0]["sound"], true, "{found}");
    // A process takes a key when it meets it, so which records are under which is not certain.
    assert_eq!(found[0]["unknown_key"], 0, "{found}");
    assert!(found[0]["records"].as_u64().unwrap() > 0, "{found}");
}
