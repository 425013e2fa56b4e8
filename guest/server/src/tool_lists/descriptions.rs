//! Checks what a server says of its tools.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use base::strict_json;
use rmcp::model::{JsonObject, Tool as Description, ToolAnnotations};
use serde_json::Value;
use world::provided_tools::{ProvidedTool, ToolHints};

/// Tools of one server. A model can hardly choose among more, and each of them is sent to every client.
const MAX_TOOLS: usize = 256;
/// Characters of a name: what clients take (MCP 2025-11-25 recommends 1 to 128; some models take 64).
const MAX_NAME: usize = 64;
/// Bytes of a title: one line.
const MAX_TITLE: usize = 256;
/// Bytes of a description: some pages of text.
const MAX_DESCRIPTION: usize = 16 * 1024;
/// Bytes of a schema.
const MAX_SCHEMA: usize = 64 * 1024;
/// Bytes of all tools of a server: the answer to `tools/list` is as long, and the host takes no more from an instance.
const MAX_LIST: usize = 1024 * 1024;
/// Values in the schemas of all tools of a server: each may take 600 bytes of an instance, which keeps them.
const MAX_VALUES: usize = 20_000;
/// Depth of nesting of a schema. Bounds recursion, here and in clients.
const MAX_DEPTH: usize = 64;
/// The schema of objects is what arguments and structured answers of MCP are described by.
const OBJECT: &str = "object";

/// How a list breaks the contract (`wit/tool-types.wit`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadList {
    /// There are so many tools.
    #[error("there are {0} tools, and at most {MAX_TOOLS} are allowed")]
    TooMany(usize),
    /// A name that is not of the form. As much of it as fits.
    #[error("a name has to be 1 to {MAX_NAME} characters of A-Z a-z 0-9 _ - . and this is not such a name: {0}")]
    Name(String),
    /// Two tools have this name.
    #[error("two tools are called {0}")]
    Duplicate(String),
    /// A text is longer than that.
    #[error("the {part} of the tool {tool} is longer than {at_most} bytes")]
    TooLong {
        /// The tool.
        tool: String,
        /// Which text.
        part: &'static str,
        /// The bound.
        at_most: usize,
    },
    /// A text that people and models read has control characters in it.
    #[error("the {part} of the tool {tool} has control characters in it")]
    Control {
        /// The tool.
        tool: String,
        /// Which text.
        part: &'static str,
    },
    /// A schema is no JSON object with the type `object`, has a name twice in one object, or is nested too deep.
    #[error("the {part} of the tool {tool} is not the JSON Schema of an object")]
    Schema {
        /// The tool.
        tool: String,
        /// Which schema.
        part: &'static str,
    },
    /// All tools together are more than an instance keeps.
    #[error("the tools have more than {MAX_LIST} bytes, or their schemas more than {MAX_VALUES} values")]
    TooLarge,
}

/// The tools as `tools/list` describes them, if all of them are as the contract says.
pub(super) fn checked(tools: Vec<ProvidedTool>) -> Result<Rc<[Description]>, BadList> {
    if tools.len() > MAX_TOOLS {
        return Err(BadList::TooMany(tools.len()));
    }
    let mut room = Room { bytes: MAX_LIST, values: MAX_VALUES };
    let mut names = BTreeSet::new();
    let mut descriptions = Vec::with_capacity(tools.len());
    for tool in tools {
        if !is_name(&tool.name) {
            return Err(BadList::Name(tool.name.chars().take(MAX_NAME).collect()));
        }
        if !names.insert(tool.name.clone()) {
            return Err(BadList::Duplicate(tool.name));
        }
        descriptions.push(described(tool, &mut room)?);
    }
    Ok(descriptions.into())
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits)
}

/// What is left for the rest of a list.
struct Room {
    bytes: usize,
    values: usize,
}

impl Room {
    fn take(&mut self, bytes: usize, values: usize) -> Result<(), BadList> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(BadList::TooLarge)?;
        self.values = self.values.checked_sub(values).ok_or(BadList::TooLarge)?;
        Ok(())
    }
}

