//! `entra_mcp.wasmcp-authorization.wasm` between wasmcp's transport and its clients.

use entra_mcp_emulator::{Endpoint, Fault};
use serde_json::json;

use super::host::authorization::wasmcp::auth::types::{JwtClaims, TokenConfirmation};
use super::host::authorization::wasmcp::mcp_v20251125::mcp::{
    CallToolRequest, ClientMessage, ClientRequest, RequestId,
};
use super::host::{Gate, Server, lab};
use crate::support::lab::{CONTOSO, LOCAL, REMOTE, app};
use crate::tools::mail::bearer;
use crate::verdict::corpus::{Corpus, LEGACY_AUDIENCE, signed};

const ALICE: &str = "alice@contoso.example";
const BOB: &str = "bob@contoso.example";
const ALICES_OBJECT: &str = "11111111-0000-4000-a000-000000000001";
/// A good token of another scope, in the corpus.
const VERSION_1: &str = "a token of version 1";

/// A call of a tool, as a component of the chain has it to authorize.
fn call() -> ClientMessage {
    let request = CallToolRequest { name: "add".to_owned(), arguments: Some("{}".to_owned()) };
    ClientMessage::Request((RequestId::Number(1), ClientRequest::ToolsCall(request)))
}

/// The claims of a good token.
async fn claims(gate: &mut Gate<'_>, token: &str) -> JwtClaims {
    gate.admit(&format!("Bearer {token}")).await.expect("it is good").claims
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_gets_the_verdict_that_it_gets_everywhere() {
    let corpus = Corpus::new().await;
    let server = Server::new(&corpus.lab, &[("ENTRA_MCP_APP_ID_URI", LEGACY_AUDIENCE)]);
    let mut gate = server.gate().await;
    let mut said = Vec::new();
    for case in &corpus.cases {
        said.push(gate.verdict(&case.token).await);
    }
    // What the validators do not ask for, and a server does.
    let expected = |name: &str| (name == VERSION_1).then_some("scopes-missing");
    corpus.compare("wasmcp", &said, |case| expected(&case.name).unwrap_or(case.expected.as_str()));

    let scope = [("ENTRA_MCP_APP_ID_URI", LEGACY_AUDIENCE), ("ENTRA_MCP_REQUIRED_SCOPE", "user_impersonation")];
    let server = Server::new(&corpus.lab, &scope);
    let case = corpus.cases.iter().find(|case| case.name == VERSION_1).expect("it is there");
    assert_eq!(server.gate().await.verdict(&case.token).await, case.expected);
    // No token is in the log.
    for case in corpus.cases.iter().filter(|case| case.token.len() > 100) {
        assert!(!server.log().contains(&case.token), "{}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_the_person_that_began_it() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let mut gate = server.gate().await;
    let alice = gate.admit(&format!("Bearer {}", bearer(&lab.emulator, ALICE).await)).await.expect("Alice");
    let bob = gate.admit(&format!("Bearer {}", bearer(&lab.emulator, BOB).await)).await.expect("Bob");
    let bound = gate.bind(&alice).await;
    assert_eq!(bound.issuer, Some(format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority)));
    assert_eq!((bound.scopes.as_str(), bound.audiences.as_str()), ("Mcp.Access", app(REMOTE).as_str()));
    assert!(bound.expiration > bound.issued_at && bound.issued_at.is_some(), "{bound:?}");
    assert!(gate.is_of(&bound, &alice).await);
    assert!(!gate.is_of(&bound, &bob).await);
    // The next request of the session has another instance, and perhaps another token.
    let mut other = server.gate().await;
    let again = other.admit(&format!("Bearer {}", bearer(&lab.emulator, ALICE).await)).await.expect("Alice");
    assert!(other.is_of(&bound, &again).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_bearer_token_is_not_admitted() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let mut gate = server.gate().await;
    let token = bearer(&lab.emulator, ALICE).await;
    for header in
        ["Bearer ".to_owned(), format!("Bearer  {token}"), format!("Bearer Bearer {token}"), "Bearer x".to_owned()]
    {
        assert!(gate.admit(&header).await.is_none(), "{header}");
    }
    assert_eq!(gate.verdict(&token).await, format!("valid {ALICES_OBJECT}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claims_say_who_calls_and_the_helpers_read_them() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let mut gate = server.gate().await;
    let groups = json!([ALICES_OBJECT]);
    let changes = json!({ "roles": ["Reader", "Writer"], "groups": groups, "acrs": ["c1"], "name": "Alice Anderson" });
    let claims = claims(&mut gate, &signed(&lab, &changes)).await;
    let listed = gate.flatten(&claims).await;
    let of = |name: &str| listed.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    for (name, value) in [
        ("sub", "subject"),
        ("tid", CONTOSO),
        ("oid", ALICES_OBJECT),
        ("azp", &app(LOCAL)),
        ("aud", &app(REMOTE)),
        ("scope", "Mcp.Access"),
        ("jti", "corpus"),
        ("ver", "2.0"),
        ("idtyp", "user"),
        ("roles", r#"["Reader","Writer"]"#),
        ("groups", &groups.to_string()),
        ("acrs", r#"["c1"]"#),
    ] {
        assert_eq!(of(name), Some(value), "{name}");
        assert_eq!(gate.claim(&claims, name).await.as_deref(), Some(value), "{name}");
    }
    assert_eq!(of("name"), None);
    assert_eq!(gate.asked(&claims, "Mcp.Access", &app(REMOTE), 0).await, [true, true, true, true, false, true]);
    assert_eq!(gate.asked(&claims, "Mcp.Admin", "other", 0).await, [false, true, false, false, false, true]);
    let expired = JwtClaims { expiration: Some(1), ..claims.clone() };
    assert_eq!(gate.asked(&expired, "Mcp.Access", "other", u64::MAX).await[4..], [true, false]);
    let later = JwtClaims { not_before: Some(u64::MAX), ..claims };
    assert_eq!(gate.asked(&later, "Mcp.Access", "other", u64::MAX).await[4..], [false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_come_without_a_token_are_judged_again() {
    let lab = lab().await;
    let server = Server::new(&lab, &[]);
    let good = claims(&mut server.gate().await, &bearer(&lab.emulator, ALICE).await).await;
    // Another instance, which has seen no token.
    let mut gate = server.gate().await;
    assert!(gate.authorize(call(), &good).await, "{}", server.log());
    let others = |name: &str, value: &str| {
        let mut custom_claims = good.custom_claims.clone();
        custom_claims.retain(|(known, _)| known != name);
        custom_claims.push((name.to_owned(), value.to_owned()));
        JwtClaims { custom_claims, ..good.clone() }
    };
    let twice = {
        let mut claims = good.clone();
        claims.custom_claims.push(("tid".to_owned(), CONTOSO.to_owned()));
        claims
    };
    let bound = TokenConfirmation { x5t_s256: None, jkt: Some("thumbprint".to_owned()) };
    for (claims, expected) in [
        (JwtClaims { subject: String::new(), ..good.clone() }, "claim-missing"),
        (JwtClaims { issuer: None, ..good.clone() }, "claim-missing"),
        (JwtClaims { issuer: Some("https://evil.example".to_owned()), ..good.clone() }, "issuer-mismatch"),
        (JwtClaims { audience: Vec::new(), ..good.clone() }, "claim-malformed"),
        (JwtClaims { audience: vec![app(LOCAL)], ..good.clone() }, "audience-mismatch"),
        (JwtClaims { expiration: None, ..good.clone() }, "claim-missing"),
        (JwtClaims { expiration: Some(1), ..good.clone() }, "expired"),
        (JwtClaims { not_before: Some(u64::MAX), ..good.clone() }, "not-yet-valid"),
        (JwtClaims { issued_at: Some(u64::MAX), ..good.clone() }, "issued-in-future"),
        (JwtClaims { confirmation: Some(bound), ..good.clone() }, "key-bound"),
        (JwtClaims { scopes: Vec::new(), ..good.clone() }, "scopes-missing"),
        (JwtClaims { custom_claims: Vec::new(), ..good.clone() }, "claim-missing"),
        (others("tid", "common"), "claim-malformed"),
        (others("idtyp", "app"), "claim-malformed"),
        (twice, "claim-missing"),
    ] {
        assert!(!gate.authorize(call(), &claims).await, "{expected}");
        let log = server.log();
        assert_eq!(log.lines().last(), Some(format!("entra-mcp: claims are refused: {expected}").as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_settings_it_admits_no_caller_and_the_log_says_why() {
    let lab = lab().await;
    let token = bearer(&lab.emulator, ALICE).await;
    let good = claims(&mut Server::new(&lab, &[]).gate().await, &token).await;
    for (name, value, said) in [
        ("ENTRA_MCP_TENANT_ID", "", "ENTRA_MCP_TENANT_ID is not set"),
        ("ENTRA_MCP_CLIENT_ID", "", "ENTRA_MCP_CLIENT_ID is not set"),
        ("ENTRA_MCP_PUBLIC_URL", "", "ENTRA_MCP_PUBLIC_URL is not set"),
        ("ENTRA_MCP_TENANT_ID", "common", "ENTRA_MCP_TENANT_ID is not accepted"),
        ("ENTRA_MCP_CLOCK_TOLERANCE", "301", "the setting token.clock-tolerance-seconds is above 300"),
        ("ENTRA_MCP_AUTHORITY", "http://login.example.com", "the setting authority is neither https nor"),
        ("ENTRA_MCP_ACCESS", "[]", "ENTRA_MCP_ACCESS has no effect in entra_mcp.wasmcp-authorization.wasm: unset it"),
    ] {
        let server = Server::new(&lab, &[(name, value)]);
        let mut gate = server.gate().await;
        assert!(gate.admit(&format!("Bearer {token}")).await.is_none(), "{said}");
        assert!(!gate.authorize(call(), &good).await, "{said}");
        // Once.
        assert_eq!(server.log().lines().count(), 1, "{}", server.log());
        assert!(server.log().starts_with(&format!("entra-mcp: cannot start: {said}")), "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_keys_of_the_authority_no_token_is_good_and_with_them_again_it_is() {
    let lab = lab().await;
    let token = bearer(&lab.emulator, ALICE).await;
    let server = Server::new(&lab, &[]);
    lab.control().inject(Fault::on(Endpoint::OpenidConfiguration).always().status(400));
    assert_eq!(server.gate().await.verdict(&token).await, "keys-unavailable");
    assert!(server.log().contains("entra-mcp: a token cannot be judged: keys-unavailable"), "{}", server.log());
    lab.control().clear_faults();
    assert_eq!(server.gate().await.verdict(&token).await, format!("valid {ALICES_OBJECT}"));
}
