//! The `entra-mcp` program: its command line, configuration, log, telemetry and demonstration, and how the library
//! ([`entra_mcp_plugin`]) and the server ([`entra_mcp_server`]) are put together in it.
//!
//! What may not be in it: anything that another program with the component inside would need too.

pub mod audit;
mod cli;
pub mod commands;
mod compiler;
pub mod composition;
pub mod config;
mod console;
pub mod http_handler;
pub mod logging;
mod open_files;
mod probe;
mod process_memory;
mod prompt;
mod registration;
pub mod service_manager;
pub mod telemetry;
#[cfg(windows)]
mod windows_console;

pub use cli::main;

/// Threads of the server free memory that other threads allocated: with the C library's allocator, they wait for each
/// other.
#[cfg(all(feature = "jemalloc", target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
