//! What `wasmcp compose` reads of a component before it connects it.

use std::fs;

use wit_component::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldItem, WorldKey};

use super::host::{AUTHORIZATION, TOOLS, artefact};

/// The version of WASI that wasmcp's interfaces name. Of `wasi:io` it has to be this one: version 0.4.13 of `wasmcp` does not
/// know that two versions have the same streams. The others may be older: the standard library imports them.
const WASI: &str = "0.2.8";

/// An interface, and the number of its functions.
type Interface = (String, usize);

/// The imports and the exports of a component.
fn interfaces(name: &str) -> (Vec<Interface>, Vec<Interface>) {
    let decoded = decode(&fs::read(artefact(name)).unwrap()).unwrap();
    let DecodedWasm::Component(resolve, world) = decoded else { panic!("a component was expected") };
    let world = &resolve.worlds[world];
    let of = |(key, item): (&WorldKey, &WorldItem)| (resolve.name_world_key(key), functions(&resolve, item));
    let (mut imports, mut exports): (Vec<_>, Vec<_>) =
        (world.imports.iter().map(of).collect(), world.exports.iter().map(of).collect());
    imports.sort();
    exports.sort();
    (imports, exports)
}

fn functions(resolve: &Resolve, item: &WorldItem) -> usize {
    let WorldItem::Interface { id, .. } = item else { panic!("an interface was expected: {item:?}") };
    resolve.interfaces[*id].functions.len()
}

/// Compares the interfaces of WASI, and returns the other ones.
fn without_wasi(name: &str, imports: Vec<Interface>) -> Vec<Interface> {
    let (wasi, others): (Vec<_>, Vec<_>) = imports.into_iter().partition(|(import, _)| import.starts_with("wasi:"));
    for (import, _) in wasi {
        let (interface, version) = import.split_once('@').unwrap();
        let patch = |version: &str| version.strip_prefix("0.2.").and_then(|patch| patch.parse::<u32>().ok()).unwrap();
        assert!(patch(version) <= patch(WASI), "{name} imports {import}");
        assert!(!interface.starts_with("wasi:io/") || version == WASI, "{name} imports {import}");
        assert!(!interface.starts_with("wasi:sockets/"), "{name} imports {import}");
    }
    others
}

fn named(interfaces: &[(&str, usize)]) -> Vec<Interface> {
    interfaces.iter().map(|(name, functions)| ((*name).to_owned(), *functions)).collect()
}

#[test]
fn authorization_exports_what_transport_imports_and_imports_wasi_only() {
    let (imports, exports) = interfaces(AUTHORIZATION);
    let expected = [("wasmcp:auth/helpers@0.1.1", 12), ("wasmcp:mcp-v20251125/server-auth@0.1.1", 2)];
    assert_eq!(exports, named(&expected));
    // Types, which no component has to supply.
    let others = without_wasi(AUTHORIZATION, imports);
    assert_eq!(others, named(&[("wasmcp:auth/types@0.1.1", 0), ("wasmcp:mcp-v20251125/mcp@0.1.1", 0)]));
}

#[test]
fn the_link_of_the_chain_imports_and_exports_the_handler() {
    let (imports, exports) = interfaces(TOOLS);
    assert_eq!(exports, named(&[("wasmcp:mcp-v20251125/server-handler@0.1.1", 1)]));
    let others = without_wasi(TOOLS, imports);
    let expected = [
        ("wasmcp:auth/types@0.1.1", 0),
        ("wasmcp:mcp-v20251125/mcp@0.1.1", 0),
        ("wasmcp:mcp-v20251125/server-auth@0.1.1", 0),
        ("wasmcp:mcp-v20251125/server-handler@0.1.1", 1),
        ("wasmcp:mcp-v20251125/server-io@0.1.1", 0),
    ];
    assert_eq!(others, named(&expected));
}
