//! Programs that some tests need and a machine may lack.
//!
//! A missing one skips the test with a line on standard error that cannot be overlooked; where
//! `ENTRA_MCP_REQUIRE_TOOLS=1`, as in CI, it fails it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests_dir;

/// Node, with the packages of `tests/clients/<client>` installed.
pub(crate) fn node(client: &str) -> Option<PathBuf> {
    let modules = tests_dir().join("clients").join(client).join("node_modules");
    require("node", on_path("node").filter(|_| modules.exists()), "run tests/clients/install.sh")
}

/// The Python in which `tests/clients/install.sh` installed the clients' packages.
pub(crate) fn python() -> Option<PathBuf> {
    let target =
        std::env::var_os("ENTRA_MCP_CLIENTS").map_or_else(|| tests_dir().join("../target/clients"), PathBuf::from);
    let python = target.join("python/bin/python");
    require("python with the test clients", Some(python).filter(|path| path.exists()), "run tests/clients/install.sh")
}

/// A Chromium for the pages.
pub(crate) fn chromium() -> Option<PathBuf> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(on_path);
    require("chromium", found, "install Debian's package chromium")
}

/// nginx. Debian installs it where only administrators look for programs.
pub(crate) fn nginx() -> Option<PathBuf> {
    let found = on_path("nginx").or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| path.is_file()));
    require("nginx", found, "install Debian's package nginx-light")
}

fn require(tool: &str, found: Option<PathBuf>, remedy: &str) -> Option<PathBuf> {
    if found.is_none() {
        eprintln!("SKIPPED: this test needs {tool}; {remedy}");
        let required = std::env::var_os("ENTRA_MCP_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "{tool} is required and missing; {remedy}");
    }
    found
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Runs a client script to its end and fails with everything it printed if it failed.
pub(crate) fn run(mut command: Command, script: &Path) {
    let output = command.output().unwrap_or_else(|error| panic!("{} cannot be started: {error}", script.display()));
    assert!(
        output.status.success(),
        "{} failed ({})\n--- stdout\n{}\n--- stderr\n{}",
        script.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
