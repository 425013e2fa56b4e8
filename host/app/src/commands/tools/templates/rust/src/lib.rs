use entra_mcp::plugin::tool_types::Hints;
use exports::entra_mcp::plugin::tool_provider::{Caller, Content, Guest, Tool, ToolError};
use serde_json::Value;
use wstd::http::{Body, Client, Error, Request};

wit_bindgen::generate!({ path: "wit", world: "tool", generate_all });

const MESSAGES: &str = "https://graph.microsoft.com/v1.0/me/messages?$top=5";

struct Tools;
export!(Tools);

impl Guest for Tools {
    fn list_tools() -> Vec<Tool> {
        vec![Tool {
            name: "list_mail".into(),
            title: Some("Newest mail".into()),
            description: "Lists the subjects of the five newest messages in your mailbox.".into(),
            input_schema: r#"{"type":"object"}"#.into(),
            output_schema: None,
            hints: Hints::READ_ONLY | Hints::OPEN_WORLD,
        }]
    }

    fn call(_name: String, _arguments: String, _caller: Caller) -> Result<Content, ToolError> {
        match wstd::runtime::block_on(ask(MESSAGES)) {
            Ok(answer) => subjects(&answer),
            Err(error) => Err(ToolError::Failed(error.to_string())),
        }
    }
}

async fn ask(url: &str) -> Result<Value, Error> {
    let request = Request::get(url).body(Body::empty())?;
    let mut answer = Client::new().send(request).await?;
    answer.body_mut().json().await
}

fn subjects(answer: &Value) -> Result<Content, ToolError> {
    let refusal = || ToolError::Failed(answer["error"]["message"].to_string());
    let messages = answer["value"].as_array().ok_or_else(refusal)?;
    let lines: Vec<&str> = messages
        .iter()
        .flat_map(|each| each["subject"].as_str())
        .collect();
    Ok(Content::Text(lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_line_is_a_subject() {
        let answer = json!({ "value": [{ "subject": "Hello" }, { "subject": "Lunch?" }] });
        assert!(matches!(subjects(&answer), Ok(Content::Text(text)) if text == "Hello\nLunch?"));
    }

    #[test]
    fn a_refusal_of_graph_is_an_error_of_the_tool() {
        let answer =
            json!({ "error": { "code": "ErrorAccessDenied", "message": "Access is denied." } });
        assert!(matches!(subjects(&answer), Err(ToolError::Failed(_))));
    }
}
