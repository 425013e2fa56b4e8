//! Where tools come from. The server lists and calls the component's own tools and those of servers behind it alike.

use async_trait::async_trait;
use base::audit::{AuditEvent, Outcome};
use base::policy::{Denial, Target, Terms};
use caller::local::SignInError;
use caller::{Caller, PersonCaller};
use entra::EntraWorld;
use rmcp::model::{JsonObject, Tool as Description};
use serde::Deserialize;
use serde_json::value::RawValue;
use world::{RateLimiter, Unrecorded};

use super::error::ToolError;
use super::tool::AnyTool;
use crate::local_world::LocalWorld;
use crate::server_world::ServerWorld;

/// The audit event of a call.
const TOOL_CALLED: &str = "tool.called";

/// Some tools, and the way to call them.
#[async_trait(?Send)]
pub trait ToolProvider {
    /// All of them, in the order of `tools/list`.
    fn tools(&self) -> Vec<Offer<'_>>;

    /// The one of this name. Compared exactly.
    fn find(&self, name: &str) -> Option<Admits<'_>>;

    /// Calls one of them, and records the call. That the caller may call it was decided before.
    async fn call(
        &self,
        name: &str,
        arguments: CallArguments<'_>,
        calling: Calling<'_>,
    ) -> Result<ToolAnswer, ToolError>;
}

/// One tool of a provider.
pub struct Offer<'a> {
    /// What `tools/list` says about it.
    pub description: &'a Description,
    /// What decides which callers may call it.
    pub admits: Admits<'a>,
}

/// What decides which callers may call a tool.
#[derive(Debug, Clone, Copy)]
pub enum Admits<'a> {
    /// The tool is the component's own, and says something itself.
    Own(Terms),
    /// It is of a server behind the component: only the settings say something.
    Provided(Target<'a>),
}

/// The party that a tool is called for.
#[derive(Clone, Copy)]
pub enum Calling<'a> {
    /// The person at this machine, who may have to sign in first.
    Person(&'a LocalWorld<'a>, &'a PersonCaller<'a>),
    /// A client of the remote server.
    Client(&'a ServerWorld<'a>, &'a dyn Caller),
}

impl<'a> Calling<'a> {
    pub(super) fn entra(self) -> &'a EntraWorld<'a> {
        match self {
            Self::Person(env, _) => &env.person.entra,
            Self::Client(env, _) => &env.entra,
        }
    }

    pub(super) fn caller(self) -> &'a dyn Caller {
        match self {
            Self::Person(_, caller) => caller,
            Self::Client(_, caller) => caller,
        }
    }

    /// Counts what the component's own tools ask of Graph for a remote caller.
    fn limiter(self) -> Option<&'a dyn RateLimiter> {
        match self {
            Self::Person(..) => None,
            Self::Client(env, _) => Some(env.limiter),
        }
    }
}

/// The arguments of a call.
pub struct CallArguments<'a> {
    /// As they were parsed: numbers that no 64 bits hold are rounded.
    pub values: JsonObject,
    /// The JSON-RPC message that they came in, which was parsed before.
    pub message: &'a [u8],
}

/// What of a message leads to the arguments.
#[derive(Deserialize)]
struct CallMessage<'a> {
    #[serde(borrow)]
    params: CallParams<'a>,
}

#[derive(Deserialize)]
struct CallParams<'a> {
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl<'a> CallArguments<'a> {
    /// As the client wrote them, every digit of a number included. A JSON object.
    pub(super) fn text(&self) -> &'a str {
        let read = serde_json::from_slice::<CallMessage<'a>>(self.message);
        let arguments = read.ok().and_then(|message| message.params.arguments).map(RawValue::get);
        // What is left out or null stands for an object without members.
        arguments.filter(|text| text.starts_with('{')).unwrap_or("{}")
    }
}

