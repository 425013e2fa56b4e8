//! What Entra ID publishes about itself, and what it does not.

use entra_mcp_emulator::Rotation;
use serde_json::Value;

use crate::support::lab::{Authorize, CONTOSO, LOCAL, Lab, REMOTE, app, header};

#[tokio::test]
async fn the_configuration_of_a_tenant_names_its_issuer() {
    let lab = Lab::new().await;
    let base = &lab.endpoints().authority;
    for segment in [CONTOSO, "contoso.example"] {
        let document = lab.get(&format!("/{segment}/v2.0/.well-known/openid-configuration")).await;
        assert_eq!(document.text("issuer"), format!("{base}/{CONTOSO}/v2.0"));
        assert_eq!(document.text("authorization_endpoint"), format!("{base}/{CONTOSO}/oauth2/v2.0/authorize"));
        assert_eq!(document.text("token_endpoint"), format!("{base}/{CONTOSO}/oauth2/v2.0/token"));
        assert_eq!(document.text("device_authorization_endpoint"), format!("{base}/{CONTOSO}/oauth2/v2.0/devicecode"));
        assert_eq!(document.text("jwks_uri"), format!("{base}/{CONTOSO}/discovery/v2.0/keys"));
        assert_eq!(document.text("end_session_endpoint"), format!("{base}/{CONTOSO}/oauth2/v2.0/logout"));
    }
}

#[tokio::test]
async fn the_issuer_of_shared_authorities_is_a_template() {
    let lab = Lab::new().await;
    let base = &lab.endpoints().authority;
    for segment in ["common", "organizations"] {
        let document = lab.get(&format!("/{segment}/v2.0/.well-known/openid-configuration")).await;
        assert_eq!(document.text("issuer"), format!("{base}/{{tenantid}}/v2.0"));
    }
    let consumers = lab.get("/consumers/v2.0/.well-known/openid-configuration").await;
    assert_eq!(consumers.text("issuer"), format!("{base}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"));
}

#[tokio::test]
async fn the_v1_configuration_has_the_v1_issuer() {
    let lab = Lab::new().await;
    let document = lab.get(&format!("/{CONTOSO}/.well-known/openid-configuration")).await;
    assert_eq!(document.text("issuer"), format!("https://sts.windows.net/{CONTOSO}/"));
    assert!(document.text("token_endpoint").ends_with(&format!("/{CONTOSO}/oauth2/token")));
}

