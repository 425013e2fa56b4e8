//! `entra-mcp logout`: forgets accounts, and ends their sessions in the browser.
//!
//! Without the second, the next sign-in in the same browser would ask for no password. The program cannot end that session:
//! the person's browser has it, and the page of Entra ID ends it.

use entra_mcp_plugin::environment::SignInMethod;
use entra_mcp_plugin::user_agent::UserAgent as _;

use super::{CommandError, accounts};
use crate::composition::public_client;
use crate::config::Config;
use crate::console;

/// Forgets all accounts, or the configured one, or the only one. Opens Entra ID's page for each of them, or says where it is.
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
        let id = &account.home_account_id;
        // The account has to be known for that.
        let page = plugin.sign_out_url(id, config.post_logout_redirect_uri.as_deref()).await?;
        plugin.sign_out(id).await?;
        console::result(&format!("Signed out {} ({id}).", account.username));
        end_in_browser(config, &page).await;
    }
    Ok(())
}

/// Shows the person the page on which a session ends. It is forgotten here in any case.
async fn end_in_browser(config: &Config, page: &str) {
    // The browser in which the code was entered is elsewhere.
    let is_elsewhere = config.settings.sign_in.method == SignInMethod::DeviceCode;
    if is_elsewhere || public_client::browser(config).open_browser(page).await.is_err() {
        console::result(&format!("To end the session in the browser as well, open {page}"));
    }
}
