//! The head of the answer of a server behind: what is recorded of it, and what it becomes for the client.

use std::time::Duration;

use base::audit::{AuditEvent, Outcome};
use entra::EntraWorld;
use http::{HeaderMap, HeaderValue, Response};
use world::provided_tools::{DelegationError, DelegationErrorCategory, ProviderError};
use world::{BodyOnce, StoreError, Unrecorded};

use super::AnswerHead;
use super::callers::{self, NotFound};
use super::handle::{self, Handle};
use super::session_id::{self, MCP_SESSION_ID};
use crate::http::relay;
use crate::mcp::{Reply, challenge};
use crate::message::text;
use crate::server_world::ServerWorld;
use crate::tools::ToolError;

/// Records the call, whatever becomes of its answer, and says which header fields to set on the answer. An error is the
/// answer in its place.
#[inline(never)]
pub fn answered<'f>(
    env: &'f ServerWorld<'_>,
    handle: &'f str,
    head: &'f AnswerHead,
) -> BodyOnce<'f, Result<HeaderMap, Response<Vec<u8>>>> {
    Box::pin(async move {
        let late = || text(504, "The server behind did not answer in time");
        let whole = handle;
        let handle = match handle::open_any(&env.entra, whole).await {
            Ok(Some(handle)) => handle,
            Ok(None) => return Err(late()),
            Err(_) => return Err(text(503, "The answer cannot be passed on now")),
        };
        let recorded = record(env, &handle, head).await;
        if !handle.admits_answer(env.entra.clock.now()) {
            return Err(late());
        }
        let Some(server) = env.site.servers.iter().find(|server| server.name == handle.of.server) else {
            return Err(text(503, "The server behind is not configured any more"));
        };
        let origin = handle.of.origin.as_deref();
        let failed = |status: u16, message: &str| relay::failure(env, server, origin, text(status, message));
        recorded.map_err(|_| failed(503, Unrecorded::PUBLIC))?;
        if let Some(refusal) = &head.refusal {
            if let Some(reply) = challenge_of(&env.entra, whole, refusal).await {
                return Err(relay::challenge(env, server, origin, reply));
            }
            if head.status == 0 {
                let status = if refusal.category == DelegationErrorCategory::Unavailable { 503 } else { 502 };
                return Err(failed(status, &refusal.message));
            }
        }
        if let Some(message) = refusal(head.status) {
            return Err(failed(502, message));
        }
        let mut fields = relay::fields_of_answer(&env.site, server, origin);
        if let Some(id) = &head.session_id {
            let sealed = match &handle.of.session {
                // The client keeps what it has.
                Some(presented) if presented.id == *id => Some(presented.sealed.clone()),
                _ => sealed_session(env, &handle, whole, id)
                    .await
                    .map_err(|_| failed(503, "The session of the server behind cannot be kept now"))?,
            };
            let sealed = sealed.and_then(|sealed| HeaderValue::from_str(&sealed).ok());
            let malformed =
                || failed(502, "The server behind gave a session id that is not visible ASCII, or too long");
            fields.insert(MCP_SESSION_ID, sealed.ok_or_else(malformed)?);
        }
        Ok(fields)
    })
}

/// Seals the id of a session of the server behind for the caller of a handle.
async fn sealed_session(
    env: &ServerWorld<'_>,
    handle: &Handle,
    whole: &str,
    id: &str,
) -> Result<Option<String>, StoreError> {
    let caller = handle::caller_of(&env.entra, whole).await?;
    let (Some(who), Some(caller)) = (handle.identity(), caller) else { return Ok(None) };
    session_id::seal(&env.entra.records, &handle.of.server, who, &caller, id).await
}

/// What the client has to bring, where the server behind was refused a token that only the caller can help to.
async fn challenge_of(entra: &EntraWorld<'_>, handle: &str, refusal: &DelegationError) -> Option<Reply> {
    let error = ToolError::from(ProviderError::Delegation(refusal.clone()));
    if !is_for_client(&error) {
        return None;
    }
    // Where the store does not answer, the answer of the server says what it can.
    let caller = handle::caller_of(entra, handle).await.ok()??;
    match callers::again(entra, &caller).await {
        Ok(again) => challenge::of(&*again.caller(entra), &error).await,
        Err(NotFound::Ended) => Some(Reply::SignInAgain),
        Err(NotFound::Token(refused)) if refused.is_refusal() => Some(Reply::SignInAgain),
        // The answer of the server says what it can.
        Err(NotFound::Token(_) | NotFound::Unavailable | NotFound::Elsewhere) => None,
    }
}

/// Whether the client can do something about it, besides telling its user.
fn is_for_client(error: &ToolError) -> bool {
    error.needs_person().is_some() || error.too_many().is_some()
}

/// What is wrong with a status. A server behind does not speak for this one: a client must not follow its redirects, and not
/// sign in elsewhere because of its challenge.
fn refusal(status: u16) -> Option<&'static str> {
    match status {
        0 => Some("The server behind did not answer"),
        401 | 407 => Some("The server behind does not accept the identity that this server tells it"),
        200..=299 | 400..=599 => None,
        _ => Some("The server behind gave an answer that MCP does not have"),
    }
}

/// Records what the request has used.
async fn record(env: &ServerWorld<'_>, handle: &Handle, head: &AnswerHead) -> Result<(), Unrecorded> {
    let AnswerHead { status, latency_us, session_id: _, ref refusal } = *head;
    // Where the client is told of it in place of the answer.
    let told = |refusal: &&DelegationError| {
        status == 0 || is_for_client(&ToolError::from(ProviderError::Delegation((*refusal).clone())))
    };
    let reason = match (refusal.as_ref().filter(told), status) {
        (Some(refusal), _) => Some(refusal.code.as_str()),
        (None, 0) => Some("upstream-unreachable"),
        (None, 200..=299) => None,
        (None, _) => Some("upstream-status"),
    };
    for target in handle.of.targets() {
        let outcome = if reason.is_some() { Outcome::Failure } else { Outcome::Success };
        let event = AuditEvent {
            reason: reason.map(str::to_owned),
            upstream_status: Some(status.into()),
            ..AuditEvent::new("tool.called", outcome).about(&target)
        };
        let event = handle.identity().iter().fold(event, |event, who| who.attribute(event));
        env.entra.trail.record(event.lasting(Duration::from_micros(latency_us))).await?;
    }
    Ok(())
}
