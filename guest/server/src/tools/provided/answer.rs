//! What a tool answers with, checked before it becomes a part of a message.
//!
//! Threat: an answer that is no JSON where a message needs JSON would let a tool write the rest of the message itself, and
//! one with a line break would be two messages on a local connection.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use world::provided_tools::{ProviderError, ToolContent};

use super::super::answer_fault::{AnswerFault, MAX_DEPTH};
use super::super::error::ToolError;
use super::super::provider::ToolAnswer;

/// Bytes of an answer, and of the text of an error: what the host lets a tool answer with by default. It is in the memory
/// of an instance several times.
const MAX_ANSWER: usize = 1024 * 1024;

/// The types of content that a result of MCP may have.
const BLOCK_TYPES: [&str; 5] = ["text", "image", "audio", "resource_link", "resource"];

/// Characters of the type of a part that an error names.
const MAX_TYPE: usize = 40;

/// A part of the content of a result.
#[derive(Deserialize)]
struct Block {
    r#type: String,
}

/// An answer as it goes into a message.
pub(super) fn read(content: ToolContent) -> Result<ToolAnswer, ToolError> {
    let (ToolContent::Text(text) | ToolContent::Json(text) | ToolContent::Blocks(text)) = &content;
    if text.len() > MAX_ANSWER {
        return Err(ProviderError::TooLarge(MAX_ANSWER as u64).into());
    }
    match content {
        ToolContent::Text(text) => Ok(ToolAnswer::Text(text)),
        ToolContent::Json(json) => match is_object(&json) && serde_json::from_str::<IgnoredAny>(&json).is_ok() {
            true => Ok(ToolAnswer::Structured(on_one_line(&json)?)),
            false => Err(AnswerFault::NoObject.into()),
        },
        ToolContent::Blocks(json) => {
            check_blocks(&json)?;
            Ok(ToolAnswer::Blocks(on_one_line(&json)?))
        }
    }
}

/// The text of an error is an answer as well.
pub(super) fn within_bound(error: ProviderError) -> ProviderError {
    match &error {
        ProviderError::InvalidArguments(text) | ProviderError::Failed(text) if text.len() > MAX_ANSWER => {
            ProviderError::TooLarge(MAX_ANSWER as u64)
        }
        _ => error,
    }
}

fn is_object(json: &str) -> bool {
    json.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
}

fn check_blocks(json: &str) -> Result<(), AnswerFault> {
    let blocks = serde_json::from_str::<Vec<&RawValue>>(json).map_err(|_| AnswerFault::NoBlocks)?;
    for block in blocks {
        // What is derived reads an array as well.
        let block = Some(block.get()).filter(|block| is_object(block));
        let block = block.and_then(|block| serde_json::from_str::<Block>(block).ok()).ok_or(AnswerFault::NoBlocks)?;
        if !BLOCK_TYPES.contains(&block.r#type.as_str()) {
            return Err(AnswerFault::UnknownBlock(block.r#type.chars().take(MAX_TYPE).collect()));
        }
    }
    Ok(())
}

/// JSON without the blanks between its tokens: every digit of a number stays. `json` is JSON, so a line break is between
/// tokens.
fn on_one_line(json: &str) -> Result<String, AnswerFault> {
    let (mut in_string, mut escaped, mut depth) = (false, false, 0_usize);
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if in_string {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else {
            match c {
                ' ' | '\t' | '\n' | '\r' => continue,
                '"' => in_string = true,
                '{' | '[' if depth == MAX_DEPTH => return Err(AnswerFault::TooDeep),
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        line.push(c);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<ToolAnswer, ToolError> {
        read(ToolContent::Json(text.to_owned()))
    }

    fn blocks(text: &str) -> Result<ToolAnswer, ToolError> {
        read(ToolContent::Blocks(text.to_owned()))
    }

    #[test]
    fn a_structured_answer_is_one_line_and_keeps_every_digit() {
        let text = "\n{ \"a b\" : [ 1.10, 12345678901234567890123 ],\r\n\t\"q\\\"\\\\\" : \"x  y\\n\" } ";
        let expected = r#"{"a b":[1.10,12345678901234567890123],"q\"\\":"x  y\n"}"#;
        assert_eq!(json(text), Ok(ToolAnswer::Structured(expected.to_owned())));
    }

    #[test]
    fn a_structured_answer_that_is_no_object_is_an_error() {
        for text in ["", "1", "null", "[]", "{", "{}}", r#"{},"isError":false"#, r#"{"a":1}{"b":2}"#, "{'a':1}"] {
            assert_eq!(json(text), Err(AnswerFault::NoObject.into()), "{text}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}1{}", r#"{"[[":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(json(&nested(MAX_DEPTH)), Ok(ToolAnswer::Structured(nested(MAX_DEPTH))));
        assert_eq!(json(&nested(MAX_DEPTH + 1)), Err(AnswerFault::TooDeep.into()));
        assert_eq!(json(&nested(100_000)), Err(AnswerFault::TooDeep.into()));
        let deep = format!(r#"[{{"type":"text","x":{}{}}}]"#, "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(blocks(&deep), Err(AnswerFault::TooDeep.into()));
    }

    #[test]
    fn content_is_an_array_of_objects_of_known_types() {
        let text = r#"[ {"type":"text","text":"a"}, {"type":"image","data":"AA==","mimeType":"image/png"} ]"#;
        let expected = r#"[{"type":"text","text":"a"},{"type":"image","data":"AA==","mimeType":"image/png"}]"#;
        assert_eq!(blocks(text), Ok(ToolAnswer::Blocks(expected.to_owned())));
        assert_eq!(blocks("[]"), Ok(ToolAnswer::Blocks("[]".to_owned())));
        for text in ["", "{}", "[1]", "[{}]", r#"[["text"]]"#, r#"[{"type":1}]"#, r#"[{"type":"text"}"#, "[null]"] {
            assert_eq!(blocks(text), Err(AnswerFault::NoBlocks.into()), "{text}");
        }
        // A parser in front may read the first of two.
        assert_eq!(blocks(r#"[{"type":"text","type":"image"}]"#), Err(AnswerFault::NoBlocks.into()));
        for unknown in ["script", "Text", "text "] {
            let expected = Err(AnswerFault::UnknownBlock(unknown.to_owned()).into());
            assert_eq!(blocks(&format!(r#"[{{"type":"{unknown}"}}]"#)), expected);
        }
    }

    #[test]
    fn an_answer_longer_than_a_mebibyte_is_too_large() {
        let text = |length: usize| read(ToolContent::Text("x".repeat(length)));
        assert!(text(MAX_ANSWER).is_ok());
        let too_large = ProviderError::TooLarge(1024 * 1024);
        assert_eq!(text(MAX_ANSWER + 1), Err(too_large.clone().into()));
        assert_eq!(within_bound(ProviderError::Failed("x".repeat(MAX_ANSWER + 1))), too_large);
    }
}
