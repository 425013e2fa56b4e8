//! The answer of the tool: from the head that it sets and the body that it writes to what its client gets.

use std::cell::RefCell;
use std::rc::Rc;

use entra_mcp_boundary::answer::AnswerContent;
use entra_mcp_boundary::event_ids::Broken;
use serde_json::json;
use wasip2::http::types as host;
use wasip2::io::poll::Pollable;
use wasip2::io::streams as host_streams;

use super::call::{AskedId, Call, Ending};
use super::generated::entra_mcp::plugin::gatekeeper;
use super::generated::exports::seen::io::streams::StreamError;
use super::host_streams::{error, write_all};
use crate::answer::{self, Clean};
use crate::fields::{self, Field};
use crate::pipe::{MAX_MESSAGE_BYTES, Pipe, judged};

/// Most bytes that the tool may write before it sets the head of its answer.
const MAX_AHEAD: usize = 1024 * 1024;

/// How long an answer may go on after its request was admitted, in nanoseconds: as long as its handle is good for anything.
const PERMITTED: u64 = 10 * 60 * 1_000_000_000;

/// What JSON-RPC calls an error of the server.
const INTERNAL_ERROR: i32 = -32603;

/// What a client is told in place of an answer that is too long to be judged.
const TOO_LONG: &str = "the answer of the tool is longer than 4 MiB, which is too long while rules restrict its lists";

/// What a client is told whose request was not answered.
const UNUSABLE: &str = "the MCP server gave no usable answer";

/// An answer.
pub(super) struct Answer {
    call: Option<Rc<Call>>,
    state: RefCell<State>,
}

enum State {
    /// It has no head yet. What was written, and whether that is all.
    Ahead(Vec<u8>, Finished),
    /// It is held until it is whole, because the component judges it.
    Held { clean: Clean, set: Vec<Field>, message: Vec<u8> },
    /// It goes out while it is written.
    Sending { stream: host_streams::OutputStream, body: host::OutgoingBody, pipe: Box<Pipe> },
    /// Nothing of it goes out any more.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finished {
    No,
    Yes,
    /// The tool has dropped the body.
    Dropped,
}

impl Answer {
    pub(super) fn new(call: Option<Rc<Call>>) -> Rc<Self> {
        Rc::new(Self { call, state: RefCell::new(State::Ahead(Vec::new(), Finished::No)) })
    }

    fn is_over(&self) -> bool {
        self.call.as_ref().is_none_or(|call| call.has_ended())
    }

    /// Sets the head. `body_taken`: the tool has taken the body, and finishes it.
    pub(super) fn set(self: &Rc<Self>, call: &Rc<Call>, status: u16, head: &[Field], body_taken: bool) {
        if call.has_ended() || !self.call.as_ref().is_some_and(|own| Rc::ptr_eq(own, call)) {
            return fail(call, "it comes from another call");
        }
        let clean = answer::clean(status, head, call.reads);
        let session_id = clean.as_ref().ok().and_then(|clean| clean.session_id.clone());
        let set = match call.answered(status, session_id) {
            Ok(set) => set,
            Err(instead) => return respond_whole(call, instead.status, instead.headers, &instead.body),
        };
        let clean = match clean {
            Ok(clean) => clean,
            Err(reason) => return fail(call, reason),
        };
        let State::Ahead(ahead, finished) = self.state.replace(State::Over) else { return };
        if finished == Finished::Dropped {
            return fail(call, "its body is not finished");
        }
        let holds = clean.content == AnswerContent::Json && call.reads.judged;
        *self.state.borrow_mut() = if clean.content == AnswerContent::Nothing {
            respond_whole(call, clean.status, secured(call, &clean, &set), &[]);
            State::Over
        } else if holds {
            State::Held { clean, set, message: Vec::new() }
        } else {
            match begin(call, clean.status, secured(call, &clean, &set)) {
                None => State::Over,
                Some((body, stream)) => {
                    let pipe = Box::new(Pipe::new(clean.content, call.reads, &call.event_key));
                    State::Sending { stream, body, pipe }
                }
            }
        };
        call.set_answer(Rc::clone(self) as Rc<dyn Ending>);
        let _ = self.write(&ahead);
        if finished == Finished::Yes || !body_taken {
            self.finish();
        }
    }

