//! Tools that read Graph as their caller. Each answer says which caller the tool was told about, so that a test can
//! compare it with the mailbox that Graph has answered from.
#![cfg(target_family = "wasm")]

use serde_json::{Value, json};
use test_tools::http::{Request, seen};
use test_tools::{Caller, Content, Guest, Hints, Tool, ToolError, tool};

const GRAPH: &str = "https://graph.microsoft.com/v1.0";

struct Mail;
test_tools::export!(Mail with_types_in test_tools);

impl Guest for Mail {
    fn list_tools() -> Vec<Tool> {
        let reads = Hints::READ_ONLY | Hints::OPEN_WORLD;
        vec![
            Tool {
                title: Some("Newest mail".to_owned()),
                input_schema: json!({
                    "type": "object",
                    "properties": { "top": { "type": "integer", "minimum": 1, "maximum": 50 } },
                })
                .to_string(),
                output_schema: Some(json!({ "type": "object", "required": ["caller", "messages"] }).to_string()),
                ..tool("list_mail", "Lists the newest messages in the caller's mailbox.", reads)
            },
            tool("who_am_i", "Says what the tool knows of its caller, without a request.", Hints::READ_ONLY),
            tool("read_profile", "Asks Graph for the caller's profile, which takes another permission.", reads),
        ]
    }

    fn call(name: String, arguments: String, caller: Caller) -> Result<Content, ToolError> {
        let arguments: Value = serde_json::from_str(&arguments)
            .map_err(|error| ToolError::InvalidArguments(format!("the arguments are no JSON: {error}")))?;
        match name.as_str() {
            "list_mail" => list_mail(&arguments, &caller),
            "who_am_i" => Ok(Content::Json(person(&caller).to_string())),
            "read_profile" => {
                let result = Request::get(&format!("{GRAPH}/me")).send();
                Ok(Content::Json(json!({ "caller": caller.object_id, "graph": seen(result) }).to_string()))
            }
            _ => Err(ToolError::InvalidArguments(format!("there is no tool {name}"))),
        }
    }
}

fn list_mail(arguments: &Value, caller: &Caller) -> Result<Content, ToolError> {
    let top = arguments.get("top").map_or(Some(5), Value::as_u64);
    let top = top.ok_or_else(|| ToolError::InvalidArguments("top: a number from 1 to 50 is expected".to_owned()))?;
    let url = format!("{GRAPH}/me/messages?$top={top}&$select=subject,from,toRecipients");
    let answer = Request::get(&url).send().map_err(|refused| ToolError::Failed(format!("Graph: {refused:?}")))?;
    if answer.status != 200 {
        return Err(ToolError::Failed(format!("Graph answers {}: {}", answer.status, answer.json()["error"]["code"])));
    }
    let message = |message: &Value| {
        json!({
            "subject": message["subject"],
            "from": message["from"]["emailAddress"]["address"],
            "to": message["toRecipients"][0]["emailAddress"]["address"],
        })
    };
    let messages: Vec<Value> = answer.json()["value"].as_array().into_iter().flatten().map(message).collect();
    Ok(Content::Json(json!({ "caller": caller.object_id, "messages": messages }).to_string()))
}

fn person(caller: &Caller) -> Value {
    json!({
        "tenant-id": caller.tenant_id,
        "object-id": caller.object_id,
        "client-id": caller.client_id,
        "scopes": caller.scopes,
        "roles": caller.roles,
        "correlation-id": caller.correlation_id,
    })
}
