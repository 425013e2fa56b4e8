//! The contract in `wit/`: it resolves, it is documented, hosts in other languages can use it, and it says the truth about
//! the component.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use entra_mcp_plugin::BUNDLED_COMPONENT;
use wit_component::{DecodedWasm, decode, encode};
use wit_parser::{
    Docs, Function, Interface, PackageId, Resolve, Stability, Type, TypeDefKind, WorldId, WorldItem, WorldKey,
};

const NAME: &str = "entra-mcp:plugin@0.2.0";

/// Interfaces that may only be used where their feature is enabled.
const UNSTABLE: [&str; 11] = [
    "client-metadata",
    "delegation",
    "gatekeeper",
    "identity-broker",
    "lifecycle",
    "provided-tools",
    "rate-limiter",
    "sign-out-url",
    "signatures",
    "tool-catalog",
    "whole-requests",
];

/// Whole numbers without a unit, because they have none.
const WITHOUT_UNIT: [&str; 2] = ["token-version", "status"];

/// How the name of a quantity ends.
const UNITS: [&str; 4] = ["-us", "-ms", "-seconds", "-bytes"];

fn wit() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

fn contract_with(features: &[&str]) -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    resolve.features.extend(features.iter().map(|feature| (*feature).to_owned()));
    let (package, _) = resolve.push_dir(wit()).unwrap();
    (resolve, package)
}

fn contract() -> (Resolve, PackageId) {
    contract_with(&UNSTABLE)
}

fn world(resolve: &Resolve, package: PackageId, name: &str) -> WorldId {
    resolve.packages[package].worlds[name]
}

type Items = BTreeMap<String, BTreeSet<String>>;

/// Interfaces, with the names of their functions.
fn items<'a>(resolve: &Resolve, items: impl IntoIterator<Item = (&'a WorldKey, &'a WorldItem)>) -> Items {
    let functions = |item: &WorldItem| match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].functions.keys().cloned().collect(),
        WorldItem::Function(_) | WorldItem::Type { .. } => BTreeSet::new(),
    };
    items.into_iter().map(|(key, item)| (resolve.name_world_key(key), functions(item))).collect()
}

fn imports(resolve: &Resolve, world: WorldId) -> Items {
    items(resolve, &resolve.worlds[world].imports)
}

fn exports(resolve: &Resolve, world: WorldId) -> Items {
    items(resolve, &resolve.worlds[world].exports)
}

fn names(items: &Items) -> BTreeSet<&str> {
    items.keys().map(String::as_str).collect()
}

/// The interfaces of the package.
fn interfaces(resolve: &Resolve, package: PackageId) -> impl Iterator<Item = (&String, &Interface)> {
    resolve.packages[package].interfaces.iter().map(|(name, id)| (name, &resolve.interfaces[*id]))
}

#[test]
fn the_package_can_be_encoded_and_read_again() {
    let (resolve, package) = contract();
    assert_eq!(resolve.packages[package].name.to_string(), NAME);
    let DecodedWasm::WitPackage(read, package) = decode(&encode(&resolve, package).unwrap()).unwrap() else {
        panic!("a package was expected");
    };
    assert_eq!(read.packages[package].name.to_string(), NAME);
}

#[test]
fn without_features_everything_unstable_is_gone_and_the_rest_resolves() {
    let (resolve, package) = contract_with(&[]);
    let interfaces: BTreeSet<_> = interfaces(&resolve, package).map(|(name, _)| name.as_str()).collect();
    assert!(UNSTABLE.iter().all(|name| !interfaces.contains(name)), "{interfaces:?}");
    assert_eq!(interfaces.len(), 14, "{interfaces:?}");
    let remote = exports(&resolve, world(&resolve, package, "remote"));
    let expected = [
        "entra-mcp:plugin/mcp-server@0.2.0",
        "entra-mcp:plugin/token-validator@0.2.0",
        "wasi:http/incoming-handler@0.2.12",
    ];
    assert_eq!(names(&remote), expected.into());
}

