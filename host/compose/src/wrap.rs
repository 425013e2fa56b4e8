//! Composition of a protected tool: `entra-mcp wrap`.
//!
//! ```text
//!           the component ◀─────── gate ◀── requests of clients
//!  adapter ──▶  │   ▲ tokens         │ admitted
//!   settings,   ▼   │                ▼
//!   records    host keeper ◀─────── tool
//! ```
//!
//! Nothing that the tool imports comes from the host, except for `wasi:io/poll` and `wasi:io/error`: the keeper exports the
//! interfaces of WASI to it, under the names `seen:…`, which the tool's own names are given. What a component is given is
//! compared by structure. So the tool may be of any version of WASI 0.2 up to that of the keeper.

use wac_graph::{CompositionGraph, EncodeOptions, PackageId};

use crate::connect::{ENVIRONMENT, Instance, connect, export, imports};
use crate::plug::{ComposeError, HANDLER, STANDARD, do_not_fit, register};

/// The package of interfaces as the keeper exports them to the tool.
const SEEN: &str = "seen:";

/// What only the host can supply, and grants nothing.
const OF_THE_HOST: [&str; 2] = ["wasi:io/poll@", "wasi:io/error@"];

/// Exports of the keeper that are for the gate.
const KEPT: &str = "entra-mcp:wrap/kept@";

/// The interface of the adapter that the keeper reads; its `settings` takes the place of those of `environment`.
const WRAPPED: &str = "entra-mcp:standard/wrapped@0.2.0";

/// What is composed with a tool.
pub struct Parts<'p> {
    /// The component.
    pub component: &'p [u8],
    /// Its adapter (`guest/standard`).
    pub adapter: &'p [u8],
    /// `guest/keeper`.
    pub keeper: &'p [u8],
    /// `guest/gate`.
    pub gate: &'p [u8],
}

/// Puts the component in front of a tool. What it gives exports `wasi:http/incoming-handler`, and imports WASI only.
pub fn wrap(tool: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let graph = &mut graph;
    let component = register(graph, "the component", "entra-mcp:component", parts.component)?;
    let adapter = register(graph, "the adapter", "entra-mcp:adapter", parts.adapter)?;
    let keeper = register(graph, "the keeper", "entra-mcp:keeper", parts.keeper)?;
    let gate = register(graph, "the gate", "entra-mcp:gate", parts.gate)?;
    let tool = register(graph, "the tool", "entra-mcp:tool", tool)?;
    let tool_handler = export(graph, tool, HANDLER).ok_or(ComposeError::NoHandler("the tool"))?;
    let handler = export(graph, gate, HANDLER).ok_or(ComposeError::NoHandler("the gate"))?;
    check_imports(graph, tool, keeper)?;

    let adapter = Instance::new(graph, adapter);
    let component = Instance::new(graph, component);
    for import in imports(graph, component.package) {
        if !import.starts_with(STANDARD) {
            let from = if import == ENVIRONMENT { WRAPPED } else { &import };
            connect(graph, &component, &import, &[(&adapter, from)])?;
        }
    }
    let keeper = Instance::new(graph, keeper);
    for import in imports(graph, keeper.package) {
        if !import.starts_with(STANDARD) {
            connect(graph, &keeper, &import, &[(&component, &import), (&adapter, &import)])?;
        }
    }
    let tool = Instance::new(graph, tool);
    for import in imports(graph, tool.package) {
        if let Some(from) = seen(graph, keeper.package, &import) {
            connect(graph, &tool, &import, &[(&keeper, &from)])?;
        }
    }
    let gate = Instance::new(graph, gate);
    for import in imports(graph, gate.package) {
        if import.starts_with("seen:http/incoming-handler@") {
            connect(graph, &gate, &import, &[(&tool, &tool_handler)])?;
        } else if import.starts_with(SEEN) || import.starts_with(KEPT) {
            connect(graph, &gate, &import, &[(&keeper, &import)])?;
        } else if !import.starts_with(STANDARD) {
            connect(graph, &gate, &import, &[(&component, &import), (&adapter, &import)])?;
        }
    }
    let served = graph.alias_instance_export(gate.node, &handler).map_err(do_not_fit)?;
    graph.export(served, &handler).map_err(do_not_fit)?;
    graph.encode(EncodeOptions::default()).map_err(do_not_fit)
}

/// Refuses a tool that imports what no wrapped tool gets.
fn check_imports(graph: &CompositionGraph, tool: PackageId, keeper: PackageId) -> Result<(), ComposeError> {
    for import in imports(graph, tool) {
        if seen(graph, keeper, &import).is_none() && !OF_THE_HOST.iter().any(|known| import.starts_with(known)) {
            return Err(match import.starts_with("wasi:sockets/") {
                true => ComposeError::Sockets(import),
                false => ComposeError::NotForTools(import),
            });
        }
    }
    Ok(())
}

/// The export of the keeper that an import of the tool is given.
fn seen(graph: &CompositionGraph, keeper: PackageId, import: &str) -> Option<String> {
    let (interface, version) = import.strip_prefix(STANDARD)?.split_once('@')?;
    if !version.starts_with("0.2.") {
        return None;
    }
    export(graph, keeper, &format!("{SEEN}{interface}@"))
}
