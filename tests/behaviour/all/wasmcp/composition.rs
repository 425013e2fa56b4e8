//! Our components between stubs of wasmcp's, connected as `cli/src/commands/compose/composition` of wasmcp connects them: the
//! exports of a service go to whatever imports an interface of that name, and a link of the chain gets the handler behind it.

use std::fs;

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, decode, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WorldItem};

use super::host::{AUTHORIZATION, TOOLS, artefact};
use crate::support::tests_dir;

const HANDLER: &str = "wasmcp:mcp-v20251125/server-handler@0.1.1";
const SERVER_AUTH: &str = "wasmcp:mcp-v20251125/server-auth@0.1.1";
const HELPERS: &str = "wasmcp:auth/helpers@0.1.1";
/// Imported by the stubs, because the handler's messages use a type of it. wasmcp has a component that exports it.
const SERVER_IO: &str = "wasmcp:mcp-v20251125/server-io@0.1.1";

/// What of wasmcp's transport and `method-not-found` the composition has to do with.
const STUBS: &str = "
package test:stubs;

world transport {
  import wasmcp:mcp-v20251125/server-handler@0.1.1;
  import wasmcp:mcp-v20251125/server-auth@0.1.1;
  import wasmcp:auth/helpers@0.1.1;
}

world method-not-found {
  export wasmcp:mcp-v20251125/server-handler@0.1.1;
}
";

/// A component of a world of the stubs, none of whose functions returns.
fn stub(world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir(tests_dir().join("../guest/wasmcp/wit")).unwrap();
    let stubs = resolve.push_str("stubs.wit", STUBS).unwrap();
    let world = resolve.packages[stubs].worlds[world];
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

fn instance(graph: &mut CompositionGraph, name: &str, component: Vec<u8>) -> NodeId {
    let package = Package::from_bytes(name, None, component, graph.types_mut()).unwrap();
    let package = graph.register_package(package).unwrap();
    graph.instantiate(package)
}

/// Gives an instance the export of another one.
fn connect(graph: &mut CompositionGraph, to: NodeId, interface: &str, from: NodeId) {
    let export = graph.alias_instance_export(from, interface).unwrap();
    graph.set_instantiation_argument(to, interface, export).unwrap_or_else(|error| panic!("{interface}: {error}"));
}

#[test]
fn a_server_is_composed_of_them_that_imports_wasi_and_what_wasmcp_supplies() {
    let built = |name: &str| fs::read(artefact(name)).unwrap();
    let mut graph = CompositionGraph::new();
    let terminal = instance(&mut graph, "wasmcp:method-not-found", stub("method-not-found"));
    let authorization = instance(&mut graph, "wasmcp:authorization", built(AUTHORIZATION));
    let tools = instance(&mut graph, "wasmcp:component-0", built(TOOLS));
    let transport = instance(&mut graph, "wasmcp:transport", stub("transport"));
    // The stub imports all of an interface of which the handler's messages use a type; wasmcp's own component imports no function.
    connect(&mut graph, terminal, SERVER_AUTH, authorization);
    connect(&mut graph, tools, HANDLER, terminal);
    // Of the service, the link of the chain imports no more than a type.
    connect(&mut graph, tools, SERVER_AUTH, authorization);
    connect(&mut graph, transport, HANDLER, tools);
    connect(&mut graph, transport, SERVER_AUTH, authorization);
    connect(&mut graph, transport, HELPERS, authorization);
    let composed = graph.encode(EncodeOptions::default()).unwrap_or_else(|error| panic!("{error:?}"));

    let DecodedWasm::Component(resolve, world) = decode(&composed).unwrap() else { panic!("a component was expected") };
    for (key, import) in &resolve.worlds[world].imports {
        let name = resolve.name_world_key(key);
        let WorldItem::Interface { id, .. } = import else { panic!("{name}") };
        // What is left of wasmcp's interfaces is types, which no host has to supply, and what the stubs lack.
        let is_theirs = name == SERVER_IO || resolve.interfaces[*id].functions.is_empty();
        assert!(name.starts_with("wasi:") || is_theirs, "{name}");
    }
}
