//! What happens after the sign-in: refresh, revocation, another process.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_emulator::Endpoint;
use entra_mcp_plugin::clock::ManualClock;
use entra_mcp_plugin::secret_store::{SecretStore, SqliteStore};
use entra_mcp_plugin::token_renewal::keep_tokens_fresh;
use serde_json::{Value, json};

use crate::support::component::{Server, call_tool, plugin};
use crate::support::patience::{pause, until};

/// Longer than any access token lives: with continuous access evaluation, Entra ID gives them up to 28 hours.
const AFTER_EXPIRY: u64 = 29 * 3600;

async fn call(server: &Server) -> Value {
    server.ask(call_tool(json!({}))).await["result"].clone()
}

/// The refresh token that the last request to the token endpoint carried.
fn sent_refresh_token(server: &Server) -> String {
    let requests = server.control().requests(Endpoint::Token);
    let form = &requests.last().expect("a token request").form;
    form.iter().find(|(name, _)| name == "refresh_token").expect("a refresh").1.clone()
}

#[tokio::test]
async fn an_expired_token_is_refreshed_silently_and_the_refresh_token_rotates() {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    server.control().clear_requests();
    server.advance(AFTER_EXPIRY);
    assert_eq!(call(&server).await["isError"], false);
    assert_eq!(server.control().request_count(Endpoint::Token), 1);
    let first = sent_refresh_token(&server);
    server.advance(AFTER_EXPIRY);
    assert_eq!(call(&server).await["isError"], false);
    assert_ne!(sent_refresh_token(&server), first);
    assert!(!server.opened_more());
}

#[tokio::test]
async fn tokens_are_renewed_in_the_background_so_that_no_call_waits() {
    let mut server = Server::new().await;
    server.control().change_policy(|policy| {
        policy.access_token_shortest = 3_600;
        policy.access_token_longest = 3_600;
        policy.continuous_access_token = 3_600;
    });
    server.signed_in_call().await;
    for round in 1..=2 {
        server.control().clear_requests();
        let mut waited = 0;
        loop {
            let pause = server.plugin.renew_tokens().await.unwrap().expect("there is a person").as_secs();
            if server.control().request_count(Endpoint::Token) > 0 {
                break;
            }
            waited += pause;
            assert!(pause > 0 && waited <= 3_600 - 300, "round {round}: {waited} s");
            server.advance(pause);
        }
        assert!(waited >= 3_600 - 330, "round {round}: {waited} s");
        assert_eq!(call(&server).await["isError"], false);
        server.plugin.renew_tokens().await.unwrap();
        assert_eq!(server.control().request_count(Endpoint::Token), 1, "round {round}");
    }
    // The same as a host does it.
    server.control().clear_requests();
    server.advance(3_600 - 305);
    let (plugin, clock) = (Arc::clone(&server.plugin), server.clock.clone());
    let fresh = tokio::spawn(async move { keep_tokens_fresh(&plugin, &clock).await });
    let renewed = until(|| {
        server.advance(1);
        server.control().request_count(Endpoint::Token) > 0
    });
    renewed.await.expect("the task renews it");
    fresh.abort();
}

/// As two processes of one person do it, each with the file open on its own.
#[tokio::test]
async fn of_two_servers_on_one_store_that_renew_in_the_background_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let open = |clock: &ManualClock| -> Arc<dyn SecretStore> {
        Arc::new(SqliteStore::open(&folder.path().join("secrets.db"), Arc::new(clock.clone())).unwrap())
    };
    let (mut server, settings) = Server::on(open, |_| {}).await;
    let other = plugin(settings, &server.clock, &open(&server.clock), &server.desk, &server.audit);
    server.control().change_policy(|policy| {
        policy.access_token_shortest = 3_600;
        policy.access_token_longest = 3_600;
        policy.continuous_access_token = 3_600;
    });
    server.signed_in_call().await;
    server.control().clear_requests();
    let both = [Arc::clone(&server.plugin), other];
    let fresh = both.clone().map(|plugin| {
        let clock = server.clock.clone();
        tokio::spawn(async move { keep_tokens_fresh(&plugin, &clock).await })
    });
    // Slowly: a call that waits for the other one looks again, and does not lose patience before Entra ID has answered.
    let clock = server.clock.clone();
    let ticking = tokio::spawn(async move {
        loop {
            pause().await;
            clock.advance(Duration::from_millis(20));
        }
    });
    for round in 1..=3 {
        // A token that a call has used is renewed, and both find at once that it is time.
        assert_eq!(call(&server).await["isError"], false);
        server.advance(3_600 - 200);
        until(|| server.control().request_count(Endpoint::Token) >= round).await.expect("one of them renews it");
        for plugin in &both {
            plugin.renew_tokens().await.unwrap().expect("there is a person");
        }
        assert_eq!(server.control().request_count(Endpoint::Token), round);
    }
    ticking.abort();
    for task in fresh {
        task.abort();
    }
}

#[tokio::test]
async fn many_calls_at_once_refresh_once() {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    server.control().clear_requests();
    server.advance(AFTER_EXPIRY);
    let flying = server.let_time_fly();
    let connection = Arc::default();
    let calls: Vec<_> = (0..8).map(|_| server.send(&connection, call_tool(json!({})))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap()["result"]["isError"], false);
    }
    flying.abort();
    assert_eq!(server.control().request_count(Endpoint::Token), 1);
    assert_eq!(server.control().request_count(Endpoint::GraphMe), 8);
}

#[tokio::test]
async fn a_revoked_session_leads_to_a_new_sign_in() {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    server.advance(AFTER_EXPIRY);
    server.control().revoke_sessions("alice@contoso.example").unwrap();
    let result = server.signed_in_call().await;
    assert_eq!(result["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert_eq!(server.accounts().await, 1);
}

#[tokio::test]
async fn signing_out_asks_the_person_again() {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    let accounts = server.plugin.accounts().await.unwrap();
    server.plugin.sign_out(&accounts[0].home_account_id).await.unwrap();
    assert_eq!(server.accounts().await, 0);
    assert_eq!(server.signed_in_call().await["isError"], false);
}
