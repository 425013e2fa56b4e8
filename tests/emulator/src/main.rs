//! Entra ID and Microsoft Graph on this machine, as a program of its own.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a small program that says where it listens")]

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use entra_mcp_emulator::Arguments;

/// Runs Entra ID and Microsoft Graph on this machine, for development without a tenant
///
/// Prints one JSON line with its addresses and ids, and runs until it is interrupted.
#[derive(Parser)]
#[command(name = "entra-mcp-emulator", version)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Cli::parse().arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("entra-mcp-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let emulator = arguments.builder()?.start().await?;
    println!("{}", serde_json::to_string(emulator.endpoints())?);
    tokio::signal::ctrl_c().await?;
    emulator.shutdown().await;
    Ok(())
}
