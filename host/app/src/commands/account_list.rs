//! The accounts that are signed in, as the commands name and list them.

use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::sign_in::Account;
use serde_json::{Value, json};

use super::CommandError;
use crate::composition::applications::Application;
use crate::composition::public_client::PersonStore;
use crate::config::{Config, SettingOrigin, Sources};
use crate::console::{self, harmless};

/// Whose accounts a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of the configured application, in the configured tenant and cloud.
    Application,
    /// All in the store.
    Store,
}

impl Scope {
    /// All, unless the command line names a tenant, an application or a cloud.
    pub fn of(sources: &Sources) -> Self {
        let names = |(name, origin): &(&str, SettingOrigin)| {
            *origin == SettingOrigin::Flag && ["tenant-id", "client-id", "cloud", "authority"].contains(name)
        };
        if sources.origins().iter().any(names) { Self::Application } else { Self::Store }
    }

    /// The same for a sign-out. It goes to other applications only if the command line names an account, or `all` of them: an
    /// account that is configured is that of the configured application.
    pub fn of_sign_out(sources: &Sources, all: bool) -> Self {
        let is_named = sources.origins().contains(&("account", SettingOrigin::Flag));
        if all || is_named { Self::of(sources) } else { Self::Application }
    }
}

/// An account, and the application that it is signed in to.
pub(super) struct Listed {
    pub(super) application: Application,
    pub(super) account: Account,
}

impl Listed {
    pub(super) fn all(application: &Application, accounts: Vec<Account>) -> impl Iterator<Item = Self> {
        accounts.into_iter().map(move |account| Self { application: application.clone(), account })
    }

    /// As the commands print it with `--json`.
    pub(super) fn json(&self) -> Value {
        let Self { application, account } = self;
        json!({
            "homeAccountId": account.home_account_id,
            "username": account.username,
            "name": account.name,
            "tenantId": account.tenant_id,
            "objectId": account.object_id,
            "clientId": application.client_id,
            "authority": authority(application),
        })
    }
}

/// How an application is named to the person.
pub(super) fn place(application: &Application) -> String {
    format!("{} at {}", harmless(&application.client_id), harmless(&authority(application)))
}

/// The URL of the authority with the tenant, as both are configured.
fn authority(application: &Application) -> String {
    format!("{}/{}", application.authority, application.tenant)
}

/// An application of the store, besides the configured one.
pub(super) struct Other {
    pub(super) application: Application,
    pub(super) plugin: Plugin,
    pub(super) accounts: Vec<Account>,
}

/// What was found of the other applications of the store.
#[derive(Default)]
pub(super) struct Others {
    pub(super) seen: Vec<Other>,
    /// There may be accounts of applications that could not be looked at.
    pub(super) are_more: bool,
}

/// The other applications that a command is about. What cannot be read of them is said, and does not hide the rest.
pub(super) async fn others(config: &Config, person: &PersonStore, scope: Scope) -> Others {
    let mut others = Others::default();
    if scope == Scope::Application {
        return others;
    }
    let noted = person.applications().await.unwrap_or_else(|error| {
        console::notice(&format!("entra-mcp: accounts of other applications cannot be listed: {error}"));
        others.are_more = true;
        Vec::new()
    });
    let configured = Application::of(&config.settings);
    for application in noted.into_iter().filter(|application| *application != configured) {
        match accounts_of(config, person, &application).await {
            Ok((plugin, accounts)) => others.seen.push(Other { application, plugin, accounts }),
            Err(error) => {
                let place = place(&application);
                console::notice(&format!("entra-mcp: the accounts of {place} cannot be listed: {error}"));
                others.are_more = true;
            }
        }
    }
    others
}

async fn accounts_of(
    config: &Config,
    person: &PersonStore,
    application: &Application,
) -> Result<(Plugin, Vec<Account>), CommandError> {
    let plugin = person.builder(config, application)?.build()?;
    let accounts = plugin.accounts().await?;
    Ok((plugin, accounts))
}

