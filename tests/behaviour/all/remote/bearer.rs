//! Clients that bring their own token of Entra ID: what is admitted, what is refused and how, and that the token itself
//! goes nowhere but to Entra ID.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entra_mcp_emulator::user_agent::{HeadlessBrowser, Person};
use entra_mcp_emulator::{Endpoint, Fault, Requirement};
use entra_mcp_plugin::environment::{CallerKind, Settings, TokenMode, ToolRule};
use serde_json::{Value, json};

use crate::support::lab::{
    Authorize, CONTOSO, FABRIKAM, LOCAL, PASSWORD, REDIRECT, REMOTE, TASKS, VERIFIER, app, claims as claims_of,
};
use crate::support::patience::until;
use crate::support::remote::{ALICE, Answer, BOB, Fleet, PUBLIC_URL, RESOURCE, call_request};

/// The scope that the server names.
pub(super) const SCOPE: &str = "https://mcp.example.com/mcp/access_as_user";
pub(super) const METADATA: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
pub(super) const ALICES_OBJECT: &str = "11111111-0000-4000-a000-000000000001";

pub(super) async fn fleet(mode: TokenMode) -> Fleet {
    fleet_with(mode, |_| {}).await
}

/// A fleet in this mode, whose application is registered as `docs/src/how-to/accept-entra-tokens.md` says.
pub(super) async fn fleet_with(mode: TokenMode, change: impl FnOnce(&mut Settings)) -> Fleet {
    let fleet = Fleet::with(|settings| {
        settings.http.as_mut().expect("a remote server").token_mode = mode;
        settings.token.audiences.push(RESOURCE.to_owned());
        change(settings);
    })
    .await;
    register_api(&fleet);
    fleet
}

/// Registers the application as the API that clients ask tokens for.
pub(super) fn register_api(fleet: &Fleet) {
    let exposed = fleet.control().change_application(&app(REMOTE), |api| api.identifier_uris.push(RESOURCE.to_owned()));
    exposed.expect("the application exists");
}

/// Signs in at Entra ID as a client with MSAL does, and redeems the code; the access token.
pub(super) async fn token_by(fleet: &Fleet, authorize: &Authorize, username: &str) -> String {
    let authority = fleet.emulator.endpoints().authority.clone();
    let mut browser = HeadlessBrowser::new().staying();
    let landing = browser.sign_in_as(&authorize.url(&authority), &Person::new(username, PASSWORD)).await;
    let code = landing.expect("the sign-in ends at the client").parameter("code").expect("there is a code");
    let scope = authorize.parameters.iter().find(|(name, _)| name == "scope").expect("there is a scope").1.clone();
    let client = app(LOCAL);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("scope", scope.as_str()),
    ];
    token_request(fleet, &authorize.tenant, &form).await
}

pub(super) async fn token_request(fleet: &Fleet, tenant: &str, form: &[(&str, &str)]) -> String {
    let url = format!("{}/{tenant}/oauth2/v2.0/token", fleet.emulator.endpoints().authority);
    let answer = reqwest::Client::new().post(url).form(form).send().await.expect("the emulator answers");
    let body: Value = serde_json::from_slice(&answer.bytes().await.expect("a whole answer")).expect("JSON");
    body["access_token"].as_str().unwrap_or_else(|| panic!("no access token: {body}")).to_owned()
}

pub(super) fn authorize(scope: &str) -> Authorize {
    Authorize::new(LOCAL).scope(&format!("openid profile offline_access {scope}"))
}

pub(super) async fn token(fleet: &Fleet, username: &str) -> String {
    token_by(fleet, &authorize(SCOPE), username).await
}

/// A token of an application for itself.
pub(super) async fn app_only(fleet: &Fleet) -> String {
    let (id, secret) = (app(REMOTE), fleet.emulator.endpoints().client_secret.clone());
    let scope = format!("{RESOURCE}/.default");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", id.as_str()),
        ("client_secret", secret.as_str()),
        ("scope", scope.as_str()),
    ];
    token_request(fleet, CONTOSO, &form).await
}

