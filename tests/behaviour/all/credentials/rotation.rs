//! A certificate or a secret is replaced while people sign in and clients call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use entra_mcp_emulator::{Endpoint, RecordedRequest, Secret};
use serde_json::json;
use tokio::task::JoinHandle;

use super::kinds::pem;
use super::{Bench, vault};
use crate::host::records::{ALICE, Site};
use crate::support::fixture;
use crate::support::lab::{REMOTE, app, header};
use crate::support::patience::until;
use crate::tools::mail::bearer;

/// Calls at the same time. Each brings a token that was not seen before, so each makes the server ask for another.
const AT_ONCE: usize = 4;
/// Calls in each state of the rotation.
const CALLS: usize = 8;
/// Each so many calls of a caller, one is that of a person who has just signed in.
const SIGN_IN_EVERY: usize = 3;

const OLD: &str = "confidential-client";
const NEW: &str = "unregistered-client";

/// Callers that call until they are told to stop.
struct Load {
    site: Arc<Site>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<()>>,
    /// The requests for tokens so far: the emulator keeps the last ones only.
    requests: Vec<RecordedRequest>,
}

/// Calls until it is told to stop. All calls and sign-ins are answered.
async fn calls(site: Arc<Site>, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    for round in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let token = if round.is_multiple_of(SIGN_IN_EVERY) {
            site.sign_in().await.access_token
        } else {
            bearer(&site.emulator, ALICE).await
        };
        let (status, body) = site.call(&token, &[]).await;
        assert_eq!((status, &body["result"]["isError"]), (200, &json!(false)), "{body}\n{}", site.server.log());
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

impl Load {
    fn begin(site: Site) -> Self {
        let (site, stop, answered) = (Arc::new(site), Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let caller = |_| tokio::spawn(calls(Arc::clone(&site), Arc::clone(&stop), Arc::clone(&answered)));
        let callers = (0..AT_ONCE).map(caller).collect();
        Self { site, stop, answered, callers, requests: Vec::new() }
    }

    /// Waits until so many more calls were answered, or one was not.
    async fn more(&mut self) {
        let target = self.answered.load(Ordering::Relaxed) + CALLS;
        let ended = || self.callers.iter().any(JoinHandle::is_finished);
        until(|| self.answered.load(Ordering::Relaxed) >= target || ended()).await.unwrap();
        let control = self.site.emulator.control();
        self.requests.extend(control.requests(Endpoint::Token));
        control.clear_requests();
    }

    /// Ends the calls. Returns the server's requests for tokens.
    async fn end(self) -> Vec<RecordedRequest> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        let own: Vec<_> =
            self.requests.into_iter().filter(|request| request.form("client_id") == Some(&app(REMOTE))).collect();
        for grant in ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"] {
            assert!(own.iter().any(|request| request.form("grant_type") == Some(grant)), "{grant}");
        }
        own
    }
}

/// The different ones among these.
fn different(values: impl Iterator<Item = String>) -> usize {
    values.collect::<std::collections::HashSet<_>>().len()
}

/// The number of the certificates that have signed the assertions of these requests.
fn certificates(requests: &[RecordedRequest]) -> usize {
    let assertions = requests.iter().map(|request| request.form("client_assertion").expect("an assertion"));
    different(assertions.map(|assertion| header(assertion)["x5t#S256"].to_string()))
}

fn register(site: &Site, names: &[&str]) {
    let certificates =
        names.iter().map(|name| String::from_utf8(fixture(&format!("{name}.cert.pem"))).unwrap()).collect();
    site.emulator.control().change_application(&app(REMOTE), |own| own.certificates = certificates).unwrap();
}

fn register_secrets(site: &Site, values: &[&str]) {
    let secrets = values.iter().map(|value| Secret { value: (*value).to_owned(), expired: false }).collect();
    site.emulator.control().change_application(&app(REMOTE), |own| own.secrets = secrets).unwrap();
}

/// Puts a new file in the place of another one.
fn replace(site: &Site, name: &str, content: impl AsRef<[u8]>) {
    let new = site.path("replacement");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, site.path(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let bench = Bench::new().await;
    let first = bench.write("first.pem", pem(OLD));
    let second = bench.write("second.pem", pem(NEW));
    let arguments = ["--credential", "certificate", "--certificate-file", &first, "--certificate-file", &second];
    let mut load = Load::begin(bench.serve(&arguments, &[]));
    // The application has the old one, both, the new one alone; then the old file gets the certificate after that.
    load.more().await;
    register(&load.site, &[OLD, NEW]);
    load.more().await;
    register(&load.site, &[NEW]);
    load.more().await;
    std::fs::remove_file(&first).unwrap();
    load.more().await;
    // And back, without the other file's help: one file that changes, as `--certificate-file` once.
    register(&load.site, &[OLD]);
    std::fs::write(load.site.path("first.pem"), pem(OLD)).unwrap();
    load.more().await;
    assert_eq!(certificates(&load.end().await), 2, "both certificates were in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_a_vault_is_replaced_under_load_and_no_request_fails() {
    let bench = Bench::new().await;
    let vault = vault::vault(&bench).await;
    let certificate = vault.add("mcp", OLD);
    let authority = bench.authority();
    let arguments = ["--certificate-vault-url", certificate.as_str()];
    let mut load = Load::begin(bench.serve(&arguments, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &authority)]));
    load.more().await;
    vault.add("mcp", NEW);
    load.more().await;
    register(&load.site, &[OLD, NEW]);
    load.more().await;
    register(&load.site, &[NEW]);
    load.more().await;
    register(&load.site, &[OLD]);
    load.more().await;
    assert_eq!(certificates(&load.end().await), 2, "both versions were in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_is_replaced_under_load_and_no_request_fails() {
    let bench = Bench::new().await;
    let old = bench.emulator.endpoints().client_secret.clone();
    let file = bench.write("secret", &old);
    let mut load = Load::begin(bench.serve(&["--client-secret-file", &file], &[]));
    load.more().await;
    register_secrets(&load.site, &[&old, "the-new-secret"]);
    load.more().await;
    // The old one is over at once: a request that was on its way is repeated with what the file has now.
    replace(&load.site, "secret", "the-new-secret");
    register_secrets(&load.site, &["the-new-secret"]);
    load.more().await;
    let requests = load.end().await;
    let secrets = requests.iter().map(|request| request.form("client_secret").expect("a secret").to_owned());
    assert_eq!(different(secrets), 2, "both secrets were in use");
}

#[tokio::test]
async fn of_a_single_file_that_is_replaced_the_new_certificate_counts_at_once() {
    let bench = Bench::new().await;
    let file = bench.write("client.pem", pem(OLD));
    let site = bench.serve(&["--credential", "certificate", "--certificate-file", &file], &[]);
    super::serves_with_assertions(&site).await;
    register(&site, &[NEW]);
    replace(&site, "client.pem", pem(NEW));
    super::serves_with_assertions(&site).await;
}
