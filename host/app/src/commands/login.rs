//! `entra-mcp login`: signs a person in, so that the MCP server starts silently.

use super::{CommandError, EndRequest};
use crate::composition::public_client;
use crate::config::Config;
use crate::console::{self, harmless};

/// Signs a person in through the browser or a device code, and names the account.
pub async fn run(config: &Config) -> Result<(), CommandError> {
    let plugin = public_client::builder(config).await?.build()?;
    let scopes = [config.settings.profile_scope()];
    let mut end = EndRequest::listen()?;
    // A window of the identity broker is closed by dropping the call, and not by the end of the process.
    let account = tokio::select! {
        account = plugin.sign_in_interactive(&scopes, config.settings.sign_in.account.as_deref()) => account?,
        () = end.received() => return Err(CommandError::Ended),
    };
    console::result(&format!("Signed in as {} ({}).", harmless(&account.username), account.home_account_id));
    Ok(())
}
