//! The arguments of a tool, as its input schema describes them.
//!
//! A tool that takes arguments refuses every other one: a misspelt name must not quietly change nothing. A tool that
//! takes none looks at none, because some clients send a placeholder to those.

use std::borrow::Cow;

use rmcp::model::JsonObject;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with the arguments, for a model to do it better. What was sent is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// There is one that the tool does not have.
    #[error("there is an unknown argument: this tool takes `{takes}` and no other")]
    Unknown {
        /// Those that it has.
        takes: String,
    },
    /// One is of another type than text, and not what the schema says.
    #[error("the arguments are not what the input schema of this tool describes")]
    Malformed,
    /// A required one is not there.
    #[error("the argument `{0}` is missing")]
    Missing(&'static str),
    /// It is of another type.
    #[error("the argument `{0}` has to be a string")]
    NotText(&'static str),
    /// It is empty but for blanks, or too long.
    #[error("the argument `{name}` has to have 1 to {at_most} characters")]
    Length {
        /// Which one.
        name: &'static str,
        /// The bound.
        at_most: usize,
    },
    /// A line break, a bell, something that turns text around.
    #[error("the argument `{0}` has a control character in it")]
    Control(&'static str),
}

/// A text of `MAX` characters at most, without control characters, and without the blanks around it. There is something in
/// it besides blanks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = ArgumentError;

    fn try_from(text: String) -> Result<Self, ArgumentError> {
        Ok(Self(clean(&text, "text", MAX)?.to_owned()))
    }
}

impl<const MAX: usize> JsonSchema for Text<MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Text{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX })
    }
}

/// Reads arguments that fit `schema`, which is looked at only if there is something to find fault with.
pub(super) fn read<T: DeserializeOwned>(
    arguments: JsonObject,
    schema: impl FnOnce() -> &'static JsonObject,
) -> Result<T, ArgumentError> {
    if arguments.is_empty()
        && let Ok(arguments) = T::deserialize(Value::Object(JsonObject::new()))
    {
        return Ok(arguments);
    }
    let schema = schema();
    let properties = schema.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty());
    let Some(properties) = properties else {
        return T::deserialize(Value::Object(JsonObject::new())).map_err(|_| ArgumentError::Malformed);
    };
    if arguments.keys().any(|name| !properties.contains_key(name)) {
        let takes = properties.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
        return Err(ArgumentError::Unknown { takes });
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| !arguments.contains_key(*name)) {
        return Err(ArgumentError::Missing(missing));
    }
    for (name, property) in properties {
        if let Some(value) = arguments.get(name) {
            check(name, property, value)?;
        }
    }
    T::deserialize(Value::Object(arguments)).map_err(|_| ArgumentError::Malformed)
}

/// Finds what is wrong with an argument that is a [`Text`], to say it with its name.
fn check(name: &'static str, property: &'static Value, value: &Value) -> Result<(), ArgumentError> {
    if property.get("type").and_then(Value::as_str) != Some("string") {
        return Ok(());
    }
    let text = value.as_str().ok_or(ArgumentError::NotText(name))?;
    let at_most = property.get("maxLength").and_then(Value::as_u64).and_then(|at_most| usize::try_from(at_most).ok());
    at_most.map_or(Ok(()), |at_most| clean(text, name, at_most).map(drop))
}

/// What a [`Text`] keeps of this.
fn clean<'t>(text: &'t str, name: &'static str, at_most: usize) -> Result<&'t str, ArgumentError> {
    // Before trimming, which would take some of them away.
    if text.chars().any(is_control) {
        return Err(ArgumentError::Control(name));
    }
    let text = text.trim();
    if text.is_empty() || text.chars().count() > at_most {
        return Err(ArgumentError::Length { name, at_most });
    }
    Ok(text)
}

/// Control characters, and those of Unicode's formats that reorder text or cannot be seen.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::schema::of_arguments;
    use crate::tools::tool::NoArguments;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Search {
        query: Text<5>,
    }

    fn schema<T: JsonSchema>() -> &'static JsonObject {
        Box::leak(Box::new(of_arguments::<T>()))
    }

    fn read(arguments: Value) -> Result<String, ArgumentError> {
        let Value::Object(arguments) = arguments else { panic!("{arguments}") };
        super::read::<Search>(arguments, schema::<Search>).map(|search| search.query.as_str().to_owned())
    }

    #[test]
    fn a_tool_that_takes_nothing_looks_at_nothing() {
        for arguments in [json!({}), json!({ "placeholder": true })] {
            let Value::Object(arguments) = arguments else { panic!("{arguments}") };
            assert!(super::read::<NoArguments>(arguments, schema::<NoArguments>).is_ok());
        }
    }

    #[test]
    fn of_several_arguments_all_are_named_and_other_types_are_not_repeated() {
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "it is about what is refused")]
        struct Page {
            #[serde(default)]
            at: u32,
            query: Text<5>,
        }
        let read = |arguments: Value| {
            let Value::Object(arguments) = arguments else { panic!("{arguments}") };
            super::read::<Page>(arguments, schema::<Page>).map(drop)
        };
        assert_eq!(read(json!({ "query": "a" })), Ok(()));
        assert_eq!(
            read(json!({ "query": "a", "top": 1 })),
            Err(ArgumentError::Unknown { takes: "at`, `query".to_owned() })
        );
        assert_eq!(read(json!({ "at": 1 })), Err(ArgumentError::Missing("query")));
        assert_eq!(read(json!({ "query": "a", "at": "secret" })), Err(ArgumentError::Malformed));
    }

    #[test]
    fn text_is_taken_without_the_blanks_around_it() {
        for (text, expected) in
            [("a", "a"), ("  ab  ", "ab"), ("abcde", "abcde"), ("O'N\u{e9}\u{1f600}", "O'N\u{e9}\u{1f600}")]
        {
            assert_eq!(read(json!({ "query": text })).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn everything_else_is_refused_and_why_is_said() {
        let length = ArgumentError::Length { name: "query", at_most: 5 };
        for (arguments, expected) in [
            (json!({}), ArgumentError::Missing("query")),
            (json!({ "Query": "a" }), ArgumentError::Unknown { takes: "query".to_owned() }),
            (json!({ "query": "a", "top": 999 }), ArgumentError::Unknown { takes: "query".to_owned() }),
            (json!({ "query": null }), ArgumentError::NotText("query")),
            (json!({ "query": ["a"] }), ArgumentError::NotText("query")),
            (json!({ "query": 5 }), ArgumentError::NotText("query")),
            (json!({ "query": "" }), length.clone()),
            (json!({ "query": "   " }), length.clone()),
            (json!({ "query": "abcdef" }), length.clone()),
            (json!({ "query": "\u{e9}".repeat(6) }), length),
            (json!({ "query": "a\n" }), ArgumentError::Control("query")),
            (json!({ "query": "a\u{0}b" }), ArgumentError::Control("query")),
            (json!({ "query": "\u{85}" }), ArgumentError::Control("query")),
            (json!({ "query": "\u{202e}a" }), ArgumentError::Control("query")),
            (json!({ "query": "a\u{200b}" }), ArgumentError::Control("query")),
        ] {
            assert_eq!(read(arguments.clone()), Err(expected), "{arguments}");
        }
    }
}
