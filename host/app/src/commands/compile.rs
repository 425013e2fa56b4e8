//! `entra-mcp compile` (hidden): compiles the bundled component into a folder, so that the server's process does not
//! keep the memory that the compiler needs.

use std::path::PathBuf;
use std::process::Command;

use entra_mcp_plugin::Error;
use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::{BUNDLED_COMPONENT, engine};

use super::CommandError;

/// The name of the command.
pub const NAME: &str = "compile";

/// Compiles into `folder`, unless that is done.
pub fn run(folder: PathBuf) -> Result<(), CommandError> {
    let filled = CodeCache::Folder(folder).fill(&engine()?, BUNDLED_COMPONENT);
    Ok(filled.map_err(Error::Component)?)
}

/// How a server has this done. `None`: nothing is kept, or this program cannot tell where it is.
#[allow(clippy::disallowed_methods, reason = "this program starts itself; what it says goes nowhere")]
pub(crate) fn command(code_cache: &CodeCache) -> Option<Command> {
    let CodeCache::Folder(folder) = code_cache else { return None };
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg(NAME).arg(folder);
    Some(command)
}
