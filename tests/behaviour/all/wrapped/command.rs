//! `entra-mcp wrap`.

use std::path::Path;
use std::process::Output;

use entra_mcp_compose::{ComposeError, parts, wrap};
use entra_mcp_plugin::BUNDLED_COMPONENT;
use wit_component::{DecodedWasm, decode};

use crate::support::process;
use crate::support::tool_components::{self, HTTP_SERVICE, MAIL, WRAPPED_SERVER};

fn run(tool: &Path, output: &Path) -> Output {
    process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested"))
        .arg("wrap")
        .arg(tool)
        .arg("--output")
        .arg(output)
        .output()
        .expect("the program starts")
}

/// A component of nothing but this import and the export that a tool needs.
fn importing(name: &str) -> Vec<u8> {
    let text = format!(
        "(component (import \"{name}\" (instance)) (instance $none) (export \"wasi:http/incoming-handler@0.2.3\" (instance $none)))"
    );
    wat::parse_str(text).expect("a component")
}

#[test]
fn what_it_writes_imports_wasi_only_and_exports_the_handler_of_requests() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("protected.wasm");
    let run = run(&tool_components::file(WRAPPED_SERVER), &output);
    assert!(run.status.success(), "{run:?}");
    let DecodedWasm::Component(resolve, world) = decode(&std::fs::read(&output).expect("a file")).expect("a component")
    else {
        panic!("a component was expected");
    };
    let world = &resolve.worlds[world];
    for import in world.imports.keys().map(|key| resolve.name_world_key(key)) {
        assert!(import.starts_with("wasi:") && !import.starts_with("wasi:sockets/"), "{import}");
    }
    let exports: Vec<_> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    assert_eq!(exports, ["wasi:http/incoming-handler@0.2.12"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left there");
}

#[test]
fn what_cannot_be_protected_is_refused_with_the_reason() {
    let parts = parts(BUNDLED_COMPONENT);
    let refusal = |tool: &[u8]| wrap(tool, &parts).expect_err("it is refused");
    assert!(matches!(refusal(b"no component"), ComposeError::NotAComponent { name: "the tool", .. }));
    for other in [MAIL, HTTP_SERVICE] {
        let tool = std::fs::read(tool_components::file(other)).expect("it is built with the tests");
        assert!(matches!(refusal(&tool), ComposeError::NoHandler("the tool")), "{other}");
    }
    let sockets = importing("wasi:sockets/tcp@0.2.3");
    assert!(matches!(refusal(&sockets), ComposeError::Sockets(import) if import == "wasi:sockets/tcp@0.2.3"));
    for import in ["wasi:keyvalue/store@0.2.0-draft", "example:own/interface", "wasi:io/streams@0.3.0"] {
        assert!(matches!(refusal(&importing(import)), ComposeError::NotForTools(name) if name == import), "{import}");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let (tool, output) = (folder.path().join("tool.wasm"), folder.path().join("protected.wasm"));
    std::fs::write(&tool, &sockets).expect("a file");
    let run = run(&tool, &output);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("tool.wasm cannot be wrapped: the tool imports wasi:sockets/tcp@0.2.3"), "{said}");
    assert!(!output.exists());
    let same = super::command::run(&tool, &tool);
    assert_eq!(same.status.code(), Some(2), "{same:?}");
    assert_eq!(std::fs::read(&tool).expect("a file"), sockets, "the tool is not overwritten");
}
