//! What a long message hands out, found while the message passes: `result.taskId`, `result.task.taskId` and
//! `result.requestState`, whatever else is in it.
//!
//! Threat: a server puts names of other callers into what a tool returns. Only these places count, as they do where the
//! component reads a whole message, so a name in the content of a result is not handed out.

use bytes::Bytes;

/// Bytes of the longest name or key that is kept: a state of 64 KiB, with what JSON adds.
const MAX_KEPT_BYTES: usize = 128 * 1024;

/// Names of one message that are noted: a task and a state, and a few more for servers that repeat members.
const MAX_NAMES: usize = 4;

/// An object that has names in it, or leads to one that has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Object {
    Message,
    Result,
    Task,
}

/// Looks for names in a message that comes in pieces.
#[derive(Default)]
pub(super) struct NameSearch {
    /// The open objects that matter, outermost first.
    open: Vec<Object>,
    /// Open objects and arrays inside of them that do not.
    skipped: usize,
    /// The name of the member that comes next or is there, in quotes.
    key: Option<Vec<u8>>,
    awaits_key: bool,
    /// The string that is not complete.
    string: Option<Literal>,
    found: usize,
}

/// A string of JSON, in quotes and with its escapes.
struct Literal {
    /// Its begin, if it may be a name.
    kept: Vec<u8>,
    is_escaped: bool,
}

impl NameSearch {
    /// Messages that hand out, each one name, what this piece completes.
    pub(super) fn feed(&mut self, piece: &Bytes) -> Vec<String> {
        let mut messages = Vec::new();
        for byte in piece {
            if let Some(message) = self.step(*byte).filter(|_| self.found < MAX_NAMES) {
                self.found = self.found.saturating_add(1);
                messages.push(message);
            }
        }
        messages
    }

    fn step(&mut self, byte: u8) -> Option<String> {
        if let Some(literal) = &mut self.string {
            if self.skipped == 0 && literal.kept.len() <= MAX_KEPT_BYTES {
                literal.kept.push(byte);
            }
            match (literal.is_escaped, byte) {
                (false, b'"') => return self.ended(),
                (false, b'\\') => literal.is_escaped = true,
                _ => literal.is_escaped = false,
            }
            return None;
        }
        match byte {
            b'"' => self.string = Some(Literal { kept: vec![b'"'], is_escaped: false }),
            b'{' => self.enter(),
            // A batch.
            b'[' if self.open.is_empty() && self.skipped == 0 => {}
            b'[' => self.skipped = self.skipped.saturating_add(1),
            b'}' | b']' if self.skipped > 0 => self.skipped = self.skipped.saturating_sub(1),
            b'}' => {
                self.open.pop();
            }
            b':' if self.skipped == 0 => self.awaits_key = false,
            b',' if self.skipped == 0 => (self.awaits_key, self.key) = (true, None),
            _ => {}
        }
        None
    }

    /// An object begins.
    fn enter(&mut self) {
        let inside = match (self.open.last(), self.key.as_deref()) {
            _ if self.skipped > 0 => None,
            (None, _) => Some(Object::Message),
            (Some(Object::Message), Some(br#""result""#)) => Some(Object::Result),
            (Some(Object::Result), Some(br#""task""#)) => Some(Object::Task),
            _ => None,
        };
        match inside {
            Some(object) => {
                self.open.push(object);
                (self.awaits_key, self.key) = (true, None);
            }
            None => self.skipped = self.skipped.saturating_add(1),
        }
    }

    /// A string is complete.
    fn ended(&mut self) -> Option<String> {
        let kept = self.string.take()?.kept;
        if self.skipped > 0 || kept.len() > MAX_KEPT_BYTES {
            return None;
        }
        if self.awaits_key {
            self.key = Some(kept);
            return None;
        }
        let member = match (self.open.last()?, self.key.as_deref()?) {
            (Object::Result | Object::Task, br#""taskId""#) => "taskId",
            (Object::Result, br#""requestState""#) => "requestState",
            _ => return None,
        };
        let name = String::from_utf8_lossy(&kept);
        Some(format!(r#"{{"jsonrpc":"2.0","id":null,"result":{{"{member}":{name}}}}}"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(message: &str, size: usize) -> Vec<String> {
        let mut names = NameSearch::default();
        let pieces = message.as_bytes().chunks(size).map(Bytes::copy_from_slice);
        pieces.flat_map(|piece| names.feed(&piece)).collect()
    }

    fn handing_out(member: &str, name: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":null,"result":{{"{member}":{name}}}}}"#)
    }

    #[test]
    fn names_are_found_where_a_result_hands_them_out_wherever_the_message_is_cut() {
        let task = handing_out("taskId", r#""a\"{b""#);
        let state = handing_out("requestState", r#""s""#);
        for (message, expected) in [
            (r#"{"id":1,"result":{"x":[{"a":{}}],"taskId" : "a\"{b","y":"}"}}"#, vec![task.clone()]),
            (r#"{"result":{"task":{"status":"}","taskId":"a\"{b"}},"id":1}"#, vec![task.clone()]),
            (r#"{"result":{"requestState":"s","taskId":"a\"{b"}}"#, vec![state.clone(), task.clone()]),
            (r#"[{"result":{"taskId":"a\"{b"}},{"result":{"requestState":"s"}}]"#, vec![task, state]),
        ] {
            for size in 1..=message.len() {
                assert_eq!(names(message, size), expected, "{message} by {size}");
            }
        }
    }

    #[test]
    fn names_anywhere_else_are_not_handed_out() {
        for message in [
            r#"{"taskId":"7","params":{"taskId":"7"}}"#,
            r#"{"result":{"structuredContent":{"taskId":"7","requestState":"s","task":{"taskId":"7"}}}}"#,
            r#"{"result":{"content":[{"taskId":"7"}],"task":{"nested":{"taskId":"7"},"requestState":"s"}}}"#,
            r#"{"result":{"x":"\"taskId\":\"7\"","taskid":"7","taskId":7,"taskId":["7"]}}"#,
            r#"{"result":{"result":{"taskId":"7"}},"error":{"taskId":"7"}}"#,
            r#"{"result":["taskId","7"]}"#,
            "no json \"taskId\" : \"7\"",
            "]]}}{\"x\":",
        ] {
            assert_eq!(names(message, 3), [""; 0], "{message}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = format!(r#"{{"result":{{"taskId":"{}","requestState":"s"}}}}"#, "x".repeat(MAX_KEPT_BYTES));
        assert_eq!(names(&long, 1000), [handing_out("requestState", r#""s""#)]);
        let repeated = format!(r#"{{"result":{{{}"x":1}}}}"#, r#""taskId":"7","#.repeat(100));
        assert_eq!(names(&repeated, 1000).len(), MAX_NAMES);
    }
}
