//! Callers, and what their processes know of them.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::*;
use crate::process::TokenFileError;

#[tokio::test]
async fn callers_never_share_a_process() {
    let fixture = Fixture::new();
    let alice = fixture.client("alice");
    let mut other_client = alice.clone();
    other_client.caller.client_id = "other".into();
    let mut other_tenant = alice.clone();
    other_tenant.caller.tenant_id = "other".into();
    let callers = [alice.clone(), fixture.client("bob"), other_client, other_tenant];
    let mut processes = std::collections::BTreeSet::new();
    for caller in &callers {
        processes.insert(caller.process().await);
        processes.insert(caller.process().await);
    }
    assert_eq!(processes.len(), callers.len());
}

#[tokio::test]
async fn requests_that_come_at_once_share_the_process_of_their_caller() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    let (one, other, third) = tokio::join!(client.process(), client.process(), client.process());
    assert_eq!((one, one), (other, third));
}

#[tokio::test]
async fn a_process_knows_its_caller_and_what_is_named_for_it_and_nothing_else() {
    let fixture = Fixture::new();
    let environment = fixture.client("alice").result("environment", json!({})).await;
    let expected = json!({
        "NAMED": "value",
        "ENTRA_MCP_CALLER_TENANT_ID": "tenant",
        "ENTRA_MCP_CALLER_OBJECT_ID": "alice",
        "ENTRA_MCP_CALLER_CLIENT_ID": "client",
        "ENTRA_MCP_CALLER_ROLES": "Reader Writer",
    });
    assert_eq!(environment, expected);
}

#[tokio::test]
async fn a_process_works_in_an_empty_folder_that_goes_with_it() {
    let fixture = Fixture::new();
    let folder = fixture.client("alice").result("folder", json!({})).await;
    assert_eq!(folder["entries"], 0);
    let path = PathBuf::from(folder["path"].as_str().unwrap());
    assert!(path.starts_with(fixture.folder.path().canonicalize().unwrap()));
    fixture.upstream.end().await;
    until(|| fixture.folder.path().read_dir().unwrap().count() == 0).await.unwrap();
}

#[derive(Default)]
struct Numbered(AtomicU32);

#[async_trait]
impl Tokens for Numbered {
    async fn token(&self, handle: &str) -> Result<Zeroizing<String>, TokenFileError> {
        if handle != "handle" {
            return Err(TokenFileError::Refused("unknown handle".into()));
        }
        Ok(Zeroizing::new(format!("token-{}", self.0.fetch_add(1, Ordering::Relaxed))))
    }
}

#[tokio::test]
async fn a_token_is_in_a_private_file_is_kept_fresh_and_goes() {
    let fixture = Fixture::with(|_| {}, Some(Arc::<Numbered>::default()));
    let client = fixture.client("alice");
    let token = client.result("token", json!({})).await;
    assert_eq!(token["token"], "token-0");
    assert_eq!((&token["mode"], &token["folder mode"]), (&json!(0o600), &json!(0o700)));
    fixture.clock.advance(super::super::settings::RENEW_AFTER);
    assert_eq!(client.result("token", json!({})).await["token"], "token-1");
    fixture.upstream.end().await;
    assert!(!PathBuf::from(token["path"].as_str().unwrap()).exists());
}

#[tokio::test]
async fn without_a_token_no_process_starts() {
    struct Refusing;

    #[async_trait]
    impl Tokens for Refusing {
        async fn token(&self, _: &str) -> Result<Zeroizing<String>, TokenFileError> {
            Err(TokenFileError::Refused("disabled".into()))
        }
    }

    let fixture = Fixture::with(|_| {}, Some(Arc::new(Refusing)));
    let refused = fixture.client("alice").post(json!({"jsonrpc": "2.0", "id": 1, "method": "pid"})).await;
    assert_eq!(refused.err(), Some(BehindError::Unreachable("no token for this caller: disabled".into())));
}
