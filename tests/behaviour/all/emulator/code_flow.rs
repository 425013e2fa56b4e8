//! Authorization code with PKCE: what comes of it, and every way it is refused.

use serde_json::json;

use crate::support::lab::{
    Answer, Authorize, CONTOSO, FABRIKAM, GRAPH_SCOPE, LOCAL, Lab, REDIRECT, REMOTE, Refusal, START, VERIFIER, app,
    refused, sent_back,
};

const ALICE: &str = "alice@contoso.example";

#[tokio::test]
async fn a_user_signs_in_and_reads_the_profile() {
    let mut lab = Lab::new().await;
    let answer = lab.graph_tokens(ALICE).await;
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.text("scope"), "openid profile https://graph.microsoft.com/User.Read");
    assert_eq!(answer.header("cache-control"), "no-store, no-cache");
    let id = answer.claims("id_token");
    assert_eq!(id["iss"], format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority));
    assert_eq!(id["aud"], app(LOCAL));
    assert_eq!(id["nonce"], "the-nonce");
    assert_eq!(id["tid"], CONTOSO);
    assert_eq!(id["oid"], "11111111-0000-4000-a000-000000000001");
    assert_eq!(id["preferred_username"], ALICE);
    assert_eq!((id["iat"].as_i64(), id["exp"].as_i64()), (Some(START), Some(START + 3_600)));
    let me = lab.graph("/me", answer.text("access_token")).await;
    assert_eq!((me.status, &me.body["displayName"]), (200, &json!("Alice Anderson")));
}

#[tokio::test]
async fn state_and_session_state_come_back_with_the_code() {
    let mut lab = Lab::new().await;
    let landing = lab.authorize(&Authorize::new(LOCAL), ALICE).await.unwrap();
    assert!(landing.url.starts_with("http://localhost:54321/?code="), "{}", landing.url);
    assert_eq!(landing.parameter("state").unwrap(), "the-state");
    assert!(landing.parameter("session_state").is_some());
    assert_eq!(landing.pages, ["Sign in", "Enter password"]);
}

#[tokio::test]
async fn the_answer_comes_in_the_response_mode_asked_for() {
    let mut lab = Lab::new().await;
    let landing = lab.authorize(&Authorize::new(LOCAL).with("response_mode", "fragment"), ALICE).await.unwrap();
    assert!(landing.url.starts_with("http://localhost:54321/#code="), "{}", landing.url);
    let landing = lab.authorize(&Authorize::new(LOCAL).with("response_mode", "form_post"), ALICE).await.unwrap();
    assert_eq!(landing.url, REDIRECT);
}

/// What an authorize request is refused with on a page, because the redirect URI cannot be trusted.
#[tokio::test]
async fn mistakes_before_the_redirect_uri_is_trusted_are_shown_to_the_person_only() {
    let mut lab = Lab::new().await;
    let cases = [
        ("unknown tenant", Authorize::new(LOCAL).tenant("nowhere.example"), 90002),
        ("no client id", Authorize::new(LOCAL).without("client_id"), 900144),
        ("unknown client", Authorize::new(99), 700016),
        ("single tenant app of another tenant", Authorize::new(11), 700016),
        ("single tenant app at common", Authorize::new(11).tenant("common"), 50194),
        ("disabled application", Authorize::new(12), 7000112),
        ("personal accounts only", Authorize::new(13), 9002331),
        ("no redirect URI in the request", Authorize::new(LOCAL).without("redirect_uri"), 900971),
        ("no redirect URI registered", Authorize::new(7), 500113),
        ("another redirect URI", Authorize::new(LOCAL).with("redirect_uri", "https://evil.example/"), 50011),
        ("another path on localhost", Authorize::new(LOCAL).with("redirect_uri", "http://localhost:1/x"), 50011),
        ("127.0.0.1 with another port", Authorize::new(LOCAL).with("redirect_uri", "http://127.0.0.1:1/"), 50011),
        ("https on localhost", Authorize::new(LOCAL).with("redirect_uri", "https://localhost/"), 50011),
        (
            "user information in the redirect URI",
            Authorize::new(LOCAL).with("redirect_uri", "http://a@localhost/"),
            50011,
        ),
    ];
    for (case, request, code) in cases {
        assert_eq!(refused(lab.authorize(&request, ALICE).await).0, code, "{case}");
    }
    let repeated = Authorize::new(LOCAL).url(&lab.endpoints().authority) + "&scope=openid";
    let person = entra_mcp_emulator::user_agent::Person::new(ALICE, "emulator");
    assert_eq!(refused(lab.browser.sign_in_as(&repeated, &person).await).0, 9_000_411);
}

