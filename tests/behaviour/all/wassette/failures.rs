//! What the policy does not grant, and what else a call may lack.

use serde_json::Value;

use super::host::Wassette;

const PROFILE: &str = "get-user-details";

fn error(answer: &Value) -> &str {
    answer["err"].as_str().unwrap_or_else(|| panic!("an error was expected: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_policy_does_not_grant_is_an_error_that_says_so() {
    let mut host = Wassette::start().await;
    host.policy.permissions.network.allow.clear();
    let answer = host.call(PROFILE).await.unwrap();
    assert!(error(&answer).contains("not on the list of hosts"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_the_policy_does_not_grant_for_writing_is_an_error_and_no_person_signs_in() {
    for access in [Some("read"), None] {
        let mut host = Wassette::start().await;
        let storage = &mut host.policy.permissions.storage.allow;
        match access {
            Some(access) => storage[0].access = vec![access.to_owned()],
            None => storage.clear(),
        }
        let answer = host.call(PROFILE).await.unwrap();
        assert!(!error(&answer).contains("the code"), "{answer}");
        assert!(host.log().contains("the records in entra-mcp (ENTRA_MCP_STORE) are unavailable"), "{}", host.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_variable_the_log_says_which_is_missing() {
    for name in ["ENTRA_MCP_TENANT_ID", "ENTRA_MCP_CLIENT_ID", "ENTRA_MCP_STORE_KEY"] {
        let mut host = Wassette::start().await;
        host.policy.permissions.environment.allow.retain(|variable| variable.key != name);
        host.call(PROFILE).await.unwrap_err();
        assert!(host.log().contains(&format!("entra-mcp cannot start: {name} is not set")), "{}", host.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_key_the_person_signs_in_anew() {
    let mut host = Wassette::start().await;
    let instruction = error(&host.call(PROFILE).await.unwrap()).to_owned();
    host.enter_code(&instruction, "alice@contoso.example").await;
    host.call(PROFILE).await.unwrap();
    host.variables.insert("ENTRA_MCP_STORE_KEY".to_owned(), "B".repeat(42) + "A=");
    let answer = host.call(PROFILE).await.unwrap();
    assert!(error(&answer).contains("enter the code"), "{answer}");
}
