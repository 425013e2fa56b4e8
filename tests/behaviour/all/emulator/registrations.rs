//! App registrations of Graph: what may be written by which token, what Graph refuses of it, and that the next sign-in
//! goes by it.

use entra_mcp_emulator::user_agent::AgentError;
use serde_json::{Value, json};

use crate::support::lab::{Answer, Authorize, CONTOSO, Lab};

const ALICE: &str = "alice@contoso.example";
const BOB: &str = "bob@contoso.example";
const ADMIN: &str = "admin@contoso.example";
const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const GRAPH_COMMAND_LINE: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";
const WRITE: &str = "Application.ReadWrite.All";
const GRANT: &str = "DelegatedPermissionGrant.ReadWrite.All";
const ASSIGN: &str = "AppRoleAssignment.ReadWrite.All";

/// (status, error code)
fn error(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["error"]["code"].as_str().unwrap_or("no error"))
}

async fn token(lab: &mut Lab, username: &str, permission: &str) -> String {
    lab.browser.clear_cookies();
    let scope = format!("https://graph.microsoft.com/{permission}");
    let request = Authorize::new(1).with("client_id", AZURE_CLI).scope(&scope);
    lab.tokens(&request, username).await.text("access_token").to_owned()
}

async fn write(lab: &Lab, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let url = format!("{}/v1.0{path}", lab.endpoints().graph);
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    lab.send(lab.client().request(method, url).bearer_auth(token).json(body)).await
}

/// A new registration; its object id and its application id.
async fn register(lab: &Lab, token: &str, body: Value) -> (String, String) {
    let made = write(lab, "POST", "/applications", token, &body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    (made.text("id").to_owned(), made.text("appId").to_owned())
}

fn scope(id: &str, value: &str, is_enabled: bool) -> Value {
    json!({
        "id": id, "value": value, "type": "User", "isEnabled": is_enabled, "adminConsentDisplayName": "a",
        "adminConsentDescription": "b",
    })
}

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";

#[tokio::test]
async fn reading_and_writing_take_their_permissions_and_others_do_not_do() {
    let mut lab = Lab::new().await;
    let denied = (403, "Authorization_RequestDenied");
    let profile = token(&mut lab, ADMIN, "User.Read").await;
    assert_eq!(error(&lab.graph("/applications", &profile).await), denied);
    assert_eq!(error(&lab.graph("/servicePrincipals", &profile).await), denied);
    assert_eq!(error(&lab.graph("/oauth2PermissionGrants", &profile).await), denied);
    let body = json!({ "displayName": "x" });
    assert_eq!(error(&write(&lab, "POST", "/applications", &profile, &body).await), denied);
    let writes = token(&mut lab, ADMIN, WRITE).await;
    let (_, app_id) = register(&lab, &writes, body).await;
    let principal = write(&lab, "POST", "/servicePrincipals", &profile, &json!({ "appId": app_id })).await;
    assert_eq!(error(&principal), denied);
    assert_eq!(error(&lab.graph("/oauth2PermissionGrants", &writes).await), denied);
}

#[tokio::test]
async fn the_azure_cli_has_its_permissions_in_advance_and_nobody_can_give_it_others() {
    let mut lab = Lab::new().await;
    let scope = "https://graph.microsoft.com/Application.Read.All";
    let request = |client: &str| Authorize::new(1).with("client_id", client).scope(scope);
    let refused = lab.authorize(&request(AZURE_CLI), ADMIN).await.unwrap_err();
    assert!(matches!(refused, AgentError::Refused { code: Some(65002), .. }), "{refused}");
    lab.browser.clear_cookies();
    let tokens = lab.tokens(&request(GRAPH_COMMAND_LINE), ADMIN).await;
    assert!(tokens.text("scope").split(' ').any(|granted| granted == scope), "{}", tokens.text("scope"));
    let token = tokens.text("access_token");
    assert_eq!(lab.graph("/applications", token).await.status, 200);
    let denied = (403, "Authorization_RequestDenied");
    assert_eq!(error(&write(&lab, "POST", "/applications", token, &json!({ "displayName": "x" })).await), denied);
}

#[tokio::test]
async fn managed_identities_have_service_principals_that_say_who_made_them() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ALICE, WRITE).await;
    for (number, explicit) in [(1, "isExplicit=False"), (2, "isExplicit=True")] {
        let path = format!("/servicePrincipals/33333333-0000-4000-a000-00000000000{number}");
        let principal = lab.graph(&path, &token).await;
        assert_eq!(principal.text("servicePrincipalType"), "ManagedIdentity");
        assert_eq!(principal.text("appId"), format!("b0000000-0000-4000-a000-00000000000{number}"));
        assert_eq!(principal.body["alternativeNames"][0], explicit);
    }
}

