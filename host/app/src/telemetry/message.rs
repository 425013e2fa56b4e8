//! The trace that an MCP message names in its `_meta` (SEP-414).
//!
//! The component reads the message, and names its trace in audit records; a span has to begin before that. This module
//! reads nothing else in the message, and leaves it to the component to refuse a faulty one.

use opentelemetry::trace::{SpanContext, TraceState};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{TraceParent, trace_state};

/// Bytes of a text as JSON: the 512 characters of a `tracestate`, each of them escaped, in quotes.
const MAX_TEXT_BYTES: usize = 512 * 6 + 2;

#[derive(Deserialize)]
struct TracedMessage<'a> {
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TracedParams<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
    #[serde(borrow)]
    tracestate: Option<&'a RawValue>,
}

/// The trace that a message names, if it names a valid one, once. A batch names none: its messages may name several.
pub(super) fn trace(body: &[u8]) -> Option<SpanContext> {
    let TracedMessage { params } = object(body)?;
    let TracedParams { meta } = object(params?.get().as_bytes())?;
    let Meta { traceparent, tracestate } = object(meta?.get().as_bytes())?;
    let parent = TraceParent::parse(&text(traceparent?)?)?;
    let state = tracestate.and_then(text).map_or(TraceState::NONE, |state| trace_state::parse(&[&state]));
    Some(parent.span_context(state))
}

fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    // To serde an array, too, is a structure.
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn text(json: &RawValue) -> Option<String> {
    let json = json.get();
    if json.len() > MAX_TEXT_BYTES {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// The trace of a text, as headers would have it.
    fn named(body: &str) -> Option<(String, String)> {
        let trace = trace(body.as_bytes())?;
        let state = trace.trace_state().header();
        Some((TraceParent::of_span_context(&trace)?.to_string(), state))
    }

    fn with_meta(meta: serde_json::Value) -> String {
        json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "x", "arguments": { "_meta": { "traceparent": "no" } }, "_meta": meta },
        })
        .to_string()
    }

    #[test]
    fn a_message_names_its_trace_and_what_belongs_to_it() {
        let found = |state: &str| Some((PARENT.to_owned(), state.to_owned()));
        assert_eq!(named(&with_meta(json!({ "traceparent": PARENT }))), found(""));
        let with_state = with_meta(json!({ "tracestate": "a=1,b=2", "other": [1], "traceparent": PARENT }));
        assert_eq!(named(&with_state), found("a=1,b=2"));
        assert_eq!(named(&format!("\n {with_state} ")), found("a=1,b=2"));
        // The same text may be written otherwise.
        let escaped = with_state.replace("a=1", "\\u0061=1").replace("00-0af7", "00\\u002d0af7");
        assert_eq!(named(&escaped), found("a=1,b=2"));
    }

    #[test]
    fn a_state_that_is_malformed_costs_the_state_and_not_the_trace() {
        for state in [json!("a"), json!(1), json!(["a=1"]), json!(null), json!("x".repeat(100_000))] {
            let message = with_meta(json!({ "traceparent": PARENT, "tracestate": state }));
            assert_eq!(named(&message), Some((PARENT.to_owned(), String::new())), "{message}");
        }
        assert_eq!(named(&with_meta(json!({ "tracestate": "a=1" }))), None);
    }

    #[test]
    fn what_names_no_trace_is_part_of_none() {
        let message = with_meta(json!({ "traceparent": PARENT }));
        let parent = format!(r#"{{"traceparent":"{PARENT}"}}"#);
        for body in [
            String::new(),
            "{".to_owned(),
            "null".to_owned(),
            format!("[{message}]"),
            format!("{message}{message}"),
            message.replace(PARENT, &PARENT.to_uppercase()),
            message.replace(PARENT, &format!("{PARENT}-{}", "x".repeat(4_000))),
            with_meta(json!({ "traceparent": [PARENT] })),
            with_meta(json!([PARENT])),
            with_meta(json!(PARENT)),
            format!(r#"{{"params":[{{"_meta":{parent}}}]}}"#),
            format!(r#"{{"params":[{parent}]}}"#),
            format!(r#"{{"_meta":{parent}}}"#),
            format!(r#"{{"params":{parent}}}"#),
            format!(r#"{{"params":{{"_meta":{{"traceparent":"x","traceparent":"{PARENT}"}}}}}}"#),
            "[".repeat(1_000_000),
            "{\"params\":".repeat(100_000),
        ] {
            assert_eq!(named(&body), None, "{}", body.get(..200).unwrap_or(&body));
        }
    }
}
