//! `findUser`: people of the organization, by the beginning of their name or address.
//!
//! For a user Graph is asked in that user's name, so that they find only whom they may see anyway. An application that
//! calls for itself has no such view; it gets that of our own application, and no more than the same four properties.

use async_trait::async_trait;
use base::policy::Rule;
use entra::graph::GraphError;
use entra::graph::users::{self, BASIC_PERMISSION, MAX_QUERY_CHARS, MAX_USERS};
use rmcp::model::{JsonObject, Tool as Description};
use serde_json::json;

use super::arguments::only_text;
use super::{RemoteCall, RemoteTool, Tool, ToolError, answer, list_of, object, reads};

const QUERY: &str = "query";

pub(super) struct FindUser;

impl Tool for FindUser {
    fn name(&self) -> &'static str {
        "findUser"
    }

    fn describe(&self) -> Description {
        Description::new(
            self.name(),
            format!(
                "Finds people in the organization's directory (Microsoft Graph) whose display name, given name, \
                 surname, mail address or user principal name begins with `query`. Returns id, display name, mail \
                 address and user principal name of at most {MAX_USERS}; `truncated` says whether there are more: then \
                 search for more of the name."
            ),
            object(json!({
                "type": "object",
                "properties": {
                    QUERY: {
                        "type": "string",
                        "description": "The beginning of a name or of an address, in any case of letters.",
                        "minLength": 1,
                        "maxLength": MAX_QUERY_CHARS,
                    },
                },
                "required": [QUERY],
                "additionalProperties": false,
            })),
        )
        .with_title("Find a user")
        .with_raw_output_schema(list_of("users", MAX_USERS, &["displayName", "mail", "userPrincipalName"]))
        .with_annotations(reads("Find a user"))
    }
}

#[async_trait(?Send)]
impl RemoteTool for FindUser {
    fn rule(&self) -> Rule {
        Rule::users_and_apps().with_any_role(&["Directory.Reader"])
    }

    async fn call(&self, call: &RemoteCall<'_>, arguments: &JsonObject) -> Result<String, ToolError> {
        let query = only_text(arguments, QUERY, MAX_QUERY_CHARS)?;
        if call.user.is_some() {
            return answer(&users::find(call.env, &call.user_tokens(BASIC_PERMISSION)?, query).await?);
        }
        let tokens = call.app_tokens();
        let found = users::find(call.env, &tokens, query).await;
        if let Err(GraphError::Forbidden(_)) = found {
            // What an administrator grants now is in the next token only.
            tokens.forget().await;
        }
        answer(&found?)
    }
}
