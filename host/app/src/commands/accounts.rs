//! `entra-mcp accounts`: the accounts that are signed in.

use super::{CommandError, account_json};
use crate::composition::public_client;
use crate::config::Config;
use crate::console;

/// Lists the accounts that are signed in.
pub async fn run(config: &Config, as_json: bool) -> Result<(), CommandError> {
    let plugin = public_client::builder(config).await?.build()?;
    let accounts = super::accounts(&plugin).await?;
    if as_json {
        let accounts: Vec<_> = accounts.iter().map(account_json).collect();
        console::result(&serde_json::Value::from(accounts).to_string());
        return Ok(());
    }
    if accounts.is_empty() {
        console::result("No account is signed in.");
    }
    for account in accounts {
        console::result(&format!("{}  {}  {}", account.username, account.name, account.home_account_id));
    }
    Ok(())
}
