//! Runs the emulator alone, for measurements and for looking at its pages: `cargo run --example emulator -- [--tls]`.
//!
//! The product's own command is `entra-mcp emulator`.

use std::io::Write as _;

use entra_mcp_tests::emulator::Builder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emulator = Builder::new().tls(std::env::args().any(|argument| argument == "--tls")).start().await?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(emulator.endpoints())?)?;
    std::future::pending::<()>().await;
    Ok(())
}
