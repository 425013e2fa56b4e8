//! Streams: bodies of requests and answers, and the standard output of the tool.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use entra_mcp_boundary::scrub::{Scrub, Tells};
use wasip2::http::types as host;
use wasip2::io::poll::Pollable;
use wasip2::io::streams as host_streams;

use super::answers::Answer;
use super::call::Call;
use super::generated::exports::seen::io::streams as wit;
use super::uploads::Upload;
use super::{Keeper, note, ready};

/// Bytes that are written at once at most, and so the permission that a stream gives.
const PERMITTED: u64 = 64 * 1024;

/// Bytes that are read at once at most.
const MAX_READ: u64 = 64 * 1024;

/// Most bytes of one line of the tool in the log, and of all lines of one stream.
const MAX_LINE: usize = 1024;
const MAX_LOG: usize = 64 * 1024;

impl wit::Guest for Keeper {
    type InputStream = InputStream;
    type OutputStream = OutputStream;
}

/// Bytes that the tool reads.
pub(super) enum InputStream {
    /// The body of the request that the tool serves.
    Request { body: Vec<u8>, position: Cell<usize> },
    /// The body of an answer to a request of the tool.
    Answer(Box<Download>),
    /// Nothing.
    Empty,
}

/// The body of an answer, without the tokens of the call.
pub(super) struct Download {
    stream: host_streams::InputStream,
    scrub: RefCell<Scrub>,
    /// What was found to be no part of a token, and was not read yet.
    passed: RefCell<Vec<u8>>,
    ended: Cell<bool>,
    call: Rc<Call>,
    /// Dropped after its stream.
    _body: Rc<host::IncomingBody>,
}

impl Download {
    pub(super) fn new(stream: host_streams::InputStream, body: Rc<host::IncomingBody>, call: Rc<Call>) -> Self {
        let (scrub, passed, ended) = (RefCell::default(), RefCell::default(), Cell::new(false));
        Self { stream, scrub, passed, ended, call, _body: body }
    }

    fn read(&self, len: u64, blocks: bool) -> Result<Vec<u8>, wit::StreamError> {
        let most = usize::try_from(len.min(MAX_READ)).unwrap_or_default();
        loop {
            let mut passed = self.passed.borrow_mut();
            if !passed.is_empty() {
                let most = most.min(passed.len());
                let rest = passed.split_off(most);
                return Ok(std::mem::replace(&mut *passed, rest));
            }
            if self.ended.get() || self.call.has_ended() {
                return Err(wit::StreamError::Closed);
            }
            let most = len.clamp(1, MAX_READ);
            let read = if blocks { self.stream.blocking_read(most) } else { self.stream.read(most) };
            let found = match read {
                Ok(bytes) if bytes.is_empty() && !blocks => return Ok(Vec::new()),
                Ok(bytes) => {
                    let mut scrub = self.scrub.borrow_mut();
                    self.call.with_tokens(|tokens| {
                        let known = scrub.known();
                        scrub.learn(tokens.get(known..).unwrap_or_default());
                    });
                    scrub.pass(&bytes)
                }
                Err(host_streams::StreamError::Closed) => {
                    self.ended.set(true);
                    self.scrub.borrow_mut().finish()
                }
                Err(host_streams::StreamError::LastOperationFailed(error)) => {
                    self.ended.set(true);
                    return Err(wit::StreamError::LastOperationFailed(error));
                }
            };
            match found {
                Ok(found) => *passed = found,
                Err(Tells) => {
                    self.ended.set(true);
                    self.call.note("an answer repeats a token of its call, and was broken off");
                    return Err(wit::StreamError::Closed);
                }
            }
            if passed.is_empty() && !blocks && !self.ended.get() {
                return Ok(Vec::new());
            }
        }
    }
}

impl InputStream {
    fn bytes(&self, len: u64, blocks: bool) -> Result<Vec<u8>, wit::StreamError> {
        match self {
            Self::Empty => Err(wit::StreamError::Closed),
            Self::Answer(download) => download.read(len, blocks),
            Self::Request { body, position } => {
                let rest = body.get(position.get()..).unwrap_or_default();
                let most = usize::try_from(len.min(MAX_READ)).unwrap_or_default();
                if rest.is_empty() {
                    return Err(wit::StreamError::Closed);
                }
                let read = rest.get(..most.min(rest.len())).unwrap_or_default().to_vec();
                position.set(position.get().saturating_add(read.len()));
                Ok(read)
            }
        }
    }
}

impl wit::GuestInputStream for InputStream {
    fn read(&self, len: u64) -> Result<Vec<u8>, wit::StreamError> {
        self.bytes(len, false)
    }

    fn blocking_read(&self, len: u64) -> Result<Vec<u8>, wit::StreamError> {
        self.bytes(len, true)
    }

