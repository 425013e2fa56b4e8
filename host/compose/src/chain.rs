//! Composition of middleware of `wasi:http` 0.3 with a component behind it: what hosts do that know middleware, and `wac plug`.

use wac_graph::{CompositionGraph, EncodeOptions};

use crate::plug::{ComposeError, do_not_fit, register};

/// What middleware imports and exports, and a component behind it exports.
const HANDLER: &str = "wasi:http/handler@0.3.";

/// Puts middleware in front of a component. What it gives exports `wasi:http/handler`.
pub fn in_front(middleware: &[u8], component: &[u8]) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let front = register(&mut graph, "the middleware", "entra-mcp:middleware", middleware)?;
    let behind = register(&mut graph, "the component", "entra-mcp:behind", component)?;
    let types = |package: wac_graph::PackageId| &graph.types()[graph[package].ty()];
    let find = |mut names: Vec<&String>| {
        names.retain(|name| name.starts_with(HANDLER));
        names.first().map(|name| (*name).clone())
    };
    let import = find(types(front).imports.keys().collect()).ok_or(ComposeError::NotMiddleware)?;
    let export = find(types(front).exports.keys().collect()).ok_or(ComposeError::NotMiddleware)?;
    let handler = find(types(behind).exports.keys().collect()).ok_or(ComposeError::NoService)?;
    let (inner, outer) = (graph.instantiate(behind), graph.instantiate(front));
    let handler = graph.alias_instance_export(inner, &handler).map_err(do_not_fit)?;
    graph.set_instantiation_argument(outer, &import, handler).map_err(do_not_fit)?;
    let served = graph.alias_instance_export(outer, &export).map_err(do_not_fit)?;
    graph.export(served, &export).map_err(do_not_fit)?;
    graph.encode(EncodeOptions::default()).map_err(do_not_fit)
}
