//! What is composed with other components, as the build script has built it.

use crate::wrap::Parts;

/// The component's imports on WASI alone (`guest/standard`).
pub const ADAPTER: &[u8] = include_bytes!(env!("ENTRA_MCP_PART_ADAPTER"));

/// What stands between a wrapped tool and its host (`guest/keeper`).
pub const KEEPER: &[u8] = include_bytes!(env!("ENTRA_MCP_PART_KEEPER"));

/// What stands in front of a wrapped tool (`guest/gate`).
pub const GATE: &[u8] = include_bytes!(env!("ENTRA_MCP_PART_GATE"));

/// Tools for hosts that call functions (`guest/wassette`).
pub const WASSETTE: &[u8] = include_bytes!(env!("ENTRA_MCP_PART_WASSETTE"));

/// What a tool is wrapped with, for this component.
pub fn parts(component: &[u8]) -> Parts<'_> {
    Parts { component, adapter: ADAPTER, keeper: KEEPER, gate: GATE }
}
