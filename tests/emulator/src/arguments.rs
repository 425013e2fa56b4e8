//! How the emulator is started from a command line: of its own program, and of `entra-mcp emulator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::config::Config;
use super::emulator::Builder;

/// What the command line says.
#[derive(Debug, Args)]
pub struct Arguments {
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

/// The file that the command line names cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {reason}")]
pub struct ArgumentsError {
    /// The file.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Arguments {
    /// The emulator that is described.
    pub fn builder(&self) -> Result<Builder, ArgumentsError> {
        let builder = Builder::new().listen(self.listen).tls(self.tls).seed(self.seed);
        let Some(path) = &self.config else { return Ok(builder) };
        let unusable = |reason: String| ArgumentsError { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        Ok(builder.config(Config::from_toml(&text).map_err(|error| unusable(error.to_string()))?))
    }
}
