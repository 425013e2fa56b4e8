//! Versions of a certificate in Azure Key Vault that end, are refused or follow each other, and a vault that is out of order.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_plugin::client_credential::{ClientCredential as _, Credential, CredentialError, VaultCertificate};
use entra_mcp_plugin::clock::ManualClock;
use entra_mcp_plugin::key_vault::{KeyVault, VaultCollection, VaultObject, VaultTokens};
use entra_mcp_plugin::random::SystemRandomness;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Bench, vault};
use crate::support::key_vault::{Mood, Vault};
use crate::support::lab::header;

/// 2026-11-18.
const NOW: u64 = 1_794_996_000;
const AUDIENCE: &str = "https://login.example/tenant/oauth2/v2.0/token";
/// Keys of versions: which one does not matter here.
const KEY: &str = "confidential-client";
const HOUR: u64 = 3_600;
const YEAR: u64 = 365 * 24 * HOUR;

/// One token for the vault, for ever.
pub(super) struct OneToken(String);

impl OneToken {
    /// The token of the emulator's machine.
    pub(super) async fn of_machine(authority: &str) -> Self {
        let url = format!(
            "{authority}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
        );
        let token = reqwest::Client::new().get(url).header("metadata", "true").send().await.unwrap();
        let token: Value = token.json().await.unwrap();
        Self(token["access_token"].as_str().unwrap().to_owned())
    }
}

#[async_trait]
impl VaultTokens for OneToken {
    async fn token(&self) -> Result<Zeroizing<String>, String> {
        Ok(Zeroizing::new(self.0.clone()))
    }
}

/// A vault, and the program that has its assertions signed there.
struct Client {
    vault: Vault,
    clock: ManualClock,
    source: Arc<VaultCertificate>,
    bench: Bench,
}

impl Client {
    /// A vault with versions of a certificate, the oldest first, that end so many seconds from now.
    async fn with(ends: &[u64]) -> Self {
        let bench = Bench::new().await;
        let vault = vault::vault(&bench).await;
        let tokens = Arc::new(OneToken::of_machine(&bench.authority()).await);
        for end in ends {
            vault.add_until("mcp", KEY, NOW + end, false);
        }
        let clock = ManualClock::new(NOW);
        let address = format!("{}/certificates/mcp", vault.url);
        let object = VaultObject::parse(&address, VaultCollection::Certificates).unwrap();
        let asked = KeyVault::new(tokens, None, Arc::new(clock.clone())).unwrap();
        let source = Arc::new(VaultCertificate::new(
            asked,
            object,
            "client",
            Arc::new(clock.clone()),
            Arc::new(SystemRandomness::default()),
        ));
        Self { vault, clock, source, bench }
    }

    async fn obtain(&self) -> Zeroizing<String> {
        assertion(self.source.obtain(AUDIENCE).await)
    }

    /// What is used in place of an assertion that Entra ID has refused. `None`: nothing.
    async fn replacement(&self, refused: &Zeroizing<String>) -> Option<Zeroizing<String>> {
        match self.source.replacement(AUDIENCE, &Credential::Assertion(refused.clone())).await.unwrap() {
            Credential::Assertion(assertion) => Some(assertion),
            _ => None,
        }
    }

    /// The number of the version that has signed.
    fn version(&self, assertion: &str) -> usize {
        let name = header(assertion)["x5t#S256"].as_str().unwrap().to_owned();
        self.vault.names("mcp").iter().position(|other| *other == name).unwrap()
    }

    /// How often the vault was asked to sign.
    fn signed(&self) -> usize {
        vault::signed(&self.vault)
    }
}

fn assertion(obtained: Result<Credential, CredentialError>) -> Zeroizing<String> {
    match obtained.unwrap() {
        Credential::Assertion(assertion) => assertion,
        other => panic!("no assertion: {other:?}"),
    }
}