/// What the application is told, once its redirect URI is known to be its own.
#[tokio::test]
async fn mistakes_after_that_are_sent_to_the_application() {
    let mut lab = Lab::new().await;
    let new = || Authorize::new(LOCAL);
    let cases = [
        ("implicit flow", new().with("response_type", "id_token"), "unsupported_response_type", 700_054),
        ("no response type", new().without("response_type"), "invalid_request", 900_144),
        ("unknown response mode", new().with("response_mode", "web"), "unsupported_response_mode", 70_007),
        ("no scope", new().without("scope"), "invalid_request", 900_144),
        ("short scope of another API", new().scope("Mcp.Access"), "invalid_client", 650_053),
        ("unknown scope of an API", new().scope(&format!("api://{}/Nope", app(REMOTE))), "invalid_client", 650_053),
        ("unknown resource", new().scope("api://nobody/x"), "invalid_resource", 500_011),
        ("short challenge", new().with("code_challenge", "short"), "invalid_grant", 501_481),
        ("unknown challenge method", new().with("code_challenge_method", "S512"), "invalid_request", 9_002_313),
        ("claims that are no JSON", new().with("claims", "{"), "invalid_request", 50_101),
        (
            "resource of another scope",
            new().with("resource", "https://mcp.contoso.example/mcp"),
            "invalid_target",
            9_010_010,
        ),
        ("unknown resource parameter", new().with("resource", "http://127.0.0.1:9/mcp"), "invalid_target", 9_010_010),
        ("no session", new().with("prompt", "none"), "login_required", 50_058),
    ];
    for (case, request, error, code) in cases {
        let landing = lab.authorize(&request, ALICE).await.unwrap();
        assert_eq!(sent_back(&landing), (error.to_owned(), code), "{case}");
        assert_eq!(landing.parameter("state").unwrap(), "the-state", "{case}");
    }
}

#[tokio::test]
async fn a_resource_that_fits_the_scopes_is_accepted() {
    let mut lab = Lab::new().await;
    let scope = "openid offline_access https://mcp.contoso.example/mcp/Mcp.Access";
    let request = Authorize::new(LOCAL).scope(scope).with("resource", "https://mcp.contoso.example/mcp");
    let answer = lab.tokens(&request, ALICE).await;
    assert_eq!(answer.text("scope"), "https://mcp.contoso.example/mcp/Mcp.Access");
    assert_eq!(answer.claims("access_token")["aud"], app(REMOTE));
}

async fn redeem(lab: &Lab, code: &str, changes: &[(&str, Option<&str>)]) -> Answer {
    let client = app(LOCAL);
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("client_id", &client),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("scope", GRAPH_SCOPE),
    ];
    for (name, value) in changes {
        form.retain(|(key, _)| key != name);
        form.extend(value.map(|value| (*name, value)));
    }
    lab.token(CONTOSO, &form).await
}

