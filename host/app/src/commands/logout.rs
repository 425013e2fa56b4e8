//! `entra-mcp logout`: forgets accounts, and ends their sessions in the browser.
//!
//! Without the second, the next sign-in in the same browser would ask for no password. The program cannot end that session:
//! the person's browser has it, and the page of Entra ID ends it.

use entra_mcp_plugin::environment::SignInMethod;
use entra_mcp_plugin::sign_in::Account;
use entra_mcp_plugin::user_agent::UserAgent as _;
use entra_mcp_plugin::{Error, Plugin};

use super::account_list::{Other, Scope, is_meant, named, others, place};
use super::{CommandError, accounts};
use crate::composition::applications::Application;
use crate::composition::public_client::{self, PersonStore};
use crate::config::Config;
use crate::console::{self, harmless};

/// Forgets all accounts, or the configured one, or the only one of the configured application. Opens Entra ID's page
/// for each of them, or says where it is.
pub async fn run(config: &Config, scope: Scope, all: bool) -> Result<(), CommandError> {
    let person = PersonStore::open(config).await?;
    let plugin = person.builder(config, &Application::of(&config.settings))?.build()?;
    if all {
        return sign_out_all(config, &person, &plugin, scope).await;
    }
    let page_leads_to = config.post_logout_redirect_uri.as_deref();
    let leaving = match (accounts(&plugin).await, config.settings.sign_in.account.as_deref()) {
        // An id still names an account.
        (Err(error), Some(id)) if is_damage(&error) => {
            sign_out(&plugin, config, id, &harmless(id), page_leads_to).await?;
            console::notice(&format!("entra-mcp: {LIST_DAMAGED}"));
            return Ok(());
        }
        (accounts, None) => accounts?,
        (accounts, Some(chosen)) => {
            let accounts = accounts?;
            if !accounts.iter().any(|account| is_meant(account, chosen)) {
                return sign_out_elsewhere(config, &person, scope, chosen).await;
            }
            vec![named(&accounts, chosen)?.clone()]
        }
    };
    match leaving.as_slice() {
        [] => console::result(NONE),
        [account] => sign_out(&plugin, config, &account.home_account_id, &told(account), page_leads_to).await?,
        _ => {
            let text = "several accounts are signed in: name one with --account, or pass --all";
            return Err(CommandError::Usage(text.into()));
        }
    }
    Ok(())
}

/// Signs out all accounts that can be signed out, and fails if others may be left.
async fn sign_out_all(
    config: &Config,
    person: &PersonStore,
    plugin: &Plugin,
    scope: Scope,
) -> Result<(), CommandError> {
    let (own, others) = (accounts(plugin).await, others(config, person, scope).await);
    let mut are_left = others.are_more || own.is_err();
    let own = own.unwrap_or_else(|error| {
        console::notice(&format!("entra-mcp: the accounts of the configured application cannot be listed: {error}"));
        Vec::new()
    });
    if !are_left && own.is_empty() && others.seen.iter().all(|other| other.accounts.is_empty()) {
        console::result(NONE);
    }
    let page_leads_to = config.post_logout_redirect_uri.as_deref();
    let mut leaving: Vec<_> = own.iter().map(|account| (plugin, account, told(account), page_leads_to)).collect();
    for other in &others.seen {
        // The redirect URI of the configuration is not one of that application.
        let accounts = other.accounts.iter();
        leaving.extend(accounts.map(|account| (&other.plugin, account, told_of(other, account), None)));
    }
    for (plugin, account, told, page_leads_to) in leaving {
        if let Err(error) = sign_out(plugin, config, &account.home_account_id, &told, page_leads_to).await {
            console::notice(&format!("entra-mcp: {told} was not signed out: {error}"));
            are_left = true;
        }
    }
    if are_left {
        return Err(CommandError::SignedIn("not all accounts were signed out: the lines above say why".to_owned()));
    }
    Ok(())
}

/// Signs an account out of the one other application that it is signed in to.
async fn sign_out_elsewhere(
    config: &Config,
    person: &PersonStore,
    scope: Scope,
    chosen: &str,
) -> Result<(), CommandError> {
    let others = others(config, person, scope).await;
    let mut places = others.seen.iter().filter(|other| other.accounts.iter().any(|account| is_meant(account, chosen)));
    match (places.next(), places.next()) {
        (Some(_), Some(_)) => Err(CommandError::Usage(format!(
            "the account {chosen:?} is signed in to several applications: name one with --client-id and --tenant-id, \
             as `entra-mcp accounts` lists them"
        ))),
        _ if others.are_more => Err(CommandError::SignedIn(format!(
            "the account {chosen:?} was not signed out, because it may be signed in to an application that cannot be looked \
             at: name the application with --client-id and --tenant-id"
        ))),
        // The redirect URI of the configuration is not one of that application.
        (Some(other), None) => {
            let account = named(&other.accounts, chosen)?;
            sign_out(&other.plugin, config, &account.home_account_id, &told_of(other, account), None).await
        }
        (None, _) => Err(CommandError::Usage(format!("the account {chosen:?} is not signed in"))),
    }
}

/// What is said where there is nothing to do.
const NONE: &str = "No account is signed in.";

/// How an account is named to the person.
fn told(account: &Account) -> String {
    format!("{} ({})", harmless(&account.username), harmless(&account.home_account_id))
}

/// The same for an account of another application than the configured one.
fn told_of(other: &Other, account: &Account) -> String {
    format!("{} from {}", told(account), place(&other.application))
}

/// What follows for the other accounts once an account was signed out without the list.
const LIST_DAMAGED: &str = "the list of accounts was damaged and begins anew (`entra-mcp store check` counts damaged records): \
                            tokens of other accounts stay in the store until those sign in again and out";

/// Whether a record of the sign-ins is damaged.
fn is_damage(error: &CommandError) -> bool {
    matches!(error, CommandError::Plugin(Error::SignIn(error)) if error.code == "store-damaged")
}

/// Signs one account out, which `told` names to the person.
async fn sign_out(
    plugin: &Plugin,
    config: &Config,
    id: &str,
    told: &str,
    page_leads_to: Option<&str>,
) -> Result<(), CommandError> {
    // The account has to be known for that.
    let page = plugin.sign_out_url(id, page_leads_to).await?;
    plugin.sign_out(id).await?;
    console::result(&format!("Signed out {told}."));
    end_in_browser(config, &page).await;
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
