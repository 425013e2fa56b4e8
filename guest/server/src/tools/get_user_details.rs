//! `getUserDetails`: the Microsoft Graph profile of the user who calls.

use async_trait::async_trait;
use base::policy::Rule;
use entra::graph::profile::{self, CONTACT_PROPERTIES, PROFILE_SCOPE};
use rmcp::model::{JsonObject, Tool as Description};
use serde_json::json;

use super::{RemoteCall, RemoteTool, Tool, ToolError, nullable_string, object, reads};

pub(super) struct GetUserDetails;

impl Tool for GetUserDetails {
    fn name(&self) -> &'static str {
        "getUserDetails"
    }

    fn describe(&self) -> Description {
        let properties: JsonObject =
            CONTACT_PROPERTIES.iter().map(|name| ((*name).to_owned(), nullable_string())).collect();
        Description::new(
            self.name(),
            "Returns the signed-in user's display name, mail address and user principal name from Microsoft Graph. \
             Takes no arguments.",
            object(json!({ "type": "object", "properties": {}, "additionalProperties": false })),
        )
        .with_title("Get user details")
        .with_raw_output_schema(object(json!({
            "type": "object",
            "properties": properties,
            "required": CONTACT_PROPERTIES,
        })))
        .with_annotations(reads("Get user details"))
    }
}

#[async_trait(?Send)]
impl RemoteTool for GetUserDetails {
    fn rule(&self) -> Rule {
        Rule::users()
    }

    async fn call(&self, call: &RemoteCall<'_>, _arguments: &JsonObject) -> Result<String, ToolError> {
        Ok(profile::contact(call.env, call.who, &call.user_tokens(PROFILE_SCOPE)?).await?)
    }
}