    /// Takes what the tool writes.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        if self.is_over() {
            return Err(StreamError::Closed);
        }
        let mut state = self.state.borrow_mut();
        let result = match &mut *state {
            State::Over => Ok(()),
            State::Ahead(ahead, _) if ahead.len().saturating_add(bytes.len()) > MAX_AHEAD => Err(StreamError::Closed),
            State::Ahead(ahead, _) => {
                ahead.extend_from_slice(bytes);
                Ok(())
            }
            State::Held { message, .. } => {
                // One byte more says that it is too long.
                let room = MAX_MESSAGE_BYTES.saturating_add(1).saturating_sub(message.len());
                message.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
                Ok(())
            }
            State::Sending { stream, pipe, .. } => self.send(stream, |judge| pipe.feed(bytes, judge)),
        };
        if result.is_err() {
            // What is dropped without its end breaks off.
            *state = State::Over;
        }
        result
    }

    /// Sends what comes out of a pipe.
    fn send(
        &self,
        stream: &host_streams::OutputStream,
        written: impl FnOnce(&dyn Fn(&str) -> String) -> Result<Vec<u8>, Broken>,
    ) -> Result<(), StreamError> {
        let Some(call) = &self.call else { return Err(StreamError::Closed) };
        let judge = |message: &str| call.judge(message);
        if wasip2::clocks::monotonic_clock::now().saturating_sub(call.begun) > PERMITTED {
            call.note("an answer was broken off: the permission of its caller is over");
            return Err(StreamError::Closed);
        }
        let written = written(&judge).map_err(|Broken(reason)| {
            call.note(&format!("an answer was broken off: {reason}"));
            StreamError::Closed
        })?;
        write_all(stream, &written).map_err(error)
    }

    /// The tool has written everything.
    pub(super) fn finish(&self) {
        let Some(call) = &self.call else { return };
        match self.state.replace(State::Over) {
            State::Ahead(ahead, _) => *self.state.borrow_mut() = State::Ahead(ahead, Finished::Yes),
            State::Over => {}
            State::Held { clean, set, message } => {
                let message = if message.len() > MAX_MESSAGE_BYTES {
                    let AskedId(Some(id)) = &call.asked else { return fail(call, "it is too long to be judged") };
                    let error = json!({ "code": INTERNAL_ERROR, "message": TOO_LONG });
                    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string().into_bytes()
                } else {
                    judged(&message, &|message| call.judge(message))
                };
                respond_whole(call, clean.status, secured(call, &clean, &set), &message);
            }
            State::Sending { stream, body, mut pipe } => {
                if self.send(&stream, |judge| pipe.finish(judge)).is_ok() && stream.blocking_flush().is_ok() {
                    drop(stream);
                    let _ = host::OutgoingBody::finish(body, None);
                }
            }
        }
    }

    /// The tool has dropped the body, and not finished it.
    pub(super) fn dropped(&self) {
        let state = self.state.replace(State::Over);
        match (state, &self.call) {
            (State::Ahead(..), _) => *self.state.borrow_mut() = State::Ahead(Vec::new(), Finished::Dropped),
            (State::Held { .. }, Some(call)) => fail(call, "its body is not finished"),
            _ => {}
        }
    }

    pub(super) fn permitted(&self, most: u64) -> Result<u64, StreamError> {
        if self.is_over() {
            return Err(StreamError::Closed);
        }
        match &*self.state.borrow() {
            State::Sending { stream, .. } => stream.check_write().map(|permitted| permitted.min(most)).map_err(error),
            _ => Ok(most),
        }
    }

    pub(super) fn flush(&self, blocks: bool) -> Result<(), StreamError> {
        match &*self.state.borrow() {
            State::Sending { stream, .. } if blocks => stream.blocking_flush().map_err(error),
            State::Sending { stream, .. } => stream.flush().map_err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn subscribe(&self) -> Option<Pollable> {
        match &*self.state.borrow() {
            State::Sending { stream, .. } => Some(stream.subscribe()),
            _ => None,
        }
    }

    /// The tool has returned: what it has not answered is answered, and what it has not finished breaks off.
    pub(super) fn end_of(call: &Call) {
        if let Some(answer) = call.take_answer() {
            answer.end();
        }
        if let Some(client) = call.take_client() {
            call.put_client(client);
            match call.answered(0, None) {
                Ok(_) => fail(call, "there is none"),
                Err(instead) => respond_whole(call, instead.status, instead.headers, &instead.body),
            }
        }
    }
}

impl Ending for Answer {
    fn end(&self) {
        self.dropped();
        *self.state.borrow_mut() = State::Over;
    }
}

/// The fields that an answer goes out with.
fn secured(call: &Call, clean: &Clean, set: &[Field]) -> Vec<Field> {
    let mut fields = clean.fields.clone();
    answer::secure(&mut fields, clean.content == AnswerContent::Events);
    if clean.status >= 400 {
        fields::set(&mut fields, "x-correlation-id", call.correlation_id.as_bytes());
    }
    for (name, _) in set {
        fields::remove(&mut fields, name);
    }
    fields.extend_from_slice(set);
    fields
}

/// The answer where the tool has given none that can be passed on.
pub(super) fn fail(call: &Call, reason: &str) {
    call.note(&format!("the answer of the tool cannot be passed on: {reason}"));
    let text = format!("{UNUSABLE} (correlation id {})\n", call.correlation_id);
    let mut fields: Vec<Field> = vec![("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())];
    answer::secure(&mut fields, false);
    fields::set(&mut fields, "x-correlation-id", call.correlation_id.as_bytes());
    respond_whole(call, 502, fields, text.as_bytes());
}

fn respond_whole(call: &Call, status: u16, fields: gatekeeper::Headers, body: &[u8]) {
    if let Some((sent, stream)) = begin(call, status, fields)
        && write_all(&stream, body).is_ok()
        && stream.blocking_flush().is_ok()
    {
        drop(stream);
        let _ = host::OutgoingBody::finish(sent, None);
    }
}

/// Sends the head of an answer. None: the call has one, or its client has left.
fn begin(
    call: &Call,
    status: u16,
    fields: gatekeeper::Headers,
) -> Option<(host::OutgoingBody, host_streams::OutputStream)> {
    let client = call.take_client()?;
    let Ok(fields) = host::Fields::from_list(&fields) else {
        call.note("a header field of an answer is none");
        host::ResponseOutparam::set(client, Err(host::ErrorCode::InternalError(None)));
        return None;
    };
    let response = host::OutgoingResponse::new(fields);
    let set = response.set_status_code(status);
    let body = response.body();
    if set.is_err() {
        host::ResponseOutparam::set(client, Err(host::ErrorCode::InternalError(None)));
        return None;
    }
    host::ResponseOutparam::set(client, Ok(response));
    let body = body.ok()?;
    let stream = body.write().ok()?;
    Some((body, stream))
}
