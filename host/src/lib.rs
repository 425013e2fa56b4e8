//! The host library.
pub mod bindings;
pub mod clock;
mod private_files;
pub mod secret_store;
pub mod user_agent { pub struct LoopbackListener; }