    fn skip(&self, len: u64) -> Result<u64, wit::StreamError> {
        self.bytes(len, false).map(|bytes| bytes.len() as u64)
    }

    fn blocking_skip(&self, len: u64) -> Result<u64, wit::StreamError> {
        self.bytes(len, true).map(|bytes| bytes.len() as u64)
    }

    fn subscribe(&self) -> Pollable {
        match self {
            Self::Answer(download) if !download.ended.get() && download.passed.borrow().is_empty() => {
                download.stream.subscribe()
            }
            _ => ready(),
        }
    }
}

/// Bytes that the tool writes.
pub(super) enum OutputStream {
    /// Its answer.
    Answer(Rc<Answer>),
    /// The body of a request of its own.
    Request(Rc<Upload>),
    /// Lines for the operator.
    Log(RefCell<ToolLog>),
}

/// Lines of the tool.
#[derive(Default)]
pub(super) struct ToolLog {
    line: Vec<u8>,
    written: usize,
}

impl ToolLog {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.flush();
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn flush(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.written = self.written.saturating_add(line.len()).saturating_add(1);
        if !line.is_empty() && self.written <= MAX_LOG {
            note(&format!("the tool says: {}", String::from_utf8_lossy(&line)));
        }
    }
}

impl OutputStream {
    fn write_bytes(&self, bytes: &[u8], flush: bool) -> Result<(), wit::StreamError> {
        match self {
            Self::Answer(answer) => {
                answer.write(bytes)?;
                if flush { answer.flush(true) } else { Ok(()) }
            }
            Self::Request(upload) => {
                upload.write(bytes)?;
                if flush { upload.flush(true) } else { Ok(()) }
            }
            Self::Log(log) => {
                log.borrow_mut().write(bytes);
                Ok(())
            }
        }
    }

    fn flush_bytes(&self, blocks: bool) -> Result<(), wit::StreamError> {
        match self {
            Self::Answer(answer) => answer.flush(blocks),
            Self::Request(upload) => upload.flush(blocks),
            Self::Log(_) => Ok(()),
        }
    }

    fn permitted(&self) -> Result<u64, wit::StreamError> {
        match self {
            Self::Answer(answer) => answer.permitted(PERMITTED),
            Self::Request(upload) => upload.permitted(PERMITTED),
            Self::Log(_) => Ok(PERMITTED),
        }
    }

    fn take_from(&self, src: wit::InputStreamBorrow<'_>, len: u64, blocks: bool) -> Result<u64, wit::StreamError> {
        if blocks {
            wit::GuestOutputStream::subscribe(self).block();
        }
        let permitted = self.permitted()?.min(len);
        let bytes = src.get::<InputStream>().bytes(permitted, blocks && permitted > 0)?;
        self.write_bytes(&bytes, false)?;
        Ok(bytes.len() as u64)
    }
}

impl wit::GuestOutputStream for OutputStream {
    fn check_write(&self) -> Result<u64, wit::StreamError> {
        self.permitted()
    }

    fn write(&self, contents: Vec<u8>) -> Result<(), wit::StreamError> {
        self.write_bytes(&contents, false)
    }

    fn blocking_write_and_flush(&self, contents: Vec<u8>) -> Result<(), wit::StreamError> {
        self.write_bytes(&contents, true)
    }

    fn flush(&self) -> Result<(), wit::StreamError> {
        self.flush_bytes(false)
    }

    fn blocking_flush(&self) -> Result<(), wit::StreamError> {
        self.flush_bytes(true)
    }

    fn subscribe(&self) -> Pollable {
        let of_host = match self {
            Self::Answer(answer) => answer.subscribe(),
            Self::Request(upload) => upload.subscribe(),
            Self::Log(_) => None,
        };
        of_host.unwrap_or_else(ready)
    }

    fn write_zeroes(&self, len: u64) -> Result<(), wit::StreamError> {
        let zeroes = vec![0; usize::try_from(len.min(PERMITTED)).unwrap_or_default()];
        self.write_bytes(&zeroes, false)
    }

    fn blocking_write_zeroes_and_flush(&self, len: u64) -> Result<(), wit::StreamError> {
        let zeroes = vec![0; usize::try_from(len.min(PERMITTED)).unwrap_or_default()];
        self.write_bytes(&zeroes, true)
    }

    fn splice(&self, src: wit::InputStreamBorrow<'_>, len: u64) -> Result<u64, wit::StreamError> {
        self.take_from(src, len, false)
    }

    fn blocking_splice(&self, src: wit::InputStreamBorrow<'_>, len: u64) -> Result<u64, wit::StreamError> {
        self.take_from(src, len, true)
    }
}
