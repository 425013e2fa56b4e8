//! What a host has to supply, and how large the components are.

use std::collections::BTreeSet;
use std::fs;

use wit_component::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldId};

use super::{WITH_HTTP, WITH_KEYS, artefact};
use crate::support::tests_dir;

/// Bytes of each component.
const MAX_BYTES: usize = 700_000;

/// The names of a world's imports and exports.
fn names(resolve: &Resolve, world: WorldId) -> (BTreeSet<String>, BTreeSet<String>) {
    let world = &resolve.worlds[world];
    let imports = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    (imports, world.exports.keys().map(|key| resolve.name_world_key(key)).collect())
}

/// Compares a component with its world in the contract.
fn is_the_world(artefact_name: &str, world: &str) -> BTreeSet<String> {
    let mut contract = Resolve::default();
    let (package, _) = contract.push_dir(tests_dir().join("../wit")).unwrap();
    let declared = names(&contract, contract.packages[package].worlds[world]);
    let DecodedWasm::Component(component, built) = decode(&fs::read(artefact(artefact_name)).unwrap()).unwrap() else {
        panic!("a component was expected");
    };
    let built = names(&component, built);
    assert_eq!(built, declared, "{artefact_name}");
    built.0
}

#[test]
fn the_validator_imports_clocks_randomness_and_outgoing_http_and_nothing_else() {
    let imports = is_the_world(WITH_HTTP, "standalone-validator");
    let expected = [
        "wasi:clocks/monotonic-clock@0.2.12",
        "wasi:clocks/wall-clock@0.2.12",
        "wasi:http/outgoing-handler@0.2.12",
        "wasi:http/types@0.2.12",
        "wasi:io/error@0.2.12",
        "wasi:io/poll@0.2.12",
        "wasi:io/streams@0.2.12",
        "wasi:random/insecure-seed@0.2.12",
        "wasi:random/random@0.2.12",
    ];
    assert_eq!(imports, expected.map(str::to_owned).into());
}

#[test]
fn the_validator_by_given_keys_imports_a_clock_and_randomness_and_nothing_else() {
    let imports = is_the_world(WITH_KEYS, "standalone-validator-with-keys");
    let expected = ["wasi:clocks/wall-clock@0.2.12", "wasi:random/insecure-seed@0.2.12", "wasi:random/random@0.2.12"];
    assert_eq!(imports, expected.map(str::to_owned).into());
}

#[test]
fn the_validators_are_small() {
    for name in [WITH_HTTP, WITH_KEYS] {
        let bytes = fs::metadata(artefact(name)).unwrap().len();
        assert!(usize::try_from(bytes).unwrap() <= MAX_BYTES, "{name} has {bytes} bytes");
    }
}
