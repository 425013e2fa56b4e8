//! How a server has components compiled: by this program in a second process, so that its own does not keep the memory that
//! the compiler needs.

use std::path::Path;
use std::process::Command;

use entra_mcp_plugin::code_cache::CodeCache;

/// The name of the hidden command.
pub(crate) const COMMAND: &str = "compile";

/// Compiles the bundled component. `None`: nothing is kept, or this program cannot tell where it is.
#[allow(clippy::disallowed_methods, reason = "this program starts itself; what it says goes nowhere")]
pub(crate) fn of_component(code_cache: &CodeCache) -> Option<Command> {
    let CodeCache::Folder(folder) = code_cache else { return None };
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg(COMMAND).arg(folder);
    Some(command)
}

/// Compiles a tool component.
pub(crate) fn of_tools(code_cache: &CodeCache, file: &Path) -> Option<Command> {
    let mut command = of_component(code_cache)?;
    command.arg(file);
    Some(command)
}