/// A token with these claims instead of Alice's, signed with the authority's key or with an unknown one.
pub(super) fn signed(fleet: &Fleet, changes: &[(&str, Value)], forged: bool) -> String {
    let now = fleet.control().now();
    let mut claims = json!({
        "aud": app(REMOTE), "iss": format!("{}/{CONTOSO}/v2.0", fleet.emulator.endpoints().authority),
        "iat": now, "nbf": now, "exp": now + 3600, "azp": app(LOCAL), "ver": "2.0", "tid": CONTOSO,
        "oid": ALICES_OBJECT, "sub": "subject", "scp": "access_as_user", "uti": "unknown",
    });
    for (name, value) in changes {
        claims[name] = value.clone();
    }
    fleet.control().sign(&claims, forged).expect("the emulator signs")
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_is_refused_with_what_to_get_instead_and_never_exchanged() {
    let fleet = fleet(TokenMode::Both).await;
    for cnf in [json!({ "jkt": "thumbprint" }), json!({ "kid": "key", "xms_ksl": "sw" }), json!({ "x5t#S256": "hash" })]
    {
        let answer = fleet.call(&signed(&fleet, &[("cnf", cnf)], false)).await;
        assert_eq!(answer.status, 401);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\", error_description=\""), "{challenge}");
        assert!(challenge.contains("bound to a key (cnf)"), "{challenge}");
    }
    assert_eq!(refusals(&fleet), ["key-bound"; 3]);
    assert_eq!(fleet.control().request_count(Endpoint::Token), 0);
    // An attacker who made the token up is not told so much.
    let answer = fleet.call(&signed(&fleet, &[("cnf", json!({ "jkt": "x" }))], true)).await;
    assert!(!answer.header("www-authenticate").contains("cnf"), "{}", answer.header("www-authenticate"));
}

/// The reasons of refused tokens.
fn refusals(fleet: &Fleet) -> Vec<String> {
    let events = fleet.audit.events().into_iter().filter(|(_, event)| event.name == "token.refused");
    events.filter_map(|(_, event)| event.reason).collect()
}

/// The text of a call that failed in the tool.
pub(super) fn tool_error(answer: &Answer) -> &str {
    let result = &answer.body["result"];
    assert_eq!((answer.status, &result["isError"]), (200, &json!(true)), "{}", answer.body);
    result["content"][0]["text"].as_str().expect("an error has a text")
}

/// The claims of a challenge.
pub(super) fn challenged(answer: &Answer) -> String {
    let challenge = answer.header("www-authenticate");
    assert_eq!(answer.status, 401, "{challenge} {}", answer.body);
    assert!(challenge.starts_with("Bearer error=\"insufficient_claims\", "), "{challenge}");
    assert!(challenge.contains(&format!("resource_metadata=\"{METADATA}\"")), "{challenge}");
    let encoded =
        challenge.split("claims=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("there are claims");
    String::from_utf8(STANDARD.decode(encoded).expect("claims are base64")).expect("claims are text")
}

#[tokio::test]
async fn a_users_token_is_let_in_and_the_tool_answers_for_that_user() {
    for mode in [TokenMode::Bearer, TokenMode::Both] {
        let fleet = fleet(mode).await;
        for username in [ALICE, BOB] {
            let token = token(&fleet, username).await;
            assert_eq!(claims_of(&token)["ver"], "2.0");
            assert_eq!(fleet.details(&token).await["userPrincipalName"], username);
        }
        let events = fleet.audit.events();
        let (_, called) = events.iter().find(|(_, event)| event.name == "tool.called").expect("the call is recorded");
        assert_eq!(called.tenant_id.as_deref(), Some(CONTOSO));
        assert_eq!((called.object_id.as_deref(), called.client_id.clone()), (Some(ALICES_OBJECT), Some(app(LOCAL))));
        assert_eq!(refusals(&fleet), [""; 0]);
    }
}

#[tokio::test]
async fn a_version_1_token_is_let_in() {
    let fleet = fleet(TokenMode::Bearer).await;
    fleet.control().change_application(&app(REMOTE), |api| api.access_token_version = 1).expect("it exists");
    let token = token(&fleet, ALICE).await;
    let claims = claims_of(&token);
    assert_eq!((&claims["ver"], &claims["aud"]), (&json!("1.0"), &json!(RESOURCE)));
    assert_eq!(fleet.details(&token).await["userPrincipalName"], ALICE);
}

#[tokio::test]
async fn a_guest_is_a_user_of_the_tenant_that_they_visit() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, "grace@fabrikam.example").await;
    assert_eq!(claims_of(&token)["tid"], CONTOSO);
    assert!(fleet.details(&token).await["displayName"].as_str().is_some_and(|name| name.starts_with("Grace")));
}

