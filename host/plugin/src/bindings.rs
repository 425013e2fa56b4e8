//! The bindings generated from `wit/`: the only place where they are generated.
//!
//! The interfaces of WASI come from wasmtime's own crates. Those of this contract are implemented by the modules of the
//! same name.

#![allow(missing_docs, unreachable_pub, clippy::indexing_slicing, clippy::unwrap_used, reason = "generated code")]

/// The bindings of the contract in a folder, which is named relative to this package.
macro_rules! bindings {
    ($wit:literal) => {
        wasmtime::component::bindgen!({
            path: $wit,
            world: "bundled",
            imports: {
                "entra-mcp:plugin/environment": trappable,
                "entra-mcp:plugin/signatures": trappable,
                "entra-mcp:plugin/client-channel.state": trappable,
                "entra-mcp:plugin/client-channel.set-state": trappable,
                "entra-mcp:plugin/client-channel.[drop]pending-request": trappable,
                "entra-mcp:plugin/user-agent.[method]loopback-listener.redirect-uri": trappable,
                "entra-mcp:plugin/user-agent.[method]loopback-listener.respond": trappable,
                "entra-mcp:plugin/user-agent.[method]loopback-listener.detach": trappable,
                "entra-mcp:plugin/user-agent.[drop]loopback-listener": trappable,
                "entra-mcp:plugin/identity-broker.[drop]interactive-request": trappable,
                default: async | trappable,
            },
            exports: { default: async },
            require_store_data_send: true,
            with: {
                "wasi:cli": wasmtime_wasi::p2::bindings::cli,
                "wasi:io": wasmtime_wasi::p2::bindings::io,
                "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
                "wasi:random": wasmtime_wasi::p2::bindings::random,
                "wasi:http": wasmtime_wasi_http::p2::bindings::http,
                "entra-mcp:plugin/client-channel.pending-request": crate::client_channel::PendingRequest,
                "entra-mcp:plugin/identity-broker.interactive-request": crate::identity_broker::InteractiveRequest,
                "entra-mcp:plugin/user-agent.loopback-listener": crate::user_agent::LoopbackListener,
            },
        });
    };
}

/// The bindings of what a tool component exports.
#[cfg(feature = "tools")]
macro_rules! tools_bindings {
    ($wit:literal) => {
        wasmtime::component::bindgen!({
            path: $wit,
            world: "tools",
            exports: { default: async },
            require_store_data_send: true,
            with: {
                "entra-mcp:plugin/types": crate::bindings::types,
                "entra-mcp:plugin/tool-types": crate::bindings::tool_types,
            },
        });
    };
}

#[cfg(feature = "tools")]
pub(crate) mod tools {
    #[cfg(not(entra_mcp_packaged))]
    tools_bindings!("../../wit");
    #[cfg(entra_mcp_packaged)]
    tools_bindings!("wit");
}

#[cfg(not(entra_mcp_packaged))]
bindings!("../../wit");
#[cfg(entra_mcp_packaged)]
bindings!("wit");

pub use self::entra_mcp::plugin::*;
pub use self::exports::entra_mcp::plugin as export;
