//! Microsoft Graph: the profile and what is near it.

use entra_mcp_emulator::{Endpoint, Fault};
use serde_json::{Value, json};

use crate::support::lab::{Answer, Authorize, LOCAL, Lab};

const ALICE: &str = "alice@contoso.example";

/// (status, error code), once the whole form of the error is checked.
fn error(answer: &Answer) -> (u16, &str) {
    let error = &answer.body["error"];
    let inner = &error["innerError"];
    assert_eq!(inner["request-id"], answer.header("request-id"));
    assert!(inner["date"].is_string() && inner["client-request-id"].is_string() && error["message"].is_string());
    (answer.status, error["code"].as_str().unwrap())
}

async fn token(lab: &mut Lab, username: &str, scope: &str) -> String {
    // A browser with one session signs that user in silently, even if another user is meant.
    lab.browser.clear_cookies();
    lab.tokens(&Authorize::new(LOCAL).scope(scope), username).await.text("access_token").to_owned()
}

#[tokio::test]
async fn the_default_properties_are_graphs_own() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.Read").await;
    let me = lab.graph("/me", &token).await;
    assert_eq!(
        me.body,
        json!({
            "@odata.context": format!("{}/v1.0/$metadata#users/$entity", lab.endpoints().graph),
            "businessPhones": ["+1 555 0101"],
            "displayName": "Alice Anderson",
            "givenName": "Alice",
            "jobTitle": "Product Manager",
            "mail": "alice@contoso.example",
            "mobilePhone": "+1 555 0100",
            "officeLocation": "12/1110",
            "preferredLanguage": "en-US",
            "surname": "Anderson",
            "userPrincipalName": "alice@contoso.example",
            "id": "11111111-0000-4000-a000-000000000001",
        })
    );
    assert_eq!(me.header("odata-version"), "4.0");
}

#[tokio::test]
async fn empty_properties_are_null_and_empty_lists() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, "bob@contoso.example", "User.Read").await;
    let me = lab.graph("/me", &token).await.body;
    assert_eq!(
        (&me["displayName"], &me["jobTitle"], &me["businessPhones"]),
        (&json!("Bob Brown"), &Value::Null, &json!([]))
    );
    assert!(me.as_object().unwrap().contains_key("jobTitle"));
}

#[tokio::test]
async fn select_names_the_properties() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.Read").await;
    for path in
        ["/me?$select=displayName,department,companyname", "/me?%24select=displayName%2Cdepartment%2Ccompanyname"]
    {
        let me = lab.graph(path, &token).await.body;
        assert_eq!(
            me,
            json!({
                "@odata.context":
                    format!("{}/v1.0/$metadata#users(displayName,department,companyName)/$entity", lab.endpoints().graph),
                "displayName": "Alice Anderson",
                "department": "Engineering",
                "companyName": "Contoso",
            })
        );
    }
    assert_eq!(error(&lab.graph("/me?$select=displayName,shoeSize", &token).await), (400, "BadRequest"));
}

#[tokio::test]
async fn a_token_is_needed() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.Read").await;
    let url = format!("{}/v1.0/me", lab.endpoints().graph);
    let without = lab.send(lab.client().get(&url)).await;
    assert_eq!(error(&without), (401, "InvalidAuthenticationToken"));
    assert!(without.header("www-authenticate").starts_with("Bearer realm=\"\", authorization_uri="));
    assert_eq!(error(&lab.graph("/me", "invented").await), (401, "InvalidAuthenticationToken"));
    let lower = lab.client().get(&url).header("authorization", format!("bearer {token}"));
    assert_eq!(lab.send(lower).await.status, 200, "the scheme is case-insensitive");
    lab.advance(5_400);
    let expired = lab.graph("/me", &token).await;
    assert_eq!(error(&expired), (401, "InvalidAuthenticationToken"));
    assert!(expired.body["error"]["message"].as_str().unwrap().contains("expired"));
}

