//! The components for `wasmcp compose`, in a host that calls them as wasmcp's own components do.

mod artefacts;
mod authorization;
mod composition;
mod host;
mod tools;
