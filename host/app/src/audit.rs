//! Security events as lines of JSON, in a file or on standard error.

use entra_mcp_plugin::audit::Event;

use crate::telemetry::trace_parent::TraceParent;

pub use file::{AuditFileError, Rotation};
pub use journal::{JournalPlace, JsonLinesAudit, OnFailure};
pub use refusals::LoggedRefusals;

mod file;
mod journal;
mod line;
mod refusals;

/// The trace that an event belongs to: the one that the MCP message names, else that of the HTTP request; and in it the
/// span of the request, if there is one. Has to be called in the task of the call that the event belongs to.
pub(crate) fn trace(event: &Event) -> Option<TraceParent> {
    let named = event.trace_parent.as_deref().and_then(TraceParent::parse);
    named.map(TraceParent::or_our_own_in_it).or_else(TraceParent::current)
}

#[cfg(test)]
mod testing {
    use entra_mcp_plugin::audit::{Event, Outcome};

    /// An event with nothing but its name.
    pub(super) fn event(name: &str) -> Event {
        Event::new(name, Outcome::Success, "c0ffee")
    }
}