#[tokio::test]
async fn scopes_are_checked() {
    let mut lab = Lab::new().await;
    let without = token(&mut lab, ALICE, "openid profile").await;
    assert_eq!(error(&lab.graph("/me", &without).await), (403, "Authorization_RequestDenied"));
    let own_only = token(&mut lab, ALICE, "User.Read").await;
    for path in ["/users/bob@contoso.example", "/users/nobody@contoso.example", "/me/memberOf"] {
        assert_eq!(error(&lab.graph(path, &own_only).await), (403, "Authorization_RequestDenied"), "{path}");
    }
    assert_eq!(lab.graph("/users/alice@contoso.example", &own_only).await.status, 200);
    let basic = token(&mut lab, "bob@contoso.example", "User.ReadBasic.All").await;
    let seen = lab.graph("/users/11111111-0000-4000-a000-000000000001", &basic).await.body;
    assert_eq!((&seen["displayName"], &seen["mobilePhone"]), (&json!("Alice Anderson"), &Value::Null));
    assert_eq!(error(&lab.graph("/users/nobody@contoso.example", &basic).await), (404, "Request_ResourceNotFound"));
    assert_eq!(error(&lab.graph("/users/frank@fabrikam.example", &basic).await), (404, "Request_ResourceNotFound"));
}

#[tokio::test]
async fn an_application_reads_users_but_has_no_me() {
    let lab = Lab::new().await;
    let form = [("grant_type", "client_credentials"), ("scope", "https://graph.microsoft.com/.default")];
    let answer = lab.confidential(&form).await;
    let token = answer.text("access_token");
    assert_eq!(lab.graph("/users/alice@contoso.example", token).await.body["jobTitle"], "Product Manager");
    assert_eq!(error(&lab.graph("/me", token).await), (400, "BadRequest"));
}

#[tokio::test]
async fn group_memberships_come_in_pages() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, "olga@contoso.example", "GroupMember.Read.All").await;
    let mut next = Some("/me/memberOf?$top=120".to_owned());
    let mut ids = std::collections::BTreeSet::new();
    let mut pages = 0;
    while let Some(path) = next {
        let page = lab.graph(&path, &token).await.body;
        ids.extend(page["value"].as_array().unwrap().iter().map(|group| group["id"].as_str().unwrap().to_owned()));
        pages += 1;
        let prefix = format!("{}/v1.0", lab.endpoints().graph);
        next = page["@odata.nextLink"].as_str().map(|link| link.strip_prefix(&prefix).unwrap().to_owned());
    }
    assert_eq!((ids.len(), pages), (250, 3));
    assert_eq!(error(&lab.graph("/me/memberOf?$top=1000", &token).await), (400, "BadRequest"));
}

#[tokio::test]
async fn a_picture_or_none() {
    let mut lab = Lab::new().await;
    let alice = token(&mut lab, ALICE, "User.Read").await;
    let photo = lab.graph("/me/photo/$value", &alice).await;
    assert_eq!((photo.status, photo.header("content-type")), (200, "image/jpeg"));
    assert!(photo.bytes.starts_with(&[0xff, 0xd8, 0xff]));
    let bob = token(&mut lab, "bob@contoso.example", "User.Read").await;
    assert_eq!(error(&lab.graph("/me/photo/$value", &bob).await), (404, "ImageNotFound"));
}

#[tokio::test]
async fn unknown_segments_and_methods_are_refused() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.Read").await;
    assert_eq!(error(&lab.graph("/nothing", &token).await), (400, "BadRequest"));
    assert_eq!(error(&lab.graph("/me/nothing", &token).await), (400, "BadRequest"));
    let request = lab.client().delete(format!("{}/v1.0/me", lab.endpoints().graph)).bearer_auth(&token);
    assert_eq!(error(&lab.send(request).await), (405, "Request_BadRequest"));
}

async fn batch(lab: &Lab, token: &str, body: &Value) -> Answer {
    let url = format!("{}/v1.0/$batch", lab.endpoints().graph);
    lab.send(lab.client().post(url).bearer_auth(token).json(body)).await
}

