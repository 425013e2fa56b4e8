//! Security events. What cannot be recorded is not done.

#[cfg(test)]
mod tests;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use crate::encoding::{hex, random_uuid};
use crate::environment::{AuditEvent, Environment, Outcome};
use crate::sealed;
use crate::secret::Secret;
use crate::sign_in::{Account, SignInError, accounts};

/// The record of the key that names sessions.
pub(crate) const KEY_RECORD: &str = "audit/session-key";
/// Bytes of a session's name: nobody finds a second session with the same one, and nobody finds the session.
const NAME_BYTES: usize = 16;
/// Sessions whose names an instance remembers: some 20 KiB.
const MAX_NAMES: usize = 128;
/// Characters of a user principal name that are recorded: Entra's limit is 113.
const MAX_USERNAME: usize = 256;
/// Characters of an address that are recorded: enough for an IPv6 address with a zone.
const MAX_ADDRESS: usize = 64;
/// Characters of a token id that are recorded. Entra's have 22.
const MAX_TOKEN_ID: usize = 64;
/// Bytes of the id of a refused client that are recorded. A stranger chose it; the host in a URL is within them.
const MAX_REFUSED_CLIENT_ID: usize = 256;
/// What the record of a throttled operation is called as an operation of its own.
const RECORD_OF: &str = "record:";

/// What is known of the call that is going on. It goes into every record of it, so that no place that records has to
/// know all of it. An instance serves one call at a time.
#[derive(Debug, Default)]
pub struct Call {
    facts: RefCell<Facts>,
    /// Read from the store once in the life of an instance.
    key: OnceCell<Secret<Vec<u8>>>,
    /// What sessions are called in records: to work it out takes longer than the rest of a record.
    names: RefCell<HashMap<String, String>>,
}

#[derive(Debug, Default)]
struct Facts {
    correlation_id: Option<String>,
    address: Option<String>,
    token_id: Option<String>,
    session: Option<String>,
    username: Option<Secret<String>>,
    trace_parent: Option<String>,
}

impl Call {
    /// Another call begins: nothing is known of it.
    pub fn begin(&self) {
        *self.facts.borrow_mut() = Facts::default();
    }

    /// What it is called in logs.
    pub fn is_called(&self, correlation_id: &str) {
        self.facts.borrow_mut().correlation_id = Some(correlation_id.to_owned());
    }

    /// What it is called in logs; a new name if it has none, for what is deep inside.
    pub fn name(&self, env: &Environment) -> String {
        let known = self.facts.borrow().correlation_id.clone();
        known.unwrap_or_else(|| random_uuid(env.random.as_ref()))
    }

    /// Where the client is, as the host says.
    pub fn comes_from(&self, address: Option<&str>) {
        self.facts.borrow_mut().address = address.map(|address| shortened(address, MAX_ADDRESS));
    }

    /// Where the client is, if the host says it.
    pub fn address(&self) -> Option<String> {
        self.facts.borrow().address.clone().filter(|address| !address.is_empty())
    }

    /// The token that it was let in with: `uti` or `jti`.
    pub fn brings_token(&self, id: Option<&str>) {
        self.facts.borrow_mut().token_id = id.map(|id| shortened(id, MAX_TOKEN_ID));
    }

    /// The session that it is about.
    pub fn is_about_session(&self, id: &str) {
        self.facts.borrow_mut().session = Some(id.to_owned());
    }

    /// The user that it is about.
    pub fn is_about_user(&self, name: Option<&str>) {
        self.facts.borrow_mut().username = name.map(|name| Secret::new(shortened(name, MAX_USERNAME)));
    }

    /// The trace that it is part of, as a `traceparent`; anything else is as good as none.
    pub fn is_part_of(&self, trace_parent: Option<&str>) {
        self.facts.borrow_mut().trace_parent = trace_parent.filter(|parent| is_trace_parent(parent)).map(str::to_owned);
    }
}

