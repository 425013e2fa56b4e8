//! `entra-mcp logout`: forgets accounts.

use super::{CommandError, accounts};
use crate::composition::public_client;
use crate::config::Config;
use crate::console;

/// Forgets all accounts, or the configured one, or the only one.
pub async fn run(config: &Config, all: bool) -> Result<(), CommandError> {
    let plugin = public_client::builder(config).await?.build()?;
    let mut leaving = accounts(&plugin).await?;
    if !all {
        match &config.settings.sign_in.account {
            Some(chosen) => {
                leaving.retain(|account| account.home_account_id == *chosen || account.username == *chosen);
                if leaving.is_empty() {
                    return Err(CommandError::Usage(format!("the account {chosen:?} is not signed in")));
                }
            }
            None if leaving.len() > 1 => {
                let text = "several accounts are signed in: name one with --account, or pass --all";
                return Err(CommandError::Usage(text.into()));
            }
            None => {}
        }
    }
    if leaving.is_empty() {
        console::result("No account is signed in.");
    }
    for account in leaving {
        plugin.sign_out(&account.home_account_id).await?;
        console::result(&format!("Signed out {} ({}).", account.username, account.home_account_id));
    }
    Ok(())
}
