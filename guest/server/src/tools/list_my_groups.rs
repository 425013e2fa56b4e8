//! `listMyGroups`: the groups that the user who calls is in.

use async_trait::async_trait;
use base::policy::Rule;
use entra::graph::memberships::{self, GROUPS_PERMISSION, MAX_GROUPS};
use rmcp::model::{JsonObject, Tool as Description};
use serde_json::json;

use super::{RemoteCall, RemoteTool, Tool, ToolError, answer, list_of, object, reads};

pub(super) struct ListMyGroups;

impl Tool for ListMyGroups {
    fn name(&self) -> &'static str {
        "listMyGroups"
    }

    fn describe(&self) -> Description {
        Description::new(
            self.name(),
            format!(
                "Returns the groups that the signed-in user is a member of, directly or through other groups: id and \
                 display name, from Microsoft Graph. At most {MAX_GROUPS}; `truncated` says whether there are more. \
                 Takes no arguments."
            ),
            object(json!({ "type": "object", "properties": {}, "additionalProperties": false })),
        )
        .with_title("List my groups")
        .with_raw_output_schema(list_of("groups", MAX_GROUPS, &["displayName"]))
        .with_annotations(reads("List my groups"))
    }
}

#[async_trait(?Send)]
impl RemoteTool for ListMyGroups {
    fn rule(&self) -> Rule {
        Rule::users()
    }

    async fn call(&self, call: &RemoteCall<'_>, _arguments: &JsonObject) -> Result<String, ToolError> {
        answer(&memberships::of_user(call.env, &call.user_tokens(GROUPS_PERMISSION)?).await?)
    }
}
