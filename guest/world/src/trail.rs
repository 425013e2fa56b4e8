//! The trail of a call: what is known of it, and its security events. What cannot be recorded is not done.

#[cfg(test)]
mod tests;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use base::Secret;
use base::audit::{AuditEvent, Outcome};
use base::encoding::hex;
use base::principal::Agent;
use base::secret::reveal_optional;
use base::settings::Settings;
use serde::{Deserialize, Serialize};

use crate::capabilities::{Audit, Random};
use crate::random::random_uuid;
use crate::records::{KeyRecord, Namespace, Partition, Records, Ttl};

/// What the record of the key that names sessions ends with.
pub(crate) const KEY_NAME: &str = "audit/session-key";
/// The key that names sessions.
const KEY: KeyRecord = Namespace::bytes(Partition::Application, KEY_NAME, Ttl::Kept);
/// Bytes of a session's name: an attacker finds no second session with the same name, and does not find the session.
const NAME_BYTES: usize = 16;
/// Sessions whose names an instance remembers: some 20 KiB.
const MAX_NAMES: usize = 128;
/// Characters of a user principal name that are recorded: the limit of Entra ID is 113.
const MAX_USERNAME: usize = 256;
/// Characters of an address that are recorded: enough for an IPv6 address with a zone.
const MAX_ADDRESS: usize = 64;
/// Characters of the fields of a `traceparent` that are known, with the dashes between them.
const TRACE_PARENT_LENGTH: usize = 55;
/// Characters of a token id that are recorded. Those of Entra ID have 22.
const MAX_TOKEN_ID: usize = 64;

/// A security event could not be recorded, so what it is about is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit record could not be written, so nothing was done")]
pub struct Unrecorded;

impl Unrecorded {
    /// What the clients of a server are told. Some things are done all the same: a session ends even if that cannot be
    /// recorded.
    pub const PUBLIC: &str = "The server cannot keep its records now. Try again later.";
}

/// What an instance remembers of the names that sessions have in records.
#[derive(Debug, Default)]
pub struct SessionNames {
    /// Read from the store once in the life of an instance.
    key: OnceCell<Secret<Vec<u8>>>,
    /// By session: to work a name out takes longer than the rest of a record.
    names: RefCell<HashMap<String, String>>,
}

/// What recording takes.
#[derive(Clone, Copy)]
pub struct Recorder<'w> {
    /// Where events go.
    pub audit: &'w dyn Audit,
    /// Have the key that names sessions.
    pub records: Records<'w>,
    /// Makes the id of a call that has none.
    pub random: &'w dyn Random,
    /// Whether people are named, and which application this is.
    pub settings: &'w Settings,
    /// Those of the instance.
    pub names: &'w SessionNames,
}

/// What is known of one call. It goes into every record of the call, so that no place that records has to know all of it.
pub struct Trail<'w> {
    recorder: Recorder<'w>,
    id: OnceCell<String>,
    facts: RefCell<TrailFacts>,
}

/// What is known of a call, for another call that belongs to it. It names the caller: it goes where only this server reads
/// it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Carried {
    id: String,
    facts: TrailFacts,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct TrailFacts {
    address: Option<String>,
    token_id: Option<String>,
    session: Option<String>,
    #[serde(serialize_with = "reveal_optional", default)]
    user: Option<Secret<String>>,
    agent: Option<Agent>,
    trace_parent: Option<String>,
}

impl<'w> Trail<'w> {
    /// The trail of a call that begins, and that has this correlation id.
    pub fn new(recorder: Recorder<'w>, id: String) -> Self {
        Self { recorder, id: OnceCell::from(id), facts: RefCell::default() }
    }

    /// The trail of a call that gets a correlation id when it first needs one.
    pub fn unnamed(recorder: Recorder<'w>) -> Self {
        Self { recorder, id: OnceCell::new(), facts: RefCell::default() }
    }

    /// The trail of the same call under other settings, of which nothing is known yet.
    #[cfg(any(test, feature = "testing"))]
    pub fn under(&self, settings: &'w Settings) -> Self {
        let names = crate::testing::forever(SessionNames::default());
        let records = self.recorder.records.under(settings);
        Self::new(Recorder { records, settings, names, ..self.recorder }, self.id().to_owned())
    }

    /// What is known by now, for a later call of the host that belongs to this one.
    pub fn carry(&self) -> Carried {
        Carried { id: self.id().to_owned(), facts: self.facts.borrow().clone() }
    }

    /// Goes on with what is known from an earlier call. Its correlation id counts, unless this call was named already.
    pub fn resume(&self, carried: &Carried) {
        let Carried { id, facts } = carried;
        self.id.get_or_init(|| id.clone());
        self.facts.borrow_mut().clone_from(facts);
    }

    /// The correlation id: names the call in logs, records and answers.
    pub fn id(&self) -> &str {
        self.id.get_or_init(|| random_uuid(self.recorder.random))
    }

