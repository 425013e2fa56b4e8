//! The log: structured, on standard error, never on standard output.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{HostConfig, LogFormat};
use crate::console::ErrorWriter;

/// The log filter unless `RUST_LOG` sets another: this program's information, lines of tools, and warnings of its dependencies.
const DEFAULT_FILTER: &str = "warn,entra_mcp_app=info,entra_mcp_gate=info,entra_mcp_plugin=info,entra_mcp_server=info,audit=info,guest=info,prompt=info,tool=info";

/// Starts logging. A second call changes nothing.
pub fn start(config: &HostConfig) {
    let filter = match &config.log_filter {
        Some(filter) => EnvFilter::builder().parse_lossy(filter),
        None => EnvFilter::new(DEFAULT_FILTER),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| ErrorWriter);
    let started = match config.log_format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    // It fails only if a log has been started already.
    drop(started);
}