#[tokio::test]
async fn the_token_of_a_client_reaches_entra_and_never_graph() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    fleet.control().clear_requests();
    fleet.details(&token).await;
    let exchanges = fleet.control().requests(Endpoint::Token);
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].form("assertion"), Some(token.as_str()));
    assert_eq!(exchanges[0].form("requested_token_use"), Some("on_behalf_of"));
    assert_eq!(exchanges[0].form("scope"), Some("https://graph.microsoft.com/User.Read"));
    assert!(exchanges[0].form("claims").is_some_and(|claims| claims.contains("cp1")));
    for endpoint in fleet.control().request_counts().into_keys() {
        for request in fleet.control().requests(endpoint) {
            let elsewhere = !request.path.ends_with("/oauth2/v2.0/token") && format!("{request:?}").contains(&token);
            assert!(!elsewhere, "{} {}", request.method, request.path);
        }
    }
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 1);
}

#[tokio::test]
async fn a_token_for_graph_is_got_once_for_each_token_and_again_before_it_expires() {
    let fleet = fleet(TokenMode::Bearer).await;
    let (alice, again, bob) = (token(&fleet, ALICE).await, token(&fleet, ALICE).await, token(&fleet, BOB).await);
    fleet.control().clear_requests();
    for _ in 0..3 {
        assert_eq!(fleet.details(&alice).await["userPrincipalName"], ALICE);
    }
    assert_eq!(fleet.control().request_count(Endpoint::Token), 1);
    for _ in 0..2 {
        assert_eq!(fleet.details(&again).await["userPrincipalName"], ALICE);
    }
    assert_eq!(fleet.control().request_count(Endpoint::Token), 2, "whether it is good enough, Entra ID says of each");
    assert_eq!(fleet.details(&bob).await["userPrincipalName"], BOB, "one user's token is never another's");
    assert_eq!(fleet.control().request_count(Endpoint::Token), 3);
    // With continuous access evaluation Entra ID gives tokens for Graph for up to 28 hours.
    fleet.advance(28 * 3600);
    let later = token(&fleet, ALICE).await;
    fleet.control().clear_requests();
    fleet.details(&later).await;
    assert_eq!(fleet.control().request_count(Endpoint::Token), 1);
}

#[tokio::test]
async fn calls_at_the_same_time_ask_entra_once() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    fleet.control().clear_requests();
    let flying = fleet.let_time_fly();
    let answers = tokio::join!(fleet.call(&token), fleet.call(&token), fleet.call(&token), fleet.call(&token));
    flying.abort();
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        assert_eq!((answer.status, &answer.body["result"]["isError"]), (200, &json!(false)), "{}", answer.body);
    }
    assert_eq!(fleet.control().request_count(Endpoint::Token), 1);
}

