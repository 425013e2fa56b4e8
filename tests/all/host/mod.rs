//! What the host promises whatever the component does, and what its commands do.

mod batch;
mod commands;
mod hostile;
mod http_calls;
mod limits;
mod load;
mod pressure;
mod replicas;
mod serve;
mod stdio;
mod strangers;
mod two_processes;
