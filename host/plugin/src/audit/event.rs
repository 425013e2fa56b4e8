//! An event. Facts with a name that this host knows are fields.

use crate::attributes::{Attribute, AttributeValue};
use crate::bindings::audit as wit;

pub use crate::bindings::audit::Outcome;

/// Most attributes with unknown names that are kept per event. A component that is newer than this host has a few.
const MAX_FURTHER: usize = 32;

/// One security event. `wit/audit.wit` says what each attribute means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Dotted, stable name.
    pub name: String,
    /// The outcome.
    pub outcome: Outcome,
    /// Stable code of a failure.
    pub reason: Option<String>,
    /// Tenant of the caller.
    pub tenant_id: Option<String>,
    /// The caller within the tenant.
    pub object_id: Option<String>,
    /// The client that acts for the caller.
    pub client_id: Option<String>,
    /// The MCP tool.
    pub tool: Option<String>,
    /// The server behind the component that has the tool.
    pub server: Option<String>,
    /// What `tool` names, if not a tool.
    pub kind: Option<String>,
    /// HTTP status of the answer of the server behind; 0 if there was none.
    pub upstream_status: Option<u64>,
    /// Id of the token in the logs of Entra ID.
    pub token_id: Option<String>,
    /// Pseudonym of the session.
    pub session: Option<String>,
    /// Address of the client.
    pub address: Option<String>,
    /// User principal name.
    pub username: Option<String>,
    /// How an AI agent takes part in the call.
    pub agent: Option<String>,
    /// The application that the agent was made from.
    pub agent_blueprint: Option<String>,
    /// Duration in microseconds.
    pub latency_us: Option<u64>,
    /// How many events like this one came before it and are not recorded. [`BoundedAudit`](super::BoundedAudit) says it,
    /// and no component.
    pub suppressed: Option<u64>,
    /// The trace that the MCP message belongs to.
    pub trace_parent: Option<String>,
    /// Correlation id of the call.
    pub correlation_id: String,
    /// Attributes with a name that this host does not know.
    pub further: Vec<Attribute>,
}

impl Event {
    /// An event without any known fact besides its name and outcome.
    pub fn new(name: &str, outcome: Outcome, correlation_id: &str) -> Self {
        Self {
            name: name.to_owned(),
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
            suppressed: None,
            trace_parent: None,
            correlation_id: correlation_id.to_owned(),
            further: Vec::new(),
        }
    }

    /// The field for a text of this name.
    fn text(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "reason" => &mut self.reason,
            "tenant-id" => &mut self.tenant_id,
            "object-id" => &mut self.object_id,
            "client-id" => &mut self.client_id,
            "tool" => &mut self.tool,
            "server" => &mut self.server,
            "kind" => &mut self.kind,
            "token-id" => &mut self.token_id,
            "session" => &mut self.session,
            "address" => &mut self.address,
            "username" => &mut self.username,
            "agent" => &mut self.agent,
            "agent-blueprint" => &mut self.agent_blueprint,
            "trace-parent" => &mut self.trace_parent,
            _ => return None,
        })
    }

    fn add(&mut self, name: String, value: AttributeValue) {
        match value {
            AttributeValue::Number(number) if name == "latency-us" => self.latency_us = Some(number),
            AttributeValue::Number(number) if name == "upstream-status" => self.upstream_status = Some(number),
            AttributeValue::Text(text) => match self.text(&name) {
                Some(field) => *field = Some(text),
                None => self.add_further(name, AttributeValue::Text(text)),
            },
            value => self.add_further(name, value),
        }
    }

    fn add_further(&mut self, name: String, value: AttributeValue) {
        if self.further.len() < MAX_FURTHER {
            self.further.push((name, value));
        }
    }
}

impl From<wit::Event> for Event {
    fn from(event: wit::Event) -> Self {
        let wit::Event { name, outcome, correlation_id, attributes } = event;
        let mut known = Self { name, correlation_id, ..Self::new("", outcome, "") };
        for (name, value) in attributes {
            known.add(name, value.into());
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::types::AttributeValue as Wit;

    fn event(attributes: Vec<(&str, Wit)>) -> Event {
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let (name, correlation_id) = ("tool.called".to_owned(), "c0ffee".to_owned());
        wit::Event { name, outcome: Outcome::Failure, correlation_id, attributes }.into()
    }

    #[test]
    fn every_attribute_of_the_contract_has_a_field() {
        let contract = include_str!("../../../../wit/audit.wit");
        let documented: Vec<_> = contract.lines().filter_map(|line| line.trim().strip_prefix("/// - `")).collect();
        let mut fields = 0;
        for line in documented {
            let Some((name, rest)) = line.split_once("` (") else { continue };
            let value = match rest.split_once(')') {
                Some(("text", _)) => Wit::Text("x".to_owned()),
                Some(("number", _)) => Wit::Number(1),
                kind => panic!("{name}: {kind:?}"),
            };
            assert_eq!(event(vec![(name, value)]).further, [], "{name}");
            fields += 1;
        }
        assert_eq!(fields, 16);
    }

    #[test]
    fn each_attribute_goes_to_its_own_field() {
        let text = |text: &str| Wit::Text(text.to_owned());
        let names = [
            "reason",
            "tenant-id",
            "object-id",
            "client-id",
            "tool",
            "server",
            "kind",
            "token-id",
            "session",
            "address",
            "username",
            "agent",
            "agent-blueprint",
            "trace-parent",
        ];
        let mut attributes: Vec<_> = names.iter().map(|name| (*name, text(name))).collect();
        attributes.push(("latency-us", Wit::Number(7)));
        attributes.push(("upstream-status", Wit::Number(8)));
        let some = |text: &str| Some(text.to_owned());
        let expected = Event {
            reason: some("reason"),
            tenant_id: some("tenant-id"),
            object_id: some("object-id"),
            client_id: some("client-id"),
            tool: some("tool"),
            server: some("server"),
            kind: some("kind"),
            upstream_status: Some(8),
            token_id: some("token-id"),
            session: some("session"),
            address: some("address"),
            username: some("username"),
            agent: some("agent"),
            agent_blueprint: some("agent-blueprint"),
            trace_parent: some("trace-parent"),
            latency_us: Some(7),
            ..Event::new("tool.called", Outcome::Failure, "c0ffee")
        };
        assert_eq!(event(attributes), expected);
    }

    #[test]
    fn what_this_host_does_not_know_is_kept_up_to_a_limit() {
        let kept = event(vec![
            ("risk", Wit::Text("low".to_owned())),
            ("suppressed", Wit::Number(7)),
            ("reason", Wit::Number(1)),
        ]);
        let expected = [
            ("risk".to_owned(), AttributeValue::Text("low".to_owned())),
            ("suppressed".to_owned(), AttributeValue::Number(7)),
            ("reason".to_owned(), AttributeValue::Number(1)),
        ];
        assert_eq!((kept.further.as_slice(), kept.reason, kept.suppressed), (expected.as_slice(), None, None));
        assert_eq!(event(vec![("risk", Wit::Number(1)); MAX_FURTHER + 1]).further.len(), MAX_FURTHER);
    }
}
