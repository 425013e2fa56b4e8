//! What the artefact imports and exports.

use entra_mcp_compose::{ADAPTER, ComposeError, plug};
use entra_mcp_plugin::BUNDLED_COMPONENT;
use wit_component::{DecodedWasm, decode};

use super::host::artefact;

/// All of it is WASI 0.2, and none of it is sockets.
const IMPORTS: [&str; 21] = [
    "wasi:cli/environment@0.2.12",
    "wasi:cli/exit@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:cli/stdin@0.2.12",
    "wasi:cli/stdout@0.2.12",
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/terminal-stderr@0.2.12",
    "wasi:cli/terminal-stdin@0.2.12",
    "wasi:cli/terminal-stdout@0.2.12",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:filesystem/preopens@0.2.12",
    "wasi:filesystem/types@0.2.12",
    "wasi:http/outgoing-handler@0.2.12",
    "wasi:http/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "wasi:random/insecure-seed@0.2.12",
    "wasi:random/random@0.2.12",
];

#[test]
fn the_artefact_imports_wasi_only_and_exports_the_handler_of_requests() {
    let DecodedWasm::Component(resolve, world) = decode(&artefact()).expect("a component") else {
        panic!("a component was expected");
    };
    let world = &resolve.worlds[world];
    let mut imports: Vec<_> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    imports.sort_unstable();
    assert_eq!(imports, IMPORTS);
    let exports: Vec<_> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    assert_eq!(exports, ["wasi:http/incoming-handler@0.2.12"]);
}

#[test]
fn components_that_do_not_fit_are_refused_with_what_is_missing() {
    assert!(matches!(plug(b"no component", ADAPTER), Err(ComposeError::NotAComponent { .. })));
    assert!(matches!(plug(ADAPTER, ADAPTER), Err(ComposeError::NoHandler(_))));
    let incomplete = plug(BUNDLED_COMPONENT, BUNDLED_COMPONENT);
    assert!(matches!(&incomplete, Err(ComposeError::NotSupplied(name)) if name.starts_with("entra-mcp:plugin/")));
}
