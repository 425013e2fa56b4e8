//! `entra-mcp compile` (hidden): compiles the bundled component, or a tool component, into a folder, so that the server's
//! process does not keep the memory that the compiler needs.

use std::path::{Path, PathBuf};

use entra_mcp_plugin::Error;
use entra_mcp_plugin::code_cache::CodeCache;
use entra_mcp_plugin::tool_components::{LoadError, LoadProblem, ToolComponents};
use entra_mcp_plugin::{BUNDLED_COMPONENT, engine};

use super::CommandError;
use crate::composition::behind::ToolsError;

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
