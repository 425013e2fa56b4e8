//! Security events. What cannot be recorded is not done.

use crate::environment::{AuditEvent, Environment, Outcome};
use crate::sign_in::{Account, SignInError};

/// Records an event; a failure stops what was about to happen.
pub fn record(env: &Environment, event: AuditEvent) -> Result<(), SignInError> {
    env.audit.record(&event).map_err(|_| SignInError::Audit)
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
        ..AuditEvent::new(name, outcome, correlation_id)
    }
}

/// Adds the reason of a failure.
pub fn because(event: AuditEvent, reason: String) -> AuditEvent {
    AuditEvent { reason: Some(reason), ..event }
}
