//! The settings, from variables that have the names of the program's.

use base::bearer_settings::{self, Artefact};
pub use base::bearer_settings::{Configuration, SettingsError};

/// The variables of a server are those of all its components: these are of entra_mcp.wasmcp-tools.wasm.
const ELSEWHERE: [&str; 2] = ["ENTRA_MCP_GRAPH_URL", "ENTRA_MCP_GRAPH_RESOURCE"];

/// Reads the variables of the component.
pub fn read(variables: &[(String, String)]) -> Result<Configuration, SettingsError> {
    bearer_settings::read(Artefact { name: "entra_mcp.wasmcp-authorization.wasm", own: &ELSEWHERE }, variables)
}
