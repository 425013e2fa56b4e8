//! A record as a line of JSON.
//!
//! Whatever a client managed to get into a value stays inside of its line and does nothing to a terminal: everything
//! but printable ASCII is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use entra_mcp_plugin::attributes::AttributeValue;
use entra_mcp_plugin::audit::{AuditRecord, outcome};

use crate::telemetry::trace_parent::TraceParent;

/// Longest value in bytes. Ids are under 100, the URL of a client's metadata document may be longer. What is longer
/// still is cut, so that no client fills a disk with one request.
const MAX_VALUE_BYTES: usize = 2 * 1024;

/// The fields in the order in which they are written. Their names are a public contract (`docs/src/reference/audit.md`).
#[derive(Serialize)]
struct AuditLine<'a> {
    time: String,
    event: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_blueprint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    correlation_id: &'a str,
    /// What the component says beyond that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'a str, AttributeValue>,
}

/// The line, with its line break.
pub(super) fn line(record: &AuditRecord, trace: Option<TraceParent>) -> io::Result<Vec<u8>> {
    let event = &record.event;
    let line = AuditLine {
        time: time(record)?,
        event: cut(&event.name),
        outcome: outcome(event.outcome),
        reason: value(&event.reason),
        tenant_id: value(&event.tenant_id),
        object_id: value(&event.object_id),
        client_id: value(&event.client_id),
        token_id: value(&event.token_id),
        session: value(&event.session),
        tool: value(&event.tool),
        server: value(&event.server),
        kind: value(&event.kind),
        upstream_status: event.upstream_status,
        address: value(&event.address),
        username: value(&event.username),
        agent: value(&event.agent),
        agent_blueprint: value(&event.agent_blueprint),
        latency_ms: event.latency_us.map(milliseconds),
        suppressed: event.suppressed,
        trace_id: trace.map(|trace| trace.trace_id().to_string()),
        correlation_id: cut(&event.correlation_id),
        attributes: event.further.iter().map(|(name, value)| (cut(name), shortened(value))).collect(),
    };
    let mut bytes = Vec::with_capacity(512);
    line.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii(CompactFormatter)))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// RFC 3339 in UTC with milliseconds.
