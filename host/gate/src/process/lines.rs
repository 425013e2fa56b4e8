//! Lines of a process: messages on its standard output, and what it writes to its standard error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entra_mcp_plugin::clock::Clock;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use zeroize::Zeroizing;

use super::settings::{END_BYTES, LOG_PERIOD, MAX_LOGGED_BYTES, MAX_LOGGED_LINES};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It is text, without its end.
    Text(String),
    /// It is no UTF-8.
    NoText,
    /// It is longer than the bound. Only its first and its last bytes are kept.
    TooLong(Ends),
}

/// The first and the last bytes of a line that is too long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
}

impl Ends {
    /// Takes the next part of the line.
    fn extend(&mut self, part: &[u8]) {
        let room = END_BYTES.saturating_sub(self.first.len());
        self.first.extend_from_slice(part.get(..room).unwrap_or(part));
        self.last.extend_from_slice(part.get(part.len().saturating_sub(END_BYTES)..).unwrap_or_default());
        self.last.drain(..self.last.len().saturating_sub(END_BYTES));
    }
}

/// Reads lines of bounded length.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    bound: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(input: R, bound: usize) -> Self {
        Self { input: BufReader::new(input), bound }
    }

    /// The next line, or `None` at the end or after an error of the pipe. Not cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Line> {
        let mut line = Vec::new();
        let mut too_long: Option<Ends> = None;
        loop {
            let (used, ended) = {
                let bytes = self.input.fill_buf().await.ok()?;
                if bytes.is_empty() {
                    if line.is_empty() && too_long.is_none() {
                        return None;
                    }
                    (0, true)
                } else {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
                    if too_long.is_none() && line.len().saturating_add(part.len()) > self.bound {
                        too_long.get_or_insert_default().extend(&std::mem::take(&mut line));
                    }
                    match &mut too_long {
                        Some(ends) => ends.extend(part),
                        None => line.extend_from_slice(part),
                    }
                    (part.len().saturating_add(usize::from(end.is_some())), end.is_some())
                }
            };
            self.input.consume(used);
            if ended {
                break;
            }
        }
        if let Some(ends) = too_long {
            return Some(Line::TooLong(ends));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(String::from_utf8(line).map_or(Line::NoText, Line::Text))
    }
}

/// What must not get into the log, though the process may print it.
pub(super) type Withheld = Arc<Mutex<Zeroizing<String>>>;

/// The log of one process: bounded in length and number of lines.
pub(super) struct ProcessLog {
    server: String,
    process: u64,
    clock: Arc<dyn Clock>,
    withheld: Withheld,
    count: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    since: Duration,
    lines: u32,
    left_out: u64,
}

impl ProcessLog {
    pub(super) fn new(server: String, process: u64, clock: Arc<dyn Clock>, withheld: Withheld) -> Self {
        let count = Mutex::new(Count { since: clock.monotonic(), ..Count::default() });
        Self { server, process, clock, withheld, count }
    }

    /// A line of the standard error.
    pub(super) fn error_line(&self, line: &Line) {
        if let Some(text) = self.admitted(line) {
            tracing::info!(server = %self.server, process = self.process, "stderr: {text}");
        }
    }

    /// A line of the standard output that is no message.
    pub(super) fn no_message(&self, line: &Line) {
        if let Some(text) = self.admitted(line) {
            tracing::warn!(server = %self.server, process = self.process, "skipped, no JSON-RPC message: {text}");
        }
    }

    /// The text for the log, or nothing if there was too much in this period.
    fn admitted(&self, line: &Line) -> Option<String> {
        let left_out = {
            let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.monotonic();
            if now.saturating_sub(count.since) >= LOG_PERIOD {
                let left_out = std::mem::take(&mut count.left_out);
                *count = Count { since: now, lines: 0, left_out: 0 };
                left_out
            } else {
                0
            }
        };
        if left_out > 0 {
            tracing::warn!(server = %self.server, process = self.process, left_out, "lines of the process are not in the log");
        }
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.lines >= MAX_LOGGED_LINES {
            count.left_out = count.left_out.saturating_add(1);
            return None;
        }
        count.lines = count.lines.saturating_add(1);
        drop(count);
        Some(match line {
            Line::Text(text) => self.printable(text),
            Line::NoText => "(not UTF-8)".into(),
            Line::TooLong(_) => "(too long)".into(),
        })
    }

