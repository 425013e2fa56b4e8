//! The only place that writes to the standard streams directly.
//!
//! In stdio mode standard output belongs to MCP, and `transport/stdio.rs` alone writes to it; the functions here
//! serve the other commands.

use std::io::{self, Write};

/// Writes a line of a command's result to standard output. A closed pipe ends the output, not the program.
#[allow(clippy::disallowed_methods, reason = "the commands other than stdio write their results here")]
pub(crate) fn result(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Writes something that is meant for the person, not for a program, to standard error.
pub(crate) fn notice(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