#[tokio::test]
async fn a_user_registers_and_changes_own_applications_and_no_others() {
    let mut lab = Lab::new().await;
    let (alice, bob) = (token(&mut lab, ALICE, WRITE).await, token(&mut lab, BOB, WRITE).await);
    let (id, app_id) = register(&lab, &alice, json!({ "displayName": "x" })).await;
    let change = json!({ "displayName": "y" });
    assert_eq!(write(&lab, "PATCH", &format!("/applications/{id}"), &alice, &change).await.status, 204);
    let denied = (403, "Authorization_RequestDenied");
    assert_eq!(error(&write(&lab, "PATCH", &format!("/applications/{id}"), &bob, &change).await), denied);
    let principal = json!({ "appId": app_id });
    assert_eq!(error(&write(&lab, "POST", "/servicePrincipals", &bob, &principal).await), denied);
    assert_eq!(write(&lab, "POST", "/servicePrincipals", &alice, &principal).await.status, 201);
    let again = write(&lab, "POST", "/servicePrincipals", &alice, &principal).await;
    assert_eq!(error(&again), (409, "Request_MultipleObjectsWithSameKeyValue"));
    let admin = token(&mut lab, ADMIN, WRITE).await;
    assert_eq!(write(&lab, "PATCH", &format!("/applications/{id}"), &admin, &change).await.status, 204);
    lab.emulator.control().change_policy(|policy| policy.users_register_applications = false);
    assert_eq!(error(&write(&lab, "POST", "/applications", &bob, &json!({ "displayName": "z" })).await), denied);
    register(&lab, &admin, json!({ "displayName": "z" })).await;
}

