//! Event streams (`text/event-stream`, HTML standard section 9.2), taken apart as far as judging them takes.
//!
//! Own code: the crates for it return events, and lose comments and the form of the stream; none bounds an event. A
//! part that the component does not judge has to pass unchanged, and at once.

use std::borrow::Cow;

use crate::members::{
    CACHE_SCOPE, CONTENTS, PROMPTS, REQUEST_STATE, RESOURCE_TEMPLATES, RESOURCES, SUPPORTED_VERSIONS, TASK_ID, TASKS,
    TOOLS, TTL,
};

/// A byte order mark, which may be at the start of the stream and is not part of it.
pub const MARK: &[u8] = b"\xef\xbb\xbf";

/// The start of an escape by which a name may be written otherwise, and the letters that some readers take for an `s` and a
/// `k`, the second one as an escape too.
const DISGUISES: [&str; 4] = [r"\u0", "\u{17f}", r"\u212a", "\u{212a}"];

/// Whether a text may be or contain a message that depends on the caller: one with a list, one that says how far it may be
/// shared, one that hands something out. Some readers of JSON ignore the case of names, so all cases count.
pub fn may_list(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(first) = rest.first() {
        let begins =
            |word: &&str| rest.get(..word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()));
        if words_with(*first).iter().any(begins) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// The words to look for that begin with a byte, in either case. An event can have megabytes, so it is gone through once and
/// not once for each word.
fn words_with(first: u8) -> &'static [&'static str] {
    match first.to_ascii_lowercase() {
        b't' => &[TOOLS, TASKS, TASK_ID, TTL],
        b'r' => &[RESOURCES, RESOURCE_TEMPLATES, REQUEST_STATE],
        b'c' => &[CACHE_SCOPE, CONTENTS],
        b'p' => &[PROMPTS],
        b's' => &[SUPPORTED_VERSIONS],
        b'\\' | 0xc5 | 0xe2 => &DISGUISES,
        _ => &[],
    }
}

/// A part of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamPart {
    /// Nothing that a client acts on: a comment, an empty line.
    Filler(Vec<u8>),
    /// The lines of an event and the empty line after them.
    Event(Vec<u8>),
}

/// Cuts a stream into events.
#[derive(Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Up to where the buffer has been given out. It is cleared away when more comes, not for every part.
    given: usize,
    /// Where the current line begins, from `given` on.
    line: usize,
    /// Up to where the current line has been looked at, from `given` on.
    seen: usize,
    /// The event ended with CR, to which an LF may belong that is not here yet.
    after_cr: bool,
    /// Something of the stream has been given out.
    begun: bool,
}

impl Splitter {
    /// Adds what has come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.given);
        self.given = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes of the event that is not complete.
    pub fn held(&self) -> usize {
        self.ahead().len()
    }

    fn ahead(&self) -> &[u8] {
        self.buffer.get(self.given..).unwrap_or_default()
    }

    /// The next part that is complete.
    pub fn next_part(&mut self) -> Option<StreamPart> {
        if self.after_cr && self.held() > 0 {
            self.after_cr = false;
            if self.ahead().first() == Some(&b'\n') {
                return Some(StreamPart::Filler(self.take(1)));
            }
        }
        loop {
            let buffer = self.ahead();
            let Some(end) = buffer.get(self.seen..)?.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.seen = buffer.len();
                return None;
            };
            let end = self.seen.saturating_add(end);
            let (cr, lf) = (buffer.get(end) == Some(&b'\r'), buffer.get(end.saturating_add(1)) == Some(&b'\n'));
            let after = end.saturating_add(if cr && lf { 2 } else { 1 });
            // Whether the LF of this CR has yet to come is not known before the next byte.
            let undecided = cr && after == buffer.len() && !lf;
            let line = buffer.get(self.line..end).unwrap_or_default();
            let line = if self.begun || self.line > 0 { line } else { line.strip_prefix(MARK).unwrap_or(line) };
            let (first, empty, comment) = (self.line == 0, line.is_empty(), line.first() == Some(&b':'));
            if empty || (first && comment) {
                self.after_cr = undecided;
                let part = self.take(after);
                return Some(if first { StreamPart::Filler(part) } else { StreamPart::Event(part) });
            }
            if undecided {
                // It is no empty line, so nothing can be given out yet, and nothing has to.
                self.seen = end;
                return None;
            }
            (self.line, self.seen) = (after, after);
        }
    }

    /// The rest at the end of the stream: an event without its empty line, which some clients take for one.
    pub fn rest(&mut self) -> Option<StreamPart> {
        (self.held() > 0).then(|| StreamPart::Event(self.take(self.held())))
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let taken = self.ahead().get(..length).unwrap_or_default().to_vec();
        self.given = self.given.saturating_add(taken.len());
        (self.line, self.seen, self.begun) = (0, 0, true);
        taken
    }
}