#[tokio::test]
async fn every_token_that_is_not_good_is_refused_and_recorded_and_told_nothing() {
    let fleet = fleet(TokenMode::Bearer).await;
    let tasks = token_by(&fleet, &authorize(&format!("api://{}/Tasks.Read", app(TASKS))), ALICE).await;
    let fabrikam = token_by(&fleet, &authorize(SCOPE).tenant(FABRIKAM), "frank@fabrikam.example").await;
    let mut altered = token(&fleet, ALICE).await;
    let at = altered.len() - 20;
    altered.replace_range(at..=at, if altered[at..].starts_with('A') { "B" } else { "A" });
    let now = fleet.control().now();
    let cases = [
        (tasks, "audience-mismatch"),
        (fabrikam, "tenant-not-allowed"),
        (altered, "signature-invalid"),
        (signed(&fleet, &[], true), "key-unknown"),
        (signed(&fleet, &[("iss", json!("https://login.microsoftonline.com/x/v2.0"))], false), "issuer-mismatch"),
        (signed(&fleet, &[("nbf", json!(now + 600))], false), "not-yet-valid"),
        (signed(&fleet, &[("scp", Value::Null)], false), "claim-malformed"),
        // Genuine signatures over what Entra ID would not sign: one kind of token that pretends to be another.
        (signed(&fleet, &[("aud", json!(RESOURCE))], false), "audience-mismatch"),
        (signed(&fleet, &[("ver", json!("1.0")), ("appid", json!(app(LOCAL)))], false), "issuer-mismatch"),
        (signed(&fleet, &[("ver", json!("1.0"))], false), "claim-missing"),
        (signed(&fleet, &[("tid", json!(FABRIKAM))], false), "issuer-mismatch"),
        (signed(&fleet, &[("nonce", json!("n"))], false), "wrong-token-use"),
        (signed(&fleet, &[("idtyp", json!("app"))], false), "claim-malformed"),
        (signed(&fleet, &[("azp", json!("https://client.example.com/id"))], false), "claim-malformed"),
        (signed(&fleet, &[("oid", json!("../../alice"))], false), "claim-malformed"),
        ("a.b".to_owned(), "not-compact"),
        ("opaque".to_owned(), "not-compact"),
        ("a.b.c".to_owned(), "encoding-invalid"),
        (format!("{}.x.y", "a".repeat(17 * 1024)), "too-large"),
    ];
    for (index, (token, reason)) in cases.iter().enumerate() {
        let answer = fleet.call(token).await;
        let told = "error=\"invalid_token\", error_description=\"the access token is not valid for this server\"";
        let expected = format!("Bearer {told}, resource_metadata=\"{METADATA}\", scope=\"{SCOPE}\"");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, expected.as_str()), "{reason}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(reason), "{reason}");
        assert_eq!(refusals(&fleet).get(index).map(String::as_str), Some(*reason));
    }
    let events = fleet.audit.events();
    let all = format!("{events:?}");
    assert!(cases.iter().all(|(token, _)| token.len() < 20 || !all.contains(token)), "no record holds a token");
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 0);
}

#[tokio::test]
async fn an_expired_token_is_told_so() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    assert_eq!(fleet.call(&token).await.status, 200);
    let left = claims_of(&token)["exp"].as_i64().expect("a date") - fleet.control().now();
    fleet.advance(u64::try_from(left).expect("in the future") + 60);
    let answer = fleet.call(&token).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").contains("\"the access token has expired\""));
    assert_eq!(refusals(&fleet), ["expired"]);
}

#[tokio::test]
async fn a_server_without_keys_waits_four_seconds_for_the_metadata_and_the_keys_together() {
    let fleet = fleet(TokenMode::Bearer).await;
    let (token, control) = (token(&fleet, ALICE).await, fleet.control());
    let asked = || (control.request_count(Endpoint::OpenidConfiguration), control.request_count(Endpoint::Keys));
    let before = asked();
    control.inject(Fault::on(Endpoint::OpenidConfiguration).delay_ms(2_000));
    // By the clock of the server, the metadata takes all the time that there is for both.
    let four_seconds_pass = async {
        until(|| asked().0 > before.0).await.expect("the metadata is asked for");
        fleet.advance(4);
    };
    let (answer, ()) = tokio::join!(fleet.call(&token), four_seconds_pass);
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    assert_eq!(asked(), (before.0 + 1, before.1), "the keys are not asked for");
    assert_eq!(fleet.call(&token).await.status, 200);
    assert_eq!(asked(), (before.0 + 1, before.1 + 1));
}

#[tokio::test]
async fn a_server_whose_keys_do_not_arrive_answers_503() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    fleet.control().inject(Fault::on(Endpoint::Keys).delay_ms(600_000));
    let answer = fleet.call(&token).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    // The limit between two questions is by the clock of the server.
    fleet.advance(5);
    assert_eq!(fleet.call(&token).await.status, 200);
}

