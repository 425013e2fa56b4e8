//! The program; everything is in its library.

use std::process::ExitCode;

fn main() -> ExitCode {
    entra_mcp_app::main()
}