#[tokio::test]
async fn what_graph_does_not_take_is_refused_in_its_words() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ADMIN, WRITE).await;
    let scopes = json!({ "oauth2PermissionScopes": [scope(ONE, "a", true)], "requestedAccessTokenVersion": null });
    let (id, _) = register(&lab, &token, json!({ "displayName": "x", "api": scopes })).await;
    let path = format!("/applications/{id}");
    let bad = "Request_BadRequest";
    let cases = [
        (json!({ "shoeSize": 44 }), bad),
        (json!({ "appId": ONE }), bad),
        (json!({ "web": { "redirectUris": ["http://mcp.contoso.example/auth/callback"] } }), bad),
        (json!({ "web": { "redirectUris": ["https://*.contoso.example/"] } }), bad),
        (json!({ "publicClient": { "redirectUris": ["javascript:alert(1)"] } }), bad),
        (json!({ "signInAudience": "Everyone" }), bad),
        (json!({ "identifierUris": ["not a URI"] }), bad),
        (json!({ "identifierUris": ["https://mcp.contoso.example/mcp"] }), bad),
        (json!({ "identifierUris": ["https://mcp.example.org/mcp"] }), "HostNameNotOnVerifiedDomain"),
        (json!({ "api": { "requestedAccessTokenVersion": 3 } }), bad),
        (json!({ "api": { "oauth2PermissionScopes": [] } }), "CannotDeleteOrUpdateEnabledEntitlement"),
        (
            json!({ "api": { "oauth2PermissionScopes": [scope(ONE, "b", true)] } }),
            "CannotDeleteOrUpdateEnabledEntitlement",
        ),
        (
            json!({ "api": { "oauth2PermissionScopes": [scope(ONE, "a", true), scope(TWO, "a", true)] } }),
            "DuplicateValue",
        ),
        (json!({ "api": { "oauth2PermissionScopes": [scope(ONE, "a", true), scope("2", "b", true)] } }), bad),
        (json!({ "requiredResourceAccess": [{ "resourceAppId": ONE, "resourceAccess": [] }] }), bad),
        (json!({ "keyCredentials": [{ "type": "AsymmetricX509Cert", "usage": "Verify", "key": "AAAA" }] }), bad),
    ];
    for (body, code) in cases {
        let answer = write(&lab, "PATCH", &path, &token, &body).await;
        assert_eq!(error(&answer), (400, code), "{body}: {}", answer.body);
    }
    let conflict =
        write(&lab, "PATCH", &path, &token, &json!({ "identifierUris": ["https://mcp.contoso.example/mcp"] })).await;
    assert_eq!(conflict.body["error"]["details"][0]["code"], "ObjectConflict");
    let missing = write(&lab, "POST", "/servicePrincipals", &token, &json!({ "appId": TWO })).await;
    assert_eq!(missing.body["error"]["details"][0]["code"], "NoBackingApplicationObject");
    // A scope is disabled first, and removed then.
    let disabled = json!({ "api": { "oauth2PermissionScopes": [scope(ONE, "a", false)] } });
    assert_eq!(write(&lab, "PATCH", &path, &token, &disabled).await.status, 204);
    let none = json!({ "api": { "oauth2PermissionScopes": [] } });
    assert_eq!(write(&lab, "PATCH", &path, &token, &none).await.status, 204);
    // With tokens of version 2, any domain will do.
    let own = json!({ "api": { "requestedAccessTokenVersion": 2 }, "identifierUris": ["https://mcp.example.org/mcp"] });
    assert_eq!(write(&lab, "PATCH", &path, &token, &own).await.status, 204);
}

#[tokio::test]
async fn lists_are_filtered_and_what_is_written_is_read_again() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ADMIN, WRITE).await;
    let (id, app_id) = register(&lab, &token, json!({ "displayName": "it's new" })).await;
    let named = lab.graph("/applications?$filter=displayName%20eq%20'it''s%20new'&$select=id,appId", &token).await;
    assert_eq!(named.body["value"], json!([{ "id": id, "appId": app_id }]));
    for filter in ["shoeSize%20eq%20'44'", "startswith(displayName,'x')"] {
        assert_eq!(lab.graph(&format!("/applications?$filter={filter}"), &token).await.status, 400);
    }
    let all = lab.graph("/applications", &token).await;
    assert!(!all.body.to_string().contains(AZURE_CLI), "Microsoft's applications are at home elsewhere");
    assert!(!all.body.to_string().contains("Fabrikam"), "and those of other directories too");
    let one = lab.graph(&format!("/applications(appId='{app_id}')"), &token).await;
    assert_eq!((one.text("displayName"), one.text("signInAudience")), ("it's new", "AzureADMyOrg"));
    let none = lab.graph(&format!("/applications/{app_id}"), &token).await;
    assert_eq!(error(&none), (404, "Request_ResourceNotFound"), "the id of the object counts");
}

#[tokio::test]
async fn federated_credentials_are_unique_by_name_and_by_issuer_and_subject() {
    let mut lab = Lab::new().await;
    let token = token(&mut lab, ADMIN, WRITE).await;
    let (id, _) = register(&lab, &token, json!({ "displayName": "x" })).await;
    let path = format!("/applications/{id}/federatedIdentityCredentials");
    let audience = json!(["api://AzureADTokenExchange"]);
    let of = |name: &str, subject: &str| json!({ "name": name, "issuer": "https://i.example/", "subject": subject, "audiences": audience });
    let made = write(&lab, "POST", &path, &token, &of("a", "s")).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let same_name = write(&lab, "POST", &path, &token, &of("a", "t")).await;
    assert_eq!(error(&same_name), (409, "Request_MultipleObjectsWithSameKeyValue"));
    let same_subject = write(&lab, "POST", &path, &token, &of("b", "s")).await;
    assert_eq!(error(&same_subject), (400, "InvalidFederatedIdentityCredentialValue"));
    let mut two = of("c", "u");
    two["audiences"] = json!(["a", "b"]);
    assert_eq!(error(&write(&lab, "POST", &path, &token, &two).await), (400, "Request_BadRequest"));
    let one = format!("{path}/{}", made.text("id"));
    assert_eq!(write(&lab, "PATCH", &one, &token, &json!({ "subject": "v" })).await.status, 204);
    assert_eq!(lab.graph(&path, &token).await.body["value"][0]["subject"], "v");
    assert_eq!(error(&write(&lab, "PATCH", &one, &token, &json!({ "name": "d" })).await), (400, "Request_BadRequest"));
}

