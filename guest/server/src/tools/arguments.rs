//! The arguments of a tool, as its input schema describes them.
//!
//! A tool that takes arguments refuses every other one: a misspelt name must not quietly change nothing. A tool that
//! takes none looks at none, because some clients send a placeholder to those.

use rmcp::model::JsonObject;
use serde_json::Value;

/// What is wrong with the arguments, for a model to do it better. What was sent is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// There is one that the tool does not have.
    #[error("there is an unknown argument: this tool takes `{takes}` and no other")]
    Unknown {
        /// The one that it has.
        takes: &'static str,
    },
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

/// The one argument of a tool, which is text of at most `at_most` characters without control characters. Blanks around
/// it do not count.
pub(super) fn only_text<'a>(
    arguments: &'a JsonObject,
    name: &'static str,
    at_most: usize,
) -> Result<&'a str, ArgumentError> {
    if arguments.keys().any(|key| key != name) {
        return Err(ArgumentError::Unknown { takes: name });
    }
    let text = match arguments.get(name) {
        None => return Err(ArgumentError::Missing(name)),
        Some(Value::String(text)) => text,
        Some(_) => return Err(ArgumentError::NotText(name)),
    };
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

    fn read(arguments: Value) -> Result<String, ArgumentError> {
        let Value::Object(arguments) = arguments else { panic!("{arguments}") };
        only_text(&arguments, "query", 5).map(str::to_owned)
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
            (json!({ "Query": "a" }), ArgumentError::Unknown { takes: "query" }),
            (json!({ "query": "a", "top": 999 }), ArgumentError::Unknown { takes: "query" }),
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
