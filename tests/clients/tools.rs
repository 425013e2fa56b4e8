//! The programs and packages that some tests need: where they are, and which of them this machine has.
//!
//! Two sides include this file. The build script of the package that owns the tests turns each tool that it finds into
//! a `cfg` (see `probe.rs`), so that a test without its tool is *ignored, with the reason*, in the summary of the test
//! runner. The tests themselves look for their tools when they run; what is missing then is a failure.
//!
//! ```text
//! #[cfg_attr(not(tool = "nginx"), ignore = "needs nginx: use tests/run")]
//! #[cfg_attr(not(client = "msal-node"), ignore = "needs the client msal-node: use tests/run")]
//! ```
//!
//! With `ENTRA_MCP_REQUIRE_TOOLS=1`, as in CI, nothing is ignored for lack of a tool.

use std::env;
use std::path::{Path, PathBuf};

/// Folders of `tests/clients` with packages for Python, which share one virtual environment.
pub(crate) const PYTHON_CLIENTS: [&str; 5] = ["envoy", "fastmcp", "mcp-python", "msal-python", "validator-python"];

/// What builds the projects of `entra-mcp tools new`; each has a folder of its own outside of `tests/clients`.
pub(crate) const TOOLS_JS: &str = "tools-js";
pub(crate) const TOOLS_PYTHON: &str = "tools-python";

const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Debian installs nginx where only administrators look for programs.
pub(crate) const ADMINISTRATION: &str = "/usr/sbin";

/// Where the tools of one checkout are.
pub(crate) struct Tools {
    /// `tests/clients`.
    clients: PathBuf,
    /// What `tests/clients/install.sh` has outside of the clients' folders: the virtual environment, and marks.
    installed: PathBuf,
}

impl Tools {
    pub(crate) fn of(workspace: &Path) -> Self {
        let installed =
            env::var_os("ENTRA_MCP_CLIENTS").map_or_else(|| workspace.join("target/clients"), PathBuf::from);
        Self { clients: workspace.join("tests/clients"), installed }
    }

    /// `tests/clients`.
    pub(crate) fn clients(&self) -> &Path {
        &self.clients
    }

    /// The folder outside of the clients' folders.
    pub(crate) fn installed(&self) -> &Path {
        &self.installed
    }

    /// The file that `install.sh` writes when all packages of a client are there.
    pub(crate) fn mark(&self, client: &str) -> PathBuf {
        if PYTHON_CLIENTS.contains(&client) {
            return self.installed.join(format!("{client}.installed-requirements"));
        }
        match client {
            TOOLS_JS => return self.installed.join("tools-js/node_modules/.installed-lock"),
            TOOLS_PYTHON => return self.installed.join("tools-python/.installed-requirements"),
            _ => {}
        }
        self.clients.join(client).join("node_modules/.installed-lock")
    }

    /// The program that runs a client, if both it and the client's packages are there.
    pub(crate) fn client(&self, client: &str) -> Option<PathBuf> {
        let program = if PYTHON_CLIENTS.contains(&client) {
            Some(self.installed.join("python/bin/python")).filter(|path| path.exists())
        } else if client == TOOLS_PYTHON {
            Some(self.installed.join("tools-python/bin/python")).filter(|path| path.exists())
        } else {
            on_path("node")
        };
        program.filter(|_| self.mark(client).exists())
    }
}

/// A program that is not a client: `caddy`, `chromium`, `dbus-run-session`, `gnome-keyring-daemon`, `nginx`, `redis-server`,
/// `unshare` or `valkey-server`.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    match name {
        "chromium" => CHROMIUM.into_iter().find_map(on_path),
        _ => on_path(name).or_else(|| Some(Path::new(ADMINISTRATION).join(name)).filter(|path| path.is_file())),
    }
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    folders_on_path().map(|folder| folder.join(program)).find(|path| path.is_file())
}

pub(crate) fn folders_on_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}
