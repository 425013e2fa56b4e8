//! The pages of the remote server in a real browser.

use std::path::Path;
use std::process::Command;

use super::office::Office;
use crate::support::{tests_dir, tools};

#[tokio::test(flavor = "multi_thread")]
async fn the_consent_and_sign_in_pages_work_in_chromium() {
    let (Some(chromium), Some(node)) = (tools::chromium(), tools::node("pages")) else {
        return;
    };
    let office = Office::new(3600).await;
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&screenshots).unwrap();
    let folder = tests_dir().join("clients/pages");
    let script = folder.join("remote.js");
    let mut command = Command::new(node);
    command
        .arg(&script)
        .current_dir(folder)
        .env("SERVER", office.server.public_url())
        .env("CHROMIUM", chromium)
        .env("SCREENSHOTS", screenshots);
    tokio::task::spawn_blocking(move || tools::run(command, &script)).await.unwrap();
    office.leave().await;
}
