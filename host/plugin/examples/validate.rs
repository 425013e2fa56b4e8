//! A host in a few lines: it loads the component and validates access tokens with it.
//!
//! ```console
//! $ cargo run --example validate -- <tenant id> <audience> < token.txt
//! ```
//!
//! The component fetches the tenant's signing keys itself, over the only connection that the host gives it.

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::io::{self, Read as _};

use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::token_validator::Requirements;
use entra_mcp_plugin::{Error, Plugin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(tenant), Some(audience)) = (arguments.next(), arguments.next()) else {
        return Err("usage: validate <tenant id> <audience> < token".into());
    };
    let mut token = String::new();
    io::stdin().read_to_string(&mut token)?;

    let plugin = Plugin::builder(Settings::validator(tenant, audience.clone(), audience)).build()?;

    // Every scope listed here has to be in the token, and one of the roles.
    let needs = Requirements { all_scopes: vec![], any_role: vec![], ..Requirements::default() };
    let verdict = match plugin.validate_token(token.trim_end(), &needs).await {
        Ok(principal) => format!("{} of tenant {}", principal.object_id, principal.tenant_id),
        Err(Error::Token(refused)) => format!("refused: {} (HTTP status {})", refused.code, refused.status()),
        // The component itself failed. That says nothing about the token.
        Err(error) => return Err(error.into()),
    };
    println!("{verdict}");
    Ok(())
}
