//! Bodies of requests of the tool.

use std::cell::RefCell;

use wasip2::http::types as host;
use wasip2::io::poll::Pollable;
use wasip2::io::streams as host_streams;

use super::errors;
use super::generated::exports::seen::http::types as wit;
use super::generated::exports::seen::io::streams::StreamError;
use super::host_streams::{error, write_all};

/// Longest body of a request in bytes, as in the program. It is kept until the answer is there, for the case of a challenge.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// The body of a request.
#[derive(Default)]
pub(super) struct Upload(RefCell<UploadState>);

#[derive(Default)]
struct UploadState {
    stage: Stage,
    /// What was written.
    copy: Vec<u8>,
    /// How long the body is, if the request says so.
    stated: Option<u64>,
    finished: bool,
}

#[derive(Default)]
enum Stage {
    /// The request is not on its way yet.
    #[default]
    Ahead,
    /// It is.
    Sending(host_streams::OutputStream, host::OutgoingBody),
    /// Nothing of it is sent any more.
    Over,
}

impl Upload {
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        let state = &mut *self.0.borrow_mut();
        let length = state.copy.len().saturating_add(bytes.len());
        let too_long = state.stated.is_some_and(|stated| length as u64 > stated);
        if matches!(state.stage, Stage::Over) || length > MAX_REQUEST_BYTES || too_long {
            // What is dropped without its end is no request.
            state.stage = Stage::Over;
            return Err(StreamError::Closed);
        }
        state.copy.extend_from_slice(bytes);
        match &state.stage {
            Stage::Sending(stream, _) => write_all(stream, bytes).map_err(error),
            Stage::Ahead | Stage::Over => Ok(()),
        }
    }

    pub(super) fn permitted(&self, most: u64) -> Result<u64, StreamError> {
        match &self.0.borrow().stage {
            Stage::Over => Err(StreamError::Closed),
            Stage::Ahead => Ok(most),
            Stage::Sending(stream, _) => stream.check_write().map(|permitted| permitted.min(most)).map_err(error),
        }
    }

    pub(super) fn flush(&self, blocks: bool) -> Result<(), StreamError> {
        match &self.0.borrow().stage {
            Stage::Sending(stream, _) if blocks => stream.blocking_flush().map_err(error),
            Stage::Sending(stream, _) => stream.flush().map_err(error),
            Stage::Ahead | Stage::Over => Ok(()),
        }
    }

    pub(super) fn subscribe(&self) -> Option<Pollable> {
        match &self.0.borrow().stage {
            Stage::Sending(stream, _) => Some(stream.subscribe()),
            Stage::Ahead | Stage::Over => None,
        }
    }

    pub(super) fn finish(&self) -> Result<(), wit::ErrorCode> {
        let state = &mut *self.0.borrow_mut();
        state.finished = true;
        if state.stated.is_some_and(|stated| stated != state.copy.len() as u64) {
            state.stage = Stage::Over;
            return Err(wit::ErrorCode::HttpRequestBodySize(Some(state.copy.len() as u64)));
        }
        match std::mem::replace(&mut state.stage, Stage::Over) {
            Stage::Ahead => {
                state.stage = Stage::Ahead;
                Ok(())
            }
            Stage::Sending(stream, body) => {
                let _ = stream.blocking_flush();
                drop(stream);
                host::OutgoingBody::finish(body, None).map_err(errors::seen)
            }
            Stage::Over => Err(wit::ErrorCode::HttpRequestBodySize(None)),
        }
    }

    pub(super) fn dropped(&self) {
        self.0.borrow_mut().stage = Stage::Over;
    }

    /// Puts the request on its way: what was written so far, and what is still to come.
    pub(super) fn begin(
        &self,
        body: host::OutgoingBody,
        stated: Option<u64>,
        body_taken: bool,
    ) -> Result<(), wit::ErrorCode> {
        let mut state = self.0.borrow_mut();
        let wrong = stated.is_some_and(|stated| {
            let length = state.copy.len() as u64;
            length > stated || (length < stated && (state.finished || !body_taken))
        });
        if wrong || matches!(state.stage, Stage::Over) {
            return Err(wit::ErrorCode::HttpRequestBodySize(Some(state.copy.len() as u64)));
        }
        state.stated = stated;
        let stream = body.write().map_err(|()| wit::ErrorCode::InternalError(None))?;
        write_all(&stream, &state.copy).map_err(|_| wit::ErrorCode::ConnectionTerminated)?;
        state.stage = Stage::Sending(stream, body);
        let is_whole = state.finished || !body_taken;
        drop(state);
        if is_whole { self.finish() } else { Ok(()) }
    }

    /// All of it, if it was sent whole.
    pub(super) fn whole(&self) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        state.finished.then(|| state.copy.clone())
    }

    pub(super) fn is_empty_for_good(&self, body_taken: bool) -> bool {
        let state = self.0.borrow();
        state.copy.is_empty() && (state.finished || !body_taken)
    }
}
