//! `entra-mcp whoami`: the account that calls are made as.

use super::CommandError;
use super::account_list::{self, Listed};
use crate::composition::applications::Application;
use crate::composition::public_client;
use crate::config::Config;
use crate::console;

/// Names the account that a call would use, once Entra ID or the cache has given a token for it: a sign-in that has ended
/// is an error.
pub async fn run(config: &Config, as_json: bool) -> Result<(), CommandError> {
    let plugin = public_client::builder(config).await?.build()?;
    let scopes = [config.settings.profile_scope()];
    let account = plugin.acquire_token_silent(&scopes, None).await?.account;
    console::result(&if as_json {
        Listed { application: Application::of(&config.settings), account }.json().to_string()
    } else {
        account_list::line(&account)
    });
    Ok(())
}
