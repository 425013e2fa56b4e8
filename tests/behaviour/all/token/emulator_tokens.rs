//! Tokens as the emulator issues them at the end of real flows: the controls in every form.

use entra_mcp_plugin::token_validator::{Groups, PrincipalKind, TokenErrorCategory};

use super::Validator;
use crate::support::lab::{Authorize, CONTOSO, LEGACY, LOCAL, REMOTE, TASKS, app};

async fn user_token(validator: &mut Validator, scope: &str, username: &str) -> String {
    let answer = validator.lab.tokens(&Authorize::new(LOCAL).scope(scope), username).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.text("access_token").to_owned()
}

fn remote_scope() -> String {
    format!("openid profile api://{}/Mcp.Access", app(REMOTE))
}

#[tokio::test]
async fn a_users_token_is_accepted() {
    let mut validator = Validator::new().await;
    let token = user_token(&mut validator, &remote_scope(), "alice@contoso.example").await;
    let principal = validator.validate(&token).await.unwrap();
    assert_eq!(principal.tenant_id, CONTOSO);
    assert_eq!(principal.object_id, "11111111-0000-4000-a000-000000000001");
    assert_eq!((principal.client_id, principal.token_version), (app(LOCAL), 2));
    assert_eq!((principal.kind, principal.guest), (PrincipalKind::User, false));
    assert_eq!(principal.scopes, ["Mcp.Access"]);
    assert_eq!(principal.roles, ["Mcp.Reader", "Mcp.Admin"]);
    assert!(matches!(principal.groups, Groups::Listed(groups) if groups.len() == 3));
}

#[tokio::test]
async fn groups_in_overage_are_seen() {
    let mut validator = Validator::new().await;
    let token = user_token(&mut validator, &remote_scope(), "olga@contoso.example").await;
    assert!(matches!(validator.validate(&token).await.unwrap().groups, Groups::Overage));
}

#[tokio::test]
async fn an_applications_token_is_accepted() {
    let validator = Validator::new().await;
    let scope = format!("api://{}/.default", app(REMOTE));
    let answer = validator.lab.confidential(&[("grant_type", "client_credentials"), ("scope", &scope)]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let result = validator.validate(answer.text("access_token")).await;
    match result {
        Ok(principal) => {
            assert_eq!(principal.kind, PrincipalKind::App);
            assert!(!principal.roles.is_empty() && principal.scopes.is_empty());
        }
        // Without a role assigned to itself the application's token permits nothing.
        Err(error) => assert_eq!(error.code, "no-permissions", "{error:?}"),
    }
}

#[tokio::test]
async fn a_version_1_token_is_accepted_by_its_app_id_uri() {
    let mut validator = Validator::new().await;
    let scope = "openid profile api://legacy.contoso.example/user_impersonation";
    let token = user_token(&mut validator, scope, "alice@contoso.example").await;
    let principal = validator.validate(&token).await.unwrap();
    assert_eq!((principal.token_version, principal.client_id), (1, app(LOCAL)));
    let _ = LEGACY;
}

#[tokio::test]
async fn a_token_for_another_api_is_refused() {
    let mut validator = Validator::new().await;
    let scope = format!("openid profile api://{}/Tasks.Read", app(TASKS));
    let token = user_token(&mut validator, &scope, "alice@contoso.example").await;
    let refused = validator.validate(&token).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.text("actual")), ("audience-mismatch", Some(app(TASKS).as_str())));
    let accepted = [app(REMOTE), "api://legacy.contoso.example".to_owned()];
    assert!(refused.texts("expected").unwrap().iter().all(|audience| accepted.contains(audience)), "{refused:?}");
}

#[tokio::test]
async fn an_id_token_and_a_token_for_graph_are_no_access_tokens() {
    let mut validator = Validator::new().await;
    let answer = validator.lab.graph_tokens("alice@contoso.example").await;
    let id_token = validator.validate(answer.text("id_token")).await.unwrap_err();
    assert_eq!((id_token.code.as_str(), id_token.text("expected")), ("wrong-token-use", Some("access token")));
    let graph = validator.validate(answer.text("access_token")).await.unwrap_err();
    assert!(["encoding-invalid", "json-invalid"].contains(&graph.code.as_str()), "{graph:?}");
    assert_eq!((graph.category, graph.status()), (TokenErrorCategory::Malformed, 401));
}

#[tokio::test]
async fn a_token_expires_by_the_validators_clock() {
    let mut validator = Validator::new().await;
    let token = user_token(&mut validator, &remote_scope(), "alice@contoso.example").await;
    let expires_at = validator.validate(&token).await.unwrap().expires_at_unix_seconds;
    let now = validator.lab.control().now().unsigned_abs();
    validator.advance(expires_at - now + 59);
    validator.validate(&token).await.unwrap();
    validator.advance(1);
    let expired = validator.validate(&token).await.unwrap_err();
    assert_eq!((expired.code.as_str(), expired.number("ago-seconds")), ("expired", Some(60)));
    assert_eq!(
        (expired.category, expired.message.as_str()),
        (TokenErrorCategory::NotCurrent, "the access token has expired")
    );
}
