//! Instances in a composition, and what they are given.

use wac_graph::{CompositionGraph, NodeId, PackageId};

use crate::plug::{ComposeError, do_not_fit};

/// The import by which the component asks for its settings.
pub(crate) const ENVIRONMENT: &str = "entra-mcp:plugin/environment@0.2.0";

/// An instance of a component.
pub(crate) struct Instance {
    pub(crate) package: PackageId,
    pub(crate) node: NodeId,
}

impl Instance {
    pub(crate) fn new(graph: &mut CompositionGraph, package: PackageId) -> Self {
        Self { package, node: graph.instantiate(package) }
    }
}

/// The export whose name begins like this.
pub(crate) fn export(graph: &CompositionGraph, package: PackageId, begin: &str) -> Option<String> {
    graph.types()[graph[package].ty()].exports.keys().find(|name| name.starts_with(begin)).cloned()
}

pub(crate) fn imports(graph: &CompositionGraph, package: PackageId) -> Vec<String> {
    graph.types()[graph[package].ty()].imports.keys().cloned().collect()
}

/// Gives an import the export of the first instance that has it.
pub(crate) fn connect(
    graph: &mut CompositionGraph,
    to: &Instance,
    import: &str,
    from: &[(&Instance, &str)],
) -> Result<(), ComposeError> {
    let has =
        |(instance, name): &&(&Instance, &str)| graph.types()[graph[instance.package].ty()].exports.contains_key(*name);
    let (instance, name) = from.iter().find(has).ok_or_else(|| ComposeError::NotSupplied(import.to_owned()))?;
    let export = graph.alias_instance_export(instance.node, name).map_err(do_not_fit)?;
    graph.set_instantiation_argument(to.node, import, export).map_err(do_not_fit)
}
