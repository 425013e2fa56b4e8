//! JSON-RPC messages, of which this module changes ids and leaves everything else as it is.
//!
//! What a message holds is kept as text: numbers beyond 64 bits, the order of names and escapes arrive as they were sent.
//! A message in which a name occurs twice is no message, because the two ends may read another one of the two.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON object whose values are text.
#[derive(Debug)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> Object<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    /// A member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Replaces a member, or adds it. What is no JSON changes nothing.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        let Ok(value) = RawValue::from_string(value) else { return };
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, place)) => *place = Cow::Owned(value),
            None => self.0.push((Cow::Borrowed(name), Cow::Owned(value))),
        }
    }

    /// A member of a member.
    pub(super) fn inner(&self, path: &[&str], name: &str) -> Option<String> {
        match path.split_first() {
            None => self.get(name).map(str::to_owned),
            Some((first, rest)) => Object::parse(self.get(first)?)?.inner(rest, name),
        }
    }

    /// Replaces a member of a member, if it is there.
    pub(super) fn set_inner(&mut self, path: &[&'static str], name: &'static str, value: String) {
        let Some((first, rest)) = path.split_first() else {
            if self.get(name).is_some() {
                self.set(name, value);
            }
            return;
        };
        let changed = self.get(first).and_then(Object::parse).map(|mut inner| {
            inner.set_inner(rest, name, value);
            inner.to_string()
        });
        if let Some(changed) = changed {
            self.set(first, changed);
        }
    }

    /// What the message is.
    pub(super) fn kind(&self) -> Option<MessageKind> {
        let id = self.get("id").filter(|id| is_id(id)).map(str::to_owned);
        match (self.text("method"), id) {
            (Some(method), Some(id)) => Some(MessageKind::Request { id, method }),
            (Some(method), None) if self.get("id").is_none() => Some(MessageKind::Notification { method }),
            (None, Some(id)) if self.get("result").is_some() != self.get("error").is_some() => {
                Some(MessageKind::Answer { id })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (place, (name, value)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", Value::String(name.to_string()), value.get())?;
        }
        f.write_str("}")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, Cow<'de, RawValue>)> = Vec::new();
                let mut names = std::collections::HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                    members.push((Cow::Owned(name), Cow::Borrowed(value)));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// What a message is. Ids are the text of the JSON value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessageKind {
    Request {
        id: String,
        method: String,
    },
    Notification {
        method: String,
    },
    /// A result or an error.
    Answer {
        id: String,
    },
}

/// Ids and progress tokens are strings and numbers.
fn is_id(text: &str) -> bool {
    matches!(serde_json::from_str(text), Ok(Value::String(_) | Value::Number(_)))
}

/// Whether two ids are the same: `"\u0061"` and `"a"` are.
pub(super) fn same_id(one: &str, other: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    one == other || value(one).is_some_and(|one| value(other) == Some(one))
}

/// The number that an answer has as its id, of which only the first and the last bytes are known. Programs write the id
/// before the result or at the end; where it is not found there, it is not known.
pub(super) fn id_of_answer(first: &[u8], last: &[u8]) -> Option<u64> {
    const ID: &str = r#""id":"#;
    let (first, last) = (String::from_utf8_lossy(first), String::from_utf8_lossy(last));
    let (first, last) = (compact(&first), compact(&last));
    let digits = |text: &str| text.split(|letter: char| !letter.is_ascii_digit()).next().map(str::to_owned);
    let members = first.strip_prefix('{')?;
    let members = members.strip_prefix(r#""jsonrpc":"2.0","#).unwrap_or(members);
    let is_outcome = |text: &str| text.starts_with(r#""result":"#) || text.starts_with(r#""error":"#);
    if let Some(after) = members.strip_prefix(ID) {
        let number = digits(after)?;
        let rest = after.strip_prefix(number.as_str())?.strip_prefix(',')?;
        let rest = rest.strip_prefix(r#""jsonrpc":"2.0","#).unwrap_or(rest);
        return is_outcome(rest).then(|| number.parse().ok()).flatten();
    }
    // One brace alone ends the message itself.
    let members = last.strip_suffix('}')?;
    let members = members.strip_suffix(r#","jsonrpc":"2.0""#).unwrap_or(members);
    let (_, number) = members.rsplit_once(&format!(",{ID}"))?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_outcome(first.strip_prefix('{')?) && is_number).then(|| number.parse().ok()).flatten()
}

/// A string as JSON.
pub(super) fn json_text(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// A message without white space outside of its strings, and therefore without line breaks.
pub(super) fn compact(text: &str) -> Cow<'_, str> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if !text.bytes().any(is_space) {
        return Cow::Borrowed(text);
    }
    let (mut in_string, mut escaped) = (false, false);
    let kept = text.chars().filter(|&character| {
        if !in_string {
            in_string = character == '"';
            return !matches!(character, ' ' | '\t' | '\n' | '\r');
        }
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == '"' {
            in_string = false;
        }
        true
    });
    Cow::Owned(kept.collect())
}

/// A JSON-RPC error. `id` and `code` are part of the protocol, `message` is for people.
pub(super) fn error(id: &str, code: i32, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}}}}}"#, json_text(message))
}