#[tokio::test]
async fn a_code_is_refused_unless_everything_fits() {
    let mut lab = Lab::new().await;
    type Change = (&'static str, Option<&'static str>);
    let cases: [(&str, Change, Refusal<'_>); 14] = [
        ("no grant type", ("grant_type", None), (400, "invalid_request", 900_144)),
        ("unknown grant type", ("grant_type", Some("password")), (400, "unsupported_grant_type", 70_003)),
        ("no client id", ("client_id", None), (400, "invalid_request", 900_144)),
        ("unknown client", ("client_id", Some("nobody")), (400, "unauthorized_client", 700_016)),
        ("another client", ("client_id", Some("a0000000-0000-4000-a000-000000000005")), (400, "invalid_grant", 70_000)),
        ("no code", ("code", None), (400, "invalid_request", 900_144)),
        ("an invented code", ("code", Some("1.Axyz")), (400, "invalid_grant", 9_002_313)),
        ("no redirect URI", ("redirect_uri", None), (400, "invalid_request", 900_144)),
        ("another redirect URI", ("redirect_uri", Some("http://localhost:1/")), (400, "invalid_client", 500_112)),
        ("no verifier", ("code_verifier", None), (400, "invalid_grant", 50_148)),
        ("another verifier", ("code_verifier", Some(REDIRECT)), (400, "invalid_grant", 501_481)),
        ("a secret of a public client", ("client_secret", Some("x")), (401, "invalid_client", 700_025)),
        ("a scope that does not exist", ("scope", Some("Nope.Read")), (400, "invalid_scope", 70_011)),
        ("another resource", ("resource", Some("https://mcp.contoso.example/mcp")), (400, "invalid_target", 9_010_010)),
    ];
    for (case, change, expected) in cases {
        let code = lab.code(&Authorize::new(LOCAL), ALICE).await;
        assert_eq!(redeem(&lab, &code, &[change]).await.refusal(), expected, "{case}");
    }
}

#[tokio::test]
async fn a_code_works_once() {
    let mut lab = Lab::new().await;
    let code = lab.code(&Authorize::new(LOCAL), ALICE).await;
    assert_eq!(redeem(&lab, &code, &[]).await.status, 200);
    assert_eq!(redeem(&lab, &code, &[]).await.refusal(), (400, "invalid_grant", 54_005));
}

#[tokio::test]
async fn a_code_expires_after_ten_minutes() {
    let mut lab = Lab::new().await;
    let code = lab.code(&Authorize::new(LOCAL), ALICE).await;
    lab.advance(599);
    assert_eq!(redeem(&lab, &code, &[]).await.status, 200);
    let code = lab.code(&Authorize::new(LOCAL), ALICE).await;
    lab.advance(601);
    assert_eq!(redeem(&lab, &code, &[]).await.refusal(), (400, "invalid_grant", 70_008));
}

#[tokio::test]
async fn a_code_of_one_tenant_is_refused_at_another() {
    let mut lab = Lab::new().await;
    let code = lab.code(&Authorize::new(LOCAL).tenant("organizations"), ALICE).await;
    let client = app(LOCAL);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    assert_eq!(lab.token(FABRIKAM, &form).await.refusal(), (400, "invalid_grant", 700_005));
    assert_eq!(lab.token("organizations", &form).await.status, 200);
}

#[tokio::test]
async fn authorize_may_name_several_resources_and_token_only_one() {
    let mut lab = Lab::new().await;
    let both = format!("openid https://graph.microsoft.com/User.Read api://{}/Mcp.Access", app(REMOTE));
    let code = lab.code(&Authorize::new(LOCAL).scope(&both), ALICE).await;
    assert_eq!(redeem(&lab, &code, &[("scope", Some(&both))]).await.refusal(), (400, "invalid_request", 28_000));
    let code = lab.code(&Authorize::new(LOCAL).scope(&both), ALICE).await;
    assert_eq!(redeem(&lab, &code, &[("scope", None)]).await.refusal(), (400, "invalid_request", 28_003));
    let code = lab.code(&Authorize::new(LOCAL), ALICE).await;
    assert_eq!(redeem(&lab, &code, &[("scope", Some(""))]).await.refusal(), (400, "invalid_request", 28_003));
    let code = lab.code(&Authorize::new(LOCAL).scope(&both), ALICE).await;
    assert_eq!(redeem(&lab, &code, &[("scope", Some("User.Read"))]).await.text("scope"), "User.Read");
}

#[tokio::test]
async fn without_a_scope_the_codes_own_single_resource_is_meant() {
    let mut lab = Lab::new().await;
    let code = lab.code(&Authorize::new(LOCAL), ALICE).await;
    let answer = redeem(&lab, &code, &[("scope", None)]).await;
    assert!(answer.text("scope").contains("User.Read"));
    assert!(answer.body["refresh_token"].is_string());
}

#[tokio::test]
async fn a_refresh_token_needs_offline_access_and_an_id_token_openid() {
    let mut lab = Lab::new().await;
    let answer = lab.tokens(&Authorize::new(LOCAL).scope("User.Read"), ALICE).await;
    assert!(answer.body["access_token"].is_string());
    assert!(answer.body["refresh_token"].is_null() && answer.body["id_token"].is_null());
}

#[tokio::test]
async fn default_means_the_permissions_configured_on_the_registration() {
    let mut lab = Lab::new().await;
    let answer = lab.tokens(&Authorize::new(LOCAL).scope("https://graph.microsoft.com/.default"), ALICE).await;
    assert_eq!(
        answer.text("scope"),
        "https://graph.microsoft.com/User.Read https://graph.microsoft.com/User.ReadBasic.All \
         https://graph.microsoft.com/GroupMember.Read.All https://graph.microsoft.com/.default"
    );
    let both = "https://graph.microsoft.com/.default https://graph.microsoft.com/User.Read";
    let landing = lab.authorize(&Authorize::new(LOCAL).scope(both), ALICE).await.unwrap();
    assert_eq!(sent_back(&landing), ("invalid_scope".to_owned(), 70_011));
}

#[tokio::test]
async fn a_web_application_needs_its_credential() {
    let mut lab = Lab::new().await;
    let request = Authorize::new(REMOTE).with("redirect_uri", "http://localhost:8080/auth/callback");
    let code = lab.code(&request, ALICE).await;
    let client = app(REMOTE);
    let form = |secret: Option<&'static str>| {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client.as_str()),
            ("code", code.as_str()),
            ("redirect_uri", "http://localhost:8080/auth/callback"),
            ("code_verifier", VERIFIER),
        ];
        form.extend(secret.map(|secret| ("client_secret", secret)));
        form
    };
    assert_eq!(lab.token(CONTOSO, &form(None)).await.refusal(), (401, "invalid_client", 7_000_218));
    assert_eq!(lab.token(CONTOSO, &form(Some("wrong"))).await.refusal(), (401, "invalid_client", 7_000_215));
    let expired = Some("expired-client-secret-of-the-emulator");
    assert_eq!(lab.token(CONTOSO, &form(expired)).await.refusal(), (401, "invalid_client", 7_000_222));
    assert_eq!(lab.token(CONTOSO, &form(Some("second-valid-secret-of-the-emulator"))).await.status, 200);
}