#[tokio::test]
async fn a_batch_answers_each_request_for_itself() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.Read").await;
    lab.control().inject(Fault::on(Endpoint::GraphPhoto).status(429).header("retry-after", "7").body("{\"error\":{}}"));
    let requests = json!({ "requests": [
        { "id": "1", "method": "GET", "url": "/me?$select=displayName" },
        { "id": "2", "method": "GET", "url": "/me/memberOf" },
        { "id": "3", "method": "GET", "url": "/me/photo/$value", "dependsOn": ["1"] },
        { "id": "4", "method": "GET", "url": "/me", "dependsOn": ["2"] },
        { "id": "5", "method": "GET", "url": "/me/photo/$value" },
    ] });
    let answer = batch(&lab, &token, &requests).await;
    let responses = answer.body["responses"].as_array().unwrap();
    let statuses: Vec<u64> = responses.iter().map(|response| response["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 403, 429, 424, 200]);
    assert_eq!(responses[0]["body"]["displayName"], "Alice Anderson");
    assert_eq!(responses[2]["headers"]["retry-after"], "7");
    assert!(responses[4]["body"].is_string(), "bytes come as base64");
}

#[tokio::test]
async fn a_batch_has_twenty_requests_at_most() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, "User.Read").await;
    let many = |count: u32| {
        let requests: Vec<Value> =
            (0..count).map(|id| json!({ "id": id.to_string(), "method": "GET", "url": "/me" })).collect();
        json!({ "requests": requests })
    };
    assert_eq!(batch(&lab, &token, &many(20)).await.status, 200);
    assert_eq!(error(&batch(&lab, &token, &many(21)).await), (400, "BadRequest"));
    let twice = json!({ "requests": [{ "id": "1", "method": "GET", "url": "/me" }, { "id": "1", "method": "GET", "url": "/me" }] });
    assert_eq!(error(&batch(&lab, &token, &twice).await), (400, "BadRequest"));
    assert_eq!(error(&batch(&lab, &token, &json!([])).await), (400, "BadRequest"));
}

fn challenge_claims(answer: &Answer) -> Value {
    use base64::Engine as _;
    let header = answer.header("www-authenticate");
    assert!(header.contains("error=\"insufficient_claims\""), "{header}");
    let (_, rest) = header.split_once("claims=\"").unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim_end_matches('"')).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_claims_challenge_is_answered_with_a_token_for_those_claims() {
    let mut lab = Lab::new().await;
    let answer = lab.graph_tokens(ALICE).await;
    lab.control().challenge_graph(1);
    let challenged = lab.graph("/me", answer.text("access_token")).await;
    assert_eq!(error(&challenged), (401, "InvalidAuthenticationToken"));
    let claims = challenge_claims(&challenged).to_string();
    let client = crate::support::lab::app(LOCAL);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", client.as_str()),
        ("refresh_token", answer.text("refresh_token")),
        ("scope", "User.Read"),
        ("claims", &claims),
    ];
    let renewed = lab.token(crate::support::lab::CONTOSO, &form).await;
    assert_eq!(lab.graph("/me", renewed.text("access_token")).await.status, 200);
}

#[tokio::test]
async fn revocation_reaches_the_tokens_of_clients_that_handle_challenges_at_once() {
    let mut lab = Lab::new().await;
    let continuous = Authorize::new(LOCAL);
    let code = lab.code(&continuous, ALICE).await;
    let client = crate::support::lab::app(LOCAL);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", &code),
        ("redirect_uri", crate::support::lab::REDIRECT),
        ("code_verifier", crate::support::lab::VERIFIER),
        ("claims", r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#),
    ];
    let continuous = lab.token(crate::support::lab::CONTOSO, &form).await;
    let ordinary = lab.graph_tokens(ALICE).await;
    lab.control().revoke_sessions(ALICE).unwrap();
    let challenged = lab.graph("/me", continuous.text("access_token")).await;
    assert!(challenge_claims(&challenged)["access_token"]["nbf"]["essential"] == true);
    assert_eq!(lab.graph("/me", ordinary.text("access_token")).await.status, 200, "the others live until they expire");
}
