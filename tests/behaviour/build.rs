//! Tells the tests which tools this machine has for them.

#![allow(clippy::print_stdout, reason = "a build script speaks to cargo on standard output")]
#![allow(clippy::disallowed_methods, reason = "a build script reads the environment")]

use std::io;
use std::path::Path;

#[path = "../clients/probe.rs"]
mod probe;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    probe::probe(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}
