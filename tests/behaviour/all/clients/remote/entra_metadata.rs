//! Clients that sign in at Entra ID itself, which they find through its metadata under the issuer of the server, and again
//! once a tool needs more scopes: the SDKs do both by themselves.

use std::path::Path;

use entra_mcp_emulator::Scope;
use serde_json::json;

use super::conversation::{TOOL, assert_details};
use super::office::Office;
use crate::clients::machine::script;
use crate::support::tools;

const HOUR: i64 = 3600;
/// Needs a scope that no client asks for by itself.
const PROFILE: &str = "GetUserDetailsFromGraph";
const RULES: &str = r#"
[[access]]
tool = "getUserDetails"

[[access]]
tool = "GetUserDetailsFromGraph"
scopes = ["Mcp.Profile"]
"#;

#[tokio::test]
#[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
async fn the_typescript_sdk_signs_in_at_entra_and_calls_with_its_token() {
    a_registered_client_signs_in(&tools::client("mcp-client-2"), "mcp-client-2/registered.mjs").await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
async fn the_python_sdk_signs_in_at_entra_and_calls_with_its_token() {
    a_registered_client_signs_in(&tools::client("mcp-python"), "mcp-python/remote.py").await;
}

async fn a_registered_client_signs_in(program: &Path, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("access.toml");
    std::fs::write(&rules, RULES).unwrap();
    let arguments = ["--token-mode", "bearer", "--rewrite-authority-metadata", "--access-file"];
    let office = Office::with(HOUR, &[&arguments[..], &[rules.to_str().unwrap()]].concat()).await;
    let (url, control) = (office.server.at("/mcp"), office.emulator.control());
    let at = office.emulator.endpoints().clone();
    let resource = url.clone();
    let registered = control.change_application(&at.confidential_client_id, |api| {
        api.identifier_uris.push(resource);
        let scope = Scope { name: "Mcp.Profile".to_owned(), title: "See profiles".to_owned(), administrator: false };
        api.scopes.push(scope);
    });
    registered.unwrap();
    let redirect = "http://localhost/callback".to_owned();
    control.change_application(&at.public_client_id, |client| client.public_redirect_uris.push(redirect)).unwrap();

    let mut command = office.command(program);
    command.arg(script(name)).env("URL", &url).env("TRANSPORT", "http").env("CLIENT_ID", &at.public_client_id);
    command.env("STEP_UP", PROFILE);
    let seen = office.run(&mut command).await;

    let metadata = &seen["metadata"];
    assert_eq!(metadata["issuer"], office.server.public_url());
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    for name in ["authorization_endpoint", "token_endpoint"] {
        assert!(metadata[name].as_str().unwrap().starts_with(&at.authority), "{metadata}");
    }
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], json!(null));
    let scope = seen["requested"]["scope"].as_str().unwrap();
    assert!(scope.split(' ').any(|one| one == format!("{url}/access_as_user")), "{scope}");
    assert_eq!((&seen["requested"]["resource"], &seen["challengeMethod"]), (&json!(url), &json!("S256")));
    let tools = seen["tools"].as_array().unwrap();
    assert_eq!(tools.iter().map(|tool| &tool["name"]).collect::<Vec<_>>(), [TOOL]);
    let results = seen["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    results.iter().for_each(assert_details);
    // A token of Entra ID, not of the server.
    assert_eq!((&seen["tokenParts"], &seen["refreshToken"]), (&json!(3), &json!(true)));
    // The SDK has asked for what the challenge names, beside what it had.
    assert_eq!(seen["steppedUp"]["structuredContent"]["displayName"], "Alice Anderson", "{seen}");
    let scope = seen["requestedThen"]["scope"].as_str().unwrap();
    for name in ["access_as_user", "Mcp.Profile"] {
        assert!(scope.split(' ').any(|one| one == format!("{url}/{name}")), "{scope}");
    }
    assert_eq!(office.requests().codes_redeemed, 2);
    office.leave().await;
}
