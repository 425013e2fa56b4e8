//! Composition for hosts that make a tool of each function that a component exports, such as wassette.
//!
//! ```text
//!  adapter ──▶ the component ──▶ tools ──▶ functions
//!     │ settings, records          ▲
//!     └────────────────────────────┘ records
//! ```

use wac_graph::types::ItemKind;
use wac_graph::{CompositionGraph, EncodeOptions};

use crate::connect::{ENVIRONMENT, Instance, connect, imports};
use crate::plug::{ComposeError, STANDARD, do_not_fit, register};

/// The interface of the adapter whose `settings` takes the place of those of `environment`.
const LOCAL: &str = "entra-mcp:standard/local@0.2.0";

/// Connects the component, its adapter (`guest/standard`) and tools that speak to the component (`guest/wassette`). What it
/// gives exports the functions of the tools, and imports WASI only.
pub fn functions(component: &[u8], adapter: &[u8], tools: &[u8]) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let graph = &mut graph;
    let component = register(graph, "the component", "entra-mcp:component", component)?;
    let adapter = register(graph, "the adapter", "entra-mcp:adapter", adapter)?;
    let tools = register(graph, "the tools", "entra-mcp:tools", tools)?;
    let adapter = Instance::new(graph, adapter);
    let component = Instance::new(graph, component);
    for import in imports(graph, component.package) {
        if !import.starts_with(STANDARD) {
            let from = if import == ENVIRONMENT { LOCAL } else { &import };
            connect(graph, &component, &import, &[(&adapter, from)])?;
        }
    }
    let tools = Instance::new(graph, tools);
    let wanted = graph.types()[graph[tools.package].ty()].imports.clone();
    for (import, kind) in wanted {
        // Types are described, not supplied.
        if !import.starts_with(STANDARD) && !matches!(kind, ItemKind::Type(_)) {
            connect(graph, &tools, &import, &[(&component, &import), (&adapter, &import)])?;
        }
    }
    let exports: Vec<String> = graph.types()[graph[tools.package].ty()].exports.keys().cloned().collect();
    for name in exports {
        let function = graph.alias_instance_export(tools.node, &name).map_err(do_not_fit)?;
        graph.export(function, &name).map_err(do_not_fit)?;
    }
    graph.encode(EncodeOptions::default()).map_err(do_not_fit)
}
