//! Faults: each does what it says, as often as it says.

use entra_mcp_emulator::{Endpoint, Fault, RedirectFault, TokenFault};

use crate::support::lab::{Authorize, GRAPH_SCOPE, LOCAL, Lab, START, header};

const ALICE: &str = "alice@contoso.example";

async fn lab_with_token() -> (Lab, String) {
    let mut lab = Lab::new().await;
    let token = lab.graph_tokens(ALICE).await.text("access_token").to_owned();
    (lab, token)
}

#[tokio::test]
async fn a_status_with_headers_and_body_strikes_as_often_as_asked() {
    let (lab, token) = lab_with_token().await;
    lab.control().inject(
        Fault::on(Endpoint::GraphMe)
            .status(429)
            .header("retry-after", "2")
            .body("{\"error\":{\"code\":\"TooManyRequests\"}}")
            .times(2)
            .after(1),
    );
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = lab.graph("/me", &token).await;
        if answer.status == 429 {
            assert_eq!((answer.header("retry-after"), &answer.body["error"]["code"]), ("2", &"TooManyRequests".into()));
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [200, 429, 429, 200]);
}

#[tokio::test]
async fn a_fault_can_last_until_it_is_cleared() {
    let (lab, token) = lab_with_token().await;
    lab.control().inject(Fault::anywhere().status(503).always());
    for _ in 0..3 {
        assert_eq!(lab.graph("/me", &token).await.status, 503);
        assert_eq!(lab.get("/common/discovery/v2.0/keys").await.status, 503);
    }
    lab.control().clear_faults();
    assert_eq!(lab.graph("/me", &token).await.status, 200);
}

#[tokio::test]
async fn a_connection_is_dropped_without_an_answer() {
    let (lab, token) = lab_with_token().await;
    lab.control().inject(Fault::on(Endpoint::GraphMe).drop_connection().times(2));
    let request = || lab.client().get(format!("{}/v1.0/me", lab.endpoints().graph)).bearer_auth(&token).send();
    // The client repeats a request by itself when a kept connection turns out to be closed.
    let error = request().await.unwrap_err();
    assert!(error.is_request(), "{error:?}");
    lab.control().clear_faults();
    assert_eq!(request().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_breaks_off_before_its_announced_length() {
    let (lab, token) = lab_with_token().await;
    lab.control().inject(Fault::on(Endpoint::GraphMe).truncate_body(10));
    let response =
        lab.client().get(format!("{}/v1.0/me", lab.endpoints().graph)).bearer_auth(&token).send().await.unwrap();
    assert!(response.content_length().unwrap() > 10);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn content_type_and_size_can_be_wrong() {
    let (lab, token) = lab_with_token().await;
    lab.control().inject(Fault::on(Endpoint::GraphMe).content_type("text/html"));
    assert_eq!(lab.graph("/me", &token).await.header("content-type"), "text/html");
    lab.control().inject(Fault::on(Endpoint::GraphMe).pad_body(3_000_000));
    assert_eq!(lab.graph("/me", &token).await.bytes.len(), 3_000_000);
    lab.control().inject(Fault::on(Endpoint::GraphMe).body("{\"displayName\":"));
    let broken = lab.graph("/me", &token).await;
    assert_eq!((broken.status, broken.body.is_null()), (200, true), "malformed JSON with status 200");
}

#[tokio::test]
async fn an_answer_can_be_late() {
    let (lab, token) = lab_with_token().await;
    lab.control().inject(Fault::on(Endpoint::GraphMe).delay_ms(600_000));
    let late = lab.graph("/me", &token);
    let prompt = async {
        while lab.control().request_count(Endpoint::GraphMe) == 0 {
            tokio::task::yield_now().await;
        }
        lab.graph("/me", &token).await
    };
    tokio::select! {
        _ = late => panic!("the answer that is to come in ten minutes has come"),
        answer = prompt => assert_eq!(answer.status, 200),
    }
}

#[tokio::test]
async fn a_fault_can_be_about_one_grant_type() {
    let mut lab = Lab::new().await;
    lab.control().inject(Fault::on(Endpoint::Token).grant_type("refresh_token").status(500));
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.status, 500);
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.status, 200);
}

#[tokio::test]
async fn id_tokens_are_spoilt_for_one_reason_at_a_time() {
    let mut lab = Lab::new().await;
    let good = lab.graph_tokens(ALICE).await;
    let good = (good.claims("id_token"), header(good.text("id_token")));
    let cases: [(TokenFault, &[&str]); 8] = [
        (TokenFault::UnknownKey, &[]),
        (TokenFault::WrongNonce, &["nonce"]),
        (TokenFault::MissingNonce, &["nonce"]),
        (TokenFault::WrongIssuer, &["iss"]),
        (TokenFault::WrongAudience, &["aud"]),
        (TokenFault::WrongTenant, &["tid"]),
        (TokenFault::Expired, &["exp", "iat", "nbf"]),
        (TokenFault::NotYetValid, &["nbf"]),
    ];
    for (fault, changed) in cases {
        lab.control().spoil_id_tokens(fault, 1);
        let answer = lab.graph_tokens(ALICE).await;
        let spoilt = answer.claims("id_token");
        for (name, value) in good.0.as_object().unwrap() {
            let random = ["aio", "uti", "rh"].contains(&name.as_str());
            assert!(random || (spoilt[name] != *value) == changed.contains(&name.as_str()), "{fault:?}: {name}");
        }
        let other_key = header(answer.text("id_token"))["kid"] != good.1["kid"];
        assert_eq!(other_key, fault == TokenFault::UnknownKey, "{fault:?}");
    }
    assert_eq!(lab.graph_tokens(ALICE).await.claims("id_token")["exp"], START + 3_600);
}

#[tokio::test]
async fn redirects_come_with_a_wrong_state_or_none() {
    let mut lab = Lab::new().await;
    for (fault, state) in [(RedirectFault::WrongState, Some("a-state-never-sent")), (RedirectFault::MissingState, None)]
    {
        lab.control().spoil_redirects(fault, 1);
        let landing = lab.authorize(&Authorize::new(LOCAL), ALICE).await.unwrap();
        assert_eq!(landing.parameter("state").as_deref(), state);
        assert!(landing.parameter("code").is_some());
    }
}
