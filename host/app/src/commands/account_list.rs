//! The accounts that are signed in, as the commands name and list them.

use entra_mcp_plugin::sign_in::Account;

use super::CommandError;
use crate::console::harmless;

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

/// A table of the accounts, with a header. `chosen` is the configured account, if there is one.
pub(super) fn table(accounts: &[Account], chosen: Option<&str>) -> String {
    let chosen = chosen.and_then(|wanted| named(accounts, wanted).ok()).map(|account| &account.home_account_id);
    let mut rows = vec![["USER NAME", "TENANT", "ID", chosen.map_or("", |_| "CHOSEN")].map(str::to_owned)];
    rows.extend(accounts.iter().map(|account| {
        let Account { home_account_id, username, tenant_id, .. } = account;
        let mark = if chosen == Some(home_account_id) { "yes" } else { "" };
        [username.as_str(), tenant_id.as_str(), home_account_id.as_str(), mark].map(harmless)
    }));
    let mut widths = [0; 4];
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

    #[test]
    fn accounts_are_a_table_that_marks_the_configured_one() {
        let plain = "USER NAME              TENANT  ID\n\
                     alice@contoso.example  t       1.t\n\
                     1.t                    t       2.t\n\
                     alice@contoso.example  u       3.u";
        assert_eq!(table(&accounts(), None), plain);
        // It chooses neither.
        assert_eq!(table(&accounts(), Some("alice@contoso.example")), plain);
        let marked = "USER NAME              TENANT  ID   CHOSEN\n\
                      alice@contoso.example  t       1.t\n\
                      1.t                    t       2.t\n\
                      alice@contoso.example  u       3.u  yes";
        assert_eq!(table(&accounts(), Some("3.u")), marked);
    }

    #[test]
    fn the_name_of_a_person_cannot_steer_the_terminal() {
        let hostile = Account { name: "\u{1b}[2J\u{202e}Bob\n".into(), ..account("1", "t", "a\u{1b}]0;x\u{7}\r\n") };
        assert_eq!(line(&hostile), "a ]0;x      [2J Bob   1.t");
        let expected = "USER NAME  TENANT  ID\na ]0;x     t       1.t";
        assert_eq!(table(&[hostile], None), expected);
    }
}
