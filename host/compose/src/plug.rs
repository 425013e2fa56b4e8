//! The component with its adapter.

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

/// Imports that may be left after composition: every host of components has them.
pub(crate) const STANDARD: &str = "wasi:";

/// The export that makes a component one that hosts of HTTP serve.
pub(crate) const HANDLER: &str = "wasi:http/incoming-handler@";

/// Why two components cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// Bytes are not those of a component.
    #[error("{name} is not a component: {reason}")]
    NotAComponent {
        /// Which one.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// They do not fit.
    #[error("the components cannot be composed: {0}")]
    DoNotFit(String),
    /// The component imports something that the adapter does not export.
    #[error("the adapter does not export {0}, which the component imports")]
    NotSupplied(String),
    /// A tool opens connections of its own.
    #[error(
        "the tool imports {0}: connections of its own could go anywhere, without its caller's token and past every rule. \
         Build it without sockets; requests by wasi:http are what a protected tool has"
    )]
    Sockets(String),
    /// A tool imports what a protected one is not given.
    #[error(
        "the tool imports {0}, which a protected tool is not given: it has wasi:http and other interfaces of WASI 0.2"
    )]
    NotForTools(String),
    /// A component serves no requests.
    #[error("{0} does not export {HANDLER}0.2.…")]
    NoHandler(&'static str),
    /// What is to be in front is no middleware.
    #[error("the middleware does not import and export wasi:http/handler@0.3.…")]
    NotMiddleware,
    /// What is to be behind middleware serves no requests of WASI 0.3.
    #[error("the component does not export wasi:http/handler@0.3.…")]
    NoService,
}

/// Connects the imports of a component with the exports of an adapter. What remains has imports of WASI only, and exports
/// the handler of HTTP requests and nothing else: the other exports are for hosts that know them.
pub fn plug(component: &[u8], adapter: &[u8]) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let component = register(&mut graph, "the component", "entra-mcp:component", component)?;
    let adapter = register(&mut graph, "the adapter", "entra-mcp:adapter", adapter)?;
    let imports: Vec<String> = graph.types()[graph[component].ty()].imports.keys().cloned().collect();
    let exports: Vec<String> = graph.types()[graph[component].ty()].exports.keys().cloned().collect();
    let supplied: Vec<String> = graph.types()[graph[adapter].ty()].exports.keys().cloned().collect();
    let handler =
        exports.into_iter().find(|name| name.starts_with(HANDLER)).ok_or(ComposeError::NoHandler("the component"))?;

    let inner = graph.instantiate(adapter);
    let outer = graph.instantiate(component);
    for import in imports.into_iter().filter(|name| !name.starts_with(STANDARD)) {
        if !supplied.contains(&import) {
            return Err(ComposeError::NotSupplied(import));
        }
        let export = graph.alias_instance_export(inner, &import).map_err(do_not_fit)?;
        graph.set_instantiation_argument(outer, &import, export).map_err(do_not_fit)?;
    }
    let export = graph.alias_instance_export(outer, &handler).map_err(do_not_fit)?;
    graph.export(export, &handler).map_err(do_not_fit)?;
    graph.encode(EncodeOptions::default()).map_err(do_not_fit)
}

pub(crate) fn register(
    graph: &mut CompositionGraph,
    name: &'static str,
    id: &str,
    bytes: &[u8],
) -> Result<wac_graph::PackageId, ComposeError> {
    let not_a_component = |reason: String| ComposeError::NotAComponent { name, reason };
    let package = Package::from_bytes(id, None, bytes.to_vec(), graph.types_mut());
    let package = package.map_err(|error| not_a_component(format!("{error:#}")))?;
    graph.register_package(package).map_err(|error| not_a_component(error.to_string()))
}

pub(crate) fn do_not_fit(error: impl std::error::Error) -> ComposeError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    ComposeError::DoNotFit(text)
}
