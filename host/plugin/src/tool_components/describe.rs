//! A tool component in words.

use super::loaded::Shape;
use super::server::Server;
use super::state::tool_grant;
use super::wasi::WasiVersion;
use crate::provided_tools::{ProviderError, Tool};

/// The offers, the imports and the grants of a tool component (`entra-mcp inspect`).
#[derive(Debug, Clone)]
pub struct Description {
    /// Its exports.
    pub shape: Shape,
    /// The version of WASI that it is written for.
    pub wasi: WasiVersion,
    /// Its tools. Empty for [`Shape::Http`], which lists them to clients only.
    pub tools: Vec<Tool>,
    /// Its imports, each with what it means here.
    pub imports: Vec<(String, &'static str)>,
    /// The grants of the settings, a line each.
    pub grants: Vec<String>,
}

pub(super) async fn describe(server: &Server) -> Result<Description, ProviderError> {
    let shape = server.shape();
    let tools = match shape {
        Shape::Provider => server.list_tools().await?,
        Shape::Http => Vec::new(),
    };
    let imports = server.loaded().imports.iter();
    let imports = imports.map(|name| (name.clone(), tool_grant(name).unwrap_or("types only"))).collect();
    Ok(Description { shape, wasi: server.loaded().wasi(), tools, imports, grants: grants(server) })
}

fn grants(server: &Server) -> Vec<String> {
    let granted = server.grants();
    let mut lines: Vec<String> = granted
        .egress
        .destinations
        .entries()
        .map(|destination| match destination.permissions.join(" ") {
            none if none.is_empty() => format!("requests to {destination}, without a token"),
            permissions => format!("requests to {destination}, with a token in the caller's name for {permissions}"),
        })
        .collect();
    if lines.is_empty() {
        lines.push("no requests".to_owned());
    }
    lines.push(match granted.variables.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>() {
        none if none.is_empty() => "no variables".to_owned(),
        names => format!("the variables {}", names.join(", ")),
    });
    lines.push("no files, no sockets, no standard input".to_owned());
    lines.push(format!(
        "at most {} MiB of memory, {} s, an answer of {} KiB, {} calls at the same time, {} of them of one caller",
        granted.max_memory_bytes / (1024 * 1024),
        server.max_time.as_secs(),
        server.max_answer_bytes / 1024,
        server.places().most(),
        server.places().most_of_one(),
    ));
    lines.push(if server.reuses() {
        "an instance may serve one caller after another".to_owned()
    } else {
        "an instance of its own for each call".to_owned()
    });
    lines
}