/// Whether an account is meant, by its id or user name.
pub(super) fn is_meant(account: &Account, wanted: &str) -> bool {
    account.home_account_id == wanted || account.username == wanted
}

/// The account that a person names: by its id, or by a user name that no other account has. A user name does not identify a
/// person.
pub(super) fn named<'a>(accounts: &'a [Account], wanted: &str) -> Result<&'a Account, CommandError> {
    if let Some(account) = accounts.iter().find(|account| account.home_account_id == wanted) {
        return Ok(account);
    }
    let mut named = accounts.iter().filter(|account| account.username == wanted);
    match (named.next(), named.next()) {
        (Some(account), None) => Ok(account),
        (Some(_), Some(_)) => Err(CommandError::Usage(format!(
            "several accounts have the user name {wanted:?}: choose one by its id, as `entra-mcp accounts` lists them"
        ))),
        (None, _) => Err(CommandError::Usage(format!("the account {wanted:?} is not signed in"))),
    }
}

/// A line that names one account.
pub(super) fn line(account: &Account) -> String {
    harmless(&format!("{}  {}  {}", account.username, account.name, account.home_account_id))
}

/// A table of the accounts, with a header. `chosen` is the configured account, if there is one. Applications are shown
/// if there are others than the configured one.
pub(super) fn table(listed: &[Listed], configured: &Application, chosen: Option<&str>) -> String {
    let is_own = |listed: &&Listed| listed.application == *configured;
    let own: Vec<Account> = listed.iter().filter(is_own).map(|listed| listed.account.clone()).collect();
    let chosen = chosen.and_then(|wanted| named(&own, wanted).ok()).map(|account| &account.home_account_id);
    let are_own = own.len() == listed.len();
    let mut header = Vec::from(["USER NAME", "TENANT", "ID"].map(str::to_owned));
    if !are_own {
        header.extend(["APPLICATION", "AUTHORITY"].map(str::to_owned));
    }
    header.extend(chosen.map(|_| "CHOSEN".to_owned()));
    let mut rows = vec![header];
    rows.extend(listed.iter().map(|row| {
        let Listed { application, account } = row;
        let Account { home_account_id, username, tenant_id, .. } = account;
        let mut cells = Vec::from([username, tenant_id, home_account_id].map(|text| harmless(text)));
        if !are_own {
            cells.extend([&application.client_id, &authority(application)].map(|text| harmless(text)));
        }
        let is_chosen = chosen == Some(home_account_id) && is_own(&row);
        cells.extend(is_chosen.then(|| "yes".to_owned()));
        cells
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, HostLayer, Layer};

    #[test]
    fn a_sign_out_goes_to_other_applications_if_the_command_line_names_an_account_or_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "account = 'alice@contoso.example'").unwrap();
        let flags = Layer { host: HostLayer { config: Some(file), ..HostLayer::default() }, ..Layer::default() };
        let environment = || Environment::of(&[("HOME", "/home/u"), ("ENTRA_MCP_ACCOUNT", "alice@contoso.example")]);
        let configured = Sources::read(flags, Environment::of(&[("HOME", "/home/u")])).unwrap();
        let in_environment = Sources::read(Layer::default(), environment()).unwrap();
        for sources in [&configured, &in_environment] {
            assert_eq!(Scope::of_sign_out(sources, false), Scope::Application);
            assert_eq!(Scope::of_sign_out(sources, true), Scope::Store);
        }
        let account = Some("alice@contoso.example".to_owned());
        let named = Layer { account: account.clone(), ..Layer::default() };
        assert_eq!(Scope::of_sign_out(&Sources::read(named, environment()).unwrap(), false), Scope::Store);
        let of_one = Layer { account, tenant_id: Some("contoso.example".to_owned()), ..Layer::default() };
        let of_one = Sources::read(of_one, environment()).unwrap();
        assert_eq!([true, false].map(|all| Scope::of_sign_out(&of_one, all)), [Scope::Application; 2]);
    }

    fn account(object_id: &str, tenant_id: &str, username: &str) -> Account {
        Account {
            home_account_id: format!("{object_id}.{tenant_id}"),
            username: username.into(),
            name: "Alice".into(),
            tenant_id: tenant_id.into(),
            object_id: object_id.into(),
        }
    }

    fn accounts() -> [Account; 3] {
        [
            account("1", "t", "alice@contoso.example"),
            account("2", "t", "1.t"),
            account("3", "u", "alice@contoso.example"),
        ]
    }

    #[test]
    fn an_id_wins_over_a_user_name_and_a_user_name_of_two_accounts_names_neither() {
        let (accounts, usage) = (accounts(), |text: &str| format!("Usage({text:?})"));
        let id = |wanted: &str| match named(&accounts, wanted) {
            Ok(account) => account.home_account_id.clone(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(["1.t", "2.t", "3.u"].map(id), ["1.t", "2.t", "3.u"]);
        let several = "several accounts have the user name \"alice@contoso.example\": choose one by its id, as `entra-mcp \
                       accounts` lists them";
        assert_eq!(id("alice@contoso.example"), usage(several));
        assert_eq!(id("bob"), usage("the account \"bob\" is not signed in"));
        let [_, renamed, other] = &accounts;
        let found = named(std::slice::from_ref(other), "alice@contoso.example").unwrap();
        assert_eq!(found.home_account_id, "3.u");
        assert_eq!(named(std::slice::from_ref(renamed), "1.t").unwrap().home_account_id, "2.t");
    }

    fn application(client_id: &str) -> Application {
        let (authority, tenant) = ("https://login.example".to_owned(), "contoso.example".to_owned());
        Application { authority, tenant, client_id: client_id.to_owned() }
    }

    fn listed(client_id: &str, accounts: &[Account]) -> Vec<Listed> {
        Listed::all(&application(client_id), accounts.to_vec()).collect()
    }

    /// The table of accounts of the configured application.
    fn own(accounts: &[Account], chosen: Option<&str>) -> String {
        table(&listed("c", accounts), &application("c"), chosen)
    }

    #[test]
    fn accounts_of_another_application_are_shown_with_it_and_are_not_the_chosen_one() {
        let [first, _, _] = accounts();
        let mut both = listed("c", std::slice::from_ref(&first));
        both.extend(listed("other", std::slice::from_ref(&first)));
        let place = "https://login.example/contoso.example";
        let expected = format!(
            "USER NAME              TENANT  ID   APPLICATION  {:37}  CHOSEN\n\
             alice@contoso.example  t       1.t  c            {place}  yes\n\
             alice@contoso.example  t       1.t  other        {place}",
            "AUTHORITY"
        );
        assert_eq!(table(&both, &application("c"), Some("1.t")), expected);
    }

    #[test]
    fn accounts_are_a_table_that_marks_the_configured_one() {
        let plain = "USER NAME              TENANT  ID\n\
                     alice@contoso.example  t       1.t\n\
                     1.t                    t       2.t\n\
                     alice@contoso.example  u       3.u";
        assert_eq!(own(&accounts(), None), plain);
        // It chooses neither.
        assert_eq!(own(&accounts(), Some("alice@contoso.example")), plain);
        let marked = "USER NAME              TENANT  ID   CHOSEN\n\
                      alice@contoso.example  t       1.t\n\
                      1.t                    t       2.t\n\
                      alice@contoso.example  u       3.u  yes";
        assert_eq!(own(&accounts(), Some("3.u")), marked);
    }

    #[test]
    fn the_name_of_a_person_cannot_steer_the_terminal() {
        let hostile = Account { name: "\u{1b}[2J\u{202e}Bob\n".into(), ..account("1", "t", "a\u{1b}]0;x\u{7}\r\n") };
        assert_eq!(line(&hostile), "a ]0;x      [2J Bob   1.t");
        let expected = "USER NAME  TENANT  ID\na ]0;x     t       1.t";
        assert_eq!(own(&[hostile], None), expected);
    }
}
