//! The settings, from variables that have the names of the program's.

use base::bearer_settings::{self, Artefact};
pub use base::bearer_settings::{Configuration, SettingsError};

/// Reads the variables of the component.
pub fn read(variables: &[(String, String)]) -> Result<Configuration, SettingsError> {
    bearer_settings::read(Artefact { name: "entra_mcp.middleware.wasm", own: &[] }, variables)
}
