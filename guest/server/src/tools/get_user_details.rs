//! `getUserDetails`: the Microsoft Graph profile of the user who calls.

use base::policy::Rule;
use entra::graph::profile::{self, Contact, PROFILE_SCOPE};

use super::tool::{Content, NoArguments, Tool};
use super::{Permission, ToolContext, ToolError};

const PROFILE: Permission = Permission::delegated(PROFILE_SCOPE);

pub(super) struct GetUserDetails;

impl Tool for GetUserDetails {
    const NAME: &'static str = "getUserDetails";
    const TITLE: &'static str = "Get user details";
    const DESCRIPTION: &'static str = "Returns the signed-in user's display name, mail address and user principal name from Microsoft Graph. Takes no \
         arguments.";
    const GUESTS: bool = true;
    const NEEDS: &'static [Permission] = &[PROFILE];
    type Args = NoArguments;
    type Answer = Contact;

    fn rule() -> Rule {
        Rule::users()
    }

    async fn call(_: NoArguments, ctx: &ToolContext<'_>) -> Result<Content<Contact>, ToolError> {
        Ok(Content::from_json(profile::contact(ctx.env, ctx.identity()?, &ctx.tokens(&PROFILE)?).await?))
    }
}
