//! `entra-mcp emulator`: Entra ID and Microsoft Graph on this machine, for development without a tenant.

use entra_mcp_emulator::Arguments;

use super::{CommandError, EndRequest};
use crate::console;

/// Prints one JSON line with the addresses and ids, and runs until the process is asked to end.
pub async fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let emulator = arguments.builder()?.start().await?;
    let mut end = EndRequest::listen()?;
    console::result(&serde_json::json!(emulator.endpoints()).to_string());
    end.received().await;
    emulator.shutdown().await;
    Ok(())
}
