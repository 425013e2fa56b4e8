//! `GetUserDetailsFromGraph`: the whole Microsoft Graph profile of the person that is signed in on this machine, or
//! that calls the remote server.

use base::policy::Rule;
use entra::graph::profile::{PROFILE_SCOPE, Profile};

use super::tool::{Content, NoArguments, Tool};
use super::{Permission, ToolContext, ToolError};

const PROFILE: Permission = Permission::delegated(PROFILE_SCOPE);

pub(super) struct GetUserDetailsFromGraph;

impl Tool for GetUserDetailsFromGraph {
    const NAME: &'static str = "GetUserDetailsFromGraph";
    const TITLE: &'static str = "Get user details from Microsoft Graph";
    const DESCRIPTION: &'static str = "Returns the profile of the signed-in user from Microsoft Graph: name, mail address, job title, office, phone \
         numbers. Takes no arguments. Asks the user to sign in if needed.";
    const GUESTS: bool = true;
    const NEEDS: &'static [Permission] = &[PROFILE];
    type Args = NoArguments;
    type Answer = Profile;

    fn rule() -> Rule {
        Rule::users()
    }

    async fn call(_: NoArguments, ctx: &ToolContext<'_>) -> Result<Content<Profile>, ToolError> {
        Ok(Content::from_json(ctx.caller.profile(ctx.env, &ctx.tokens(&PROFILE)?).await?))
    }
}
