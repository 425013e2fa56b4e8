//! Which users may sign in where.

use entra_mcp_emulator::CONSUMERS_TENANT;

use crate::support::lab::{Authorize, CONTOSO, FABRIKAM, LOCAL, Lab, REMOTE, refused};

#[tokio::test]
async fn each_authority_admits_the_accounts_it_is_for() {
    let alice = "alice@contoso.example";
    let frank = "frank@fabrikam.example";
    let grace = "grace@fabrikam.example";
    let pat = "pat@outlook.example";
    let cases = [
        (CONTOSO, alice, CONTOSO),
        ("contoso.example", alice, CONTOSO),
        (FABRIKAM, frank, FABRIKAM),
        ("common", alice, CONTOSO),
        ("common", frank, FABRIKAM),
        ("common", pat, CONSUMERS_TENANT),
        ("organizations", frank, FABRIKAM),
        ("consumers", pat, CONSUMERS_TENANT),
        (CONSUMERS_TENANT, pat, CONSUMERS_TENANT),
        (FABRIKAM, grace, FABRIKAM),
        (CONTOSO, grace, CONTOSO),
    ];
    for (authority, user, tenant) in cases {
        let mut lab = Lab::new().await;
        let id = lab.tokens(&Authorize::new(LOCAL).tenant(authority), user).await.claims("id_token");
        assert_eq!(id["tid"], tenant, "{user} at {authority}");
        assert_eq!(id["iss"], format!("{}/{tenant}/v2.0", lab.endpoints().authority), "{user} at {authority}");
    }
}

#[tokio::test]
async fn an_account_of_another_kind_or_tenant_is_refused_on_the_page() {
    let cases = [
        (LOCAL, CONTOSO, "frank@fabrikam.example"),
        (LOCAL, FABRIKAM, "alice@contoso.example"),
        (LOCAL, CONTOSO, "pat@outlook.example"),
        (LOCAL, "organizations", "pat@outlook.example"),
        (LOCAL, "consumers", "alice@contoso.example"),
        (REMOTE, "common", "pat@outlook.example"),
    ];
    for (client, authority, user) in cases {
        let mut lab = Lab::new().await;
        let (code, title) = refused(lab.authorize(&Authorize::new(client).tenant(authority), user).await);
        assert_eq!((code, title.as_str()), (50_020, "Sign in"), "{user} at {authority}");
    }
}

#[tokio::test]
async fn personal_accounts_only_applications_work_at_consumers() {
    let mut lab = Lab::new().await;
    let answer = lab.tokens(&Authorize::new(13).tenant("consumers"), "pat@outlook.example").await;
    assert_eq!(answer.claims("id_token")["tid"], CONSUMERS_TENANT);
    assert_eq!(
        refused(lab.authorize(&Authorize::new(REMOTE).tenant("consumers"), "pat@outlook.example").await).0,
        700_016
    );
}

#[tokio::test]
async fn a_guest_has_an_identity_of_its_own_in_the_resource_tenant() {
    let mut lab = Lab::new().await;
    let at_contoso = lab.tokens(&Authorize::new(LOCAL), "grace@fabrikam.example").await;
    let guest = at_contoso.claims("id_token");
    assert_eq!(guest["oid"], "11111111-0000-4000-a000-0000000000f1");
    assert_eq!(guest["idp"], format!("https://sts.windows.net/{FABRIKAM}/"));
    let at_home =
        lab.tokens(&Authorize::new(LOCAL).tenant(FABRIKAM), "grace@fabrikam.example").await.claims("id_token");
    assert_eq!(at_home["oid"], "22222222-0000-4000-a000-000000000001");
    assert!(at_home["idp"].is_null());
    assert_ne!(at_home["sub"], guest["sub"]);
    let me = lab.graph("/me?$select=id,userPrincipalName,userType", at_contoso.text("access_token")).await;
    assert_eq!(me.text("id"), "11111111-0000-4000-a000-0000000000f1");
    assert_eq!(me.text("userType"), "Guest");
    assert!(me.text("userPrincipalName").starts_with("grace_fabrikam.example#EXT#@"));
}

#[tokio::test]
async fn a_refresh_token_serves_every_tenant_its_user_is_in() {
    let mut lab = Lab::new().await;
    let answer = lab.tokens(&Authorize::new(LOCAL).tenant(FABRIKAM), "grace@fabrikam.example").await;
    let client = crate::support::lab::app(LOCAL);
    let refresh = |token: &str| {
        [
            ("grant_type", "refresh_token"),
            ("client_id", client.as_str()),
            ("scope", "openid User.Read"),
            ("refresh_token", token),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let form = refresh(answer.text("refresh_token"));
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(lab.token(CONTOSO, &form).await.claims("id_token")["tid"], CONTOSO);

    lab.browser.clear_cookies();
    let frank = lab.tokens(&Authorize::new(LOCAL).tenant(FABRIKAM), "frank@fabrikam.example").await;
    let form = refresh(frank.text("refresh_token"));
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(lab.token(CONTOSO, &form).await.refusal(), (400, "invalid_grant", 50_020));
}
