//! The caller of a remote server, as Entra ID names it.

use crate::audit::AuditEvent;

/// A caller and its client. Both come from a validated token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The tenant. A GUID.
    pub tenant_id: &'a str,
    /// The person or the application within the tenant. A GUID.
    pub object_id: &'a str,
    /// The client.
    pub client_id: &'a str,
}

impl Identity<'_> {
    /// Attributes an event to this caller.
    pub fn attribute(&self, event: AuditEvent) -> AuditEvent {
        AuditEvent {
            tenant_id: Some(self.tenant_id.to_owned()),
            object_id: Some(self.object_id.to_owned()),
            client_id: Some(self.client_id.to_owned()),
            ..event
        }
    }
}
