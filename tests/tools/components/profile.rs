//! The built-in tool once more, as a component: so that a benchmark has the same work done on both ways.
#![cfg(target_family = "wasm")]

use test_tools::http::Request;
use test_tools::{Caller, Content, Guest, Hints, Tool, ToolError, tool};

/// The fields that the built-in tool asks for.
const PROFILE: &str = "https://graph.microsoft.com/v1.0/me?$select=displayName,userPrincipalName,mail";

struct Profile;
test_tools::export!(Profile with_types_in test_tools);

impl Guest for Profile {
    fn list_tools() -> Vec<Tool> {
        vec![tool("getUserDetails", "Reads the caller's profile.", Hints::READ_ONLY | Hints::OPEN_WORLD)]
    }

    fn call(_: String, _: String, _: Caller) -> Result<Content, ToolError> {
        let answer =
            Request::get(PROFILE).send().map_err(|refused| ToolError::Failed(format!("Graph: {refused:?}")))?;
        if answer.status != 200 {
            return Err(ToolError::Failed(format!("Graph answers {}", answer.status)));
        }
        let mut profile = answer.json();
        // Graph says what it is made of in fields of its own.
        if let Some(fields) = profile.as_object_mut() {
            fields.retain(|name, _| !name.starts_with('@'));
        }
        Ok(Content::Json(profile.to_string()))
    }
}
