//! The component as it was built together with this crate, and the engine that runs it.

use wasmtime::{Config, Engine};

use crate::error::BuildError;

/// The component that was built together with this host.
pub const BUNDLED_COMPONENT: &[u8] = include_bytes!(env!("ENTRA_MCP_BUNDLED_COMPONENT"));

/// The same for hosts that know neither wide arithmetic nor SIMD.
#[cfg(feature = "portable-component")]
pub const PORTABLE_COMPONENT: &[u8] = include_bytes!(env!("ENTRA_MCP_PORTABLE_COMPONENT"));

/// Stack of a guest call in bytes; WebAssembly may use half of it. The component parses JSON of bounded depth.
const STACK_BYTES: usize = 1024 * 1024;

/// The engine: everything of WebAssembly that the component does not use is off.
pub fn engine() -> Result<Engine, BuildError> {
    let mut config = Config::new();
    config
        .wasm_wide_arithmetic(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .epoch_interruption(true)
        .async_stack_size(STACK_BYTES)
        .max_wasm_stack(STACK_BYTES / 2);
    Engine::new(&config).map_err(BuildError::Engine)
}
