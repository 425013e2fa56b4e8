//! `listMyGroups`: the groups that the user who calls is in.

use base::policy::Rule;
use entra::graph::memberships::{self, GROUPS_PERMISSION, Memberships};

use super::tool::{Content, NoArguments, Tool};
use super::{Permission, ToolContext, ToolError};

const GROUPS: Permission = Permission::delegated(GROUPS_PERMISSION);

pub(super) struct ListMyGroups;

impl Tool for ListMyGroups {
    const NAME: &'static str = "listMyGroups";
    const TITLE: &'static str = "List my groups";
    const DESCRIPTION: &'static str = "Returns the groups that the signed-in user is a member of, directly or through other groups: id and display \
         name, from Microsoft Graph. At most 500; `truncated` says whether there are more. Takes no arguments.";
    const GUESTS: bool = true;
    const NEEDS: &'static [Permission] = &[GROUPS];
    type Args = NoArguments;
    type Answer = Memberships;

    fn rule() -> Rule {
        Rule::users()
    }

    async fn call(_: NoArguments, ctx: &ToolContext<'_>) -> Result<Content<Memberships>, ToolError> {
        Content::of(&memberships::of_user(ctx.env, &ctx.tokens(&GROUPS)?).await?)
    }
}