#[tokio::test]
async fn a_user_without_the_required_scope_is_told_which_it_is() {
    let fleet = fleet(TokenMode::Bearer).await;
    let other = token_by(&fleet, &authorize(&format!("{RESOURCE}/Mcp.Access")), ALICE).await;
    let answer = fleet.call(&other).await;
    let challenge = answer.header("www-authenticate");
    assert_eq!(answer.status, 403, "{challenge}");
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\", "), "{challenge}");
    assert!(challenge.ends_with(&format!("resource_metadata=\"{METADATA}\", scope=\"{SCOPE}\"")), "{challenge}");
    let events = fleet.audit.events();
    let (_, event) = events.iter().find(|(_, event)| event.name == "token.refused").expect("it is recorded");
    assert_eq!(event.reason.as_deref(), Some("scopes-missing"));
    assert_eq!((event.object_id.as_deref(), event.client_id.clone()), (Some(ALICES_OBJECT), Some(app(LOCAL))));
    // Step-up: the same client asks for what it was told.
    assert_eq!(fleet.call(&token(&fleet, ALICE).await).await.status, 200);
}

#[tokio::test]
async fn an_application_for_itself_is_let_in_but_has_no_profile() {
    let users_and_apps = ToolRule { kinds: vec![CallerKind::User, CallerKind::App], ..super::access::rule() };
    // The tool is for users by itself; an operator who lets applications in gets the tool's own answer.
    for (rules, reason) in [(None, "kind-not-allowed"), (Some(vec![users_and_apps]), "no-user")] {
        let fleet = fleet_with(TokenMode::Bearer, |settings| {
            settings.profile_cache_seconds = 60;
            settings.http.as_mut().expect("a remote server").access = rules;
        })
        .await;
        let token = app_only(&fleet).await;
        fleet.control().clear_requests();
        let answer = fleet.call(&token).await;
        assert!(tool_error(&answer).contains("stands for an application (app-only)"), "{}", answer.body);
        assert_eq!(fleet.control().request_count(Endpoint::Token), 0, "Entra ID is not asked in vain");
        let reasons: Vec<_> = fleet.audit.events().into_iter().filter_map(|(_, event)| event.reason).collect();
        assert_eq!(reasons, [reason]);
    }
}

#[tokio::test]
async fn a_second_factor_that_entra_wants_becomes_a_challenge_for_the_client() {
    let fleet = fleet(TokenMode::Bearer).await;
    let first = token(&fleet, ALICE).await;
    fleet.control().set_requirement(ALICE, Requirement::UseMfa).expect("Alice exists");
    fleet.control().clear_requests();
    let claims = challenged(&fleet.call(&first).await);
    assert!(claims.contains("capolids"), "{claims}");
    assert_eq!(challenged(&fleet.call(&first).await), claims);
    assert_eq!(
        fleet.control().request_count(Endpoint::Token),
        1,
        "a client that repeats itself is no flood at Entra ID"
    );
    // The next token works at once: a refusal of one token does not apply to another.
    let second = token_by(&fleet, &authorize(SCOPE).with("claims", &claims), ALICE).await;
    assert_eq!(fleet.details(&second).await["userPrincipalName"], ALICE);
    let reasons: Vec<_> = fleet.audit.events().into_iter().filter_map(|(_, event)| event.reason).collect();
    assert_eq!(reasons, ["aadsts-50076", "interaction-required", "interaction-required"]);
}

#[tokio::test]
async fn a_token_of_a_weaker_sign_in_does_not_ride_on_a_stronger_one() {
    let fleet = fleet(TokenMode::Bearer).await;
    let weak = token(&fleet, ALICE).await;
    fleet.control().set_requirement(ALICE, Requirement::UseMfa).expect("Alice exists");
    let strong = token(&fleet, ALICE).await;
    // The same person, client and scope; only the second one has shown a second factor.
    assert_eq!(fleet.details(&strong).await["userPrincipalName"], ALICE);
    assert!(challenged(&fleet.call(&weak).await).contains("capolids"));
    assert_eq!(fleet.details(&strong).await["userPrincipalName"], ALICE, "nor does the weak one spoil the other");
}