fn described(tool: ProvidedTool, room: &mut Room) -> Result<Description, BadList> {
    let ProvidedTool { name, title, description, input_schema, output_schema, hints } = tool;
    room.take(name.len() + title.as_ref().map_or(0, String::len) + description.len(), 0)?;
    if let Some(title) = &title {
        check_text(&name, "title", title, MAX_TITLE, |_| false)?;
    }
    check_text(&name, "description", &description, MAX_DESCRIPTION, |c| matches!(c, '\n' | '\r' | '\t'))?;
    let takes = schema(&name, "input schema", &input_schema, room)?;
    let answers = match &output_schema {
        Some(text) => Some(schema(&name, "output schema", text, room)?),
        None => None,
    };
    let ToolHints { read_only, destructive, idempotent, open_world } = hints;
    let hints = ToolAnnotations::new();
    let hints = hints.read_only(read_only).destructive(destructive).idempotent(idempotent).open_world(open_world);
    let mut described = Description::new(name, description, takes).with_annotations(hints);
    described.title = title;
    described.output_schema = answers;
    Ok(described)
}

fn check_text(
    tool: &str,
    part: &'static str,
    text: &str,
    at_most: usize,
    may_break: impl Fn(char) -> bool,
) -> Result<(), BadList> {
    if text.len() > at_most {
        return Err(BadList::TooLong { tool: tool.to_owned(), part, at_most });
    }
    if text.chars().any(|c| c.is_control() && !may_break(c)) {
        return Err(BadList::Control { tool: tool.to_owned(), part });
    }
    Ok(())
}

fn schema(tool: &str, part: &'static str, text: &str, room: &mut Room) -> Result<Arc<JsonObject>, BadList> {
    if text.len() > MAX_SCHEMA {
        return Err(BadList::TooLong { tool: tool.to_owned(), part, at_most: MAX_SCHEMA });
    }
    // Before it is parsed.
    room.take(text.len(), strict_json::structure(text.as_bytes()).count())?;
    match strict_json::parse(text.as_bytes(), MAX_DEPTH) {
        Ok(Value::Object(schema)) if schema.get("type").and_then(Value::as_str) == Some(OBJECT) => Ok(Arc::new(schema)),
        _ => Err(BadList::Schema { tool: tool.to_owned(), part }),
    }
}

#[cfg(test)]
mod tests {
    use world::testing::provided_tool;

    use super::*;

    fn check(tool: ProvidedTool) -> Result<Rc<[Description]>, BadList> {
        checked(vec![tool])
    }

