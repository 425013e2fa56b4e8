//! The component's standard error: it goes into the log line by line, under the target `guest`.
//!
//! The component writes what only the operator should know: the reason why it could not decide, or the message of a
//! panic. Length and number of lines are bounded per instance, so that a runaway component cannot fill the disk.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Longest line in bytes. The rest of a longer line becomes the next line.
const MAX_LINE_BYTES: usize = 2 * 1024;

/// Most lines of one instance. A panic message has a handful of lines; the component writes at most half as many
/// others.
const MAX_LINES: usize = 200;

/// Longest text of an error in bytes that goes into the log: a trap with its backtrace.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// Whether a character neither ends a line, nor moves what is around it, nor reaches a terminal as a command.
fn is_printable(character: char) -> bool {
    let separates = matches!(character, '\u{2028}' | '\u{2029}');
    let directs = matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !character.is_control() && !separates && !directs
}

/// A text with parts that a component has chosen, such as the names of its functions, as one line of the log.
pub(crate) fn printable(text: &str) -> String {
    let cut = text.get(..text.floor_char_boundary(MAX_ERROR_BYTES)).unwrap_or_default();
    cut.chars().map(|character| if is_printable(character) { character } else { ' ' }).collect()
}

/// The standard error of one instance; of a tool component, its standard output too.
#[derive(Clone, Default)]
pub(crate) struct GuestStderr {
    lines: Arc<Mutex<Lines>>,
    /// The server that the instance is of, if it is a tool component.
    server: Option<Arc<str>>,
}

impl GuestStderr {
    /// The output of an instance of a tool component. Its lines go under the target `tool`, with the name of the server.
    pub(crate) fn of_tools(server: Arc<str>) -> Self {
        Self { lines: Arc::default(), server: Some(server) }
    }
}

#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
    written: usize,
}

impl Lines {
    /// Adds bytes and returns the lines that they complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => complete.extend(self.end_line()),
                byte => {
                    self.partial.push(*byte);
                    if self.partial.len() == MAX_LINE_BYTES {
                        complete.extend(self.end_line());
                    }
                }
            }
        }
        complete
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        self.written = self.written.saturating_add(1);
        match self.written {
            ..=MAX_LINES => Some(String::from_utf8_lossy(&line).chars().filter(|c| is_printable(*c)).collect()),
            number if number == MAX_LINES + 1 => Some("(further lines of this instance are left out)".into()),
            _ => None,
        }
    }
}

impl IsTerminal for GuestStderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStderr {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestStderr {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let complete = self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        for line in complete {
            match &self.server {
                None => tracing::warn!(target: "guest", "{line}"),
                Some(server) => tracing::info!(target: "tool", %server, "{line}"),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_cleaned() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"a"), Vec::<String>::new());
        assert_eq!(lines.push(b"b\nc\x1b[31m\n"), ["ab", "c[31m"]);
    }

    #[test]
    fn no_text_ends_a_line_or_turns_the_one_that_it_is_in() {
        let text = "a\u{2028}b\u{2029}c\u{202e}d\u{2066}e\u{200f}f\u{85}g";
        assert_eq!(Lines::default().push(format!("{text}\n").as_bytes()), ["abcdefg"]);
        assert_eq!(printable(text), "a b c d e f g");
        assert_eq!(printable("0: f\n2026-01-01 WARN forged\r\x1b[2J"), "0: f 2026-01-01 WARN forged  [2J");
        assert_eq!(printable(&"ä".repeat(MAX_ERROR_BYTES)).len(), MAX_ERROR_BYTES);
    }

    #[test]
    fn an_overlong_line_is_cut() {
        let mut lines = Lines::default();
        let written = lines.push(&[b'x'; MAX_LINE_BYTES + 1]);
        assert_eq!(written.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES]);
    }

    #[test]
    fn the_number_of_lines_is_bounded() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&b"x\n".repeat(MAX_LINES * 2)).len(), MAX_LINES + 1);
    }
}