#[tokio::test]
async fn consent_and_roles_that_are_written_are_in_the_next_token() {
    let mut lab = Lab::new().await;
    let (writes, grants) = (token(&mut lab, ADMIN, WRITE).await, token(&mut lab, ADMIN, GRANT).await);
    let role = json!({
        "id": TWO, "value": "Reader", "displayName": "Reader", "description": "reads", "allowedMemberTypes": ["User"],
        "isEnabled": true,
    });
    let api = json!({ "requestedAccessTokenVersion": 2, "oauth2PermissionScopes": [scope(ONE, "use", true)] });
    let body = json!({
        "displayName": "x", "api": api, "appRoles": [role], "groupMembershipClaims": "SecurityGroup",
        "isFallbackPublicClient": true, "publicClient": { "redirectUris": ["http://localhost"] },
        "optionalClaims": { "accessToken": [{ "name": "acct" }] },
    });
    let (id, app_id) = register(&lab, &writes, body).await;
    let uri = json!({ "identifierUris": [format!("api://{app_id}")] });
    assert_eq!(write(&lab, "PATCH", &format!("/applications/{id}"), &writes, &uri).await.status, 204);
    let principal = write(&lab, "POST", "/servicePrincipals", &writes, &json!({ "appId": app_id })).await;
    let principal = principal.text("id").to_owned();

    let grant =
        json!({ "clientId": principal, "consentType": "AllPrincipals", "resourceId": principal, "scope": "use" });
    let alice_grants = token(&mut lab, ALICE, GRANT).await;
    let denied = (403, "Authorization_RequestDenied");
    assert_eq!(error(&write(&lab, "POST", "/oauth2PermissionGrants", &alice_grants, &grant).await), denied);
    let made = write(&lab, "POST", "/oauth2PermissionGrants", &grants, &grant).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let again = write(&lab, "POST", "/oauth2PermissionGrants", &grants, &grant).await;
    assert_eq!(error(&again), (409, "Request_MultipleObjectsWithSameKeyValue"));

    let alice_id = "11111111-0000-4000-a000-000000000001";
    let assignment = json!({ "principalId": alice_id, "resourceId": principal, "appRoleId": TWO });
    let path = format!("/servicePrincipals/{principal}/appRoleAssignedTo");
    assert_eq!(error(&write(&lab, "POST", &path, &writes, &assignment).await), denied);
    let assigns = token(&mut lab, ADMIN, ASSIGN).await;
    assert_eq!(write(&lab, "POST", &path, &assigns, &assignment).await.status, 201);
    assert_eq!(error(&write(&lab, "POST", &path, &assigns, &assignment).await), (400, "Request_BadRequest"));
    assert_eq!(lab.graph(&path, &writes).await.body["value"][0]["principalId"], alice_id);

    lab.browser.clear_cookies();
    let request = Authorize::new(1).tenant(CONTOSO).with("client_id", &app_id).scope(&format!("api://{app_id}/use"));
    let claims = lab.tokens(&request, ALICE).await.claims("access_token");
    assert_eq!((&claims["aud"], &claims["scp"], &claims["roles"]), (&json!(app_id), &json!("use"), &json!(["Reader"])));
    assert_eq!((claims["groups"].as_array().map(Vec::len), &claims["acct"]), (Some(3), &json!(0)));
}