/// `notifications/cancelled` for a request.
pub(super) fn cancelled(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"the client went away"}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was_written() {
        let text = r#"{"z":1.00,"id":"a","params":{"n":123456789012345678901234567890,"s":"\u0061\/"},"a":1e5}"#;
        let mut object = Object::parse(text).unwrap();
        assert_eq!(object.to_string(), text);
        object.set("id", "7".into());
        assert_eq!(object.to_string(), text.replace(r#""id":"a""#, r#""id":7"#));
    }

    #[test]
    fn a_member_of_a_member_is_replaced_only_where_it_is() {
        let mut object = Object::parse(r#"{"params":{"a":1,"_meta":{"progressToken":"x","b":[1.0]}}}"#).unwrap();
        assert_eq!(object.inner(&["params", "_meta"], "progressToken").as_deref(), Some(r#""x""#));
        object.set_inner(&["params", "_meta"], "progressToken", "5".into());
        object.set_inner(&["params", "_meta"], "missing", "5".into());
        object.set_inner(&["result"], "missing", "5".into());
        assert_eq!(object.to_string(), r#"{"params":{"a":1,"_meta":{"progressToken":5,"b":[1.0]}}}"#);
    }

    #[test]
    fn messages_are_told_apart() {
        let kind = |text| Object::parse(text).and_then(|object| object.kind());
        let id = || "1".to_owned();
        assert_eq!(kind(r#"{"id":1,"method":"m"}"#), Some(MessageKind::Request { id: id(), method: "m".into() }));
        assert_eq!(kind(r#"{"method":"m"}"#), Some(MessageKind::Notification { method: "m".into() }));
        assert_eq!(kind(r#"{"id":1,"result":null}"#), Some(MessageKind::Answer { id: id() }));
        assert_eq!(kind(r#"{"id":1,"error":{}}"#), Some(MessageKind::Answer { id: id() }));
        for text in [
            "[]",
            "1",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":null,"method":"m"}"#,
            r#"{"id":[],"method":"m"}"#,
            r#"{"id":1,"result":1,"error":1}"#,
            r#"{"id":1,"id":2,"method":"m"}"#,
            r#"{"method":1}"#,
            r#"{"id":1,"\u0069d":2,"result":1}"#,
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
    }

    #[test]
    fn a_message_is_one_line_and_its_strings_keep_their_spaces() {
        let text = "{\r\n \"a\" : \" x \\\" \\\\\" ,\t\"b\": [ 1 , 2 ] }\n";
        assert_eq!(compact(text), r#"{"a":" x \" \\","b":[1,2]}"#);
        assert_eq!(compact("{}"), "{}");
    }

    #[test]
    fn the_id_of_an_answer_is_found_at_either_end() {
        let at = |first: &str, last: &str| id_of_answer(first.as_bytes(), last.as_bytes());
        let end = r#"aaa"}]}}"#;
        assert_eq!(at(r#"{"jsonrpc":"2.0","id":12,"result":{"content":"#, end), Some(12));
        assert_eq!(at(r#"{ "jsonrpc": "2.0", "id": 12, "result": {"#, end), Some(12));
        assert_eq!(at(r#"{"id":12,"jsonrpc":"2.0","error":{"#, end), Some(12));
        assert_eq!(at(r#"{"result":{"content":["#, r#"aaa"}]},"jsonrpc":"2.0","id":12}"#), Some(12));
        assert_eq!(at(r#"{"result":{"content":["#, r#"aaa"}]},"id":12,"jsonrpc":"2.0"}"#), Some(12));
        for (first, last) in [
            // A request of the process, a notification, an id inside of the result, no number.
            (r#"{"jsonrpc":"2.0","id":12,"method":"sampling/createMessage","#, end),
            (r#"{"method":"sampling/createMessage","params":{"#, r#"aaa"}},"jsonrpc":"2.0","id":12}"#),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"id":12,"#, end),
            (r#"{"result":{"structuredContent":{"a":"#, r#"aaa","id":12}}}"#),
            (r#"{"jsonrpc":"2.0","id":"12","result":{"#, end),
            (r#"{"result":{"#, r#"a","id":"12"}"#),
            (r#"{"jsonrpc":"2.0","id":,"result":{"#, end),
            ("aaaa", "aaaa"),
            ("", ""),
        ] {
            assert_eq!(at(first, last), None, "{first} {last}");
        }
    }

    #[test]
    fn ids_are_compared_by_what_they_mean() {
        assert!(same_id(r#""\u0061""#, r#""a""#));
        assert!(same_id("1", "1"));
        assert!(!same_id("1", r#""1""#));
    }
}
