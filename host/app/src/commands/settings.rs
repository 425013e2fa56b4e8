//! `entra-mcp settings`: every setting there is, for the documentation.

use clap::Command;

use crate::config::reference::{markdown, settings};
use crate::console;

/// Prints the settings of `program`.
pub fn run(program: &Command, as_markdown: bool) {
    let settings = settings(program);
    console::result(&if as_markdown { markdown(&settings) } else { serde_json::json!(settings).to_string() });
}
