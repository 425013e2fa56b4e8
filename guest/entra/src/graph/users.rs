//! Finding people in the directory.
//!
//! Threat: what is searched for comes from a language model, and becomes part of an OData expression and of a URL. It
//! is a string literal in the one and percent-encoded in the other, whatever is in it.

use std::error::Error;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::client::Source;
use super::collection::{self, CollectionBounds, Query};
use super::error::{Evidence, GraphError};
use crate::entra_world::EntraWorld;

/// The delegated permission that finding people needs.
pub const BASIC_PERMISSION: &str = "User.ReadBasic.All";
/// What an administrator has to grant the application for the same.
pub const APPLICATION_PERMISSION: &str = "User.Read.All";
/// People in an answer. A caller finds a person who is not among them with more of the name.
pub const MAX_USERS: usize = 25;
/// Characters of a search. Graph has names of up to 256; no caller needs to type one.
pub const MAX_QUERY_CHARS: usize = 100;
/// Where the search text may stand at the beginning. All of them can be searched without an index that lags behind.
const SEARCHED: [&str; 5] = ["displayName", "givenName", "surname", "mail", "userPrincipalName"];

/// A person in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Object id.
    pub id: String,
    /// Null if it is not filled in.
    pub display_name: Option<String>,
    /// Null if it is not filled in.
    pub mail: Option<String>,
    /// Null if it is not filled in.
    pub user_principal_name: Option<String>,
}

/// The people that were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundUsers {
    /// The first of them.
    #[schemars(length(max = MAX_USERS))]
    pub users: Vec<User>,
    /// There are more than these.
    pub truncated: bool,
}

/// Finds people whose name, mail address or user principal name begins with `query`.
pub async fn find<E: Error + 'static>(
    env: &EntraWorld<'_>,
    tokens: &Source<'_, E>,
    query: &str,
) -> Result<FoundUsers, GraphError<E>> {
    let path = format!(
        "/users?$select=id,displayName,mail,userPrincipalName&$top={MAX_USERS}&$filter={}",
        encoded(&filter(query))
    );
    let bounds = CollectionBounds { items: MAX_USERS, pages: 1 };
    let found = collection::read(env, tokens, &path, Query::Plain, bounds).await?;
    let users = found.items.into_iter().map(User::deserialize).collect::<Result<_, _>>();
    let users = users.map_err(|_| GraphError::Malformed(Evidence::default()))?;
    Ok(FoundUsers { users, truncated: found.truncated })
}

/// In a string literal of OData nothing is special but the quote, which is doubled.
fn filter(query: &str) -> String {
    let literal = query.replace('\'', "''");
    SEARCHED.map(|property| format!("startswith({property},'{literal}')")).join(" or ")
}

/// Percent-encodes everything that could end a value in a query. A blank is `%20`: not every server reads `+` as one.
fn encoded(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server reads out of the URL.
    fn read_back(query: &str) -> String {
        let path = format!("a=b&$filter={}", encoded(&filter(query)));
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{path}");
        let pairs: Vec<_> = form_urlencoded::parse(path.as_bytes()).into_owned().collect();
        let [_, (name, value)] = pairs.as_slice() else { panic!("{path}") };
        assert_eq!(name, "$filter");
        value.clone()
    }

    #[test]
    fn a_search_is_one_literal_in_five_comparisons_whatever_is_in_it() {
        for query in [
            "ali",
            "O'Neil",
            "') or startswith(displayName,'",
            "'",
            "''",
            "a&$top=999",
            "a#b",
            "a?b=c",
            "a+b c",
            "100%25",
            "%27",
            "\\'",
            "Zoë \u{4e2d}\u{1f600}",
            "\u{ff07}\u{2019}",
        ] {
            let text = read_back(query);
            let literals: Vec<&str> = text.split(" or startswith(").collect();
            let comparison = |property: &str| format!("startswith({property},'{}')", query.replace('\'', "''"));
            assert_eq!(text, SEARCHED.map(comparison).join(" or "));
            // Quotes come in pairs, so that none of them ends a literal early.
            for part in literals.iter().filter(|_| !query.contains(" or ")) {
                assert_eq!(part.matches('\'').count() % 2, 0, "{part}");
            }
        }
        assert_eq!(filter("O'Neil").matches("'O''Neil'").count(), SEARCHED.len());
        assert_eq!(encoded("a b+c'&#%"), "a%20b%2Bc%27%26%23%25");
    }
}
