//! `entra-mcp emulator`: Entra ID and Microsoft Graph on this machine, for development without a tenant.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use entra_mcp_tests::emulator::{Builder, Config};

use super::{CommandError, EndRequest};
use crate::console;

/// How the emulator is started.
#[derive(Debug, Args)]
pub struct EmulatorArgs {
    /// Address of Entra ID and Graph; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Serve https, with a certificate authority made at start
    #[arg(long)]
    pub tls: bool,
    /// Make random values repeat from run to run
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Tenants, users and applications (TOML) instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Prints one JSON line with the addresses and ids, and runs until the process is asked to end.
pub async fn run(arguments: &EmulatorArgs) -> Result<(), CommandError> {
    let mut builder = Builder::new().listen(arguments.listen).tls(arguments.tls).seed(arguments.seed);
    if let Some(path) = &arguments.config {
        let file = |reason: String| CommandError::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        builder = builder.config(Config::from_toml(&text).map_err(|error| file(error.to_string()))?);
    }
    let emulator = builder.start().await?;
    let mut end = EndRequest::listen()?;
    console::result(&serde_json::json!(emulator.endpoints()).to_string());
    end.received().await;
    emulator.shutdown().await;
    Ok(())
}