/// An event that may have a list.
#[derive(Debug, PartialEq, Eq)]
pub struct ListEvent {
    /// Its lines `event`, `id` and `retry`.
    head: Vec<u8>,
    /// The lines `data`, joined.
    pub data: Option<String>,
}

impl ListEvent {
    /// Reads an event. Leaves out lines that a client ignores, and lines that might have a list where none belongs,
    /// because readers do not agree about what ends a line.
    pub fn read(raw: &[u8]) -> Self {
        let raw = raw.strip_prefix(MARK).unwrap_or(raw);
        let text = String::from_utf8_lossy(raw);
        let (mut head, mut data) = (Vec::new(), None::<String>);
        for line in lines(&text) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "data" => match &mut data {
                    Some(data) => data.extend(["\n", value]),
                    None => data = Some(value.to_owned()),
                },
                "event" | "id" | "retry" if !may_list(value.as_bytes()) => {
                    head.extend_from_slice(line.as_bytes());
                    head.push(b'\n');
                }
                _ => {}
            }
        }
        Self { head, data }
    }

    /// The event with this data.
    pub fn write(self, data: Option<Cow<'_, str>>) -> Vec<u8> {
        let mut written = self.head;
        for line in data.iter().flat_map(|data| lines(data)) {
            written.extend_from_slice(b"data: ");
            written.extend_from_slice(line.as_bytes());
            written.push(b'\n');
        }
        written.push(b'\n');
        written
    }
}

