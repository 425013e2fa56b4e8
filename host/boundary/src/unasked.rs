//! Lists in answers to requests that ask for none, found while the answer passes.
//!
//! The result of a tool can be of any length, so it is not read as a whole. What depends on the caller is in lists, and a list
//! is a member of the `result` of a message. So the names of those members are looked at, and an answer ends before a list.
//!
//! Threat: a server answers a call with a list, in whatever message of the answer: clients find the request to an answer by
//! its id, whichever request of HTTP brought it. Or it writes JSON that a reader takes for other members than this one does. So
//! only the grammar of RFC 8259 passes. Two things are looser than it, and hide no member: what a number or a word
//! is, and names that occur twice, each of which is looked at.

use crate::events::MARK;
use crate::members::{CACHE_SCOPE, PROMPTS, RESOURCE_TEMPLATES, RESOURCES, TASKS, TOOLS, is_read_as};

/// Members of a result that answer no request but one for a list, or that say who else may have the result.
const UNASKED: [&str; 6] = [TOOLS, RESOURCES, RESOURCE_TEMPLATES, PROMPTS, TASKS, CACHE_SCOPE];

/// The member of a message that has what was asked for.
const RESULT: &str = "result";

/// Bytes of the longest name that is kept, in quotes: the longest of [`UNASKED`] with an escape for each letter has 104.
const MAX_NAME_BYTES: usize = 128;

/// Objects and arrays in each other: as many as the component reads.
const MAX_DEPTH: usize = 128;

/// Why an answer must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit(pub &'static str);

/// Not JSON, or not the only JSON that could be read.
const MALFORMED: Unfit = Unfit("it is no JSON that every reader reads in the same way");

/// An object or an array that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// An array that is not inside of an object: its elements are messages.
    Batch,
    Message,
    Result,
    Array,
    Object,
}

/// What comes next, besides white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
}

/// A string that is not complete.
#[derive(Debug)]
struct Literal {
    /// Its begin, with the quote, if it is the name of a member that matters.
    name: Option<Vec<u8>>,
    is_escaped: bool,
}

/// Looks at the members of an answer that comes in pieces.
#[derive(Debug)]
pub struct Watch {
    open: Vec<Open>,
    expected: Expected,
    string: Option<Literal>,
    /// A number, `true`, `false` or `null` is not complete.
    in_word: bool,
    /// The member of the message that comes next is its result.
    is_result: bool,
    /// Bytes of the mark that may be at the start.
    mark: usize,
    has_begun: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            expected: Expected::Value,
            string: None,
            in_word: false,
            is_result: false,
            mark: 0,
            has_begun: false,
        }
    }
}

