//! The ids of events (`id:` in a stream), tied to the caller that reads them.
//!
//! Threat: the id of an event is often all it takes to have a stream repeated (`Last-Event-ID`), and it is in logs. So
//! the host puts a tag before each id, made with the key of this caller, which only the component can check. For any
//! other caller, the id is unknown. Everything else of the stream passes as it is, and at once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::events::MARK;

/// Bytes of a tag, as the contract says.
const TAG_BYTES: usize = 16;

/// Bytes of the longest id. Usual are 70; the tagged one comes back in a header field.
const MAX_ID_BYTES: usize = 4 * 1024;

/// How a line with an id begins.
const FIELD: &[u8] = b"id:";

/// Why an answer ends too early. For the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// Puts a tag before each id.
pub struct Tagger {
    key: Zeroizing<Vec<u8>>,
    line: Line,
    /// A byte order mark, which may be at the start of the stream, is not part of a line.
    begun: bool,
}

/// Where in a line the stream is.
enum Line {
    /// At its begin. So much of it may still become an id.
    Begin(Vec<u8>),
    /// In an id: its value so far.
    Id(Vec<u8>),
    /// In anything else.
    Other,
}

impl Tagger {
    /// With the key of a caller.
    pub fn new(key: &[u8]) -> Self {
        Self { key: Zeroizing::new(key.to_vec()), line: Line::Begin(Vec::new()), begun: false }
    }

    /// The part of the stream that goes out now.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let (mut rest, mut written) = (bytes, Vec::with_capacity(bytes.len()));
        while let Some((first, after)) = rest.split_first() {
            let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            match &mut self.line {
                Line::Other => {
                    let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end.saturating_add(1)));
                    written.extend_from_slice(line);
                    rest = after;
                    if end.is_some() {
                        self.line = Line::Begin(Vec::new());
                    }
                }
                Line::Begin(held) if end == Some(0) => {
                    written.append(held);
                    written.push(*first);
                    (rest, self.begun) = (after, true);
                }
                Line::Begin(held) => {
                    held.push(*first);
                    rest = after;
                    if !self.begun && MARK.starts_with(held) {
                        if held.len() == MARK.len() {
                            written.append(held);
                            self.begun = true;
                        }
                    } else if FIELD == held.as_slice() {
                        (self.line, self.begun) = (Line::Id(Vec::new()), true);
                    } else if !FIELD.starts_with(held) {
                        written.append(held);
                        (self.line, self.begun) = (Line::Other, true);
                    }
                }
                Line::Id(value) => {
                    let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
                    value.extend_from_slice(part);
                    rest = after;
                    if value.len() > MAX_ID_BYTES {
                        return Err(Broken("the id of an event is too long"));
                    }
                    if end.is_some() {
                        written.append(&mut tagged(&self.key, value));
                        self.line = Line::Begin(Vec::new());
                    }
                }
            }
        }
        Ok(written)
    }

    /// The rest at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.line, Line::Other) {
            Line::Begin(held) => held,
            Line::Id(value) => tagged(&self.key, &value),
            Line::Other => Vec::new(),
        }
    }
}

/// The line with a tag before its value. An empty value says that there is no id.
fn tagged(key: &[u8], value: &[u8]) -> Vec<u8> {
    let id = value.strip_prefix(b" ").unwrap_or(value);
    if id.is_empty() {
        return [FIELD, value].concat();
    }
    let mac = hmac_sha256::HMAC::mac(id, key);
    let tag = URL_SAFE_NO_PAD.encode(mac.get(..TAG_BYTES).unwrap_or_default());
    [FIELD, b" ", tag.as_bytes(), b".", id].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    /// The component makes the same tag: `guest/server/src/gatekeeper/event_ids.rs` has the same example.
    const TAGGED: &str = "gLJF-by1AkDWlQazjk28tQ.event-1";

    fn written(stream: &[u8], size: usize) -> String {
        let mut tagger = Tagger::new(&KEY);
        let mut written = Vec::new();
        for chunk in stream.chunks(size) {
            written.append(&mut tagger.feed(chunk).unwrap());
        }
        written.append(&mut tagger.finish());
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn ids_are_tagged_however_lines_end_and_wherever_the_stream_is_cut() {
        let stream = "id: event-1\ndata: a\nid:event-1\n\nid\nid:\nid: \nidx: 1\n id: 1\ndata: id: 1\n: id: 1\ni\n\nid: event-1\n";
        let expected = format!(
            "id: {TAGGED}\ndata: a\nid: {TAGGED}\n\nid\nid:\nid: \nidx: 1\n id: 1\ndata: id: 1\n: id: 1\ni\n\nid: {TAGGED}\n"
        );
        for end in ["\n", "\r\n", "\r"] {
            for mark in ["", "\u{feff}"] {
                let stream = format!("{mark}{}", stream.replace('\n', end)).into_bytes();
                for size in 1..=stream.len() {
                    assert_eq!(written(&stream, size), format!("{mark}{}", expected.replace('\n', end)), "{size}");
                }
            }
        }
    }

    #[test]
    fn an_id_without_an_end_is_tagged_too_and_a_mark_counts_at_the_start_only() {
        assert_eq!(written(b"data: a\n\nid: event-1", 3), format!("data: a\n\nid: {TAGGED}"));
        assert_eq!(written("\n\u{feff}id: event-1\n".as_bytes(), 1), "\n\u{feff}id: event-1\n", "it is another field");
        assert_eq!(written("\u{feff}\u{feff}id: x\n".as_bytes(), 1), "\u{feff}\u{feff}id: x\n");
        for begin in ["i", "id", "\u{feff}", "\u{feff}i", ""] {
            assert_eq!(written(begin.as_bytes(), 1), begin);
        }
    }

    #[test]
    fn nothing_but_an_id_is_held_back_and_that_is_bounded() {
        let mut tagger = Tagger::new(&KEY);
        assert_eq!(tagger.feed(b"data: a").unwrap(), b"data: a");
        assert_eq!(tagger.feed(b"\n\nid: ").unwrap(), b"\n\n");
        assert!(tagger.feed(&[b'x'; MAX_ID_BYTES - 1]).unwrap().is_empty());
        assert_eq!(tagger.feed(b"xx").unwrap_err(), Broken("the id of an event is too long"));
    }
}
