//! A host of its own in a few lines: loads the component, and judges access tokens with it.
//!
//! ```console
//! $ cargo run --example validate -- <tenant id> <audience> < token.txt
//! ```
//!
//! The component fetches the tenant's signing keys itself, through the one way out that the host gives it.

#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;
use std::io::{self, Read as _};

use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::environment::{ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use entra_mcp_plugin::token_validator::Requirements;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(tenant), Some(audience)) = (arguments.next(), arguments.next()) else {
        return Err("usage: validate <tenant id> <audience> < token".into());
    };
    let mut token = String::new();
    io::stdin().read_to_string(&mut token)?;

    let plugin = Plugin::builder(Settings {
        client_type: ClientType::ConfidentialClient,
        tenant,
        client_id: audience.clone(),
        authority: "https://login.microsoftonline.com".into(),
        graph: "https://graph.microsoft.com".into(),
        graph_resource: "https://graph.microsoft.com".into(),
        sign_in: SignInSettings { method: SignInMethod::Automatic, timeout_seconds: 300, account: None },
        token: TokenSettings { audiences: vec![audience], allowed_tenants: vec![], clock_tolerance_seconds: 60 },
        profile_cache_seconds: 0,
        audit_usernames: false,
        http: None,
    })
    .build()?;

    // Every scope here would have to be in the token; so would one of the roles.
    let needs =
        Requirements { all_scopes: vec![], any_role: vec![], any_group: vec![], kind: None, any_client: vec![] };
    // The outer error is the component failing, the inner one its judgement.
    let verdict = match plugin.validate_token(token.trim_end(), &needs).await? {
        Ok(principal) => format!("{} of tenant {}", principal.object_id, principal.tenant_id),
        Err(error) => format!("refused: {} (HTTP status {})", error.code, error.status()),
    };
    println!("{verdict}");
    Ok(())
}
