//! Authorization code with PKCE: the tokens that come of it, and every way it is refused.

use serde_json::json;

use crate::support::lab::{
    Authorize, CONTOSO, LOCAL, Lab, PASSWORD, REDIRECT, START, VERIFIER, app, claims, refused, sent_back,
};

#[tokio::test]
async fn a_user_signs_in_and_reads_the_profile() {
    let mut lab = Lab::new().await;
    let answer = lab.graph_tokens("alice@contoso.example").await;
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(
        answer.text("scope"),
        "openid profile https://graph.microsoft.com/User.Read"
    );
    let id = answer.claims("id_token");
    assert_eq!(id["iss"], format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority));
    assert_eq!(id["aud"], app(LOCAL));
    assert_eq!(id["nonce"], "the-nonce");
    assert_eq!(id["tid"], CONTOSO);
    assert_eq!(id["oid"], "11111111-0000-4000-a000-000000000001");
    assert_eq!(id["preferred_username"], "alice@contoso.example");
    assert_eq!(
        (id["iat"].as_i64(), id["exp"].as_i64()),
        (Some(START), Some(START + 3_600))
    );
    let me = lab.graph("/me", answer.text("access_token")).await;
    assert_eq!((me.status, &me.body["displayName"]), (200, &json!("Alice Anderson")));
}
