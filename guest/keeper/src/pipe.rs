//! The body of an answer on its way to the client: what the component has to judge or to see, and ids of events.
//!
//! Everything else passes as it is, and at once.

use std::borrow::Cow;

use entra_mcp_boundary::answer::{AnswerContent, Reads};
use entra_mcp_boundary::event_ids::{Broken, Tagger};
use entra_mcp_boundary::events::{ListEvent, Splitter, StreamPart, may_list};

/// Most bytes of a message that is judged: what the contract allows.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes of an event: a message, and what its lines add.
const MAX_EVENT_BYTES: usize = MAX_MESSAGE_BYTES + 64 * 1024;

/// Bytes of the longest message that is looked at for what it hands out. Such messages are short.
const MAX_NOTED_BYTES: usize = 1024 * 1024;

/// Words without which a message hands out nothing.
const NAMES: [&[u8]; 2] = [b"\"taskId\"", b"\"requestState\""];

/// `judge-answer` of the component.
pub type Judge<'j> = &'j dyn Fn(&str) -> String;

/// What is done to a body.
pub struct Pipe {
    how: How,
    tagger: Option<Tagger>,
}

enum How {
    /// Nothing.
    Pass,
    /// One message, which is shown before its last byte passes. `None`: it is too long to be shown.
    NoteMessage { seen: Option<Vec<u8>>, last: Option<u8> },
    /// Events, which are shown before they pass. `None`: one was too long.
    NoteEvents(Option<Splitter>),
    /// Events, of which those that may have a list are judged.
    JudgeEvents(Splitter),
}

impl Pipe {
    /// For an answer that passes while it is written. One message that is judged does not: see [`judged`].
    pub fn new(content: AnswerContent, reads: Reads, event_key: &[u8]) -> Self {
        let how = match content {
            AnswerContent::Events if reads.judged => How::JudgeEvents(Splitter::default()),
            AnswerContent::Events if reads.noted => How::NoteEvents(Some(Splitter::default())),
            AnswerContent::Json if reads.noted => How::NoteMessage { seen: Some(Vec::new()), last: None },
            _ => How::Pass,
        };
        let tagger = (content == AnswerContent::Events && reads.tied).then(|| Tagger::new(event_key));
        Self { how, tagger }
    }

    /// What goes out of what the tool has written.
    pub fn feed(&mut self, bytes: &[u8], judge: Judge<'_>) -> Result<Vec<u8>, Broken> {
        let written = self.how.feed(bytes, judge)?;
        match &mut self.tagger {
            Some(tagger) => tagger.feed(&written),
            None => Ok(written),
        }
    }

    /// What is left at the end.
    pub fn finish(&mut self, judge: Judge<'_>) -> Result<Vec<u8>, Broken> {
        let written = self.how.finish(judge)?;
        match &mut self.tagger {
            Some(tagger) => {
                let mut tagged = tagger.feed(&written)?;
                tagged.append(&mut tagger.finish());
                Ok(tagged)
            }
            None => Ok(written),
        }
    }
}

impl How {
    fn feed(&mut self, bytes: &[u8], judge: Judge<'_>) -> Result<Vec<u8>, Broken> {
        match self {
            Self::Pass => Ok(bytes.to_vec()),
            Self::NoteMessage { seen, last } => {
                let Some((new_last, before)) = bytes.split_last() else { return Ok(Vec::new()) };
                let fits = seen.as_ref().is_some_and(|seen| seen.len().saturating_add(bytes.len()) <= MAX_NOTED_BYTES);
                match seen {
                    Some(seen) if fits => seen.extend_from_slice(bytes),
                    _ => *seen = None,
                }
                let mut written: Vec<u8> = last.replace(*new_last).into_iter().collect();
                written.extend_from_slice(before);
                Ok(written)
            }
            Self::NoteEvents(splitter) => {
                if let Some(known) = splitter {
                    if known.held().saturating_add(bytes.len()) > MAX_NOTED_BYTES {
                        *splitter = None;
                    } else {
                        known.feed(bytes);
                        while let Some(part) = known.next_part() {
                            note(&part, judge);
                        }
                    }
                }
                Ok(bytes.to_vec())
            }
            Self::JudgeEvents(splitter) => {
                if splitter.held().saturating_add(bytes.len()) > MAX_EVENT_BYTES {
                    return Err(Broken("an event is too long to be judged"));
                }
                splitter.feed(bytes);
                let mut written = Vec::new();
                while let Some(part) = splitter.next_part() {
                    judge_part(part, judge, &mut written);
                }
                Ok(written)
            }
        }
    }

