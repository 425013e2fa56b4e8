//! `entra-mcp login`: signs a person in, so that the MCP server starts silently.

use super::{CommandError, EndRequest};
use crate::composition::applications::Application;
use crate::composition::public_client::PersonStore;
use crate::config::Config;
use crate::console::{self, harmless};

/// Signs a person in through the browser or a device code, and names the account.
pub async fn run(config: &Config) -> Result<(), CommandError> {
    let (person, application) = (PersonStore::open(config).await?, Application::of(&config.settings));
    let plugin = person.builder(config, &application)?.build()?;
    let scopes = [config.settings.profile_scope()];
    let mut end = EndRequest::listen()?;
    // The process may end at any moment once the account is signed in.
    person.note(&application).await;
    // A window of the identity broker is closed by dropping the call, and not by the end of the process.
    let account = tokio::select! {
        account = plugin.sign_in_interactive(&scopes, config.settings.sign_in.account.as_deref()) => account?,
        () = end.received() => return Err(CommandError::Ended),
    };
    console::result(&format!("Signed in as {} ({}).", harmless(&account.username), harmless(&account.home_account_id)));
    Ok(())
}