/// Characters of a text from outside that may be long.
fn shortened(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// W3C Trace Context section 3.2. A version that is not known yet may have more after the flags.
fn is_trace_parent(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let mut parts = text.splitn(5, '-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    // A longer one of a later version is cut by nobody: it is not recorded.
    let known = version == "00" && parts.next().is_none();
    known
        && (trace.len(), parent.len(), flags.len()) == (32, 16, 2)
        && is_hex(trace)
        && is_hex(parent)
        && is_hex(flags)
        && !is_zero(trace)
        && !is_zero(parent)
}

/// Records an event; a failure stops what was about to happen.
pub fn record(env: &Environment, event: AuditEvent) -> Result<(), SignInError> {
    let event = complete(env, event);
    env.audit.record(event).map_err(|_| SignInError::Audit)
}

/// Adds what is known of the call. What the event says itself stands.
fn complete(env: &Environment, mut event: AuditEvent) -> AuditEvent {
    let session = env.call.facts.borrow().session.clone();
    event.session = event.session.or_else(|| name_of(env, session.as_deref()?));
    let facts = env.call.facts.borrow();
    event.address = event.address.or_else(|| facts.address.clone());
    event.token_id = event.token_id.or_else(|| facts.token_id.clone());
    event.trace_parent = event.trace_parent.or_else(|| facts.trace_parent.clone());
    event.username = event
        .username
        .or_else(|| facts.username.as_ref().map(|name| name.reveal().clone()))
        .filter(|name| env.settings.audit_usernames && !name.is_empty());
    event
}

/// Names a session without leading to it. Without the key there is no name: the record says the rest.
fn name_of(env: &Environment, session: &str) -> Option<String> {
    let call = &env.call;
    if let Some(name) = call.names.borrow().get(session) {
        return Some(name.clone());
    }
    let key = match call.key.get() {
        Some(key) => key,
        None => {
            let key = sealed::read_key(env, &accounts::record(env, KEY_RECORD)).ok()?;
            call.key.get_or_init(|| key)
        }
    };
    let name = hmac_sha256::HMAC::mac(session.as_bytes(), key.reveal());
    let name = hex(name.get(..NAME_BYTES)?);
    let mut names = call.names.borrow_mut();
    if names.len() >= MAX_NAMES {
        names.clear();
    }
    names.insert(session.to_owned(), name.clone());
    Some(name)
}

/// An event that is not about one account.
pub fn event(env: &Environment, name: &'static str, outcome: Outcome, correlation_id: &str) -> AuditEvent {
    AuditEvent { client_id: Some(env.settings.client_id.clone()), ..AuditEvent::new(name, outcome, correlation_id) }
}

/// An event about one account.
pub fn account_event(name: &'static str, outcome: Outcome, account: &Account, correlation_id: &str) -> AuditEvent {
    AuditEvent {
        tenant_id: Some(account.tenant_id.clone()),
        object_id: Some(account.object_id.clone()),
        username: Some(account.username.clone()),
        ..AuditEvent::new(name, outcome, correlation_id)
    }
}

/// Adds the reason of a failure.
pub fn because(event: AuditEvent, reason: String) -> AuditEvent {
    AuditEvent { reason: Some(reason), ..event }
}

/// Adds how long it took.
pub fn since(env: &Environment, began: Duration, event: AuditEvent) -> AuditEvent {
    let took = env.clock.monotonic().saturating_sub(began).as_micros();
    AuditEvent { latency_us: Some(u64::try_from(took).unwrap_or(u64::MAX)), ..event }
}

/// What is recorded of the id of a client that is refused: its beginning.
pub fn shown_client_id(client_id: &str) -> &str {
    client_id.get(..client_id.floor_char_boundary(MAX_REFUSED_CLIENT_ID)).unwrap_or_default()
}

/// Counts one `operation` by `subject`; an error says after which time to try again. Refusals of one subject are one
/// record in the time of the bound: whoever floods the server must not flood the records.
pub fn admit(env: &Environment, operation: &str, subject: &str, client_id: Option<&str>) -> Result<(), Duration> {
    env.rate_limiter.admit(operation, subject).inspect_err(|_| {
        if env.rate_limiter.admit(&format!("{RECORD_OF}{operation}"), subject).is_ok() {
            throttled(env, operation, client_id);
        }
    })
}

/// Something was asked too often: here (`operation` of the rate limiter), or by us of somebody else. It is refused
/// whether or not that can be recorded.
pub fn throttled(env: &Environment, operation: &str, client_id: Option<&str>) {
    let event = AuditEvent {
        client_id: client_id.map(|id| shown_client_id(id).to_owned()),
        reason: Some(operation.to_owned()),
        ..AuditEvent::new("request.throttled", Outcome::Failure, &env.call.name(env))
    };
    let _ = record(env, event);
}