#[test]
fn every_item_is_documented_and_says_since_when() {
    let (resolve, package) = contract();
    let mut missing = Vec::new();
    let mut check = |docs: &Docs, what: String| {
        if docs.contents.as_deref().is_none_or(|text| text.trim().is_empty()) {
            missing.push(what);
        }
    };
    check(&resolve.packages[package].docs, "the package".to_owned());
    for (name, id) in &resolve.packages[package].worlds {
        let world = &resolve.worlds[*id];
        check(&world.docs, format!("world {name}"));
        assert!(matches!(world.stability, Stability::Stable { .. }), "{name}");
    }
    for (name, interface) in interfaces(&resolve, package) {
        check(&interface.docs, format!("interface {name}"));
        match &interface.stability {
            Stability::Stable { since, .. } => assert_eq!(since.to_string(), "0.2.0", "{name}"),
            Stability::Unstable { feature, .. } => assert_eq!(feature, name),
            Stability::Unknown => panic!("{name} says neither since when nor for which feature"),
        }
        for function in interface.functions.values() {
            check(&function.docs, format!("{name}.{}", function.name));
        }
        for (ty, id) in &interface.types {
            let definition = &resolve.types[*id];
            let at = |member: &str| format!("{name}.{ty}.{member}");
            match &definition.kind {
                // A `use` has the documentation of what it names.
                TypeDefKind::Type(Type::Id(_)) => continue,
                TypeDefKind::Record(record) => {
                    record.fields.iter().for_each(|field| check(&field.docs, at(&field.name)));
                }
                TypeDefKind::Variant(variant) => {
                    variant.cases.iter().for_each(|case| check(&case.docs, at(&case.name)));
                }
                TypeDefKind::Enum(cases) => cases.cases.iter().for_each(|case| check(&case.docs, at(&case.name))),
                TypeDefKind::Flags(flags) => flags.flags.iter().for_each(|flag| check(&flag.docs, at(&flag.name))),
                _ => {}
            }
            check(&definition.docs, format!("{name}.{ty}"));
        }
    }
    assert!(missing.is_empty(), "not documented: {missing:#?}");
}

/// The numbers of a type that is called `name`: in options, lists, tuples and results, and behind aliases, whose names
/// count in place of `name`. A list of bytes is no quantity. The members of records and variants have names of their own.
fn quantities_in(resolve: &Resolve, ty: &Type, at: &str, name: &str, found: &mut Vec<(String, String)>) {
    let Type::Id(id) = ty else {
        let is_number = !matches!(ty, Type::Bool | Type::Char | Type::String | Type::ErrorContext);
        found.extend(is_number.then(|| (at.to_owned(), name.to_owned())));
        return;
    };
    let definition = &resolve.types[*id];
    let name = definition.name.as_deref().unwrap_or(name);
    let mut inside = |ty: &Type| quantities_in(resolve, ty, at, name, found);
    match &definition.kind {
        TypeDefKind::List(Type::U8) => {}
        TypeDefKind::Type(ty) | TypeDefKind::Option(ty) | TypeDefKind::List(ty) => inside(ty),
        TypeDefKind::Tuple(tuple) => tuple.types.iter().for_each(inside),
        TypeDefKind::Result(result) => result.ok.iter().chain(&result.err).for_each(inside),
        TypeDefKind::Record(_)
        | TypeDefKind::Variant(_)
        | TypeDefKind::Enum(_)
        | TypeDefKind::Flags(_)
        | TypeDefKind::Resource
        | TypeDefKind::Handle(_) => {}
        kind => panic!("{at}: nothing is said of {}", kind.as_str()),
    }
}

#[test]
fn the_name_of_every_quantity_ends_with_its_unit() {
    let (resolve, package) = contract();
    let mut quantities = Vec::new();
    for (name, interface) in interfaces(&resolve, package) {
        for function in interface.functions.values() {
            let at = format!("{name}.{}", function.name);
            for param in &function.params {
                quantities_in(&resolve, &param.ty, &at, &param.name, &mut quantities);
            }
            // A result has no name of its own: that of its type counts, else that of the function.
            if let Some(result) = &function.result {
                quantities_in(&resolve, result, &at, &function.name, &mut quantities);
            }
        }
        for (ty, id) in &interface.types {
            let at = format!("{name}.{ty}");
            match &resolve.types[*id].kind {
                TypeDefKind::Record(record) => {
                    for field in &record.fields {
                        quantities_in(&resolve, &field.ty, &at, &field.name, &mut quantities);
                    }
                }
                TypeDefKind::Variant(variant) => {
                    for case in &variant.cases {
                        let payload = case.ty.as_ref();
                        payload
                            .into_iter()
                            .for_each(|ty| quantities_in(&resolve, ty, &at, &case.name, &mut quantities));
                    }
                }
                _ => quantities_in(&resolve, &Type::Id(*id), &at, ty, &mut quantities),
            }
        }
    }
    // An attribute has the unit in its own name.
    quantities.retain(|(at, name)| (at.as_str(), name.as_str()) != ("types.attribute-value", "number"));
    assert!(quantities.len() > 8, "{quantities:?}");
    for (at, name) in quantities {
        let known = WITHOUT_UNIT.contains(&name.as_str()) || UNITS.iter().any(|unit| name.ends_with(unit));
        assert!(known, "{at}: {name} has no unit");
    }
}

