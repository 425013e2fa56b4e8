//! Security events, as plain data. Recording them is a capability of the world.

use std::time::Duration;

use crate::policy::{Target, TargetKind};

/// How an audited event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Success,
    /// Refused or failed.
    Failure,
    /// Begun; the end is another event.
    Started,
}

/// One security event. Holds no token or secret, and a name only in `username`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Dotted, stable name.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Stable reason code of a failure.
    pub reason: Option<String>,
    /// Tenant id.
    pub tenant_id: Option<String>,
    /// Object id.
    pub object_id: Option<String>,
    /// Client id.
    pub client_id: Option<String>,
    /// MCP tool.
    pub tool: Option<String>,
    /// The server behind the component that has the tool, by its name in the settings.
    pub server: Option<String>,
    /// What the tool is, if it is none: a resource, a prompt, …
    pub kind: Option<&'static str>,
    /// HTTP status of the answer of the server behind the component.
    pub upstream_status: Option<u64>,
    /// `uti` or `jti` of the token of the request.
    pub token_id: Option<String>,
    /// Keyed hash of the session.
    pub session: Option<String>,
    /// Address of the client.
    pub address: Option<String>,
    /// User principal name, if the settings ask for it.
    pub username: Option<String>,
    /// How an AI agent takes part in the call.
    pub agent: Option<&'static str>,
    /// The application that the agent was made from.
    pub agent_blueprint: Option<String>,
    /// How long it took, in microseconds.
    pub latency_us: Option<u64>,
    /// W3C trace context of the MCP message.
    pub trace_parent: Option<String>,
    /// Correlation id of the call.
    pub correlation_id: String,
}

/// Characters of the name of something behind the component that are recorded. A client chose it.
const MAX_NAME: usize = 256;

impl AuditEvent {
    /// An event of which nothing else is known yet. Its correlation id is added when it is recorded.
    pub fn new(name: &'static str, outcome: Outcome) -> Self {
        Self {
            name,
            outcome,
            reason: None,
            tenant_id: None,
            object_id: None,
            client_id: None,
            tool: None,
            server: None,
            kind: None,
            upstream_status: None,
            token_id: None,
            session: None,
            address: None,
            username: None,
            agent: None,
            agent_blueprint: None,
            latency_us: None,
            trace_parent: None,
            correlation_id: String::new(),
        }
    }

    /// Says what of a server behind the component the event is about.
    #[must_use]
    pub fn about(self, target: &Target<'_>) -> Self {
        let Target { server, kind, name } = *target;
        Self {
            tool: Some(name.chars().take(MAX_NAME).collect()),
            server: Some(server.to_owned()),
            kind: (kind != TargetKind::Tool).then(|| kind.name()),
            ..self
        }
    }

    /// Adds the reason of a failure.
    #[must_use]
    pub fn because(self, reason: String) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Adds how long it took.
    #[must_use]
    pub fn lasting(self, time: Duration) -> Self {
        Self { latency_us: Some(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)), ..self }
    }
}