#[tokio::test]
async fn a_token_from_before_a_revocation_does_not_ride_on_a_newer_one() {
    let fleet = fleet(TokenMode::Bearer).await;
    let stolen = token(&fleet, ALICE).await;
    fleet.details(&stolen).await;
    fleet.control().revoke_sessions(ALICE).expect("Alice exists");
    let newer = token(&fleet, ALICE).await;
    assert_eq!(fleet.details(&newer).await["userPrincipalName"], ALICE);
    for _ in 0..2 {
        assert_eq!(fleet.call(&stolen).await.status, 401);
    }
}

#[tokio::test]
async fn a_challenge_of_graph_drops_the_token_and_is_passed_on() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    fleet.details(&token).await;
    fleet.control().challenge_graph(1);
    fleet.control().clear_requests();
    let claims: Value = serde_json::from_str(&challenged(&fleet.call(&token).await)).expect("claims are JSON");
    assert!(claims["access_token"].is_object(), "{claims}");
    assert_eq!(fleet.control().request_count(Endpoint::Token), 0);
    let next = token_by(&fleet, &authorize(SCOPE).with("claims", &claims.to_string()), ALICE).await;
    fleet.control().clear_requests();
    assert_eq!(fleet.details(&next).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.control().request_count(Endpoint::Token), 1, "the token that Graph refused is not used again");
}

#[tokio::test]
async fn an_authentication_context_that_graph_wants_is_in_the_next_tokens_question_to_entra() {
    let fleet = fleet(TokenMode::Bearer).await;
    let (weak, bob) = (token(&fleet, ALICE).await, token(&fleet, BOB).await);
    fleet.control().set_requirement(ALICE, Requirement::AuthenticationContext).expect("Alice exists");
    let claims = challenged(&fleet.call(&weak).await);
    assert!(claims.contains("acrs"), "{claims}");
    let strong = token_by(&fleet, &authorize(SCOPE).with("claims", &claims), ALICE).await;
    fleet.control().clear_requests();
    assert_eq!(fleet.details(&strong).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 1, "Graph does not have to ask twice");
    let asked = |fleet: &Fleet| {
        let exchange = fleet.control().requests(Endpoint::Token).pop().expect("Entra ID is asked");
        serde_json::from_str::<Value>(exchange.form("claims").expect("claims")).expect("JSON")["access_token"].clone()
    };
    assert_eq!((&asked(&fleet)["acrs"]["value"], &asked(&fleet)["xms_cc"]["values"]), (&json!("c1"), &json!(["cp1"])));
    // The demand does not make a weak token strong, and does not apply to other callers.
    assert_eq!(challenged(&fleet.call(&weak).await), claims);
    assert_eq!(fleet.details(&bob).await["userPrincipalName"], BOB);
    assert_eq!(asked(&fleet)["acrs"], Value::Null);
}

#[tokio::test]
async fn a_user_whose_sessions_are_revoked_signs_in_again() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    fleet.control().revoke_sessions(ALICE).expect("Alice exists");
    let answer = fleet.call(&token).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\", "));
    assert!(fleet.audit.events().iter().any(|(_, event)| event.reason.as_deref() == Some("aadsts-50173")));
}

#[tokio::test]
async fn an_entra_that_cannot_be_reached_is_an_error_of_the_tool() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    fleet.details(&token).await;
    let signed = signed(&fleet, &[("oid", json!("11111111-0000-4000-a000-000000000002"))], false);
    fleet.control().inject(Fault::on(Endpoint::Token).status(503).always());
    let flying = fleet.let_time_fly();
    let answer = fleet.call(&signed).await;
    flying.abort();
    assert!(!tool_error(&answer).is_empty());
    let (_, event) = fleet.audit.events().pop().expect("the call is recorded");
    assert_eq!((event.name.as_str(), event.reason.as_deref()), ("tool.called", Some("entra-unavailable")));
}

