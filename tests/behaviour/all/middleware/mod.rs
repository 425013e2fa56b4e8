//! `entra_mcp.middleware.wasm` in front of a component of `wasi:http` 0.3, in one instance that is given many requests at once,
//! as `wasmtime serve` and Spin do it.

mod host;

use futures_util::future::join_all;
use serde_json::{Value, json};

use self::host::{Answer, Served};
use crate::support::component::modern;
use crate::tools::mail::{assert_no_client_token_left, bearer, watch};

const ALICE: &str = "alice@contoso.example";
const BOB: &str = "bob@contoso.example";

/// Requests that one instance has at the same time: what wasmtime gives it.
const AT_ONCE: usize = 16;
/// Rounds of them.
const ROUNDS: usize = 4;

/// A call of the tool that says which header fields reached it.
fn call(token: Option<&str>) -> http::Request<String> {
    let message = modern("tools/call", json!({ "name": "headers", "arguments": {} }), json!({}));
    let mut request = http::Request::post("http://localhost/mcp").header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(message.to_string()).expect("a request")
}

/// The values of a header field that reached the component behind.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    let headers = body["result"]["structuredContent"]["headers"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    let of = |field: &Value| (field[0] == name).then(|| field[1].as_str().unwrap_or_default().to_owned());
    headers.iter().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_whose_requests_are_in_one_instance_at_once_are_not_mixed() {
    let served = Served::start(&[]).await;
    let mut tokens = Vec::new();
    for username in [ALICE, BOB] {
        tokens.push(bearer(&served.emulator, username).await);
    }
    watch(&served.emulator, &tokens);
    let ids: Vec<_> = tokens.iter().map(|token| host::claim(token, "oid")).collect();
    assert_ne!(ids[0], ids[1]);
    served
        .with(async |instance| {
            for _ in 0..ROUNDS {
                let calls = (0..AT_ONCE).map(|number| {
                    let (token, id, instance) = (&tokens[number % 2], &ids[number % 2], &instance);
                    async move {
                        let answer = instance.send(call(Some(token))).await;
                        assert_eq!(answer.status, 200, "{answer:?}");
                        assert_eq!(seen(&answer, "x-ms-client-principal-id"), [id.as_str()]);
                    }
                });
                join_all(calls).await;
            }
        })
        .await;
    // No token of a client went on, to the component behind or anywhere else.
    let sightings = served.emulator.control().sightings();
    assert!(sightings.is_empty(), "{sightings:?}");
    assert_no_client_token_left(&served.emulator);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_component_behind_sees_who_calls_and_neither_the_token_nor_what_a_client_says_of_an_identity() {
    let served = Served::start(&[]).await;
    let token = bearer(&served.emulator, ALICE).await;
    let mut request = call(Some(&token));
    for (name, value) in [
        ("cookie", "a=b"),
        ("x-ms-client-principal-id", "forged"),
        ("x_ms_client_principal_id", "forged"),
        ("x-request-id", "kept"),
    ] {
        request.headers_mut().append(name, value.parse().expect("a value"));
    }
    served
        .with(async |instance| {
            let answer = instance.send(request).await;
            assert_eq!(seen(&answer, "x-ms-client-principal-id"), [host::claim(&token, "oid")]);
            assert_eq!(seen(&answer, "x-ms-client-principal-idp"), ["aad"]);
            assert_eq!(seen(&answer, "x-request-id"), ["kept"]);
            for absent in ["authorization", "cookie", "x_ms_client_principal_id"] {
                assert!(seen(&answer, absent).is_empty(), "{absent}: {answer:?}");
            }
            assert!(!answer.body.contains(&token) && !answer.body.contains("forged"), "{answer:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_good_token_does_not_go_on() {
    let served = Served::start(&[]).await;
    let token = bearer(&served.emulator, ALICE).await;
    served
        .with(async |instance| {
            let answer = instance.send(call(None)).await;
            assert_eq!(answer.status, 401, "{answer:?}");
            let metadata = "resource_metadata=\"http://localhost/.well-known/oauth-protected-resource/mcp\"";
            assert!(answer.header("www-authenticate").contains(metadata), "{answer:?}");
            for bad in ["x", &format!("{token}x"), &format!("{}.{token}", "x")] {
                let answer = instance.send(call(Some(bad))).await;
                assert_eq!(answer.status, 401, "{answer:?}");
                assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{answer:?}");
            }
            let request = http::Request::get("http://localhost/.well-known/oauth-protected-resource/mcp");
            let answer = instance.send(request.body(String::new()).expect("a request")).await;
            let document: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(document["resource"], "http://localhost/mcp");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_the_scope_is_refused_and_wrong_settings_serve_nothing() {
    let served = Served::start(&[("ENTRA_MCP_REQUIRED_SCOPE", "Other.Scope")]).await;
    let token = bearer(&served.emulator, ALICE).await;
    served
        .with(async |instance| {
            let answer = instance.send(call(Some(&token))).await;
            assert_eq!(answer.status, 403, "{answer:?}");
            assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""), "{answer:?}");
        })
        .await;
    let served = Served::start(&[("ENTRA_MCP_STORE", "/records")]).await;
    served
        .with(async |instance| {
            let error = instance.try_send(call(None)).await.expect_err("it does not start");
            assert!(error.contains("ConfigurationError"), "{error}");
        })
        .await;
    assert!(served.log().contains("ENTRA_MCP_STORE has no effect in entra_mcp.middleware.wasm"), "{}", served.log());
}
