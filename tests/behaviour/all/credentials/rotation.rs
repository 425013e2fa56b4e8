//! A certificate is replaced while the server is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::Bench;
use super::kinds::pem;
use crate::host::records::{ALICE, Site};
use crate::support::fixture;
use crate::support::lab::{REMOTE, app, header};
use crate::support::patience::until;
use crate::tools::mail::bearer;

/// Calls at the same time. Each brings a token that was not seen before, so each makes the server ask for another.
const AT_ONCE: usize = 4;
/// Calls in each state of the rotation.
const CALLS: usize = 8;

/// Calls until it is told to stop. Returns how many, all of which were answered.
async fn load(site: Arc<Site>, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let token = bearer(&site.emulator, ALICE).await;
        let (status, body) = site.call(&token, &[]).await;
        assert_eq!((status, &body["result"]["isError"]), (200, &json!(false)), "{body}\n{}", site.server.log());
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn register(site: &Site, names: &[&str]) {
    let certificates =
        names.iter().map(|name| String::from_utf8(fixture(&format!("{name}.cert.pem"))).unwrap()).collect();
    site.emulator.control().change_application(&app(REMOTE), |own| own.certificates = certificates).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let (old, new) = ("confidential-client", "unregistered-client");
    let bench = Bench::new().await;
    let first = bench.write("first.pem", pem(old));
    let second = bench.write("second.pem", pem(new));
    let arguments = ["--credential", "certificate", "--certificate-file", &first, "--certificate-file", &second];
    let site = Arc::new(bench.serve(&arguments, &[]));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> =
        (0..AT_ONCE).map(|_| tokio::spawn(load(Arc::clone(&site), Arc::clone(&stop), Arc::clone(&answered)))).collect();
    let more = async || {
        let target = answered.load(Ordering::Relaxed) + CALLS;
        let ended = || callers.iter().any(tokio::task::JoinHandle::is_finished);
        until(|| answered.load(Ordering::Relaxed) >= target || ended()).await.unwrap();
    };
    // The application has the old one, both, the new one alone; then the old file gets the certificate after that.
    more().await;
    register(&site, &[old, new]);
    more().await;
    register(&site, &[new]);
    more().await;
    std::fs::remove_file(&first).unwrap();
    more().await;
    // And back, without the other file's help: one file that changes, as `--certificate-file` once.
    register(&site, &[old]);
    std::fs::write(site.path("first.pem"), pem(old)).unwrap();
    more().await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let requests = site.emulator.control().requests(entra_mcp_emulator::Endpoint::Token);
    let used: std::collections::HashSet<_> = requests
        .iter()
        .filter_map(|request| request.form("client_assertion"))
        .map(|assertion| header(assertion)["x5t#S256"].to_string())
        .collect();
    assert_eq!(used.len(), 2, "both certificates were in use");
}

#[tokio::test]
async fn of_a_single_file_that_is_replaced_the_new_certificate_counts_at_once() {
    let bench = Bench::new().await;
    let file = bench.write("client.pem", pem("confidential-client"));
    let site = bench.serve(&["--credential", "certificate", "--certificate-file", &file], &[]);
    super::serves_with_assertions(&site).await;
    register(&site, &["unregistered-client"]);
    let new = site.path("new.pem");
    std::fs::write(&new, pem("unregistered-client")).unwrap();
    std::fs::rename(&new, &file).unwrap();
    super::serves_with_assertions(&site).await;
}