/// What a result or an option holds, below aliases.
fn held(resolve: &Resolve, ty: &Type) -> Option<TypeDefKind> {
    let Type::Id(id) = ty else { return None };
    match &resolve.types[*id].kind {
        TypeDefKind::Type(ty) => held(resolve, ty),
        kind => Some(kind.clone()),
    }
}

#[test]
fn no_function_returns_a_result_of_an_option_or_an_option_of_a_result() {
    let (resolve, package) = contract();
    let nested = |function: &&Function| {
        let result = function.result.as_ref().and_then(|ty| held(&resolve, ty));
        match result {
            Some(TypeDefKind::Result(result)) => {
                let ok = result.ok.as_ref().and_then(|ty| held(&resolve, ty));
                matches!(ok, Some(TypeDefKind::Option(_) | TypeDefKind::Result(_)))
            }
            Some(TypeDefKind::Option(ty)) => {
                matches!(held(&resolve, &ty), Some(TypeDefKind::Option(_) | TypeDefKind::Result(_)))
            }
            _ => false,
        }
    };
    for (name, interface) in interfaces(&resolve, package) {
        let found: Vec<_> = interface.functions.values().filter(nested).map(|function| &function.name).collect();
        assert!(found.is_empty(), "wasmtime-py cannot return the errors of {name}: {found:?}");
    }
}

#[test]
fn the_smaller_worlds_are_parts_of_the_whole_one() {
    let (resolve, package) = contract();
    let of = |name: &str| {
        let world = world(&resolve, package, name);
        (imports(&resolve, world), exports(&resolve, world))
    };
    let parts = |small: &str, large: &str| {
        let ((small_imports, small_exports), (large_imports, large_exports)) = (of(small), of(large));
        assert!(names(&small_imports).is_subset(&names(&large_imports)), "{small} in {large}");
        assert!(names(&small_exports).is_subset(&names(&large_exports)), "{small} in {large}");
    };
    parts("runtime", "validator");
    parts("validator", "local");
    parts("validator", "remote");
    let ((local_imports, local_exports), (remote_imports, remote_exports)) = (of("local"), of("remote"));
    let (plugin_imports, plugin_exports) = of("plugin");
    let union = |a: &Items, b: &Items| -> BTreeSet<String> {
        names(a).union(&names(b)).map(|name| (*name).to_owned()).collect()
    };
    assert_eq!(union(&local_imports, &remote_imports), plugin_imports.keys().cloned().collect());
    assert_eq!(union(&local_exports, &remote_exports), plugin_exports.keys().cloned().collect());
}

#[test]
fn the_component_imports_and_exports_what_the_world_declares() {
    let (resolve, package) = contract();
    let declared = world(&resolve, package, "bundled");
    let DecodedWasm::Component(component, built) = decode(BUNDLED_COMPONENT).unwrap() else {
        panic!("a component was expected");
    };
    assert_eq!(names(&exports(&component, built)), names(&exports(&resolve, declared)));
    assert_eq!(names(&imports(&component, built)), names(&imports(&resolve, declared)));

    // Of an import, a component names the functions that it uses; of an export, all of them.
    let declared_imports = imports(&resolve, declared);
    for (name, functions) in imports(&component, built) {
        assert!(functions.is_subset(&declared_imports[&name]), "{name}: {functions:?}");
    }
    assert_eq!(exports(&component, built), exports(&resolve, declared));
}

/// Where jco is not installed, `.ci/check-imports` says it of the component that `.ci/artefacts` builds.
#[test]
#[cfg_attr(not(client = "jco"), ignore = "needs the client jco: use tests/run")]
fn the_component_for_other_hosts_imports_and_exports_what_the_world_plugin_declares() {
    let (resolve, package) = contract();
    let declared = world(&resolve, package, "plugin");
    let DecodedWasm::Component(component, built) = decode(&crate::standard::jco::portable()).unwrap() else {
        panic!("a component was expected");
    };
    let declared_imports = imports(&resolve, declared);
    assert_eq!(names(&imports(&component, built)), names(&declared_imports));
    for (name, functions) in imports(&component, built) {
        assert!(functions.is_subset(&declared_imports[&name]), "{name}: {functions:?}");
    }
    assert_eq!(exports(&component, built), exports(&resolve, declared));
}

#[test]
fn no_world_grants_sockets() {
    let (resolve, package) = contract();
    for (name, world) in &resolve.packages[package].worlds {
        let imports = imports(&resolve, *world);
        assert!(imports.keys().all(|import| !import.starts_with("wasi:sockets/")), "{name}");
    }
}
