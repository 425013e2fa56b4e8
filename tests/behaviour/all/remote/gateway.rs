//! Behind a gateway: prefixes of one host, tokens that are handed over, Entra ID's metadata under the server's issuer.
//! With nginx: `clients/remote/gateway.rs`.

use entra_mcp_plugin::environment::{HttpSettings, TokenMode};
use serde_json::json;

use super::bearer::{SCOPE, fleet_with, token};
use crate::support::remote::{ALICE, Authorize, BOB, Fleet, PUBLIC_URL, REDIRECT, RESOURCE, Tab, call_request, input};

const HEADER: &str = "x-forwarded-access-token";

async fn fleet(mode: TokenMode, change: fn(&mut HttpSettings)) -> Fleet {
    fleet_with(mode, |settings| change(settings.http.as_mut().expect("a remote server"))).await
}

async fn at_prefix(prefix: &'static str) -> Fleet {
    Fleet::with(|settings| {
        settings.http.as_mut().expect("a remote server").public_url = format!("{PUBLIC_URL}{prefix}");
    })
    .await
}

#[tokio::test]
async fn servers_with_prefixes_on_one_host_leave_each_others_browsers_alone() {
    let (one, other) = (at_prefix("/one").await, at_prefix("/other").await);
    let mut tab = Tab::default();
    let mut pages = Vec::new();
    for (fleet, prefix) in [(&one, "/one"), (&other, "/other")] {
        let client = fleet.register(REDIRECT).await;
        let authorize = Authorize::new(&client).set("resource", &format!("{PUBLIC_URL}{prefix}/mcp"));
        let page = tab.open(fleet, &format!("{prefix}{}", authorize.path())).await;
        assert_eq!(page.status, 200, "{}", page.html());
        assert!(page.html().contains(&format!("action=\"{PUBLIC_URL}{prefix}/authorize\"")), "{}", page.html());
        let cookie = page.header("set-cookie");
        assert!(
            cookie.starts_with("__Host-") && cookie.contains("; Path=/;") && cookie.contains("; Secure"),
            "{cookie}"
        );
        assert!(!cookie.contains("Domain"), "{cookie}");
        pages.push(page);
    }
    assert_eq!(tab.cookies.len(), 2, "each has a name of its own");
    // A page of the one is worth nothing to the other.
    let stolen = [
        ("request_id", input(&pages[0], "request_id")),
        ("csrf_token", input(&pages[0], "csrf_token")),
        ("decision", "allow".to_owned()),
    ];
    assert_eq!(tab.submit(&other, &stolen).await.status, 403);
    for (fleet, prefix, page) in [(&one, "/one", &pages[0]), (&other, "/other", &pages[1])] {
        let entra = tab.decide(fleet, page, "allow").await.location();
        let callback = entra.query_pairs().find(|(name, _)| name == "redirect_uri").map(|(_, uri)| uri.into_owned());
        assert_eq!(callback, Some(format!("{PUBLIC_URL}{prefix}/auth/callback")));
    }
    assert_eq!(tab.cookies.len(), 2);
}

#[tokio::test]
async fn the_tool_answers_for_whose_token_is_handed_over() {
    for mode in [TokenMode::Bearer, TokenMode::Both] {
        let fleet = fleet(mode, |http| http.token_header = Some(HEADER.to_owned())).await;
        let (alices, bobs) = (token(&fleet, ALICE).await, token(&fleet, BOB).await);
        // Bob's own token is for the gateway, which has let Alice in: it does not, but the rule has to hold.
        for authorization in ["", bobs.as_str()] {
            let mut request = call_request(authorization);
            request.headers_mut().insert(HEADER, alices.parse().expect("a token fits into a header"));
            let answer = fleet.send(request).await;
            assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], ALICE, "{}", answer.body);
        }
        let mut forged = call_request(&bobs);
        forged.headers_mut().insert(HEADER, format!("{alices}x").parse().expect("a token fits into a header"));
        assert_eq!(fleet.send(forged).await.status, 401, "a refused token is not made good by another");
        let recorded = format!("{:?}", fleet.audit.events());
        assert!(fleet.audited().contains(&"token.refused".to_owned()));
        assert!(!recorded.contains(alices.rsplit('.').next().expect("a signature")), "a token is recorded");
    }
}

#[tokio::test]
async fn a_header_that_is_not_set_up_is_no_way_in() {
    let fleet = fleet(TokenMode::Both, |_| {}).await;
    let token = token(&fleet, ALICE).await;
    let mut request = call_request("");
    for name in [HEADER, "x-ms-token-aad-access-token"] {
        request.headers_mut().insert(name, token.parse().expect("a token fits into a header"));
    }
    assert_eq!(fleet.send(request).await.status, 401);
}

#[tokio::test]
async fn the_metadata_of_entra_is_found_under_our_issuer_and_its_tokens_are_let_in() {
    let fleet = fleet(TokenMode::Bearer, |http| http.rewrite_authority_metadata = true).await;
    let resource = fleet.get("/.well-known/oauth-protected-resource/mcp").await.body;
    assert_eq!((&resource["resource"], &resource["scopes_supported"]), (&json!(RESOURCE), &json!([SCOPE])));
    assert_eq!(resource["authorization_servers"], json!([PUBLIC_URL]));
    let authority = fleet.emulator.endpoints();
    let entra = format!("{}/{}/oauth2/v2.0", authority.authority, authority.tenant_id);
    let paths = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
    for path in [&paths[..], &paths].concat() {
        let answer = fleet.get(path).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"), "{path}");
        let document = answer.body;
        assert_eq!(document["issuer"], PUBLIC_URL);
        assert_eq!(document["authorization_endpoint"], format!("{entra}/authorize"));
        assert_eq!(document["token_endpoint"], format!("{entra}/token"));
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(document["scopes_supported"], json!([SCOPE, "offline_access"]));
        for absent in ["registration_endpoint", "revocation_endpoint", "authorization_response_iss_parameter_supported"]
        {
            assert_eq!(document.get(absent), None, "{path}");
        }
    }
    let token = token(&fleet, ALICE).await;
    assert_eq!(fleet.details(&token).await["userPrincipalName"], ALICE);
    for path in ["/authorize", "/token", "/register"] {
        assert_eq!(fleet.get(path).await.status, 404, "{path}");
    }
}