#[tokio::test]
async fn what_entra_lacks_is_absent() {
    let lab = Lab::new().await;
    let document = lab.get(&format!("/{CONTOSO}/v2.0/.well-known/openid-configuration")).await;
    for name in
        ["registration_endpoint", "code_challenge_methods_supported", "authorization_response_iss_parameter_supported"]
    {
        assert!(document.body[name].is_null(), "{name}");
    }
    for path in [
        format!("/.well-known/oauth-authorization-server/{CONTOSO}/v2.0"),
        format!("/{CONTOSO}/v2.0/.well-known/oauth-authorization-server"),
        "/.well-known/openid-configuration".to_owned(),
        format!("/{CONTOSO}/register"),
    ] {
        assert_eq!(lab.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_tenant_has_no_configuration() {
    let lab = Lab::new().await;
    let answer = lab.get("/00000000-0000-0000-0000-00000000000f/v2.0/.well-known/openid-configuration").await;
    assert_eq!(answer.refusal(), (400, "invalid_request", 90_002));
}

#[tokio::test]
async fn instance_discovery_knows_its_own_host_only() {
    let lab = Lab::new().await;
    let base = lab.endpoints().authority.clone();
    let path = |authority: &str| {
        format!(
            "/common/discovery/instance?api-version=1.1&authorization_endpoint={authority}/{CONTOSO}/oauth2/v2.0/authorize"
        )
    };
    let known = lab.get(&path(&base)).await;
    assert_eq!(known.body["metadata"][0]["preferred_network"], base.trim_start_matches("http://"));
    let unknown = lab.get(&path("https://login.microsoftonline.com")).await;
    assert_eq!((unknown.status, unknown.text("error")), (400, "invalid_instance"));
}

fn ids(keys: &Value) -> Vec<String> {
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn several_keys_are_published_each_with_its_issuer() {
    let lab = Lab::new().await;
    let base = &lab.endpoints().authority;
    for (segment, tenant) in [("common", "{tenantid}"), (CONTOSO, CONTOSO)] {
        let keys = lab.get(&format!("/{segment}/discovery/v2.0/keys")).await.body;
        assert_eq!(ids(&keys).len(), 3);
        for key in keys["keys"].as_array().unwrap() {
            assert_eq!(key["issuer"], format!("{base}/{tenant}/v2.0"));
            assert_eq!((&key["kty"], &key["use"], &key["e"]), (&"RSA".into(), &"sig".into(), &"AQAB".into()));
            assert!(key["x5c"][0].is_string());
        }
    }
    assert_ne!(ids(&lab.get("/common/discovery/v2.0/keys").await.body)[0], lab.control().signing_key_id());
}

#[tokio::test]
async fn keys_can_be_limited_to_the_issuer_of_one_tenant() {
    let lab = Lab::new().await;
    lab.control().restrict_keys_to_tenant(Some("another-tenant"));
    let keys = lab.get(&format!("/{CONTOSO}/discovery/v2.0/keys")).await.body;
    assert!(keys["keys"][0]["issuer"].as_str().unwrap().ends_with("/another-tenant/v2.0"));
}

async fn published(lab: &Lab) -> Vec<String> {
    ids(&lab.get("/common/discovery/v2.0/keys").await.body)
}

#[tokio::test]
async fn keys_rotate_in_every_style() {
    let mut lab = Lab::new().await;
    let control = lab.control();
    let before = (published(&lab).await, control.signing_key_id());

    control.rotate_keys(Rotation::Add).unwrap();
    let added = published(&lab).await;
    assert_eq!((added.len(), control.signing_key_id()), (4, before.1.clone()), "published before it signs");

    control.rotate_keys(Rotation::Switch).unwrap();
    let switched = published(&lab).await;
    assert_eq!((switched.len(), switched.last()), (5, Some(&control.signing_key_id())));
    let scope = format!("openid api://{}/Mcp.Access", app(REMOTE));
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&scope), "alice@contoso.example").await;
    assert_eq!(header(answer.text("access_token"))["kid"], control.signing_key_id());
    assert_eq!(header(answer.text("id_token"))["kid"], control.signing_key_id());

    control.rotate_keys(Rotation::Retire).unwrap();
    assert_eq!(published(&lab).await, [control.signing_key_id()]);

    for _ in 0..10 {
        let last = control.signing_key_id();
        control.rotate_keys(Rotation::Replace).unwrap();
        assert_ne!(control.signing_key_id(), last);
        assert_eq!(published(&lab).await, [control.signing_key_id()]);
    }
}

#[tokio::test]
async fn signing_out_ends_the_browser_session() {
    let mut lab = Lab::new().await;
    lab.graph_tokens("alice@contoso.example").await;
    let silent = Authorize::new(LOCAL).with("prompt", "none");
    assert!(lab.authorize(&silent, "alice@contoso.example").await.unwrap().parameter("code").is_some());
    let base = lab.endpoints().authority.clone();
    let left = format!("{base}/{CONTOSO}/oauth2/v2.0/logout?post_logout_redirect_uri=http://localhost:54321/&state=s");
    assert_eq!(lab.browser.get(&left).await.unwrap().url, "http://localhost:54321/?state=s");
    let landing = lab.authorize(&silent, "alice@contoso.example").await.unwrap();
    assert_eq!(landing.parameter("error").unwrap(), "login_required");
    let unregistered = format!("{base}/{CONTOSO}/oauth2/v2.0/logout?post_logout_redirect_uri=https://evil.example/");
    assert!(lab.browser.get(&unregistered).await.unwrap().body.contains("signed out"));
}

#[tokio::test]
async fn the_error_address_leads_to_a_page() {
    let lab = Lab::new().await;
    let page = lab.get("/error?code=50011").await;
    assert!(page.status == 200 && String::from_utf8_lossy(&page.bytes).contains("AADSTS50011"));
    let hostile = lab.get("/error?code=%3Cscript%3E").await;
    assert!(!String::from_utf8_lossy(&hostile.bytes).contains("<script>"));
}