impl Watch {
    /// Goes on by this piece. After an error, nothing more may pass, and nothing of this piece.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Unfit> {
        let mut rest = piece;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            let is_text = self.string.as_ref().is_some_and(|literal| literal.name.is_none() && !literal.is_escaped);
            if is_text && is_plain(*byte) {
                // Most of a long answer is text: it is passed over up to what may end it.
                let end = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
                rest = rest.get(end..).unwrap_or_default();
            } else if self.string.is_some() {
                self.in_string(*byte)?;
            } else {
                self.between(*byte)?;
            }
        }
        Ok(())
    }

    /// Whether what has come is one whole value.
    pub fn is_complete(&self) -> bool {
        self.open.is_empty() && self.string.is_none() && self.expected == Expected::CommaOrEnd
    }

    fn in_string(&mut self, byte: u8) -> Result<(), Unfit> {
        let Some(literal) = &mut self.string else { return Ok(()) };
        if byte < 0x20 {
            return Err(MALFORMED);
        }
        if let Some(name) = literal.name.as_mut().filter(|name| name.len() <= MAX_NAME_BYTES) {
            name.push(byte);
        }
        match (literal.is_escaped, byte) {
            (false, b'"') => {
                let name = literal.name.take();
                self.string = None;
                return name.map_or(Ok(()), |name| self.named(&name));
            }
            (false, b'\\') => literal.is_escaped = true,
            _ => literal.is_escaped = false,
        }
        Ok(())
    }

    fn between(&mut self, byte: u8) -> Result<(), Unfit> {
        if !self.has_begun && MARK.get(self.mark) == Some(&byte) {
            self.mark = self.mark.saturating_add(1);
            return Ok(());
        }
        self.has_begun = true;
        if self.in_word && is_of_word(byte) {
            return Ok(());
        }
        self.in_word = false;
        match (self.expected, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => Ok(()),
            (Expected::Value | Expected::ValueOrEnd, b'{') => {
                let object = match self.open.last() {
                    None | Some(Open::Batch) => Open::Message,
                    Some(Open::Message) if self.is_result => Open::Result,
                    Some(_) => Open::Object,
                };
                self.enter(object, Expected::NameOrEnd)
            }
            (Expected::Value | Expected::ValueOrEnd, b'[') => {
                let array =
                    if matches!(self.open.last(), None | Some(Open::Batch)) { Open::Batch } else { Open::Array };
                self.enter(array, Expected::ValueOrEnd)
            }
            (Expected::Value | Expected::ValueOrEnd, b'"') => {
                self.string = Some(Literal { name: None, is_escaped: false });
                self.expected = Expected::CommaOrEnd;
                Ok(())
            }
            (Expected::Value | Expected::ValueOrEnd, byte) if is_of_word(byte) => {
                (self.in_word, self.expected) = (true, Expected::CommaOrEnd);
                Ok(())
            }
            (Expected::Name | Expected::NameOrEnd, b'"') => {
                let matters = matches!(self.open.last(), Some(Open::Message | Open::Result));
                self.string = Some(Literal { name: matters.then(|| vec![b'"']), is_escaped: false });
                self.expected = Expected::Colon;
                Ok(())
            }
            (Expected::Colon, b':') => {
                self.expected = Expected::Value;
                Ok(())
            }
            (Expected::CommaOrEnd, b',') => {
                self.expected = match self.open.last() {
                    None => return Err(MALFORMED),
                    Some(Open::Batch | Open::Array) => Expected::Value,
                    Some(Open::Message | Open::Result | Open::Object) => Expected::Name,
                };
                Ok(())
            }
            (Expected::CommaOrEnd | Expected::NameOrEnd, b'}') => self.leave(false),
            (Expected::CommaOrEnd | Expected::ValueOrEnd, b']') => self.leave(true),
            _ => Err(MALFORMED),
        }
    }

    fn enter(&mut self, inside: Open, expected: Expected) -> Result<(), Unfit> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Unfit("its JSON is too deep"));
        }
        self.open.push(inside);
        self.expected = expected;
        Ok(())
    }

    fn leave(&mut self, is_array: bool) -> Result<(), Unfit> {
        let left = self.open.pop().ok_or(MALFORMED)?;
        self.expected = Expected::CommaOrEnd;
        if matches!(left, Open::Batch | Open::Array) == is_array { Ok(()) } else { Err(MALFORMED) }
    }

    /// The name of a member of a message or of its result is complete, with its quotes.
    fn named(&mut self, quoted: &[u8]) -> Result<(), Unfit> {
        self.is_result &= self.open.last() != Some(&Open::Message);
        if quoted.len() > MAX_NAME_BYTES {
            return Ok(());
        }
        let name: String = serde_json::from_slice(quoted).map_err(|_| MALFORMED)?;
        match self.open.last() {
            Some(Open::Message) if name == RESULT => self.is_result = true,
            Some(Open::Message) if is_read_as(&name, RESULT) => return Err(MALFORMED),
            Some(Open::Result) if UNASKED.iter().any(|member| is_read_as(&name, member)) => {
                return Err(Unfit("it has a list, which was not asked for"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a byte of a string is nothing but text.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

/// Whether a byte may be part of a number or of a word such as `null`.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces of this size.
    fn watched(text: &[u8], size: usize) -> (Result<(), Unfit>, bool) {
        let mut watch = Watch::default();
        let fed = text.chunks(size).try_for_each(|piece| watch.feed(piece));
        (fed, watch.is_complete())
    }

    const LIST: Unfit = Unfit("it has a list, which was not asked for");

    #[test]
    fn what_is_not_a_list_passes_wherever_it_is_cut() {
        let deep = format!(r#"{{"result":{{"content":{}{}}}}}"#, "[".repeat(126), "]".repeat(126));
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\"tools\":[] \\"}],"isError":false}}"#,
            r#"{"id":1,"result":{"structuredContent":{"tools":[1],"result":{"prompts":[]}},"_meta":{"cacheScope":"public"}}}"#,
            r#"{"tools":[],"result":{"capabilities":{"tools":{},"resources":{}},"x":["tools",{"tools":1}],"y":"tools"}}"#,
            r#"{"id":1,"error":{"code":-1.5e+3,"message":"tools","data":{"tools":[]}},"method":{"tools":{}}}"#,
            "\u{feff} [ { \"result\" : { } } , { \"id\" : null , \"result\" : [ { \"tools\" : [ ] } ] } ]\r\n\t",
            r#"{"result":{"Zürich ✓":"\u00e9 \/ \ud83d\ude00","toolsets":1,"tool":2}}"#,
            r#"{"result":"tools"}"#,
            "{}",
            "[]",
            "null",
            deep.as_str(),
        ] {
            for size in 1..=text.len() {
                assert_eq!(watched(text.as_bytes(), size), (Ok(()), true), "{text} by {size}");
            }
        }
    }

    #[test]
    fn a_list_ends_the_answer_in_every_spelling_and_in_every_message() {
        for text in [
            r#"{"result":{"tools":[]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"a":{}}],"x":{"y":[1]},"resources" : []}}"#,
            r#"{"result":{"content":[]},"result":{"prompts":[]}}"#,
            r#"{"result":{},"id":1,"result":{"x":1,"tasks":[]}}"#,
            r#"[{"result":{}},{"id":2,"result":{"resourceTemplates":[]}}]"#,
            r#"[[{"result":{"tools":[]}}]]"#,
            r#"{"result":{"cacheScope":"public"}}"#,
            r#"{"result":{"TOOLS":[]}}"#,
            r#"{"result":{"t\u006fols":[]}}"#,
            r#"{"re\u0073ult":{"\u0054ools":[]}}"#,
            "{\"result\":{\"tool\u{17f}\":[]}}",
            r#"{"result":{"tool\u017f":[]}}"#,
            "{\"result\":{\"tas\u{212a}s\":[]}}",
            "\u{feff}{\"result\":{\"tools\":[]}}",
        ] {
            for size in 1..=text.len() {
                assert_eq!(watched(text.as_bytes(), size).0, Err(LIST), "{text} by {size}");
            }
        }
        for text in [r#"{"Result":{"tools":[]}}"#, r#"{"id":1,"RE\u0053ULT":{}}"#, "{\"re\u{17f}ult\":{}}"] {
            assert_eq!(watched(text.as_bytes(), 3).0, Err(MALFORMED), "{text}");
        }
    }

    #[test]
    fn what_readers_of_json_read_differently_does_not_pass() {
        let deep = format!("{{\"result\":{{\"x\":{}", "[".repeat(127));
        for text in [
            r#"{'result':{"tools":[]}}"#,
            r#"{result:{"tools":[]}}"#,
            r#"{"result"{"tools":[]}}"#,
            r#"{"result":{"x":1 "tools":[]}}"#,
            r#"{"result":{"x":/* " */[]}}"#,
            r#"{"result":{"x":[}"#,
            r#"{"result":{"x":{]"#,
            r#"{"result":{"x":1,}"#,
            r#"{"result":{,"#,
            r#"{"result":{}} {"result":{}}"#,
            r#"{"result":{}},"#,
            r#"{"a":1}}"#,
            "]",
            "{\"result\":{\"x\":\"a\nb\"}}",
            "{\"x\":\0 1}",
            deep.as_str(),
        ] {
            for size in [1, 7, text.len()] {
                assert!(watched(text.as_bytes(), size).0.is_err(), "{text} by {size}");
            }
        }
        let utf_16: Vec<u8> = r#"{"result":{"tools":[]}}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(watched(&utf_16, 5).0, Err(MALFORMED));
        assert_eq!(watched(b"{\"result\":{\"t\xffls\":[]}}", 5).0, Err(MALFORMED));
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_long_name_hides_none() {
        let mut watch = Watch::default();
        watch.feed(b"{\"result\":{\"").unwrap();
        for _ in 0..1000 {
            watch.feed(&[b'x'; 1000]).unwrap();
        }
        let kept = watch.string.as_ref().and_then(|literal| literal.name.as_ref()).map(Vec::len);
        assert_eq!(kept, Some(MAX_NAME_BYTES + 1));
        assert_eq!(watch.feed(b"\":1,\"tools\":[]}}"), Err(LIST));
        let long = "x".repeat(1000);
        let text = format!(r#"{{"result":1,"{long}":{{"tools":[]}},"result":{{"tools":[]}}}}"#);
        let before = text.find(r#""result":{"#).unwrap();
        assert_eq!(watched(&text.as_bytes()[..before], 10).0, Ok(()), "the member with the long name is no result");
        assert_eq!(watched(text.as_bytes(), 10).0, Err(LIST));
    }

    #[test]
    fn an_answer_that_is_not_complete_is_known_as_such() {
        for text in ["", " ", "{", r#"{"result":{}"#, r#""tools"#, "[1,", "\u{feff}"] {
            assert_eq!(watched(text.as_bytes(), 1), (Ok(()), false), "{text:?}");
        }
    }
}
