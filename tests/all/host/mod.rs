//! What the host promises whatever the component does, and what its commands do.

mod batch;
mod commands;
mod hostile;
mod limits;
mod stdio;
