//! What the host promises whatever the component does, and what its commands do.

mod accounts;
mod audit;
mod batch;
pub(crate) mod behind;
mod client_metadata;
pub(crate) mod commands;
mod examples;
mod hostile;
mod http_calls;
#[cfg(target_os = "linux")]
mod leaks;
mod limits;
mod load;
mod malicious_upstream;
mod pressure;
pub(crate) mod records;
pub(crate) mod replicas;
pub(crate) mod serve;
#[cfg(target_os = "linux")]
mod set_back;
pub(crate) mod stdio;
mod strangers;
mod telemetry;
mod telemetry_behind;
#[cfg(target_os = "linux")]
mod terminal;
mod two_processes;
