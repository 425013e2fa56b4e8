//! What several test modules need.

pub(crate) mod behind;
pub(crate) mod certificate;
#[cfg(unix)]
pub(crate) mod collector;
pub(crate) mod component;
#[cfg(target_os = "linux")]
pub(crate) mod identity_broker;
pub(crate) mod key_vault;
pub(crate) mod lab;
pub(crate) mod nginx;
pub(crate) mod pages;
pub(crate) mod patience;
pub(crate) mod process;
pub(crate) mod proxy;
#[cfg(unix)]
pub(crate) mod redis;
#[cfg(unix)]
pub(crate) mod redis_cluster;
pub(crate) mod remote;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod tool_components;
pub(crate) mod tools;

use std::path::PathBuf;

/// The workspace's `tests` folder: this package is in it.
pub(crate) fn tests_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tests folder can be resolved")
}

/// A file of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = tests_dir().join("fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