    /// Notes where the client is, as the host says.
    pub fn set_address(&self, address: Option<&str>) {
        self.facts.borrow_mut().address = address.map(|address| shortened(address, MAX_ADDRESS));
    }

    /// Where the client is, if the host says it.
    pub fn address(&self) -> Option<String> {
        self.facts.borrow().address.clone().filter(|address| !address.is_empty())
    }

    /// Notes the token that the caller was admitted with: `uti` or `jti`.
    pub fn set_token(&self, id: Option<&str>) {
        self.facts.borrow_mut().token_id = id.map(|id| shortened(id, MAX_TOKEN_ID));
    }

    /// Notes the session that the call is about.
    pub fn set_session(&self, id: &str) {
        self.facts.borrow_mut().session = Some(id.to_owned());
    }

    /// Notes the user that the call is about.
    pub fn set_user(&self, name: Option<&str>) {
        self.facts.borrow_mut().user = name.map(|name| Secret::new(shortened(name, MAX_USERNAME)));
    }

    /// Notes the AI agent that the caller's token was issued to.
    pub fn set_agent(&self, agent: Option<&Agent>) {
        self.facts.borrow_mut().agent = agent.cloned();
    }

    /// Notes the trace that the call is part of, as a `traceparent`; anything else counts as none.
    pub fn set_trace_parent(&self, trace_parent: Option<&str>) {
        self.facts.borrow_mut().trace_parent = trace_parent.and_then(known_trace_parent).map(str::to_owned);
    }

    /// An event that is not about one account, but about the configured application.
    pub fn event(&self, name: &'static str, outcome: Outcome) -> AuditEvent {
        AuditEvent { client_id: Some(self.recorder.settings.client_id.clone()), ..AuditEvent::new(name, outcome) }
    }

    /// Records an event; a failure stops what was about to happen. The first event about a session reads the key that
    /// names sessions, once in the life of an instance.
    pub async fn record(&self, event: AuditEvent) -> Result<(), Unrecorded> {
        let event = self.complete(event).await;
        self.recorder.audit.record(event).map_err(|_| Unrecorded)
    }

    /// Adds what is known of the call. What the event says itself stands.
    async fn complete(&self, mut event: AuditEvent) -> AuditEvent {
        self.id().clone_into(&mut event.correlation_id);
        let session = self.facts.borrow().session.clone();
        if let (None, Some(session)) = (&event.session, session) {
            event.session = self.recorder.name_of(&session).await;
        }
        let facts = self.facts.borrow();
        event.address = event.address.or_else(|| facts.address.clone());
        event.token_id = event.token_id.or_else(|| facts.token_id.clone());
        if let Some(Agent { role, blueprint }) = &facts.agent {
            event.agent = event.agent.or(Some(role.name()));
            event.agent_blueprint = event.agent_blueprint.or_else(|| blueprint.clone());
        }
        event.trace_parent = event.trace_parent.or_else(|| facts.trace_parent.clone());
        event.username = event
            .username
            .or_else(|| facts.user.as_ref().map(|name| name.reveal().clone()))
            .filter(|name| self.recorder.settings.audit_usernames && !name.is_empty());
        event
    }
}

impl Recorder<'_> {
    /// Names a session without leading to it. Without the key there is no name: the record says the rest.
    async fn name_of(&self, session: &str) -> Option<String> {
        let SessionNames { key, names } = self.names;
        if let Some(name) = names.borrow().get(session) {
            return Some(name.clone());
        }
        let key = match key.get() {
            Some(key) => key,
            None => {
                let read = self.records.key(&KEY).await.ok()?;
                key.get_or_init(|| read)
            }
        };
        let name = hmac_sha256::HMAC::mac(session.as_bytes(), key.reveal());
        let name = hex(name.get(..NAME_BYTES)?);
        let mut names = names.borrow_mut();
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert(session.to_owned(), name.clone());
        Some(name)
    }
}

/// Characters of a text from outside that may be long.
fn shortened(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// The fields of a `traceparent` that W3C Trace Context section 3.2 defines. A version that is not known yet may have more
/// behind them, which is not recorded.
///
/// The program accepts the same (`host/app/src/telemetry/trace_parent.rs`), with the propagator of OpenTelemetry. The component
/// has a parser of its own: it only copies the text into records, and nothing else in it needs the SDK of OpenTelemetry.
fn known_trace_parent(text: &str) -> Option<&str> {
    let (known, more) = text.split_at_checked(TRACE_PARENT_LENGTH)?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let fields: Vec<&str> = known.split('-').collect();
    let [version, trace, parent, flags] = fields.as_slice() else { return None };
    let is_of_the_form = [version, trace, parent, flags].map(|field| field.len()) == [2, 32, 16, 2]
        && fields.iter().all(|field| is_hex(field))
        && !is_zero(trace)
        && !is_zero(parent);
    let more_is_allowed = more.is_empty() || (more.starts_with('-') && *version != "00");
    (is_of_the_form && more_is_allowed && *version != "ff").then_some(known)
}
