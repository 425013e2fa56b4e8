//! `entra-mcp accounts`: the accounts that are signed in.

use super::{CommandError, account_json, account_list};
use crate::composition::public_client;
use crate::config::Config;
use crate::console;

/// Lists the accounts that are signed in.
pub async fn run(config: &Config, as_json: bool) -> Result<(), CommandError> {
    let plugin = public_client::builder(config).await?.build()?;
    let accounts = super::accounts(&plugin).await?;
    let chosen = config.settings.sign_in.account.as_deref();
    console::result(&match accounts.as_slice() {
        accounts if as_json => {
            serde_json::Value::from(accounts.iter().map(account_json).collect::<Vec<_>>()).to_string()
        }
        [] => "No account is signed in.".to_owned(),
        accounts => account_list::table(accounts, chosen),
    });
    Ok(())
}
