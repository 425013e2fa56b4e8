//! The programs that tests start, and what tests read of their own environment.
//!
//! `clippy.toml` forbids both where the product is concerned. Beside this module, only code that cannot reach it does so: what
//! the benchmarks (`support/server.rs`) and the build script (`support/tools.rs`) include, and the tests of other packages.

#![allow(clippy::disallowed_methods, reason = "the rules are for the product; these are the tests' own programs")]

use std::ffi::{OsStr, OsString};

/// Starts a program, and waits for it without blocking.
pub(crate) fn command(program: impl AsRef<OsStr>) -> tokio::process::Command {
    tokio::process::Command::new(program)
}

/// Starts a program, and blocks while it waits for it.
pub(crate) fn blocking(program: impl AsRef<OsStr>) -> std::process::Command {
    std::process::Command::new(program)
}

/// Sends a signal, such as `TERM`, to a process.
#[cfg(unix)]
pub(crate) fn send_signal(signal: &str, process: u32) {
    let sent = blocking("kill").args(["-s", signal, &process.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -s {signal} {process}: {sent}");
}

/// An environment variable of the test run.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The search path of the test run.
pub(crate) fn path() -> OsString {
    variable("PATH").unwrap_or_default()
}
