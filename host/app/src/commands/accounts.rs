//! `entra-mcp accounts`: the accounts that are signed in.

use super::account_list::{self, Listed, Scope};
use super::{CommandError, accounts};
use crate::composition::applications::Application;
use crate::composition::public_client::PersonStore;
use crate::config::Config;
use crate::console;

/// Lists the accounts that are signed in: those of the configured application first.
pub async fn run(config: &Config, scope: Scope, as_json: bool) -> Result<(), CommandError> {
    let person = PersonStore::open(config).await?;
    let configured = Application::of(&config.settings);
    let own = accounts(&person.builder(config, &configured)?.build()?).await?;
    if !own.is_empty() {
        // They may have signed in before this program noted applications.
        person.note(&configured).await;
    }
    let mut listed: Vec<Listed> = Listed::all(&configured, own).collect();
    for other in account_list::others(config, &person, scope).await.seen {
        listed.extend(Listed::all(&other.application, other.accounts));
    }
    let chosen = config.settings.sign_in.account.as_deref();
    console::result(&match listed.as_slice() {
        listed if as_json => serde_json::Value::from(listed.iter().map(Listed::json).collect::<Vec<_>>()).to_string(),
        [] => "No account is signed in.".to_owned(),
        listed => account_list::table(listed, &configured, chosen),
    });
    Ok(())
}