#[tokio::test]
async fn entra_is_the_authorization_server_in_the_metadata_and_the_challenge_has_no_short_scope() {
    let fleet = fleet(TokenMode::Bearer).await;
    let entra = format!("{}/{CONTOSO}/v2.0", fleet.emulator.endpoints().authority);
    let document = fleet.get("/.well-known/oauth-protected-resource/mcp").await;
    assert_eq!(document.body["resource"], RESOURCE);
    assert_eq!(document.body["authorization_servers"], json!([entra]));
    assert_eq!(document.body["scopes_supported"], json!([SCOPE]));
    let answer = fleet.call("").await;
    let expected = format!("Bearer resource_metadata=\"{METADATA}\", scope=\"{SCOPE}\"");
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, expected.as_str()));
}

#[tokio::test]
async fn there_is_no_authorization_server_of_ours_beside_entra_alone() {
    let fleet = fleet(TokenMode::Bearer).await;
    for path in [
        "/authorize?client_id=x",
        "/auth/callback?code=x&state=x",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/openid-configuration",
        "/mcp/.well-known/openid-configuration",
    ] {
        assert_eq!(fleet.get(path).await.status, 404, "{path}");
    }
    for path in ["/token", "/register", "/revoke", "/authorize"] {
        assert_eq!(fleet.post_form(path, &[("client_id", "x")]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn sessions_and_entra_tokens_live_on_one_endpoint() {
    let fleet = fleet(TokenMode::Both).await;
    let entra = format!("{}/{CONTOSO}/v2.0", fleet.emulator.endpoints().authority);
    let document = fleet.get("/.well-known/oauth-protected-resource/mcp").await;
    assert_eq!(document.body["authorization_servers"], json!([PUBLIC_URL, entra]));
    let session = fleet.session(ALICE).await;
    assert_eq!(fleet.details(&session.access).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.details(&token(&fleet, BOB).await).await["userPrincipalName"], BOB);
    for token in ["opaque", "a.b", "a.b.c"] {
        assert_eq!(fleet.call(token).await.status, 401, "{token}");
    }
    assert_eq!(refusals(&fleet), ["session-unknown", "session-unknown", "encoding-invalid"]);
}

#[tokio::test]
async fn a_client_may_ask_the_facade_for_the_scope_that_the_metadata_names() {
    use crate::support::remote::{Authorize, Tab, parameter};
    let fleet = fleet(TokenMode::Both).await;
    let client = fleet.register(crate::support::remote::REDIRECT).await;
    let back = Tab::default().walk(&fleet, &Authorize::new(&client).set("scope", SCOPE), ALICE).await;
    let answer = fleet.redeem(&client, &parameter(&back, "code").expect("there is a code")).await;
    assert_eq!((answer.status, &answer.body["scope"]), (200, &json!("User.Read")));
}

#[tokio::test]
async fn a_server_of_sessions_takes_no_token_of_entra() {
    let fleet = fleet(TokenMode::Session).await;
    let token = token(&fleet, ALICE).await;
    let answer = fleet.call(&token).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").ends_with("scope=\"User.Read\""));
    assert_eq!(fleet.control().request_count(Endpoint::Keys), 0);
}

#[tokio::test]
async fn a_token_in_the_url_is_refused_and_the_scheme_has_no_case() {
    let fleet = fleet(TokenMode::Bearer).await;
    let token = token(&fleet, ALICE).await;
    let mut request = call_request(&token);
    request.headers_mut().insert("authorization", format!("bearer {token}").parse().expect("a header"));
    assert_eq!(fleet.send(request).await.status, 200);
    let mut request = call_request("");
    *request.uri_mut() = format!("/mcp?access_token={token}").parse().expect("a URI");
    let answer = fleet.send(request).await;
    assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")));
}

#[tokio::test]
async fn a_profile_is_remembered_by_tenant_and_object_whichever_way_the_user_came() {
    let fleet = fleet_with(TokenMode::Both, |settings| settings.profile_cache_seconds = 60).await;
    let session = fleet.session(ALICE).await;
    let (alice, bob) = (token(&fleet, ALICE).await, token(&fleet, BOB).await);
    fleet.control().clear_requests();
    for token in [&session.access, &alice, &alice] {
        assert_eq!(fleet.details(token).await["userPrincipalName"], ALICE);
    }
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 1);
    assert_eq!(fleet.details(&bob).await["userPrincipalName"], BOB);
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 2);
}
