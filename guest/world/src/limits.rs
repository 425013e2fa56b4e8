//! Bounds of how often something may be done, and the record of what is over a bound.

use std::time::Duration;

use base::Identity;
use base::audit::{AuditEvent, Outcome};

use crate::capabilities::RateLimiter;
use crate::trail::Trail;

/// Bytes of the id of a refused client that are recorded. A stranger chose it; the host in a URL is within them.
const MAX_REFUSED_CLIENT_ID: usize = 256;
/// What the record of a throttled operation is called as an operation of its own.
const RECORD_OF: &str = "record:";

/// What is recorded of the id of a client that is refused: its beginning.
pub fn shown_client_id(client_id: &str) -> &str {
    client_id.get(..client_id.floor_char_boundary(MAX_REFUSED_CLIENT_ID)).unwrap_or_default()
}

/// Counts one `operation` by `subject`; an error says after which time to try again. Refusals of one subject are one
/// record in the time of the bound: a client that floods the server must not flood the records.
pub async fn admit(
    limiter: &dyn RateLimiter,
    trail: &Trail<'_>,
    operation: &str,
    subject: &str,
    client_id: Option<&str>,
) -> Result<(), Duration> {
    let admitted = limiter.admit(operation, subject);
    if admitted.is_err() && is_worth_a_record(limiter, operation, subject) {
        throttled(trail, operation, client_id).await;
    }
    admitted
}

/// The same by the person or the application that calls, whatever its client and its address.
pub async fn admit_caller(
    limiter: &dyn RateLimiter,
    trail: &Trail<'_>,
    operation: &str,
    who: Identity<'_>,
) -> Result<(), Duration> {
    let subject = who.principal();
    let admitted = limiter.admit(operation, &subject);
    if admitted.is_err() && is_worth_a_record(limiter, operation, &subject) {
        let event = AuditEvent::new("request.throttled", Outcome::Failure).because(operation.to_owned());
        // It is refused whether or not that can be recorded.
        let _ = trail.record(who.attribute(event)).await;
    }
    admitted
}

fn is_worth_a_record(limiter: &dyn RateLimiter, operation: &str, subject: &str) -> bool {
    limiter.admit(&format!("{RECORD_OF}{operation}"), subject).is_ok()
}

/// The same by the address of the client. A call without one, whose host does not name addresses, is not counted: all
/// clients would share the count.
pub async fn admit_address(limiter: &dyn RateLimiter, trail: &Trail<'_>, operation: &str) -> Result<(), Duration> {
    match trail.address() {
        Some(address) => admit(limiter, trail, operation, &address, None).await,
        None => Ok(()),
    }
}

/// Something was asked too often: here (`operation` of the rate limiter), or by this component of a service. It is
/// refused whether or not that can be recorded.
pub async fn throttled(trail: &Trail<'_>, operation: &str, client_id: Option<&str>) {
    let event = AuditEvent {
        client_id: client_id.map(|id| shown_client_id(id).to_owned()),
        ..AuditEvent::new("request.throttled", Outcome::Failure).because(operation.to_owned())
    };
    let _ = trail.record(event).await;
}
