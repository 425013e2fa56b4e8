//! The program with an identity broker on the session bus. What the component believes of an answer is tested natively, in
//! `guest/caller/src/local/broker/tests.rs`; these tests are about the way over the bus, and what people are told.

use std::process::{Output, Stdio};

use entra_mcp_emulator::Endpoint;
use entra_mcp_emulator::user_agent::{HeadlessBrowser, Person};
use serde_json::{Value, json};

use crate::host::commands::Home;
use crate::host::stdio::{ENDS, Server, initialize, sign_in};
use crate::support::identity_broker::{Reply, Session};
use crate::support::lab::{
    Authorize, CONTOSO, CURIOUS, FABRIKAM, GRAPH_SCOPE, LOCAL, PASSWORD, REDIRECT, TASKS, VERIFIER, app, claims,
};
use crate::support::patience::until;
use crate::support::process::send_signal;

const ALICE: &str = "alice@contoso.example";
const ALICE_ID: &str = "11111111-0000-4000-a000-000000000001";

/// The broker's account of Alice, as it lists it.
fn alice() -> Value {
    json!({
        "environment": "login.microsoftonline.com",
        "homeAccountId": format!("{ALICE_ID}.{CONTOSO}"),
        "localAccountId": ALICE_ID,
        "realm": CONTOSO,
        "username": ALICE,
    })
}

/// Tokens of the emulator, as a broker obtains them.
async fn tokens(home: &Home, client: u8, tenant: &str, username: &str, scope: &str) -> Value {
    let at = home.emulator().endpoints();
    let request = Authorize::new(client).tenant(tenant).scope(scope).without("nonce");
    let person = Person::new(username, PASSWORD);
    let landing = HeadlessBrowser::new().staying().sign_in_as(&request.url(&at.authority), &person).await.unwrap();
    let (client, code) = (app(client), landing.parameter("code").unwrap_or_else(|| panic!("no code in {landing:?}")));
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", &client),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("scope", scope),
    ];
    let url = format!("{}/{tenant}/oauth2/v2.0/token", at.authority);
    let answer = reqwest::Client::new().post(url).form(&form).send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["id_token"].is_string(), "{answer}");
    answer
}

/// The answer of a broker that has these tokens.
fn given(tokens: &Value) -> Value {
    // The access token for Graph is opaque.
    let issued = claims(tokens["id_token"].as_str().unwrap())["iat"].as_u64().unwrap();
    let ends = (issued + tokens["expires_in"].as_u64().unwrap()) * 1_000;
    json!({ "brokerTokenResponse": {
        "accessToken": tokens["access_token"],
        "accessTokenType": 0,
        "account": alice(),
        "clientInfo": "e30",
        "expiresOn": ends,
        "grantedScopes": tokens["scope"],
        "idToken": tokens["id_token"],
    } })
}

fn refusal(status: u32) -> Value {
    json!({ "brokerTokenResponse": { "error": { "context": "AADSTS50076", "status": status, "subStatus": 0 } } })
}

/// A broker that knows Alice, and answers requests for tokens in this way.
async fn broker(mut answer: impl FnMut(&str) -> Value + Send + 'static) -> Session {
    Session::with_broker(move |method, _| match method {
        "getAccounts" => Reply::Answer(json!({ "accounts": [alice()] })),
        method => Reply::Answer(answer(method)),
    })
    .await
}

