//! `findUser`: people of the organization, by the beginning of their name or address.
//!
//! For a user Graph is asked in that user's name, so that a user finds only people that they may see anyway. An
//! application that calls for itself has no such view; it gets that of the server's own application, and no more than
//! the same four properties.

use base::policy::Rule;
use entra::graph::users::{self, APPLICATION_PERMISSION, BASIC_PERMISSION, FoundUsers, MAX_QUERY_CHARS};
use schemars::JsonSchema;
use serde::Deserialize;

use super::arguments::Text;
use super::tool::{Content, Tool};
use super::{Permission, ToolContext, ToolError};

const DIRECTORY: Permission = Permission::delegated(BASIC_PERMISSION).or_application(APPLICATION_PERMISSION);

pub(super) struct FindUser;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// The beginning of a name or of an address, in any case of letters.
    query: Text<MAX_QUERY_CHARS>,
}

impl Tool for FindUser {
    const NAME: &'static str = "findUser";
    const TITLE: &'static str = "Find a user";
    const DESCRIPTION: &'static str = "Finds people in the organization's directory (Microsoft Graph) whose display name, given name, surname, mail \
         address or user principal name begins with `query`. Returns id, display name, mail address and user principal \
         name of at most 25; `truncated` says whether there are more: then search for more of the name.";
    // Guests see the directory that they visit as its settings say; a role that they have been given by mistake, or for
    // another tool, is no reason to let them search it.
    const GUESTS: bool = false;
    const NEEDS: &'static [Permission] = &[DIRECTORY];
    type Args = Search;
    type Answer = FoundUsers;

    fn rule() -> Rule {
        Rule::users_and_apps().with_any_role(&["Directory.Reader"])
    }

    async fn call(search: Search, ctx: &ToolContext<'_>) -> Result<Content<FoundUsers>, ToolError> {
        Content::of(&users::find(ctx.env, &ctx.tokens(&DIRECTORY)?, search.query.as_str()).await?)
    }
}
