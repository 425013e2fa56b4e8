//! `GetUserDetailsFromGraph`: the whole Microsoft Graph profile of the person who is signed in on this machine, or who
//! calls a remote server.

use std::sync::Arc;

use async_trait::async_trait;
use base::policy::Rule;
use caller::local;
use entra::graph::profile::{self, PROFILE_PROPERTIES, PROFILE_SCOPE};
use rmcp::model::{JsonObject, Tool as Description};
use serde_json::json;

use super::{nullable_string, object, reads, LocalCall, LocalTool, RemoteCall, RemoteTool, Tool, ToolError};

pub(super) struct GetUserDetailsFromGraph;

impl Tool for GetUserDetailsFromGraph {
    fn name(&self) -> &'static str {
        "GetUserDetailsFromGraph"
    }

    fn describe(&self) -> Description {
        Description::new(
            self.name(),
            "Returns the profile of the signed-in user from Microsoft Graph: name, mail address, job title, office, \
             phone numbers. Takes no arguments. Asks the user to sign in if needed.",
            object(json!({ "type": "object", "properties": {}, "additionalProperties": false })),
        )
        .with_title("Get user details from Microsoft Graph")
        .with_raw_output_schema(output_schema())
        .with_annotations(reads("Get user details from Microsoft Graph"))
    }
}

#[async_trait(?Send)]
impl LocalTool for GetUserDetailsFromGraph {
    async fn call(&self, call: &LocalCall<'_>, _arguments: &JsonObject) -> Result<String, ToolError> {
        let env = &call.person.entra;
        let tokens = call.tokens(vec![profile::profile_scope(env)]);
        Ok(local::profile::me(env, &tokens, call.account().await.as_deref()).await?.to_string())
    }
}

#[async_trait(?Send)]
impl RemoteTool for GetUserDetailsFromGraph {
    fn rule(&self) -> Rule {
        Rule::users()
    }

    async fn call(&self, call: &RemoteCall<'_>, _arguments: &JsonObject) -> Result<String, ToolError> {
        Ok(profile::whole(call.env, call.who, &call.user_tokens(PROFILE_SCOPE)?).await?)
    }
}

/// The schema of Graph's `user` as far as it is asked for. Graph answers `null` for what is not filled in.
fn output_schema() -> Arc<JsonObject> {
    let mut properties = JsonObject::new();
    for name in PROFILE_PROPERTIES {
        let schema = match name {
            "id" => json!({ "type": "string" }),
            "businessPhones" => json!({ "type": "array", "items": { "type": "string" } }),
            _ => nullable_string(),
        };
        properties.insert(name.to_owned(), schema);
    }
    object(json!({ "type": "object", "properties": properties, "required": ["id"] }))
}