    /// Without tokens, control characters, and what is too long.
    fn printable(&self, text: &str) -> String {
        let withheld = self.withheld.lock().unwrap_or_else(PoisonError::into_inner);
        let text = if withheld.is_empty() { text.to_owned() } else { text.replace(withheld.as_str(), "[token]") };
        drop(withheld);
        printable(&without_jwts(&text))
    }
}

/// Text of a server or tool as it may stand in the log: one line, without characters that change what a reader sees, and
/// not too long.
pub(crate) fn printable(text: &str) -> String {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_LOGGED_BYTES).last().unwrap_or(0);
    let cut = if text.len() > MAX_LOGGED_BYTES { text.get(..end).unwrap_or_default() } else { text };
    let printable = cut.chars().flat_map(|character| {
        let escape = character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let (plain, escaped) = if escape { (None, Some(character.escape_unicode())) } else { (Some(character), None) };
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    printable.collect()
}

/// Replaces what looks like a JSON Web Token: `eyJ` begins the base64 of `{"`.
fn without_jwts(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(at) = rest.find("eyJ") {
        let (before, token) = rest.split_at(at);
        kept.push_str(before);
        let end = token
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=')))
            .unwrap_or(token.len());
        let (token, after) = token.split_at(end);
        kept.push_str(if token.contains('.') || token.len() > 64 { "[token]" } else { token });
        rest = after;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use entra_mcp_plugin::clock::ManualClock;

    use super::*;

    #[tokio::test]
    async fn lines_end_with_the_input_and_long_ones_are_skipped() {
        let input: &[u8] = b"one\r\n\n12345678\n123456789\n\xff\nlast";
        let mut lines = Lines::new(input, 8);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await {
            found.push(line);
        }
        let text = |text: &str| Line::Text(text.into());
        let nine = || b"123456789".to_vec();
        let too_long = Line::TooLong(Ends { first: nine(), last: nine() });
        assert_eq!(found, [text("one"), text(""), text("12345678"), too_long, Line::NoText, text("last")]);
    }

    #[tokio::test]
    async fn both_ends_of_a_long_line_are_kept_and_no_more() {
        let middle = "m".repeat(100_000);
        let input = format!("first{middle}last\nnext\n");
        let mut lines = Lines::new(input.as_bytes(), 8);
        let Some(Line::TooLong(ends)) = lines.next().await else { panic!("the line is too long") };
        assert_eq!((ends.first.len(), ends.last.len()), (END_BYTES, END_BYTES));
        assert!(ends.first.starts_with(b"firstm") && ends.last.ends_with(b"mlast"));
        assert_eq!(lines.next().await, Some(Line::Text("next".into())));
    }

    fn log(clock: &ManualClock, withheld: &str) -> ProcessLog {
        let withheld = Arc::new(Mutex::new(Zeroizing::new(withheld.to_owned())));
        ProcessLog::new("crm".into(), 1, Arc::new(clock.clone()), withheld)
    }

    #[test]
    fn tokens_and_control_characters_do_not_reach_the_log() {
        let log = log(&ManualClock::new(0), "opaque-token");
        let line = |text: &str| log.admitted(&Line::Text(text.into())).unwrap();
        assert_eq!(line("a opaque-token b"), "a [token] b");
        assert_eq!(line("Bearer eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln, eyJ"), "Bearer [token], eyJ");
        assert_eq!(line("a\u{1b}[31mb\u{202e}"), r"a\u{1b}[31mb\u{202e}");
        assert!(line(&"ä".repeat(MAX_LOGGED_BYTES)).len() <= MAX_LOGGED_BYTES);
    }

    #[test]
    fn a_process_that_prints_much_does_not_fill_the_log() {
        let clock = ManualClock::new(0);
        let log = log(&clock, "");
        let admitted = |times: u32| (0..times).filter(|_| log.admitted(&Line::Text("x".into())).is_some()).count();
        assert_eq!(admitted(MAX_LOGGED_LINES + 50), MAX_LOGGED_LINES as usize);
        clock.advance(LOG_PERIOD);
        assert_eq!(admitted(MAX_LOGGED_LINES + 50), MAX_LOGGED_LINES as usize);
    }
}
