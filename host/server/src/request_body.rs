//! The body of a request: read whole within its bounds, or forgotten because its answer does not depend on it.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::activity::{Activity, InFlight};
use super::refusal::RequestRefusal;
use super::shared::Shared;
use super::shares::Share;

/// A body that is all here, and what it occupies.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) share: Share,
}

/// What is left of the body of a request whose answer does not depend on it.
#[derive(Default)]
pub(super) enum Rest {
    /// Nothing, or so little that it is read and forgotten.
    #[default]
    Little,
    /// More than is read: the connection ends with the answer.
    Much,
    /// The request does not say. It is much when this says so.
    Undeclared(oneshot::Receiver<()>),
}

impl Rest {
    /// Whether more is left than is read, as far as that turns out within `time`.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub(super) async fn reaches_much(self, time: Duration) -> bool {
        match self {
            Self::Little => false,
            Self::Much => true,
            Self::Undeclared(much) => matches!(tokio::time::timeout(time, much).await, Ok(Ok(()))),
        }
    }
}

impl Whole {
    pub(super) fn empty(shared: &Shared, client: IpAddr) -> Self {
        // Nothing that is empty is displaced.
        Self { bytes: Bytes::new(), share: shared.buffered.share(Some(client), &Arc::default()) }
    }
}

fn busy() -> RequestRefusal {
    RequestRefusal::busy("the server is busy, try again in a moment").closing()
}

/// The length that the head declares, if it does.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, which has at most `most` bytes.
#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
pub(super) async fn read(
    shared: &Shared,
    client: IpAddr,
    headers: &HeaderMap,
    mut body: Incoming,
    most: usize,
) -> Result<Whole, RequestRefusal> {
    if body.is_end_stream() {
        return Ok(Whole::empty(shared, client));
    }
    let limits = &shared.options.limits;
    let most = most.min(limits.body_bytes);
    let too_large =
        || RequestRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body of the request is too large").closing();
    let too_slow = |reason| RequestRefusal::new(StatusCode::REQUEST_TIMEOUT, reason).closing();
    let declared = declared(headers);
    if declared.is_some_and(|declared| declared > most as u64) {
        return Err(too_large());
    }
    let declared = declared.and_then(|declared| usize::try_from(declared).ok()).unwrap_or(0);
    let activity = Arc::<Activity>::default();
    let mut share = shared.buffered.share(Some(client), &activity);
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    let (mut length, mut recent) = (0_usize, 0_usize);
    let mut end = pin!(tokio::time::sleep(limits.body_time));
    let mut pace = pin!(tokio::time::sleep(limits.pace_time));
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            _ = share.displaced() => return Err(busy()),
            () = end.as_mut() => return Err(too_slow("the body took too long")),
            () = pace.as_mut() => {
                if recent < limits.pace_bytes {
                    return Err(too_slow("the body comes too slowly"));
                }
                recent = 0;
                pace.set(tokio::time::sleep(limits.pace_time));
                continue;
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| RequestRefusal::new(StatusCode::BAD_REQUEST, "the body breaks off"))?;
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        recent = recent.saturating_add(data.len());
        if length > most {
            return Err(too_large());
        }
        activity.progressed_now();
        let wanted = declared.saturating_sub(length.saturating_sub(data.len()));
        if !make_room(&mut share, data.len(), wanted, body.is_end_stream()) {
            return Err(busy());
        }
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&std::mem::take(&mut first));
            }
            more.extend_from_slice(&data);
        }
    }
    if !share.grow_to_the_end(0) {
        return Err(busy());
    }
    let bytes = if more.is_empty() { first } else { more.freeze() };
    Ok(Whole { bytes, share })
}

/// Grows the share in steps, so that there is room for a large piece also where everything is occupied by very small ones.
/// `wanted` is what the body is going to need, as far as that is known. The first step already compares the client as it will
/// be after the last one.
fn make_room(share: &mut Share, piece: usize, wanted: usize, is_last: bool) -> bool {
    let (mut left, mut wanted) = (piece, wanted.max(piece));
    while left > share.step() {
        let step = share.step();
        if !share.grow(step, wanted) {
            return false;
        }
        (left, wanted) = (left.saturating_sub(step), wanted.saturating_sub(step));
    }
    if is_last { share.grow_to_the_end(left) } else { share.grow(left, wanted) }
}

/// Reads a body that is not needed, up to its bounds, and keeps nothing of it, while the answer is made and sent. Returns
/// what is left of it.
#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
pub(super) fn forget(shared: &Arc<Shared>, headers: &HeaderMap, mut body: Incoming, in_flight: &InFlight) -> Rest {
    if body.is_end_stream() {
        return Rest::Little;
    }
    let limits = &shared.options.limits;
    let (mut left, time) = (limits.unneeded_bytes, limits.unneeded_time);
    let declared = declared(headers);
    // A client that waits for `100 Continue` sends nothing if it gets the answer instead.
    if headers.contains_key(EXPECT) || declared.is_some_and(|declared| declared > left as u64) {
        return Rest::Much;
    }
    let in_flight = in_flight.clone();
    let (much, rest) = oneshot::channel();
    tokio::spawn(async move {
        let _in_flight = in_flight;
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                let Some(after) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
                    // Nothing waits for it any more where the answer was sent before.
                    let _ = much.send(());
                    return;
                };
                left = after;
            }
        };
        // Whatever has not come by then ends the connection, which cannot be used for another request.
        let _ = tokio::time::timeout(time, reading).await;
    });
    if declared.is_some() { Rest::Little } else { Rest::Undeclared(rest) }
}
