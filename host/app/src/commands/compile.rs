//! `entra-mcp compile` (hidden): compiles the bundled component, or a tool component, into a folder, so that the server's
//! process does not keep the memory that the compiler needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use entra_mcp_plugin::Error;
use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::tool_components::{LoadError, LoadProblem, ToolComponents};
use entra_mcp_plugin::{BUNDLED_COMPONENT, engine};

use super::CommandError;
use crate::composition::behind::ToolsError;

/// The name of the command.
pub const NAME: &str = "compile";

/// Compiles into `folder`, unless that is done: the tool component in a file, or the bundled component.
pub fn run(folder: PathBuf, tools: Option<&Path>) -> Result<(), CommandError> {
    let cache = CodeCache::Folder(folder);
    let Some(file) = tools else {
        return Ok(cache.fill(&engine()?, BUNDLED_COMPONENT).map_err(Error::Component)?);
    };
    let problem = |problem| ToolsError::from(LoadError { server: file.display().to_string(), problem });
    let component = std::fs::read(file).map_err(|error| problem(LoadProblem::Unreadable(error)))?;
    Ok(ToolComponents::compile(&component, &cache).map_err(problem)?)
}

/// The same for a tool component.
pub(crate) fn command_for(code_cache: &CodeCache, tools: &Path) -> Option<Command> {
    let mut command = command(code_cache)?;
    command.arg(tools);
    Some(command)
}

/// How a server has this done. `None`: nothing is kept, or this program cannot tell where it is.
#[allow(clippy::disallowed_methods, reason = "this program starts itself; what it says goes nowhere")]
pub(crate) fn command(code_cache: &CodeCache) -> Option<Command> {
    let CodeCache::Folder(folder) = code_cache else { return None };
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg(NAME).arg(folder);
    Some(command)
}
