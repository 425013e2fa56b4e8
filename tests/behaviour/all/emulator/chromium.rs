//! The sign-in pages in a real browser.

use entra_mcp_emulator::Builder;

use crate::support::{process, tests_dir, tools};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(all(tool = "chromium", client = "pages")),
    ignore = "needs chromium and the client pages: use tests/run"
)]
async fn the_pages_work_in_chromium_by_keyboard_and_by_mouse() {
    let (chromium, node) = (tools::chromium(), tools::client("pages"));
    let emulator = Builder::new().start().await.unwrap();
    let folder = tests_dir().join("clients/pages");
    let script = folder.join("pages.js");
    let mut command = process::blocking(node);
    command
        .arg(&script)
        .current_dir(folder)
        .env("EMULATOR", serde_json::to_string(emulator.endpoints()).unwrap())
        .env("CHROMIUM", chromium);
    tokio::task::spawn_blocking(move || tools::run(command, &script)).await.unwrap();
}
