//! Audit records as lines of JSON, with the fields that the program writes.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

/// Longest value in bytes, as in the program: no client fills a disk with one request.
const MAX_VALUE_BYTES: usize = 2 * 1024;
/// Ends the name of an attribute that is a duration in microseconds. The line has it in milliseconds.
const LATENCY: &str = "latency-us";

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// Several texts.
    Texts(Vec<String>),
}

/// An event, and when it was.
#[derive(Debug)]
pub struct Record<'a> {
    /// Seconds and nanoseconds since the Unix epoch.
    pub time: (u64, u32),
    /// Its name.
    pub event: &'a str,
    /// `success`, `failure` or `started`.
    pub outcome: &'static str,
    /// Names the call.
    pub correlation_id: &'a str,
    /// What is known of it.
    pub attributes: Vec<(String, Attribute)>,
}

/// The line of an event, with its line break. Whatever a client managed to get into a value stays inside of its line and
/// does nothing to a terminal: everything but printable ASCII is escaped.
pub fn line(record: Record<'_>) -> String {
    let Record { time: (seconds, nanoseconds), event, outcome, correlation_id, attributes } = record;
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, nanoseconds));
    let mut fields = Map::new();
    for (name, value) in attributes {
        match value {
            Attribute::Number(latency) if name == LATENCY => {
                drop(fields.insert("latency_ms".into(), milliseconds(latency)))
            }
            Attribute::Number(number) => drop(fields.insert(name.replace('-', "_"), json!(number))),
            Attribute::Text(text) => drop(fields.insert(name.replace('-', "_"), json!(cut(&text)))),
            Attribute::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| cut(text)).collect();
                fields.insert(name.replace('-', "_"), json!(texts));
            }
        }
    }
    // These are the record's own: no attribute takes their place.
    fields.insert("time".into(), json!(time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))));
    fields.insert("event".into(), json!(cut(event)));
    fields.insert("outcome".into(), json!(outcome));
    fields.insert("correlation_id".into(), json!(cut(correlation_id)));
    let mut line = String::with_capacity(512);
    for character in Value::Object(fields).to_string().chars() {
        if character.is_ascii() && character != '\x7f' {
            line.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            line.push_str(&format!("\\u{unit:04x}"));
        }
    }
    line.push('\n');
    line
}

/// 2^53 microseconds are 285 years.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn milliseconds(microseconds: u64) -> Value {
    json!(microseconds as f64 / 1_000.0)
}

fn cut(value: &str) -> &str {
    value.get(..value.floor_char_boundary(MAX_VALUE_BYTES)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(attributes: &[(&str, Attribute)]) -> Value {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let record = Record {
            time: (1_700_000_000, 7_000_000),
            event: "tool.called",
            outcome: "success",
            correlation_id: "c0ffee",
            attributes,
        };
        let line = line(record);
        assert!(line.trim_end_matches('\n').bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_line_has_the_fields_that_the_program_writes() {
        let text = |text: &str| Attribute::Text(text.to_owned());
        let line = written(&[("tenant-id", text("t")), ("tool", text("x")), (LATENCY, Attribute::Number(1_234))]);
        let expected = json!({
            "time": "2023-11-14T22:13:20.007Z", "event": "tool.called", "outcome": "success", "tenant_id": "t",
            "tool": "x", "latency_ms": 1.234, "correlation_id": "c0ffee",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn no_value_begins_a_line_of_its_own_takes_the_place_of_another_or_is_endless() {
        let hostile = "a\n{\"event\":\"forged\"}\r\u{7f}\u{85}\u{2028}\u{1b}\"\\\u{0}\u{1f600}ü";
        let line = written(&[
            ("tool", Attribute::Text(hostile.to_owned())),
            ("event", Attribute::Text("forged".to_owned())),
            ("long", Attribute::Text("x".repeat(5_000))),
        ]);
        assert_eq!((&line["tool"], &line["event"]), (&json!(hostile), &json!("tool.called")));
        assert_eq!(line["long"].as_str().unwrap().len(), MAX_VALUE_BYTES);
    }
}
