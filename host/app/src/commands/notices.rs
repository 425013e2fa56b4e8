//! What the start says about the servers behind the program: what is open, and what is closed.

use entra_mcp_plugin::environment::Settings;

use crate::config::behind::openness;
use crate::config::{Config, LogFormat, ServeConfig};
use crate::console;

/// Of a remote server.
pub(super) fn of_remote_server(config: &ServeConfig, settings: &Settings) {
    of_bare_tools(&config.common);
    let (rules, deny_unlisted) = match &settings.http {
        Some(http) => (http.access.as_deref().unwrap_or_default(), http.deny_unlisted),
        None => Default::default(),
    };
    for line in openness(&settings.servers, rules, deny_unlisted) {
        tracing::warn!("{line}");
    }
}

/// Tools of which only the file is named.
pub(super) fn of_bare_tools(config: &Config) {
    for (line, block) in config.behind.tools.iter().filter_map(|tools| tools.bare_advice()) {
        match config.host.log_format {
            // Lines that can be copied.
            LogFormat::Text => console::notice(&format!("entra-mcp: {line}:\n\n{block}\n")),
            LogFormat::Json => tracing::warn!(block, "{line}"),
        }
    }
}
