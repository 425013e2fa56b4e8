//! Tells the compiler which tools this machine has for the tests (see `tools.rs`). Part of a build script.
//!
//! Cargo runs a build script again, and compiles its package again, when a path changes that the script names, and also
//! whenever such a path does not exist. So the script names only paths that exist: for a tool that is there a file of
//! it, and for a missing tool the folder in which it would appear. An installation is noticed at the next call of
//! cargo; otherwise the probe costs nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

#[path = "tools.rs"]
mod tools;

use tools::{ADMINISTRATION, PYTHON_CLIENTS, TOOLS_JS, TOOLS_PYTHON, Tools};

/// Folders of `tests/clients` with packages for Node.js.
const NODE_CLIENTS: [&str; 11] = [
    "conformance",
    "conformance-next",
    "inspector",
    "jco",
    "mcp-client-2",
    "mcp-remote",
    "mcp-sdk-1",
    "mcpb",
    "msal-node",
    "pages",
    "server-everything",
];
const TOOLS: [&str; 8] =
    ["caddy", "chromium", "dbus-run-session", "gnome-keyring-daemon", "nginx", "redis-server", MOUNTS, VALKEY];
/// Newer releases of Debian have it, older ones do not: where it is missing, nothing requires it.
const VALKEY: &str = "valkey-server";

/// Gives a process file systems of its own. Not every machine lets it, containers in particular: where it does not, nothing
/// requires it.
const MOUNTS: &str = "unshare";

/// Sets a `cfg` for each tool that is there, or for all of them if tools are required.
pub(crate) fn probe(workspace: &Path) -> io::Result<()> {
    let tools = Tools::of(workspace);
    let required = env::var_os("ENTRA_MCP_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    let mut watched = BTreeSet::new();
    for client in clients() {
        if required || tools.client(client).is_some() {
            println!("cargo::rustc-cfg=client=\"{client}\"");
        }
        let mark = tools.mark(client);
        if mark.exists() {
            watched.insert(mark);
        } else if PYTHON_CLIENTS.contains(&client) || [TOOLS_JS, TOOLS_PYTHON].contains(&client) {
            fs::create_dir_all(tools.installed())?;
            watched.insert(tools.installed().to_owned());
        } else {
            watched.insert(tools.clients().join(client));
        }
    }
    let node = tools::on_path("node");
    watched.extend(node.map_or_else(folders_of_programs, |program| vec![program]));
    for name in TOOLS {
        let found = tools::tool(name);
        let is_there = found.as_ref().is_some_and(|program| name != MOUNTS || can_mount(program));
        if (required && ![MOUNTS, VALKEY].contains(&name)) || is_there {
            println!("cargo::rustc-cfg=tool=\"{name}\"");
        }
        watched.extend(found.map_or_else(folders_of_programs, |program| vec![program]));
    }

    println!("cargo::rustc-check-cfg=cfg(client, values({}))", quoted(clients()));
    println!("cargo::rustc-check-cfg=cfg(tool, values({}))", quoted(TOOLS));
    for variable in ["ENTRA_MCP_REQUIRE_TOOLS", "ENTRA_MCP_CLIENTS"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for path in watched {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    Ok(())
}

/// Whether this machine lets a process mount a file system that no other one sees.
fn can_mount(program: &Path) -> bool {
    let arguments = ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"];
    let tried = std::process::Command::new(program).args(arguments).stderr(std::process::Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Whether a client is there, or tools are required.
pub(crate) fn has_client(workspace: &Path, client: &str) -> bool {
    env::var_os("ENTRA_MCP_REQUIRE_TOOLS").is_some_and(|value| value == "1")
        || Tools::of(workspace).client(client).is_some()
}

fn clients() -> impl Iterator<Item = &'static str> {
    NODE_CLIENTS.into_iter().chain(PYTHON_CLIENTS).chain([TOOLS_JS, TOOLS_PYTHON])
}

/// Where a program would appear. `PATH` itself is not watched: it differs between an editor and a terminal, and each
/// change of it would compile the package again.
fn folders_of_programs() -> Vec<PathBuf> {
    let folders = tools::folders_on_path().chain([PathBuf::from(ADMINISTRATION)]);
    folders.filter(|folder| folder.is_absolute() && folder.is_dir()).collect()
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
