//! The call that is going on: whose it is, and what of it is still open.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use wasip2::http::types as host;
use zeroize::Zeroizing;

use super::Keeper;
use super::answers::{Answer, Asked};
use super::generated::entra_mcp::plugin::gatekeeper;
use super::generated::entra_mcp::standard::wrapped;
use super::generated::exports::entra_mcp::wrap::kept;
use super::http::{IncomingRequest, ResponseOutparam};
use crate::answer::Reads;
use crate::destinations::Destinations;
use crate::scrub::MAX_TOKENS;

/// Most lines in the log about requests that were not sent, of one call.
const MAX_NOTES: u32 = 10;

/// A call of the tool.
pub(super) struct Call {
    handle: Zeroizing<String>,
    pub(super) correlation_id: String,
    pub(super) reads: Reads,
    pub(super) event_key: Zeroizing<Vec<u8>>,
    /// When the request came, in nanoseconds of the monotonic clock.
    pub(super) begun: u64,
    pub(super) asked: Asked,
    report: Cell<bool>,
    client: RefCell<Option<host::ResponseOutparam>>,
    /// The answer that goes out.
    answer: RefCell<Option<Rc<Answer>>>,
    tokens: RefCell<Vec<Zeroizing<String>>>,
    notes: Cell<u32>,
    ended: Cell<bool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Call>>> = const { RefCell::new(None) };
    static DESTINATIONS: OnceCell<Destinations> = const { OnceCell::new() };
}

/// The call that is going on. None: the tool does something when nobody has called it.
pub(super) fn current() -> Option<Rc<Call>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// What the destinations of the operator say.
pub(super) fn with_destinations<T>(then: impl FnOnce(&Destinations) -> T) -> T {
    DESTINATIONS.with(|known| {
        then(known.get_or_init(|| {
            let entries = wrapped::destinations().into_iter().map(|entry| (entry.to, entry.permissions));
            Destinations::new(entries, &wrapped::graph())
        }))
    })
}

impl Call {
    /// Whether it is over: what the tool still holds of it is good for nothing.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Where the answer goes. None: it has one.
    pub(super) fn take_client(&self) -> Option<host::ResponseOutparam> {
        self.client.borrow_mut().take()
    }

    pub(super) fn put_client(&self, client: host::ResponseOutparam) {
        *self.client.borrow_mut() = Some(client);
    }

    pub(super) fn set_answer(&self, answer: &Rc<Answer>) {
        *self.answer.borrow_mut() = Some(Rc::clone(answer));
    }

    pub(super) fn take_answer(&self) -> Option<Rc<Answer>> {
        self.answer.borrow_mut().take()
    }

    /// Has the call recorded, once. Fields to set, or an answer in place of the tool's.
    pub(super) fn answered(
        &self,
        status: u16,
        session_id: Option<String>,
    ) -> Result<gatekeeper::Headers, gatekeeper::Response> {
        if !self.report.replace(false) {
            return Ok(Vec::new());
        }
        let latency = wasip2::clocks::monotonic_clock::now().saturating_sub(self.begun);
        let head = gatekeeper::AnswerHead { status, latency_us: latency.div_euclid(1_000), session_id };
        gatekeeper::answered(&self.handle, &head)
    }

    pub(super) fn judge(&self, message: &str) -> String {
        gatekeeper::judge_answer(&self.handle, message)
    }

    /// A token of the caller, which the call keeps.
    pub(super) fn token(
        &self,
        permissions: &[String],
        challenge: Option<gatekeeper::Challenge>,
    ) -> Result<Zeroizing<String>, String> {
        let token = gatekeeper::delegated_token(&self.handle, permissions, &challenge);
        let token = Zeroizing::new(token.map_err(|error| format!("{} ({})", error.message, error.code))?);
        let mut tokens = self.tokens.borrow_mut();
        if !tokens.contains(&token) {
            if tokens.len() >= MAX_TOKENS {
                return Err("the call has had too many different tokens".to_owned());
            }
            tokens.push(token.clone());
        }
        Ok(token)
    }

    /// All tokens that the call has had.
    pub(super) fn with_tokens<T>(&self, then: impl FnOnce(&[Zeroizing<String>]) -> T) -> T {
        then(&self.tokens.borrow())
    }

    /// A line about the call, unless there are many already.
    pub(super) fn note(&self, text: &str) {
        if self.notes.replace(self.notes.get().saturating_add(1)) < MAX_NOTES {
            super::note(&format!("{text} (correlation id {})", self.correlation_id));
        }
    }
}

impl kept::Guest for Keeper {
    fn begin(call: kept::Call, client: kept::Client) -> kept::Handed {
        let kept::Call { method, path, authority, headers, body, begun, handle, correlation_id, .. } = call;
        let reads = Reads { judged: call.judge_answer, noted: call.note_answer, tied: !call.event_key.is_empty() };
        let current = Rc::new(Call {
            handle: Zeroizing::new(handle),
            correlation_id,
            reads,
            event_key: Zeroizing::new(call.event_key),
            begun,
            asked: Asked::of(if reads.judged { &body } else { &[] }),
            report: Cell::new(call.report_answer),
            client: RefCell::new(Some(client)),
            answer: RefCell::default(),
            tokens: RefCell::default(),
            notes: Cell::new(0),
            ended: Cell::new(false),
        });
        CURRENT.with(|slot| *slot.borrow_mut() = Some(Rc::clone(&current)));
        let request = IncomingRequest::new(method, path, authority, headers, body);
        kept::Handed {
            request: kept::IncomingRequest::new(request),
            answer: kept::ResponseOutparam::new(ResponseOutparam::new(current)),
        }
    }

    fn end() {
        let Some(call) = CURRENT.with(|slot| slot.borrow_mut().take()) else { return };
        // What the tool has not answered, or not to the end, is answered now.
        Answer::end(&call);
        call.ended.set(true);
        call.tokens.borrow_mut().clear();
    }
}
