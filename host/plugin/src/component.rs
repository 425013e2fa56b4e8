//! The bundled component, built together with this crate, and the engine that runs it.

use wasmtime::{Config, Engine};

use crate::error::Error;

/// The component that was built together with this host.
pub const BUNDLED_COMPONENT: &[u8] = include_bytes!(env!("ENTRA_MCP_BUNDLED_COMPONENT"));

/// The same component, for hosts without wide arithmetic and SIMD.
#[cfg(feature = "portable-component")]
pub const PORTABLE_COMPONENT: &[u8] = include_bytes!(env!("ENTRA_MCP_PORTABLE_COMPONENT"));

/// Stack of a guest call in bytes; WebAssembly may use half of it. The component only parses JSON of bounded depth.
const STACK_BYTES: usize = 1024 * 1024;

/// Configures an engine for the bundled component: the WebAssembly features that it uses are on, all others are off,
/// and calls can be interrupted at the end of an epoch.
pub fn configure(config: &mut Config) {
    config
        .wasm_wide_arithmetic(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .epoch_interruption(true)
        // The component does one thing at a time. Tasks that run beside each other cost time in every call.
        .concurrency_support(false)
        .async_stack_size(STACK_BYTES)
        .max_wasm_stack(STACK_BYTES / 2);
}

/// An engine for the bundled component.
pub fn engine() -> Result<Engine, Error> {
    let mut config = Config::new();
    configure(&mut config);
    Engine::new(&config).map_err(Error::Engine)
}
