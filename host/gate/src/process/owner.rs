//! The caller that a process runs for.

use entra_mcp_plugin::gatekeeper::Caller;

/// A person, or an application, and the client that calls for it. No process serves two of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ProcessOwner {
    pub(super) person: Person,
    pub(super) client: String,
}

/// A person, or an application, with whatever client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Person {
    pub(super) tenant: String,
    pub(super) object: String,
}

impl ProcessOwner {
    pub(super) fn of(caller: &Caller) -> Self {
        let person = Person { tenant: caller.tenant_id.clone(), object: caller.object_id.clone() };
        Self { person, client: caller.client_id.clone() }
    }
}
