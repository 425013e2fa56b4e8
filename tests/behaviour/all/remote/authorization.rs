//! One test per MUST of FACTS for a server that acts as the authorization server, where no other module has one.

use entra_mcp_plugin::environment::{ServerIdentity, ServerKind, ServerSettings};
use serde_json::json;

use crate::support::remote::{ALICE, Authorize, Fleet, REDIRECT, Tab, parameter};

#[tokio::test]
async fn a_scope_that_there_is_not_is_refused_and_offline_access_is_tolerated() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let back = Tab::default().open(&fleet, &Authorize::new(&client).set("scope", "Mail.Send").path()).await.link();
    assert_eq!(parameter(&back, "error").as_deref(), Some("invalid_scope"));
    let tolerated = Authorize::new(&client).set("scope", "openid offline_access User.Read");
    assert!(parameter(&Tab::default().walk(&fleet, &tolerated, ALICE).await, "code").is_some());
    let none = Authorize::new(&client).without("scope");
    assert!(parameter(&Tab::default().walk(&fleet, &none, ALICE).await, "code").is_some());
}

#[tokio::test]
async fn a_refresh_may_narrow_the_scope_and_never_widen_it() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", tokens.client_id.as_str()),
        ("refresh_token", tokens.refresh.as_str()),
        ("scope", "User.Read Mail.Send"),
    ];
    assert_eq!(fleet.post_form("/token", &form).await.refusal(), (400, "invalid_scope"));
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.status, 200, "the token was not used up");
}

#[tokio::test]
async fn another_response_type_or_grant_type_is_refused() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let back = Tab::default().open(&fleet, &Authorize::new(&client).set("response_type", "token").path()).await;
    assert_eq!(parameter(&back.link(), "error").as_deref(), Some("unsupported_response_type"));
    for grant in ["password", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"] {
        let answer = fleet.post_form("/token", &[("grant_type", grant), ("client_id", &client)]).await;
        assert_eq!(answer.refusal(), (400, "unsupported_grant_type"), "{grant}");
    }
    assert_eq!(fleet.post_form("/token", &[("client_id", &client)]).await.refusal(), (400, "invalid_request"));
}

#[tokio::test]
async fn a_repeated_parameter_is_refused() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", tokens.client_id.as_str()),
        ("refresh_token", tokens.refresh.as_str()),
        ("refresh_token", "another"),
    ];
    assert_eq!(fleet.post_form("/token", &form).await.refusal(), (400, "invalid_request"));
}

#[tokio::test]
async fn a_silent_request_is_told_that_its_user_has_to_be_asked() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let back = Tab::default().open(&fleet, &Authorize::new(&client).set("prompt", "none").path()).await.location();
    assert_eq!(parameter(&back, "error").as_deref(), Some("consent_required"));
}

#[tokio::test]
async fn a_registration_that_is_not_used_is_forgotten() {
    let fleet = Fleet::new().await;
    let unused = fleet.register(REDIRECT).await;
    let used = fleet.register(REDIRECT).await;
    fleet.session_of(&used, ALICE).await;
    fleet.advance(25 * 3600);
    assert_eq!(Tab::default().open(&fleet, &Authorize::new(&used).path()).await.status, 200);
    let answer = Tab::default().open(&fleet, &Authorize::new(&unused).path()).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_metadata_document_that_is_not_its_own_is_refused() {
    let fleet = Fleet::new().await;
    let id = "https://client.example.com/oauth/metadata.json";
    let good = json!({ "client_id": id, "client_name": "x", "redirect_uris": [REDIRECT] });
    for (name, value) in [
        ("client_id", json!("https://client.example.com/oauth/other.json")),
        ("redirect_uris", json!([])),
        ("redirect_uris", json!(["http://client.example.com/callback"])),
        ("client_secret", json!("secret")),
        ("token_endpoint_auth_method", json!("client_secret_basic")),
    ] {
        let fleet = Fleet::new().await;
        let mut document = good.clone();
        document[name] = value;
        fleet.documents.publish(id, document.clone());
        let answer = Tab::default().open(&fleet, &Authorize::new(id).path()).await;
        assert_eq!(answer.status, 400, "for {document}");
        assert_eq!(answer.header("location"), "");
    }
    fleet.documents.publish(id, good);
    assert_eq!(Tab::default().open(&fleet, &Authorize::new(id).path()).await.status, 200);
}

#[tokio::test]
async fn the_consent_page_names_the_tools_of_a_server_behind_that_the_operator_lists() {
    let fleet = Fleet::with(|settings| {
        settings.servers = vec![ServerSettings {
            name: "crm".to_owned(),
            path: "/mcp".to_owned(),
            kind: ServerKind::Upstream,
            title: Some("Customers".to_owned()),
            tools: vec!["list_records".to_owned(), "delete_record".to_owned()],
            permissions: Vec::new(),
            identity: ServerIdentity::None,
        }];
    })
    .await;
    let client = fleet.register(REDIRECT).await;
    let page = Tab::default().open(&fleet, &Authorize::new(&client).path()).await;
    let listed =
        "<li><bdi>Customers</bdi>: <bdi>all tools at /mcp</bdi></li><li>list_records</li><li>delete_record</li>";
    assert!(page.status == 200 && page.html().contains(listed), "{} {}", page.status, page.html());
}
