//! The call that is going on: whose it is, and what of it is still open.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use entra_mcp_boundary::answer::Reads;
use entra_mcp_boundary::scrub::MAX_TOKENS;
use serde_json::Value;
use wasip2::http::types as host;
use zeroize::Zeroizing;

use super::generated::entra_mcp::plugin::gatekeeper;
use super::generated::entra_mcp::standard::wrapped;
use crate::destinations::Destinations;

/// Most lines in the log about requests that were not sent, of one call.
const MAX_NOTES: u32 = 10;

/// The part of a request that an answer in place of the tool's names.
pub(super) struct AskedId(pub(super) Option<Value>);

impl AskedId {
    /// The id of the message in a body, if it is one.
    pub(super) fn of(body: &[u8]) -> Self {
        let message: Option<Value> = serde_json::from_slice(body).ok();
        Self(message.and_then(|message| message.get("id").cloned()).filter(|id| id.is_string() || id.is_number()))
    }
}

/// What of a call is over with it.
pub(super) trait Ending {
    /// Ends it.
    fn end(&self);
}

/// A call of the tool.
pub(super) struct Call {
    handle: Zeroizing<String>,
    pub(super) correlation_id: String,
    pub(super) reads: Reads,
    pub(super) event_key: Zeroizing<Vec<u8>>,
    /// When the request came, in nanoseconds of the monotonic clock.
    pub(super) begun: u64,
    pub(super) asked: AskedId,
    report: Cell<bool>,
    client: RefCell<Option<host::ResponseOutparam>>,
    /// The answer that goes out.
    answer: RefCell<Option<Rc<dyn Ending>>>,
    tokens: RefCell<Vec<Zeroizing<String>>>,
    /// The first reason why a request of the call got no token.
    refusal: RefCell<gatekeeper::RefusedDelegation>,
    notes: Cell<u32>,
    ended: Cell<bool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Call>>> = const { RefCell::new(None) };
    static DESTINATIONS: OnceCell<Destinations> = const { OnceCell::new() };
}

/// The call that is going on. None: the tool does something outside of any call.
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

/// What the gate says of a call.
pub(super) struct Begun {
    pub(super) handle: String,
    pub(super) correlation_id: String,
    pub(super) reads: Reads,
    pub(super) event_key: Vec<u8>,
    pub(super) begun: u64,
    pub(super) asked: AskedId,
    pub(super) report: bool,
    pub(super) client: host::ResponseOutparam,
}

/// Makes a call the current one.
pub(super) fn begin(from: Begun) -> Rc<Call> {
    let call = Rc::new(Call {
        handle: Zeroizing::new(from.handle),
        correlation_id: from.correlation_id,
        reads: from.reads,
        event_key: Zeroizing::new(from.event_key),
        begun: from.begun,
        asked: from.asked,
        report: Cell::new(from.report),
        client: RefCell::new(Some(from.client)),
        answer: RefCell::default(),
        tokens: RefCell::default(),
        refusal: RefCell::default(),
        notes: Cell::new(0),
        ended: Cell::new(false),
    });
    CURRENT.with(|current| *current.borrow_mut() = Some(Rc::clone(&call)));
    call
}

/// The call that was going on, which is not the current one any more.
pub(super) fn take_current() -> Option<Rc<Call>> {
    CURRENT.with(|current| current.borrow_mut().take())
}

impl Call {
    /// What the tool still holds of the call is good for nothing from now on.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.tokens.borrow_mut().clear();
    }

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

    pub(super) fn set_answer(&self, answer: Rc<dyn Ending>) {
        *self.answer.borrow_mut() = Some(answer);
    }

    pub(super) fn take_answer(&self) -> Option<Rc<dyn Ending>> {
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
        let head = gatekeeper::AnswerHead {
            status,
            latency_us: latency.div_euclid(1_000),
            session_id,
            refusal: self.refusal.borrow().clone(),
        };
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
        let token = Zeroizing::new(token.map_err(|error| {
            let reason = format!("{} ({})", error.message, error.code);
            self.refusal.borrow_mut().get_or_insert(error);
            reason
        })?);
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
