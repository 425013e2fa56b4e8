//! What the tool and its answer are to look like.

use serde_json::{Map, Value, json};

pub(crate) const TOOL: &str = "GetUserDetailsFromGraph";

/// Alice, as Graph describes her to the tool.
pub(crate) fn alice() -> Value {
    json!({
        "id": "11111111-0000-4000-a000-000000000001",
        "displayName": "Alice Anderson",
        "givenName": "Alice",
        "surname": "Anderson",
        "userPrincipalName": "alice@contoso.example",
        "mail": "alice@contoso.example",
        "jobTitle": "Product Manager",
        "officeLocation": "12/1110",
        "mobilePhone": "+1 555 0100",
        "businessPhones": ["+1 555 0101"],
        "preferredLanguage": "en-US",
    })
}

/// Checks the list of tools; returns the output schema of the one.
pub(crate) fn assert_tools(tools: &Value) -> &Value {
    let [tool] = tools.as_array().unwrap().as_slice() else { panic!("one tool, not {tools}") };
    assert_eq!(tool["name"], TOOL);
    assert_eq!(tool["title"], "Get user details from Microsoft Graph");
    assert!(tool["description"].as_str().unwrap().contains("profile"), "{tool}");
    assert_eq!(tool["inputSchema"], json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    let annotations = &tool["annotations"];
    assert_eq!(annotations["readOnlyHint"], true);
    assert_eq!(annotations["destructiveHint"], false);
    assert_eq!(annotations["idempotentHint"], true);
    assert_eq!(annotations["openWorldHint"], true);
    &tool["outputSchema"]
}

/// Checks a result that carries Alice's profile.
pub(crate) fn assert_profile(result: &Value, schema: &Value) {
    assert_ne!(result["isError"], true, "{result}");
    let [content] = result["content"].as_array().unwrap().as_slice() else { panic!("one content, not {result}") };
    assert_eq!(content["type"], "text");
    let structured = &result["structuredContent"];
    let text: Value = serde_json::from_str(content["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, *structured, "the text and the structured content differ");
    let mut profile = structured.clone();
    // Graph adds where its description of the answer is.
    let context = profile.as_object_mut().unwrap().remove("@odata.context");
    assert!(context.is_some_and(|context| context.as_str().unwrap().contains("/v1.0/$metadata#users")));
    assert_eq!(profile, alice());
    assert!(fits(structured, schema), "{structured} does not fit {schema}");
}

/// Checks a result that tells of a failure; returns what it says.
pub(crate) fn assert_error(result: &Value) -> &str {
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(result["structuredContent"], Value::Null);
    result["content"][0]["text"].as_str().unwrap()
}

/// Whether a value fits a schema. Supports what the server's schemas use: types, alternatives, properties, items.
fn fits(value: &Value, schema: &Value) -> bool {
    if let Some(alternatives) = schema["anyOf"].as_array() {
        return alternatives.iter().any(|schema| fits(value, schema));
    }
    let nothing = Map::new();
    match value {
        Value::Null => schema["type"] == "null",
        Value::String(_) => schema["type"] == "string",
        Value::Array(items) => schema["type"] == "array" && items.iter().all(|item| fits(item, &schema["items"])),
        Value::Object(members) => {
            let properties = schema["properties"].as_object().unwrap_or(&nothing);
            let mut required = schema["required"].as_array().into_iter().flatten();
            schema["type"] == "object"
                && required.all(|name| members.contains_key(name.as_str().unwrap()))
                && members.iter().all(|(name, member)| properties.get(name).is_none_or(|schema| fits(member, schema)))
        }
        Value::Bool(_) | Value::Number(_) => false,
    }
}