    #[test]
    fn a_tool_is_described_as_its_author_says() {
        let output_schema = Some(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#.to_owned());
        let hints = ToolHints { read_only: false, destructive: true, idempotent: false, open_world: true };
        let tool = ProvidedTool {
            title: Some("Send".to_owned()),
            description: "Sends.\n\tOnce.".to_owned(),
            output_schema,
            hints,
            ..provided_tool("mail.send-1_A")
        };
        let described = serde_json::to_value(&check(tool).unwrap()[0]).unwrap();
        let expected = serde_json::json!({
            "name": "mail.send-1_A",
            "title": "Send",
            "description": "Sends.\n\tOnce.",
            "inputSchema": { "type": "object" },
            "outputSchema": { "type": "object", "properties": { "a": { "type": "string" } } },
            "annotations": {
                "readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": true,
            },
        });
        assert_eq!(described, expected);
    }

    #[test]
    fn a_name_that_rules_cannot_name_is_refused() {
        let long = "a".repeat(65);
        for name in ["", " ", "a b", "a/b", "a\n", "a\u{200b}", "\u{430}", "a\"", long.as_str()] {
            let shown = name.chars().take(64).collect();
            assert_eq!(check(provided_tool(name)).err(), Some(BadList::Name(shown)), "{name:?}");
        }
        assert!(check(provided_tool(&"a".repeat(64))).is_ok());
    }

    #[test]
    fn two_tools_of_one_name_are_refused_and_case_tells_names_apart() {
        let twice = checked(vec![provided_tool("a"), provided_tool("b"), provided_tool("a")]);
        assert_eq!(twice.err(), Some(BadList::Duplicate("a".to_owned())));
        assert_eq!(checked(vec![provided_tool("a"), provided_tool("A")]).unwrap().len(), 2);
    }

    #[test]
    fn there_are_at_most_256_tools() {
        let tools = |count: usize| (0..count).map(|number| provided_tool(&format!("t{number}"))).collect();
        assert_eq!(checked(tools(256)).unwrap().len(), 256);
        assert_eq!(checked(tools(257)).err(), Some(BadList::TooMany(257)));
    }

    #[test]
    fn texts_are_bounded_and_have_no_control_characters() {
        let too_long = |part, at_most| Some(BadList::TooLong { tool: "a".to_owned(), part, at_most });
        let control = |part| Some(BadList::Control { tool: "a".to_owned(), part });
        let titled = |title: String| check(ProvidedTool { title: Some(title), ..provided_tool("a") }).err();
        let about = |description: String| check(ProvidedTool { description, ..provided_tool("a") }).err();
        assert_eq!(titled("x".repeat(256)), None);
        assert_eq!(titled("x".repeat(257)), too_long("title", 256));
        assert_eq!(titled("a\nb".to_owned()), control("title"));
        assert_eq!(about("x".repeat(16 * 1024)), None);
        assert_eq!(about("x".repeat(16 * 1024 + 1)), too_long("description", 16 * 1024));
        assert_eq!(about("\u{1b}[2J".to_owned()), control("description"));
    }

    #[test]
    fn a_schema_is_a_json_object_with_the_type_object() {
        let bad = |part| Some(BadList::Schema { tool: "a".to_owned(), part });
        let nested = format!(r#"{{"type":"object","x":{}1{}}}"#, r#"{"a":"#.repeat(64), "}".repeat(64));
        for schema in [
            "",
            "{",
            "[]",
            "true",
            "{}",
            r#"{"type":"string"}"#,
            r#"{"type":["object"]}"#,
            r#"{"type":"object"} {}"#,
            r#"{"type":"object","type":"object"}"#,
            nested.as_str(),
        ] {
            let schema = schema.to_owned();
            let takes = ProvidedTool { input_schema: schema.clone(), ..provided_tool("a") };
            assert_eq!(check(takes).err(), bad("input schema"), "{schema}");
            let answers = ProvidedTool { output_schema: Some(schema.clone()), ..provided_tool("a") };
            assert_eq!(check(answers).err(), bad("output schema"), "{schema}");
        }
        let long = format!(r#"{{"type":"object","x":"{}"}}"#, "x".repeat(64 * 1024));
        let expected = BadList::TooLong { tool: "a".to_owned(), part: "input schema", at_most: 64 * 1024 };
        assert_eq!(check(ProvidedTool { input_schema: long, ..provided_tool("a") }).err(), Some(expected));
    }

    #[test]
    fn a_list_is_bounded_as_a_whole() {
        let wordy = |number: usize| ProvidedTool {
            description: "x".repeat(16 * 1024),
            input_schema: format!(r#"{{"type":"object","x":"{}"}}"#, "x".repeat(60 * 1024)),
            ..provided_tool(&format!("t{number}"))
        };
        assert!(checked((0..13).map(wordy).collect()).is_ok());
        assert_eq!(checked((0..14).map(wordy).collect()).err(), Some(BadList::TooLarge));
        let many = format!(r#"{{"type":"object","x":[{}1]}}"#, "1,".repeat(10_000));
        let detailed =
            |number: usize| ProvidedTool { input_schema: many.clone(), ..provided_tool(&format!("t{number}")) };
        assert!(checked(vec![detailed(1)]).is_ok());
        assert_eq!(checked((0..2).map(detailed).collect()).err(), Some(BadList::TooLarge));
    }
}
