//! How messages come in. Over standard input and output that is the host's business; over HTTP it is ours.

pub mod http;