/// What a call says that may not wait for anything.
async fn at_once<T>(call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(said) => Poll::Ready(Some(said)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_vault_that_keeps_silent_holds_up_no_call_that_has_a_good_assertion() {
    let client = Client::with(&[YEAR]).await;
    let before = client.obtain().await;
    // It is good for two minutes more, so it is time for another one.
    client.clock.advance(Duration::from_secs(8 * 60));
    client.vault.behave(Mood::HoldsSignatures);
    let source = Arc::clone(&client.source);
    let renewing = tokio::spawn(async move { source.obtain(AUDIENCE).await });
    client.vault.holds_one().await;
    for _ in 0..3 {
        let meanwhile = at_once(client.source.obtain(AUDIENCE)).await.expect("it waits for nothing");
        assert_eq!(assertion(meanwhile), before);
    }
    client.vault.let_one_go();
    let renewed = assertion(renewing.await.unwrap());
    assert_ne!(renewed, before);
    assert_eq!((client.obtain().await, client.signed()), (renewed, 2));
}

#[tokio::test]
async fn a_vault_that_has_just_failed_is_left_alone_for_a_while() {
    let client = Client::with(&[YEAR]).await;
    let before = client.obtain().await;
    client.clock.advance(Duration::from_secs(8 * 60));
    client.vault.behave(Mood::Refuses);
    for pause in 1..3 {
        for _ in 0..3 {
            assert_eq!(client.obtain().await, before);
        }
        assert_eq!(client.signed(), 1 + pause);
        client.clock.advance(Duration::from_secs(5));
    }
    client.clock.advance(Duration::from_secs(120));
    let told = client.source.obtain(AUDIENCE).await.unwrap_err();
    assert!(matches!(&told, CredentialError::Unavailable(text) if text.contains("out of order")), "{told:?}");
    for _ in 0..3 {
        assert_eq!(at_once(client.source.obtain(AUDIENCE)).await, Some(Err(told.clone())));
    }
    assert_eq!(client.signed(), 4);
    client.vault.behave(Mood::Works);
    client.clock.advance(Duration::from_secs(5));
    assert_ne!(client.obtain().await, before);
}

#[tokio::test]
async fn a_version_that_was_refused_is_tried_again_an_hour_later() {
    let client = Client::with(&[YEAR, YEAR]).await;
    let newest = client.obtain().await;
    let other = client.replacement(&newest).await.unwrap();
    assert_eq!((client.version(&newest), client.version(&other)), (1, 0));
    client.clock.advance(Duration::from_secs(HOUR - 1));
    assert_eq!(client.version(&client.obtain().await), 0);
    client.clock.advance(Duration::from_secs(HOUR));
    assert_eq!(client.version(&client.obtain().await), 1);
}

#[tokio::test]
async fn a_version_that_was_refused_is_used_when_the_other_one_is_over() {
    let client = Client::with(&[HOUR / 2, YEAR]).await;
    let newest = client.obtain().await;
    assert_eq!(client.version(&client.replacement(&newest).await.unwrap()), 0);
    client.clock.advance(Duration::from_secs(HOUR / 2 - 1));
    assert_eq!(client.version(&client.obtain().await), 0);
    client.clock.advance(Duration::from_secs(1));
    assert_eq!(client.version(&client.obtain().await), 1);
}

#[tokio::test]
async fn the_registered_one_of_many_versions_is_found_on_whatever_page_of_the_list_it_is() {
    for page in [1, 2, 25] {
        let client = Client::with(&[YEAR; 5]).await;
        client.vault.list_in_pages_of(page);
        let mut tried = vec![client.obtain().await];
        for _ in 0..4 {
            tried.push(client.replacement(tried.last().unwrap()).await.unwrap());
        }
        let versions: Vec<_> = tried.iter().map(|assertion| client.version(assertion)).collect();
        assert_eq!(versions, [4, 3, 2, 1, 0], "{page}");
        assert_eq!(client.version(&client.obtain().await), 0);
        // Another one is registered now, and this one no longer: the one that was refused first is the next.
        assert_eq!(client.version(&client.replacement(&tried[4]).await.unwrap()), 4);
    }
}

#[tokio::test]
async fn a_version_that_is_over_is_passed_over() {
    for listed in [true, false] {
        let client = Client::with(&[YEAR]).await;
        client.vault.add_until("mcp", KEY, NOW - 1, listed);
        client.vault.add_until("mcp", KEY, NOW + YEAR, listed);
        let newest = client.obtain().await;
        assert_eq!(client.version(&newest), 2);
        assert_eq!(client.version(&client.replacement(&newest).await.unwrap()), 0, "{listed}");
    }
}

#[tokio::test]
async fn no_token_goes_to_the_next_page_of_a_list_that_is_elsewhere() {
    let client = Client::with(&[YEAR, YEAR]).await;
    client.vault.list_in_pages_of(1);
    let other = Vault::start(&client.bench.authority(), &client.bench.emulator.control()).await;
    let own = &client.vault.url;
    for elsewhere in [
        format!("{}/certificates/mcp/versions?$skiptoken=1", other.url),
        format!("{own}/certificates/other/versions?$skiptoken=1"),
        "https://vault.example/certificates/mcp/versions".to_owned(),
        "not a URL".to_owned(),
    ] {
        client.vault.name_as_next_page(&elsewhere);
        let newest = client.obtain().await;
        let refused = client.source.replacement(AUDIENCE, &Credential::Assertion(newest)).await;
        assert!(matches!(refused, Err(CredentialError::Unavailable(_))), "{elsewhere}: {refused:?}");
        client.clock.advance(Duration::from_secs(5));
    }
    assert!(other.seen().is_empty(), "{:?}", other.seen());
    assert!(!client.vault.seen().iter().any(|request| request.contains("other")), "{:?}", client.vault.seen());
    // A list without an end has one here.
    client.vault.name_as_next_page(&format!("{own}/certificates/mcp/versions?$skiptoken=0"));
    let newest = client.obtain().await;
    assert_eq!(client.version(&newest), 1);
    let other = client.replacement(&newest).await;
    assert_eq!(other.map(|assertion| client.version(&assertion)), Some(0));
    assert!(client.vault.seen().iter().filter(|request| request.ends_with("/versions")).count() < 50);
}