/// Lines that end with CR, LF or both.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.find(['\r', '\n']) {
            None => {
                rest = None;
                (!text.is_empty()).then_some(text)
            }
            Some(end) => {
                let (line, after) = text.split_at(end);
                rest = Some(after.strip_prefix("\r\n").or_else(|| after.get(1..)).unwrap_or_default());
                Some(line)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::CONCERNED;

    fn parts(chunks: &[&[u8]]) -> Vec<StreamPart> {
        let (mut splitter, mut parts) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk);
            parts.extend(std::iter::from_fn(|| splitter.next_part()));
        }
        parts.extend(splitter.rest());
        parts
    }

    fn bytes(parts: &[StreamPart]) -> Vec<u8> {
        let bytes = |part: &StreamPart| match part {
            StreamPart::Filler(bytes) | StreamPart::Event(bytes) => bytes.clone(),
        };
        parts.iter().flat_map(bytes).collect()
    }

    fn events(parts: &[StreamPart]) -> Vec<Option<String>> {
        let event = |part: &StreamPart| match part {
            StreamPart::Filler(_) => None,
            StreamPart::Event(raw) => Some(ListEvent::read(raw).data),
        };
        parts.iter().filter_map(event).collect()
    }

    #[test]
    fn events_are_the_same_however_their_lines_end_and_wherever_they_are_cut() {
        let text = ": hi\n\nid: 1\ndata: a\ndata:  b\ndata\n\n\n:\ndata:c\nretry: 5\n\n";
        for end in ["\n", "\r\n", "\r"] {
            let stream = text.replace('\n', end).into_bytes();
            for size in 1..=stream.len() {
                let chunks: Vec<&[u8]> = stream.chunks(size).collect();
                let parts = parts(&chunks);
                assert_eq!(events(&parts), [Some("a\n b\n".to_owned()), Some("c".to_owned())], "{end:?} by {size}");
                assert_eq!(bytes(&parts), stream, "nothing is lost or changed: {end:?} by {size}");
            }
        }
    }

    #[test]
    fn a_complete_event_and_a_comment_do_not_wait_for_more() {
        for (stream, expected) in [
            (&b"data: a\r\r"[..], StreamPart::Event(b"data: a\r\r".to_vec())),
            (b"data: a\r\n\r\n", StreamPart::Event(b"data: a\r\n\r\n".to_vec())),
            (b"data: a\n\n", StreamPart::Event(b"data: a\n\n".to_vec())),
            (b": ping\n", StreamPart::Filler(b": ping\n".to_vec())),
            (b": ping\r", StreamPart::Filler(b": ping\r".to_vec())),
            (b"\xef\xbb\xbf: ping\n", StreamPart::Filler(b"\xef\xbb\xbf: ping\n".to_vec())),
        ] {
            let mut splitter = Splitter::default();
            splitter.feed(stream);
            assert_eq!(splitter.next_part(), Some(expected));
            assert_eq!((splitter.next_part(), splitter.held()), (None, 0));
        }
        let mut splitter = Splitter::default();
        splitter.feed(b"data: a\n");
        assert_eq!((splitter.next_part(), splitter.held()), (None, 8));
    }

    #[test]
    fn the_end_of_a_crlf_that_comes_later_is_no_event() {
        assert_eq!(
            parts(&[b"data: a\r\n\r", b"\ndata: b\r", b"\n\r\n"]),
            [
                StreamPart::Event(b"data: a\r\n\r".to_vec()),
                StreamPart::Filler(b"\n".to_vec()),
                StreamPart::Event(b"data: b\r\n\r\n".to_vec()),
            ]
        );
    }

    #[test]
    fn a_mark_is_ignored_at_the_start_only() {
        assert_eq!(events(&parts(&[b"\xef\xbb", b"\xbfdata: a\n\n"])), [Some("a".to_owned())]);
        let later = parts(&[b"data: a\n\n\xef\xbb\xbfdata: b\n\n"]);
        assert!(matches!(&later[1], StreamPart::Event(raw) if raw.starts_with(MARK)));
    }

    #[test]
    fn an_event_is_written_as_it_was_except_for_its_data() {
        let event =
            ListEvent::read(b": about tools\r\nevent: message\rid:7\nfoo: tools\nretry: 1\ndata: {\ndata: }\n\n");
        assert_eq!(event.data.as_deref(), Some("{\n}"));
        assert_eq!(event.write(Some("{}\n1".into())), b"event: message\nid:7\nretry: 1\ndata: {}\ndata: 1\n\n");
        let event = ListEvent::read("event: x\u{2028}data: {\"tools\":[]}\nid: 1\n\n".as_bytes());
        assert_eq!(event.write(None), b"id: 1\n\n");
    }

    #[test]
    fn a_word_is_found_wherever_it_is_and_a_part_of_one_is_none() {
        for word in CONCERNED.into_iter().chain(DISGUISES) {
            for text in [word.to_owned(), format!("t{word}"), format!("r\\u{word}s"), format!("\u{c5}{word}")] {
                assert!(may_list(text.as_bytes()), "{text}");
            }
            let cut = word.as_bytes().split_last().unwrap().1;
            assert!(!may_list(cut) && !may_list(&[cut, b"-"].concat()), "{word}");
        }
    }

    #[test]
    fn every_member_that_is_judged_is_recognised_in_every_case() {
        for member in CONCERNED {
            for name in [member.to_owned(), member.to_lowercase(), member.to_uppercase()] {
                let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"{name}":[]}}}}"#);
                assert!(may_list(message.as_bytes()), "{message}");
            }
        }
    }

    #[test]
    fn a_list_is_recognised_in_every_spelling() {
        for text in [
            r#"{"result":{"tools":[]}}"#,
            r#"{"result":{"TOOLS":[]}}"#,
            r#"{"resourceTemplates":[]}"#,
            r#"{"resources":[]}"#,
            r#"{"prompts":[]}"#,
            r#"{"cacheScope":"public"}"#,
            r#"{"to\u006fls":[]}"#,
            r#"{"\u0054ools":[]}"#,
            "{\"tool\u{17f}\":[]}",
            r#"{"tool\u017f":[]}"#,
            "{\"tas\u{212a}s\":[]}",
            r#"{"tas\u212as":[]}"#,
            r#"{"TAS\u212AS":[]}"#,
        ] {
            assert!(may_list(text.as_bytes()), "{text}");
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"tool"}]}}"#,
            "{\"text\":\"\u{201c}tool\u{201d}, \\u2019 and \\u212b\"}",
            "",
            "tool",
        ] {
            assert!(!may_list(text.as_bytes()), "{text}");
        }
    }
}
