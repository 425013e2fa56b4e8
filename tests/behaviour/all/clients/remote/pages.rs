//! The pages of the remote server in a real browser.

use std::path::Path;

use super::office::Office;
use crate::support::nginx::Gateway;
use crate::support::{tests_dir, tools};

/// A token that lasts.
const HOUR: i64 = 3600;

async fn the_pages_work(office: Office, pictures: &str) {
    let (chromium, node) = (tools::chromium(), tools::client("pages"));
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots").join(pictures);
    std::fs::create_dir_all(&screenshots).unwrap();
    let folder = tests_dir().join("clients/pages");
    let mut command = office.command(&node);
    command
        .arg(folder.join("remote.js"))
        .current_dir(folder)
        .env("SERVER", office.server.public_url())
        .env("CHROMIUM", chromium)
        .env("SCREENSHOTS", screenshots);
    assert_eq!(office.run(&mut command).await["ok"], true);
    office.leave().await;
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "chromium", client = "pages")),
    ignore = "needs chromium and the client pages: use tests/run"
)]
async fn the_consent_and_sign_in_pages_work_in_chromium() {
    the_pages_work(Office::new(HOUR).await, "http").await;
}

/// With TLS the cookie has the prefix that binds it to the host, which only a real browser enforces.
#[tokio::test]
#[cfg_attr(
    not(all(tool = "chromium", client = "pages")),
    ignore = "needs chromium and the client pages: use tests/run"
)]
async fn the_consent_and_sign_in_pages_work_in_chromium_over_tls() {
    the_pages_work(Office::with_tls(HOUR).await, "https").await;
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "chromium", tool = "nginx", client = "pages")),
    ignore = "needs chromium and nginx and the client pages: use tests/run"
)]
async fn the_consent_and_sign_in_pages_work_in_chromium_below_the_prefix_of_a_gateway() {
    let mut gateway = Gateway::prepare();
    let office = Office::behind(HOUR, &gateway, &[]).await;
    gateway.start(office.server.address(), |page| page.whole).await;
    the_pages_work(office, "gateway").await;
}