#[tokio::test]
async fn a_single_page_application_redeems_from_its_origin_only() {
    let mut lab = Lab::new().await;
    let request = Authorize::new(8).with("redirect_uri", "http://localhost:3000/spa");
    let url = format!("{}/{CONTOSO}/oauth2/v2.0/token", lab.endpoints().authority);
    let client = app(8);
    let code = lab.code(&request, ALICE).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", &code),
        ("redirect_uri", "http://localhost:3000/spa"),
        ("code_verifier", VERIFIER),
    ];
    assert_eq!(lab.post(&url, &form).await.refusal(), (400, "invalid_request", 9_002_327));
    let from_origin = lab.client().post(&url).header("origin", "http://localhost:3000").form(&form);
    let answer = lab.send(from_origin).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(answer.body["refresh_token_expires_in"], 86_400);

    let code = lab.code(&request.without("code_challenge"), ALICE).await;
    let mut form = form;
    form[2].1 = &code;
    let answer = lab.send(lab.client().post(&url).header("origin", "http://localhost:3000").form(&form)).await;
    assert_eq!(answer.refusal(), (400, "invalid_request", 9_002_325));
}

#[tokio::test]
async fn an_origin_is_refused_for_clients_that_are_no_single_page_application() {
    let mut lab = Lab::new().await;
    let code = lab.code(&Authorize::new(LOCAL), ALICE).await;
    let client = app(LOCAL);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let url = format!("{}/{CONTOSO}/oauth2/v2.0/token", lab.endpoints().authority);
    let answer = lab.send(lab.client().post(&url).header("origin", "http://localhost:3000").form(&form)).await;
    assert_eq!(answer.refusal(), (400, "invalid_request", 9_002_326));
}

#[tokio::test]
async fn the_caller_finds_its_correlation_id_in_a_refusal() {
    let lab = Lab::new().await;
    let id = "12345678-0000-4000-8000-0123456789ab";
    let url = format!("{}/common/oauth2/v2.0/token", lab.endpoints().authority);
    let answer = lab.send(lab.client().post(url).header("client-request-id", id)).await;
    assert_eq!((answer.text("correlation_id"), answer.header("client-request-id")), (id, id));
    assert_eq!(answer.text("timestamp"), "2026-11-18 10:00:00Z");
}

#[tokio::test]
async fn the_token_endpoint_accepts_post_only() {
    let lab = Lab::new().await;
    assert_eq!(lab.get("/common/oauth2/v2.0/token").await.refusal(), (400, "invalid_request", 900_561));
}

#[tokio::test]
async fn a_repeated_parameter_is_refused() {
    let lab = Lab::new().await;
    let form = [("grant_type", "refresh_token"), ("grant_type", "refresh_token")];
    assert_eq!(lab.token("common", &form).await.refusal(), (400, "invalid_request", 9_000_411));
}

#[tokio::test]
async fn the_retired_v1_endpoints_take_a_resource() {
    let mut lab = Lab::new().await;
    let v1 = Authorize::new(LOCAL).without("scope").with("resource", "https://graph.microsoft.com");
    let url = v1.url(&lab.endpoints().authority).replace("/oauth2/v2.0/", "/oauth2/");
    let person = entra_mcp_emulator::user_agent::Person::new(ALICE, "emulator");
    let code = lab.browser.sign_in_as(&url, &person).await.unwrap().parameter("code").unwrap();
    let client = app(LOCAL);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("resource", "https://graph.microsoft.com"),
    ];
    let answer = lab.post(&format!("{}/{CONTOSO}/oauth2/token", lab.endpoints().authority), &form).await;
    assert_eq!(answer.text("resource"), "https://graph.microsoft.com");
    assert!(answer.body["expires_in"].is_string());
}
