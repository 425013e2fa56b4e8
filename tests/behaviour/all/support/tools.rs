//! The programs that some tests run, and how they are run.
//!
//! A test that needs a tool says so with an attribute (see `tests/clients/tools.rs`) and is ignored, with the reason,
//! on a machine without the tool. So a tool that is missing here is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests_dir;

#[allow(dead_code, reason = "the build script needs more of it")]
#[allow(clippy::disallowed_methods, reason = "the build script includes this file too, and has no `process`")]
#[path = "../../../clients/tools.rs"]
mod installed;

/// The program that runs a client of `tests/clients`, whose packages are installed: Node.js or a Python.
pub(crate) fn client(name: &str) -> PathBuf {
    let workspace = tests_dir().join("..");
    let found = installed::Tools::of(&workspace).client(name);
    found.unwrap_or_else(|| panic!("the client {name} is missing: use tests/run"))
}

/// The folder with what builds the projects of `entra-mcp tools new`: `tools-js` or `tools-python`.
pub(crate) fn builder(name: &str) -> PathBuf {
    client(name);
    installed::Tools::of(&tests_dir().join("..")).installed().join(name)
}

/// A Chromium for the pages.
pub(crate) fn chromium() -> PathBuf {
    tool("chromium")
}

/// nginx.
pub(crate) fn nginx() -> PathBuf {
    tool("nginx")
}

/// Caddy.
pub(crate) fn caddy() -> PathBuf {
    tool("caddy")
}

/// A server that speaks the protocol of Redis: `redis-server` or `valkey-server`.
pub(crate) fn redis(name: &str) -> PathBuf {
    tool(name)
}

/// Envoy, which comes as a package for Python.
pub(crate) fn envoy() -> PathBuf {
    client("envoy").with_file_name("envoy")
}

fn tool(name: &str) -> PathBuf {
    installed::tool(name).unwrap_or_else(|| panic!("{name} is missing: use tests/run"))
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
