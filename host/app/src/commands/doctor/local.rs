//! What is on this machine: settings and where they come from, the modes of files, the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::secret_store::{MemoryStore, SecretStore};

use super::report::Finding;
use crate::composition;
use crate::config::{ConfigError, Origin, SecretSource, ServeConfig, Sources, StoreLocation};

/// With less free space than this, in bytes, the store cannot be written soon: sessions have some KiB each.
#[cfg(unix)]
const LITTLE_SPACE: u64 = 64 * 1024 * 1024;

/// Where each setting comes from.
pub(super) fn settings(sources: &Sources) -> Vec<Finding> {
    let from = |origin: Origin| {
        let names: Vec<_> = sources.origins().iter().filter(|(_, of)| *of == origin).map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let file = sources.file().map(|path| path.display().to_string()).unwrap_or_default();
    let place = |origin| match origin {
        Origin::Flag => "the command line".to_owned(),
        Origin::Environment => "the environment".to_owned(),
        Origin::File => format!("the file {file}"),
    };
    [Origin::Flag, Origin::Environment, Origin::File]
        .into_iter()
        .map(|origin| (from(origin), origin))
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, origin)| Finding::good("settings", format!("from {}: {names}", place(origin))))
        .collect()
}

/// What is wrong with the settings.
pub(super) fn unusable(error: &ConfigError) -> Finding {
    match error {
        ConfigError::Missing { names, file } => Finding::failure(
            "settings",
            format!("not set: {}", names.join(", ")),
            format!(
                "set --tenant-id and --client-id, or ENTRA_MCP_TENANT_ID and ENTRA_MCP_CLIENT_ID, or write them into {file}. \
                 They are in the portal under App registrations > your app > Overview"
            ),
        ),
        ConfigError::Invalid { name, value, expected } => {
            Finding::failure("settings", format!("{name} is {value:?}"), expected.clone())
        }
        other => Finding::of_sentence("settings", &other.to_string()),
    }
}

/// Files that other users may read or change although they must not.
pub(super) fn files(sources: &Sources, config: &ServeConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = sources.file().filter(|path| path.exists()) {
        findings.extend(mode(path, "the configuration file", 0o022, "can be changed by other users", "chmod go-w"));
    }
    let secret = match &config.credential.secret {
        SecretSource::File(path) => Some((path, "the client secret")),
        SecretSource::Given(_) | SecretSource::Store => None,
    };
    let key = config.tls.as_ref().map(|(_, key)| (key, "the TLS key"));
    let certificates = config.credential.certificates.iter().map(|path| (path, "the certificate with its key"));
    let federated = config.credential.federated_token.as_ref().map(|path| (path, "the federated token"));
    let private: Vec<(&PathBuf, &str)> = secret.into_iter().chain(key).chain(certificates).chain(federated).collect();
    for (path, role) in private {
        // Kubernetes lets the group of the pod read what it projects.
        let forbidden = if role == "the federated token" { 0o007 } else { 0o077 };
        findings.extend(mode(path, role, forbidden, "can be read by other users", "chmod 600"));
    }
    findings
}

#[cfg(unix)]
fn mode(path: &Path, role: &str, forbidden: u32, fault: &str, fix: &str) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display();
    Some(match std::fs::metadata(path) {
        Err(error) => Finding::failure(
            "files",
            format!("{role}, {shown}, cannot be read ({error})"),
            "correct the name in the settings, or the mode of the file and of its folder",
        ),
        Ok(metadata) if metadata.permissions().mode() & forbidden != 0 => {
            Finding::warning("files", format!("{role}, {shown}, {fault}"), format!("{fix} {shown}"))
        }
        Ok(_) => Finding::good("files", format!("{role}, {shown}, {}", fault.replacen("can be", "cannot be", 1))),
    })
}

#[cfg(not(unix))]
fn mode(path: &Path, role: &str, _: u32, _: &str, _: &str) -> Option<Finding> {
    let shown = path.display();
    std::fs::metadata(path).err().map(|error| {
        let what = format!("{role}, {shown}, cannot be read ({error})");
        Finding::failure("files", what, "correct the name in the settings, or who may read the file")
    })
}

/// The store as it is. One that is not there yet is not made.
pub(super) async fn store(config: &ServeConfig, clock: &Arc<dyn Clock>) -> (Vec<Finding>, Arc<dyn SecretStore>) {
    let none = || -> Arc<dyn SecretStore> { Arc::new(MemoryStore::new(Arc::clone(clock))) };
    let (place, space) = match &config.common.store.location {
        StoreLocation::Memory => {
            let what = "sessions are kept in memory, and end with the process";
            return (vec![Finding::good("store", what)], none());
        }
        StoreLocation::File(path) if !path.exists() => {
            let what = format!("there is no store yet: `entra-mcp serve` makes {}", path.display());
            return ([vec![Finding::skipped("store", what)], space(path)].concat(), none());
        }
        StoreLocation::File(path) => (path.display().to_string(), space(path)),
        StoreLocation::Redis(options) => (options.url.to_string(), Vec::new()),
    };
    match composition::store::open(&config.common.store, Arc::clone(clock)).await {
        Ok(opened) => {
            let good = Finding::good("store", format!("the store {place} and its key can be used"));
            ([vec![good], space].concat(), opened.records)
        }
        Err(error) => {
            let change = "correct --store: the owner and the mode of a file, its key and its folder (chmod 600, 700), or \
                          address, password and certificate of a Redis";
            (vec![Finding::failure("store", error.to_string(), change)], none())
        }
    }
}

/// How much space is left where the store is, or will be.
#[cfg(unix)]
fn space(path: &Path) -> Vec<Finding> {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists());
    let Some(statistics) = folder.and_then(|folder| rustix::fs::statvfs(folder).ok()) else { return Vec::new() };
    let free = statistics.f_bavail.saturating_mul(statistics.f_frsize);
    let mebibytes = free / (1024 * 1024);
    let what = format!("{mebibytes} MiB are free where the store is");
    vec![match free {
        free if free >= LITTLE_SPACE => Finding::good("space", what),
        _ => Finding::warning(
            "space",
            what,
            "make room, or move the store with --store: no person can sign in when it is full",
        ),
    }]
}

#[cfg(not(unix))]
fn space(_: &Path) -> Vec<Finding> {
    Vec::new()
}
