//! `entra-mcp headless-browser` (hidden): signs a user of the emulator in, in place of a browser and a person.
//!
//! The demonstration names it in `BROWSER`. It opens loopback addresses only.

use std::path::PathBuf;

use clap::Args;
use entra_mcp_emulator::user_agent::HeadlessBrowser;

use super::CommandError;

/// The user that signs in, and where.
#[derive(Debug, Args)]
pub struct HeadlessBrowserArgs {
    /// User of the emulator
    #[arg(long)]
    pub username: String,
    /// The emulator's users all have a public password
    #[arg(long, default_value = "emulator")]
    pub password: String,
    /// Certificates (PEM) to trust on https pages
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The page to open
    pub url: String,
}

/// Opens the page and signs in on the way.
pub async fn run(arguments: &HeadlessBrowserArgs) -> Result<(), CommandError> {
    let mut browser = HeadlessBrowser::new();
    if let Some(file) = &arguments.ca_file {
        browser = browser.trusting(file)?;
    }
    browser.sign_in(&arguments.url, &arguments.username, &arguments.password).await?;
    Ok(())
}