/// What a tool answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolAnswer {
    /// A JSON object, as JSON on one line. Clients that know no structure get it as a text.
    Structured(String),
    /// A text.
    Text(String),
    /// The array `content` of a result, as JSON on one line.
    Blocks(String),
}

/// The component's own tools.
pub struct OwnTools(pub Vec<&'static dyn AnyTool>);

impl OwnTools {
    fn named(&self, name: &str) -> Option<&'static dyn AnyTool> {
        self.0.iter().copied().find(|tool| tool.name() == name)
    }
}

#[async_trait(?Send)]
impl ToolProvider for OwnTools {
    fn tools(&self) -> Vec<Offer<'_>> {
        let offer =
            |tool: &&'static dyn AnyTool| Offer { description: tool.describe(), admits: Admits::Own(tool.terms()) };
        self.0.iter().map(offer).collect()
    }

    fn find(&self, name: &str) -> Option<Admits<'_>> {
        self.named(name).map(|tool| Admits::Own(tool.terms()))
    }

    async fn call(
        &self,
        name: &str,
        arguments: CallArguments<'_>,
        calling: Calling<'_>,
    ) -> Result<ToolAnswer, ToolError> {
        let tool = self.named(name).ok_or(Denial::NotListed)?;
        let answer = super::call(tool, calling.entra(), calling.caller(), calling.limiter(), arguments.values);
        answer.await.map(ToolAnswer::Structured)
    }
}

/// A call that is going on, for its record.
pub(super) struct CallRecord<'a> {
    pub(super) env: &'a EntraWorld<'a>,
    pub(super) caller: &'a dyn Caller,
    /// The server behind the component that has the tool.
    pub(super) server: Option<&'a str>,
    pub(super) tool: &'a str,
    began: std::time::Duration,
}

impl<'a> CallRecord<'a> {
    pub(super) fn begin(
        env: &'a EntraWorld<'a>,
        caller: &'a dyn Caller,
        server: Option<&'a str>,
        tool: &'a str,
    ) -> Self {
        Self { env, caller, server, tool, began: env.clock.monotonic() }
    }

    /// Records how the call has ended: for a remote caller with its identity and client.
    pub(super) async fn end<T>(&self, result: &Result<T, ToolError>) -> Result<(), Unrecorded> {
        let outcome = match result {
            Ok(_) => Outcome::Success,
            Err(ToolError::SignIn(SignInError::Deferred { .. })) => Outcome::Started,
            Err(_) => Outcome::Failure,
        };
        let event = AuditEvent {
            reason: result.as_ref().err().map(ToolError::reason),
            tool: Some(self.tool.to_owned()),
            server: self.server.map(str::to_owned),
            ..self.env.trail.event(TOOL_CALLED, outcome)
        };
        let event = match self.caller.identity() {
            Some(identity) => identity.attribute(event),
            None => event,
        };
        let took = self.env.clock.monotonic().saturating_sub(self.began);
        self.env.trail.record(event.lasting(took)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str) -> &str {
        CallArguments { values: JsonObject::new(), message: message.as_bytes() }.text()
    }

    #[test]
    fn arguments_reach_a_tool_as_the_client_wrote_them() {
        for arguments in [
            "{}",
            r#"{"n":123456789012345678901234567890.10,"e":1E2,"f":1.0}"#,
            r#"{ "a" : [ 1, {"arguments":{}} ] , "b":"\u0041\n" }"#,
        ] {
            let message = format!(r#"{{"id":1,"params":{{"name":"t","arguments":{arguments},"_meta":{{}}}},"x":[]}}"#);
            assert_eq!(text(&message), arguments);
            let escaped = message.replace(r#""params""#, r#""param\u0073""#);
            assert_eq!(text(&escaped), arguments);
        }
    }

    #[test]
    fn no_arguments_are_an_empty_object() {
        for message in
            [r#"{"params":{"name":"t"}}"#, r#"{"params":{"arguments":null}}"#, r#"{"params":{"arguments":[]}}"#]
        {
            assert_eq!(text(message), "{}");
        }
    }
}