    fn finish(&mut self, judge: Judge<'_>) -> Result<Vec<u8>, Broken> {
        match std::mem::replace(self, Self::Pass) {
            Self::Pass => Ok(Vec::new()),
            Self::NoteMessage { seen, last } => {
                if let Some(seen) = seen.filter(|seen| hands_out(seen)) {
                    judge(&String::from_utf8_lossy(&seen));
                }
                Ok(last.into_iter().collect())
            }
            Self::NoteEvents(splitter) => {
                if let Some(part) = splitter.and_then(|mut splitter| splitter.rest()) {
                    note(&part, judge);
                }
                Ok(Vec::new())
            }
            Self::JudgeEvents(mut splitter) => {
                let mut written = Vec::new();
                if let Some(part) = splitter.rest() {
                    judge_part(part, judge, &mut written);
                }
                Ok(written)
            }
        }
    }
}

/// What the caller may see of an answer that is one message.
pub fn judged(message: &[u8], judge: Judge<'_>) -> Vec<u8> {
    if message.is_empty() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(message);
    // Some readers ignore the mark.
    judge(text.strip_prefix('\u{feff}').unwrap_or(&text)).into_bytes()
}

fn hands_out(text: &[u8]) -> bool {
    NAMES.iter().any(|name| text.windows(name.len()).any(|part| part == *name))
}

fn note(part: &StreamPart, judge: Judge<'_>) {
    if let StreamPart::Event(raw) = part
        && hands_out(raw)
        && let Some(data) = ListEvent::read(raw).data
    {
        judge(&data);
    }
}

fn judge_part(part: StreamPart, judge: Judge<'_>, written: &mut Vec<u8>) {
    match part {
        StreamPart::Filler(bytes) if may_list(&bytes) => {}
        StreamPart::Event(bytes) if may_list(&bytes) => {
            let event = ListEvent::read(&bytes);
            let judged = match &event.data {
                None => None,
                Some(data) if !may_list(data.as_bytes()) => Some(Cow::Owned(data.clone())),
                Some(data) => Some(Cow::Owned(judge(data.strip_prefix('\u{feff}').unwrap_or(data)))),
            };
            written.append(&mut event.write(judged));
        }
        StreamPart::Filler(bytes) | StreamPart::Event(bytes) => written.extend_from_slice(&bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn run(content: AnswerContent, reads: Reads, stream: &[u8], size: usize) -> (String, Vec<String>) {
        let shown = RefCell::new(Vec::new());
        let judge = |message: &str| {
            shown.borrow_mut().push(message.to_owned());
            "judged".to_owned()
        };
        let mut pipe = Pipe::new(content, reads, &KEY);
        let mut written = Vec::new();
        for chunk in stream.chunks(size) {
            written.append(&mut pipe.feed(chunk, &judge).unwrap());
        }
        written.append(&mut pipe.finish(&judge).unwrap());
        drop(pipe);
        (String::from_utf8(written).unwrap(), shown.into_inner())
    }

    #[test]
    fn a_message_that_hands_something_out_is_shown_before_its_last_byte_passes() {
        let reads = Reads { noted: true, ..Reads::default() };
        let message = br#"{"result":{"taskId":"1"}}"#;
        for size in [1, 5, 1000] {
            let (written, shown) = run(AnswerContent::Json, reads, message, size);
            assert_eq!(
                (written.as_bytes(), shown),
                (&message[..], vec![String::from_utf8_lossy(message).into_owned()])
            );
        }
        let mut pipe = Pipe::new(AnswerContent::Json, reads, &[]);
        let never = |_: &str| -> String { panic!("it is not complete") };
        assert_eq!(pipe.feed(message, &never).unwrap(), message[..message.len() - 1]);
        assert_eq!(run(AnswerContent::Json, reads, b"{}", 1), ("{}".to_owned(), vec![]));
    }

    #[test]
    fn events_with_lists_are_judged_and_the_others_pass_and_ids_are_tied() {
        let reads = Reads { judged: true, noted: true, tied: true };
        let stream = b": hello\n\ndata: {\"tools\":[]}\n\nid: event-1\ndata: {}\n\n";
        for size in [1, 7, 1000] {
            let (written, shown) = run(AnswerContent::Events, reads, stream, size);
            let expected = ": hello\n\ndata: judged\n\nid: gLJF-by1AkDWlQazjk28tQ.event-1\ndata: {}\n\n";
            assert_eq!((written.as_str(), shown), (expected, vec!["{\"tools\":[]}".to_owned()]), "{size}");
        }
    }

    #[test]
    fn events_pass_at_once_unless_they_are_judged() {
        let judge = |_: &str| "shown".to_owned();
        let mut pipe = Pipe::new(AnswerContent::Events, Reads { noted: true, ..Reads::default() }, &[]);
        assert_eq!(pipe.feed(b"data: {\"taskId\"", &judge).unwrap(), b"data: {\"taskId\"");
        assert_eq!(judged(b"\xef\xbb\xbf{}", &judge), b"shown");
    }
}