/// Runs the program in a session.
async fn run(home: &Home, session: &Session, arguments: &[&str]) -> Output {
    let mut program = home.program(arguments);
    program.env("DBUS_SESSION_BUS_ADDRESS", session.address()).stdin(Stdio::null());
    program.output().await.unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn methods(session: &Session) -> Vec<String> {
    session.calls().into_iter().map(|(method, _)| method).collect()
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn an_account_of_the_broker_signs_in_silently_and_its_tokens_are_renewed_there() {
    let home = Home::new().await;
    // Less than the time before its end at which a token is renewed.
    home.emulator().control().change_policy(|policy| {
        (policy.access_token_shortest, policy.access_token_longest, policy.continuous_access_token) = (200, 200, 200);
    });
    let tokens = tokens(&home, LOCAL, CONTOSO, ALICE, GRAPH_SCOPE).await;
    let answer = given(&tokens);
    let session = broker(move |_| answer.clone()).await;
    home.emulator().control().clear_requests();

    let (code, output, log) = said(&run(&home, &session, &["login", "--account", ALICE]).await);
    assert_eq!((code, output), (Some(0), format!("Signed in as {ALICE} ({ALICE_ID}.{CONTOSO}).\n")), "{log}");
    let calls = session.calls();
    let methods = calls.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>();
    assert_eq!(methods, ["getAccounts", "getAccounts", "acquireTokenSilently"]);
    let (_, request) = calls.last().unwrap();
    assert_eq!(request["account"], alice(), "the whole account as it was listed");
    let parameters = &request["authParameters"];
    assert_eq!(parameters["account"], alice());
    assert_eq!(parameters["clientId"], app(LOCAL));
    assert_eq!(parameters["requestedScopes"], json!(["https://graph.microsoft.com/User.Read"]));

    let (code, output, log) = said(&run(&home, &session, &["whoami"]).await);
    assert!(code == Some(0) && output.starts_with(ALICE), "{output} {log}");
    assert_eq!(session.calls().last().unwrap().0, "acquireTokenSilently", "the token was about to end");
    let control = home.emulator().control();
    assert_eq!(control.request_count(Endpoint::Token) + control.request_count(Endpoint::Authorize), 0);
    // The broker is left out: what it gave is not used without it.
    let (code, _, log) = said(&run(&home, &session, &["whoami", "--broker", "off"]).await);
    assert!(code == Some(1) && log.contains("sign in"), "{log}");
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn the_broker_asks_the_person_who_signs_in_or_declines() {
    let home = Home::new().await;
    let answer = given(&tokens(&home, LOCAL, CONTOSO, ALICE, GRAPH_SCOPE).await);
    let session =
        broker(move |method| if method == "acquireTokenInteractively" { answer.clone() } else { refusal(2) }).await;
    let (code, output, log) = said(&run(&home, &session, &["login"]).await);
    assert!(code == Some(0) && output.contains(ALICE), "{output} {log}");
    assert_eq!(methods(&session), ["getAccounts", "acquireTokenInteractively"], "the person chooses the account");
    let (code, output, log) = said(&run(&home, &session, &["login", "--account", ALICE]).await);
    assert!(code == Some(0) && output.contains(ALICE), "{output} {log}");
    assert!(methods(&session).contains(&"acquireTokenInteractively".to_owned()), "it could not be silent");

    let pages = home.emulator().control().request_count(Endpoint::Authorize);
    let declined = broker(|_| refusal(7)).await;
    let (code, output, log) = said(&run(&home, &declined, &["login"]).await);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(log.contains("declined"), "{log}");
    let pages_now = home.emulator().control().request_count(Endpoint::Authorize);
    assert_eq!(pages_now, pages, "no browser is opened instead");
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn an_answer_for_another_account_tenant_application_or_resource_signs_nobody_in() {
    let home = Home::new().await;
    let good = tokens(&home, LOCAL, CONTOSO, ALICE, GRAPH_SCOPE).await;
    let with_access_of = |other: &Value| {
        let mut mixed = good.clone();
        mixed["access_token"] = other["access_token"].clone();
        mixed
    };
    let tasks = format!("openid profile offline_access api://{}/Tasks.Read", app(TASKS));
    let bob = "bob@contoso.example";
    let curious = "openid profile offline_access User.Read";
    let forged = [
        ("another account", tokens(&home, LOCAL, CONTOSO, bob, GRAPH_SCOPE).await),
        ("another tenant", tokens(&home, LOCAL, FABRIKAM, "grace@fabrikam.example", GRAPH_SCOPE).await),
        ("another application", tokens(&home, CURIOUS, CONTOSO, ALICE, curious).await),
        ("a token of another account", with_access_of(&tokens(&home, LOCAL, CONTOSO, bob, &tasks).await)),
        ("a token for another service", with_access_of(&tokens(&home, LOCAL, CONTOSO, ALICE, &tasks).await)),
    ];
    for (what, tokens) in forged {
        let answer = given(&tokens);
        let session = broker(move |_| answer.clone()).await;
        let login = run(&home, &session, &["login", "--account", ALICE, "--broker", "require"]).await;
        let (code, output, log) = said(&login);
        assert_eq!((code, output.as_str()), (Some(1), ""), "{what}: {log}");
        assert!(log.contains("the sign-in was not accepted"), "{what}: {log}");
        for secret in ["access_token", "id_token"] {
            assert!(!log.contains(tokens[secret].as_str().unwrap()), "{what}: the log shows a token");
        }
        let (_, accounts, _) = said(&run(&home, &session, &["accounts"]).await);
        assert_eq!(accounts, "No account is signed in.\n", "{what}");
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn without_a_broker_the_browser_is_used_unless_the_broker_is_required() {
    let home = Home::new().await;
    let session = Session::without_broker().await;
    assert_eq!(session.services(), ["org.freedesktop.DBus"], "and none of the machine");
    let in_session = run(&home, &session, &["login", "--broker", "require"]).await;
    let without_session = home.program(&["login", "--broker", "require"]).output().await.unwrap();
    for output in [in_session, without_session] {
        let (code, output, log) = said(&output);
        assert_eq!((code, output.as_str()), (Some(1), ""), "{log}");
        assert!(log.contains("there is no identity broker to sign in with"), "{log}");
    }
    let mut login = home.program_with_person(&["login"]);
    let login = login.env("DBUS_SESSION_BUS_ADDRESS", session.address()).stdin(Stdio::null()).output().await.unwrap();
    let (code, output, log) = said(&login);
    assert!(code == Some(0) && output.contains(ALICE), "{output} {log}");
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn a_broker_that_does_not_answer_is_given_up() {
    let (required, optional) = (Home::new().await, Home::new().await);
    let session = Session::with_broker(|_, _| Reply::Nothing).await;
    let mut with_browser = optional.program_with_person(&["login"]);
    with_browser.env("DBUS_SESSION_BUS_ADDRESS", session.address()).stdin(Stdio::null());
    let (required, optional) =
        tokio::join!(run(&required, &session, &["login", "--broker", "require"]), with_browser.output());
    let (code, output, log) = said(&required);
    assert_eq!((code, output.as_str()), (Some(1), ""), "{log}");
    assert!(log.contains("the identity broker does not answer"), "{log}");
    let (code, output, log) = said(&optional.unwrap());
    assert!(code == Some(0) && output.contains(ALICE), "{output} {log}");
}

/// A broker whose person does not answer.
async fn broker_that_waits() -> Session {
    Session::with_broker(|method, _| match method {
        "getAccounts" => Reply::Answer(json!({ "accounts": [alice()] })),
        "acquireTokenSilently" => Reply::Answer(refusal(2)),
        _ => Reply::Nothing,
    })
    .await
}

/// A server whose call has made the broker open its window.
async fn server_with_open_window(home: &Home, session: &Session) -> Server {
    let mut program = home.program(&["stdio", "--broker", "require"]);
    program.env("DBUS_SESSION_BUS_ADDRESS", session.address());
    let mut server = Server::spawn(program);
    server.send(initialize()).await;
    assert_eq!(server.receive().await["id"], 0);
    server.send(sign_in(1)).await;
    until(|| session.open_windows() == 1).await.expect("the broker opens a window");
    server
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn a_call_that_is_cancelled_closes_the_window_of_the_broker() {
    let (home, session) = (Home::new().await, broker_that_waits().await);
    let mut server = server_with_open_window(&home, &session).await;
    server.send(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    until(|| session.open_windows() == 0).await.expect("the window is closed");
    let (code, rest, log) = server.end().await;
    assert_eq!((code, rest), (Some(0), vec![]), "{log}");
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn the_end_of_the_server_closes_the_window_of_the_broker() {
    for end in ENDS {
        let (home, session) = (Home::new().await, broker_that_waits().await);
        let server = server_with_open_window(&home, &session).await;
        let (code, _, log) = server.end_by(end).await;
        assert_eq!(code, Some(0), "{end:?}: {log}");
        until(|| session.open_windows() == 0).await.expect("the window is closed");
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "dbus-run-session"), ignore = "needs dbus: use tests/run")]
async fn a_login_that_is_out_of_time_or_ended_by_a_signal_closes_the_window_of_the_broker() {
    let (home, session) = (Home::new().await, broker_that_waits().await);
    let late = run(&home, &session, &["login", "--broker", "require", "--sign-in-timeout", "1"]).await;
    let (code, output, log) = said(&late);
    assert_eq!((code, output.as_str()), (Some(1), ""), "{log}");
    until(|| session.open_windows() == 0).await.expect("the window is closed");
    let opened = methods(&session).iter().filter(|method| *method == "acquireTokenInteractively").count();
    assert_eq!(opened, 1);

    for signal in ["TERM", "INT"] {
        let mut login = home.program(&["login", "--broker", "require"]);
        login.env("DBUS_SESSION_BUS_ADDRESS", session.address()).stdin(Stdio::null());
        let login = login.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        until(|| session.open_windows() == 1).await.expect("the broker opens a window");
        send_signal(signal, login.id().unwrap());
        let (code, output, log) = said(&login.wait_with_output().await.unwrap());
        assert_eq!((code, output.as_str()), (Some(130), ""), "{signal}: {log}");
        until(|| session.open_windows() == 0).await.expect("the window is closed");
    }
}
