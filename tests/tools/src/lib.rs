//! What the tool components for tests share: the bindings of the world `tools`, and requests over `wasi:http` with
//! nothing between them and the host.
#![cfg(target_family = "wasm")]
#![allow(missing_docs, reason = "for the components of this package only")]

pub mod http;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "tools",
        // Of other worlds in the folder, which are parsed with it.
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "test_tools",
    });
}

pub use bindings::entra_mcp;
pub use bindings::entra_mcp::plugin::tool_types::Hints;
pub use bindings::export;
pub use bindings::exports;
pub use bindings::exports::entra_mcp::plugin::tool_provider::{Caller, Content, Guest, Tool, ToolError};

/// A tool that takes any object.
pub fn tool(name: &str, description: &str, hints: Hints) -> Tool {
    Tool {
        name: name.to_owned(),
        title: None,
        description: description.to_owned(),
        input_schema: r#"{"type":"object"}"#.to_owned(),
        output_schema: None,
        hints,
    }
}