fn time(record: &AuditRecord) -> io::Result<String> {
    let milliseconds = i64::try_from(record.time.as_millis()).ok().and_then(DateTime::from_timestamp_millis);
    let time = milliseconds.ok_or_else(|| io::Error::other("the clock shows no date"))?;
    Ok(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[allow(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1_000.0
}

fn value(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(cut)
}

/// The same for the value of an attribute. Of several texts, as many are written as are within the limit together.
fn shortened(value: &AttributeValue) -> AttributeValue {
    match value {
        AttributeValue::Number(number) => AttributeValue::Number(*number),
        AttributeValue::Text(text) => AttributeValue::Text(cut(text).to_owned()),
        AttributeValue::Texts(texts) => {
            let mut room = MAX_VALUE_BYTES;
            let mut fits = |text: &&String| {
                let fits = text.len() <= room;
                room = room.saturating_sub(text.len().max(1));
                fits
            };
            AttributeValue::Texts(texts.iter().take_while(&mut fits).cloned().collect())
        }
    }
}

fn cut(value: &str) -> &str {
    value.get(..value.floor_char_boundary(MAX_VALUE_BYTES)).unwrap_or(value)
}

/// Writes everything but printable ASCII as `\uXXXX`. serde_json itself escapes what is below a space; not DEL, the
/// controls of Unicode, and what some programs take for a line break (U+0085, U+2028).
struct Ascii(CompactFormatter);

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| byte.is_ascii() && byte != 0x7f) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut escaped = String::with_capacity(fragment.len());
        for character in fragment.chars() {
            if character.is_ascii() && character != '\x7f' {
                escaped.push(character);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(escaped, "\\u{unit:04x}").map_err(io::Error::other)?;
            }
        }
        writer.write_all(escaped.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: serde_json::ser::CharEscape,
    ) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::testing::event;
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn text(record: &AuditRecord) -> String {
        String::from_utf8(line(record, None).unwrap()).unwrap()
    }

    fn text_in_trace(record: &AuditRecord) -> String {
        String::from_utf8(line(record, TraceParent::parse(PARENT)).unwrap()).unwrap()
    }

    #[test]
    fn a_line_has_what_is_known_in_a_fixed_order() {
        let mut event = event("tool.called");
        event.tenant_id = Some("t".into());
        event.session = Some("s".into());
        event.latency_us = Some(1_234);
        let record = AuditRecord { time: Duration::from_millis(1_700_000_000_007), event };
        assert_eq!(
            text_in_trace(&record),
            "{\"time\":\"2023-11-14T22:13:20.007Z\",\"event\":\"tool.called\",\"outcome\":\"success\",\
             \"tenant_id\":\"t\",\"session\":\"s\",\"latency_ms\":1.234,\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"correlation_id\":\"c0ffee\"}\n"
        );
    }

    #[test]
    fn every_field_is_written_under_its_own_name() {
        let some = |text: &str| Some(text.to_owned());
        let mut event = event("e");
        event.reason = some("1");
        event.tenant_id = some("2");
        event.object_id = some("3");
        event.client_id = some("4");
        event.token_id = some("5");
        event.session = some("6");
        event.tool = some("7");
        event.address = some("8");
        event.username = some("9");
        event.agent = some("10");
        event.agent_blueprint = some("11");
        event.latency_us = Some(12_000);
        event.suppressed = Some(13);
        let record = AuditRecord { time: Duration::ZERO, event };
        let expected = json!({
            "time": "1970-01-01T00:00:00.000Z", "event": "e", "outcome": "success", "reason": "1", "tenant_id": "2",
            "object_id": "3", "client_id": "4", "token_id": "5", "session": "6", "tool": "7", "address": "8",
            "username": "9", "agent": "10", "agent_blueprint": "11", "latency_ms": 12.0, "suppressed": 13, "trace_id": "0af7651916cd43dd8448eb211c80319c", "correlation_id": "c0ffee",
        });
        assert_eq!(serde_json::from_str::<Value>(&text_in_trace(&record)).unwrap(), expected);
    }

    #[test]
    fn no_value_begins_a_line_of_its_own_or_reaches_a_terminal() {
        let hostile = "a\n{\"event\":\"forged\"}\r\u{7f}\u{85}\u{9b}31m\u{2028}\u{1b}\"\\\u{0}\u{1f600}ü";
        let mut event = event("tool.called");
        event.tool = Some(hostile.into());
        let text = text(&AuditRecord { time: Duration::ZERO, event });
        assert!(text.trim_end_matches('\n').bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["tool"], hostile);
    }

    #[test]
    fn attributes_that_this_host_does_not_know_are_in_a_field_of_their_own() {
        let mut event = event("tool.called");
        event.further = vec![
            ("event".to_owned(), AttributeValue::Text("forged\n".to_owned())),
            ("risk".to_owned(), AttributeValue::Number(3)),
            ("long".to_owned(), AttributeValue::Texts(vec!["x".repeat(MAX_VALUE_BYTES), "y".to_owned()])),
        ];
        let line: Value = serde_json::from_str(&text(&AuditRecord { time: Duration::ZERO, event })).unwrap();
        let long = ["x".repeat(MAX_VALUE_BYTES)];
        assert_eq!(line["event"], "tool.called");
        assert_eq!(line["attributes"], json!({ "event": "forged\n", "risk": 3, "long": long }));
    }

    #[test]
    fn an_overlong_value_is_cut_between_characters() {
        let mut event = event("tool.called");
        event.tool = Some(format!("x{}", "ü".repeat(MAX_VALUE_BYTES)));
        let line: Value = serde_json::from_str(&text(&AuditRecord { time: Duration::ZERO, event })).unwrap();
        assert_eq!(line["tool"].as_str().unwrap().len(), MAX_VALUE_BYTES - 1);
    }
}
