//! JSON without the freedoms that let two parsers read one document differently.
//!
//! A name that occurs twice is refused at any depth (RFC 7515 section 4 and RFC 7519 section 4 allow either that
//! or taking the last one; RFC 8725 section 2.4 shows what the difference is good for), and nesting is limited.
//! Trailing data is refused by `serde_json`.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// Depth of nesting of a token, key set or other document. Entra ID nests three levels (`_claim_sources`); the limit
/// bounds recursion on the small stack of a WebAssembly instance.
const MAX_DEPTH: usize = 16;

/// Why a text is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum StrictJsonError {
    /// Not JSON in UTF-8, not an object where one is expected, too deep, or trailing data. The text says what and where.
    Malformed(String),
    /// This name occurs twice in one object.
    Duplicate(String),
}

/// Parses one JSON object that is nested at most 16 deep.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, StrictJsonError> {
    match parse(bytes, MAX_DEPTH)? {
        Value::Object(object) => Ok(object),
        _ => Err(StrictJsonError::Malformed("not an object".to_owned())),
    }
}

/// Parses one JSON value that is nested at most so deep, in one pass. `serde_json` itself stops at 127.
pub fn parse(bytes: &[u8], max_depth: usize) -> Result<Value, StrictJsonError> {
    let duplicate = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Strict { duplicate: &duplicate, room: max_depth }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match (parsed, duplicate.into_inner()) {
        (_, Some(name)) => Err(StrictJsonError::Duplicate(name)),
        (parsed, None) => parsed.map_err(|error| StrictJsonError::Malformed(error.to_string())),
    }
}

/// The brackets, braces and commas of a JSON text, outside of its strings. Every value but the first follows one of them, so
/// their number bounds how many values a text stands for, before it is parsed.
pub fn structure(text: &[u8]) -> impl Iterator<Item = u8> {
    let (mut in_string, mut escaped) = (false, false);
    text.iter().copied().filter(move |&byte| {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            return false;
        }
        in_string = byte == b'"';
        matches!(byte, b'{' | b'[' | b',')
    })
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    duplicate: &'a RefCell<Option<String>>,
    /// Levels that may still follow.
    room: usize,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let room = self.room.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { room, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = seq.next_element_seed(inner)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            match object.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(place) => {
                    *self.duplicate.borrow_mut() = Some(place.key().clone());
                    return Err(A::Error::custom("duplicate name"));
                }
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, StrictJsonError> {
        parse_object(text.as_bytes()).map(Value::Object)
    }

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text = r#"{"a":1,"b":[true,null,-2,1.5,"x"],"c":{"d":{"e":"é\u0041"}}}"#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_at_any_depth() {
        let duplicate = || Err(StrictJsonError::Duplicate("a".to_owned()));
        assert_eq!(parse(r#"{"a":1,"a":1}"#), duplicate());
        assert_eq!(parse(r#"{"a":1,"\u0061":2}"#), duplicate());
        assert_eq!(parse(r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#), duplicate());
        assert!(parse(r#"{"a":{"b":1},"c":{"b":1},"A":1}"#).is_ok());
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in ["", "[]", "1", "null", "{}x", "{} {}", "{\"a\":1,}", "{'a':1}", "{\"a\":NaN}", "\u{feff}{}"] {
            assert!(matches!(parse(text), Err(StrictJsonError::Malformed(_))), "{text}");
        }
        assert!(matches!(parse_object(b"{\"a\":\"\xff\"}"), Err(StrictJsonError::Malformed(_))));
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(parse(&nested(MAX_DEPTH + 1)), Err(StrictJsonError::Malformed(_))));
        let arrays = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(parse(&arrays), Err(StrictJsonError::Malformed(_))));
        for depth in [1, 2, 100] {
            let read = |depth: usize, room| super::parse(nested(depth).as_bytes(), room);
            assert!(read(depth, depth).is_ok());
            assert!(matches!(read(depth + 1, depth), Err(StrictJsonError::Malformed(_))));
        }
    }

    #[test]
    fn any_value_can_be_read_and_an_error_says_where_it_is() {
        for text in ["1", "null", "[]", "\"x\"", "[{\"a\":1},{\"a\":1}]"] {
            let expected = serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(super::parse(text.as_bytes(), 2).unwrap(), expected);
        }
        let error = super::parse(b"[1,\n?]", 2).unwrap_err();
        assert_eq!(error, StrictJsonError::Malformed("expected value at line 2 column 1".to_owned()));
        assert_eq!(super::parse(br#"[{"a":{"a":1},"a":1}]"#, 9), Err(StrictJsonError::Duplicate("a".to_owned())));
    }
}
