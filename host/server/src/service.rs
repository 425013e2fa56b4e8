//! One request: what is refused before the handler sees it, and what its answer holds on to.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tracing::Instrument as _;

use super::activity::{Activity, Handled, InFlight};
use super::body::{BrokenOff, HttpBody};
use super::client_address::{client_address, misnamed};
use super::handler::BodyNeed;
use super::observer::Observed;
use super::refusal::RequestRefusal;
use super::request_body::{self, Rest, Whole};
use super::shared::Shared;
use super::shares::{self, Share};
use super::turns::{HandlerTurn, HeldTurn, Turns};
use super::untaken::WatchedBody;

/// Bytes of overhead that HTTP/2 counts per header field (RFC 9113 section 6.5.2); a fair estimate for HTTP/1.1 too.
const FIELD_OVERHEAD: usize = 32;

/// Answers from this size in bytes on count as buffered.
const LARGE_ANSWER_BYTES: usize = 64 * 1024;

/// Answers one request.
#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
pub(super) async fn answer(
    shared: &Arc<Shared>,
    peer: IpAddr,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> Response<SentBody> {
    let in_flight = activity.begin(request.version() == Version::HTTP_2);
    let version = request.version();
    let path = path_below(request.uri(), &shared.options.path_prefix);
    let https = shared.acceptor.is_some();
    let observed = shared.options.observer.request(request.method(), &path, https, request.headers());
    let mut observed = Observed(observed);
    let mut rest = Rest::default();
    let handled = match received(shared, peer, request, &in_flight, &mut rest).await {
        Err(refusal) => Err(refusal),
        Ok(received) => {
            observed.received(received.request.body());
            observed.run(handled(shared, received, &in_flight)).instrument(observed.log_span()).await
        }
    };
    observed.answered(match &handled {
        Ok((response, _)) => response.status(),
        Err(refusal) => refusal.status,
    });
    let closes = handled.as_ref().is_err_and(|refusal| refusal.closes);
    // A connection of HTTP/1 carries nothing else meanwhile, also that of a proxy. One of HTTP/2 that a proxy has opened is for
    // its other clients as well: there, nothing waits.
    let is_shared = version == Version::HTTP_2 && shared.is_proxy(peer);
    let pause = if is_shared { Duration::ZERO } else { shared.options.limits.unread_pause };
    let closes = waited(closes, rest, pause, &in_flight).await;
    match handled {
        Ok((response, holds)) => {
            // What another server writes may last, and finds a place as soon as an ordinary answer would be over.
            let time = if response.body().is_relayed() { shared.options.limits.request_time } else { holds.time };
            let deadline = (response.body().is_event_stream() && holds.place.is_none())
                .then(|| Box::pin(tokio::time::sleep(time)));
            let shared = Arc::clone(shared);
            let mut response = response;
            if closes && version != Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(|body| {
                let is_written = body.is_event_stream() && !body.is_end_stream();
                let written = Written { body, deadline, observed, holds, shared: Arc::clone(&shared) };
                let content = match is_written {
                    true => {
                        let limits = &shared.options.limits;
                        Content::Watched(WatchedBody::new(written, limits, |written| written.give_up(UNTAKEN)))
                    }
                    false => Content::Whole(written),
                };
                SentBody { content, _in_flight: in_flight }
            })
        }
        Err(refusal) => {
            let _in_trace = observed.log_span().entered();
            refused(shared, RequestRefusal { closes, ..refusal }, version).map(|body| {
                let (holds, shared) = (Holds::default(), Arc::clone(shared));
                let written = Written { body, deadline: None, observed, holds, shared };
                SentBody { content: Content::Whole(written), _in_flight: in_flight }
            })
        }
    }
}

/// Lets the sender of a body that is not read wait. Returns whether the connection ends with the answer.
#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
async fn waited(closes: bool, rest: Rest, pause: Duration, in_flight: &InFlight) -> bool {
    let closes = closes || rest.reaches_much(pause).await;
    if closes {
        let _pausing = in_flight.pausing();
        tokio::time::sleep(pause).await;
    }
    closes
}

fn refused(shared: &Shared, refusal: RequestRefusal, version: Version) -> Response<HttpBody> {
    let RequestRefusal { status, reason, retry_after, closes } = refusal;
    let correlation_id = (shared.options.correlation_ids)();
    tracing::info!(%correlation_id, status = status.as_u16(), reason, "a request was refused");
    let mut response = plain_text(status, reason, &correlation_id);
    if let Some(after) = retry_after {
        let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if closes && version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A refusal does not say more than a client has to know.
fn plain_text(status: StatusCode, reason: &str, correlation_id: &str) -> Response<HttpBody> {
    let text = format!("{reason} (correlation id {correlation_id})\n");
    let mut response = Response::new(HttpBody::full(text.into_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A request that may reach the handler, and what it occupies.
struct Received {
    request: Request<Bytes>,
    client: IpAddr,
    buffered: Share,
    place: Option<StreamPlace>,
    turn: HeldTurn,
    /// Time to the answer.
    time: Duration,
}

/// `rest` becomes what is left of the request, also if that is refused.
async fn received(
    shared: &Arc<Shared>,
    peer: IpAddr,
    request: Request<Incoming>,
    in_flight: &InFlight,
    rest: &mut Rest,
) -> Result<Received, RequestRefusal> {
    let (mut parts, body) = request.into_parts();
    check_coding(&parts.headers)?;
    let (client, path) = match screened(shared, peer, &mut parts).await {
        Ok(screened) => screened,
        Err(refusal) => {
            *rest = request_body::forget(shared, &parts.headers, body, in_flight);
            return Err(refusal);
        }
    };
    let Whole { bytes, share: buffered } = match shared.handler.body_need(&parts.method, &path, &parts.headers) {
        BodyNeed::UpTo(most) => request_body::read(shared, client, &parts.headers, body, most).await?,
        BodyNeed::Nothing => {
            *rest = request_body::forget(shared, &parts.headers, body, in_flight);
            parts.headers.remove(CONTENT_LENGTH);
            parts.headers.remove(TRANSFER_ENCODING);
            Whole::empty(shared, client)
        }
    };
    let busy = || RequestRefusal::busy("too many requests of your network are at work, try again in a moment");
    let turn = HeldTurn::new(shared.turns.take(client).await.ok_or_else(busy)?);
    // No place is taken while a request waits for its turn. A stream without a place occupies nothing of the handler.
    let busy = || RequestRefusal::busy("there are too many event streams, try again in a moment");
    let place = if shared.handler.lasts(&parts.method, &path) {
        Some(StreamPlace::take(shared, &shared.event_streams, client).ok_or_else(busy)?)
    } else if shared.handler.relays(&parts.method, &path) {
        Some(StreamPlace::take(shared, &shared.relayed_streams, client).ok_or_else(busy)?)
    } else {
        None
    };
    parts.extensions.insert(turn.at_work());
    let time = shared.handler.request_time(&parts.method, &path).unwrap_or(shared.options.limits.request_time);
    Ok(Received { request: Request::from_parts(parts, bytes), client, buffered, place, turn, time })
}

/// What is decided by the head of a request alone. Returns the address that is responsible for it, and its path.
async fn screened(shared: &Shared, peer: IpAddr, parts: &mut Parts) -> Result<(IpAddr, String), RequestRefusal> {
    check_size(parts, shared.options.limits.header_bytes)?;
    check_target(parts)?;
    let path = path_below(&parts.uri, &shared.options.path_prefix).into_owned();
    if shared.proxies_only && !shared.is_proxy(peer) && !shared.handler.is_health_check(&path) {
        return Err(RequestRefusal::new(StatusCode::FORBIDDEN, "requests are accepted from the declared proxy only"));
    }
    let misnamed = misnamed(peer, &parts.headers, &shared.options.trusted_proxies, shared.options.forwarded_header);
    if let Some(advice) = misnamed
        && !shared.has_warned.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%peer, "{advice}");
    }
    let client = client_address(peer, &parts.headers, &shared.options.trusted_proxies, shared.options.forwarded_header);
    let admitted = shared.handler.admit(&parts.method, &path, shares::of(client)).await;
    admitted.map_err(|after| RequestRefusal::later(StatusCode::TOO_MANY_REQUESTS, "too many requests", after))?;
    let address = HeaderValue::try_from(client.to_string());
    let address = address.map_err(|_| RequestRefusal::new(StatusCode::BAD_REQUEST, "the address cannot be told"))?;
    parts.headers.insert(&shared.options.client_address_header, address);
    keep_handed_over(shared, peer, &mut parts.headers);
    Ok((client, path))
}

async fn handled(
    shared: &Shared,
    received: Received,
    in_flight: &InFlight,
) -> Result<(Response<HttpBody>, Holds), RequestRefusal> {
    let Received { request, client, mut buffered, place, turn, time } = received;
    let handled = in_flight.handled();
    let answered = tokio::time::timeout(time, shared.handler.handle_http(request)).await;
    let response = answered
        .map_err(|_| RequestRefusal::new(StatusCode::GATEWAY_TIMEOUT, "the request took too long and was cancelled"))?;
    // The request is over; what is held from now on is the answer. There is always room for one that exists already.
    let is_stream = response.body().is_event_stream();
    buffered.settle(match response.body().size_hint().exact() {
        Some(length) if !is_stream && length >= LARGE_ANSWER_BYTES as u64 => {
            usize::try_from(length).unwrap_or(usize::MAX)
        }
        _ => 0,
    });
    let holds = Holds {
        client: Some(client),
        time,
        place: place.filter(|_| is_stream),
        _buffered: Some(buffered),
        _handled: Some(handled).filter(|_| is_stream),
        _turn: turn.into_turn().filter(|_| is_stream && !response.body().is_relayed()).map(Box::new),
    };
    Ok((response, holds))
}

/// A body is framed by its length or in chunks. Proxies and servers that read any other coding differently take a part of
/// one request for another request (RFC 9112 sections 6.1 and 11.2), so nothing more of the connection is believed.
fn check_coding(headers: &HeaderMap) -> Result<(), RequestRefusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => {
            let reason = "the transfer coding of the request is not supported: send it as chunked, and say so once";
            Err(RequestRefusal::new(StatusCode::NOT_IMPLEMENTED, reason).closing())
        }
    }
}

fn check_size(parts: &Parts, most: usize) -> Result<(), RequestRefusal> {
    let fields = parts.headers.iter().fold(0_usize, |total, (name, value)| {
        total.saturating_add(name.as_str().len()).saturating_add(value.len()).saturating_add(FIELD_OVERHEAD)
    });
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if fields.saturating_add(target) > most {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(RequestRefusal::new(status, "the header of the request is too large"));
    }
    Ok(())
}

/// A request says once for which host it is (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
fn check_target(parts: &Parts) -> Result<(), RequestRefusal> {
    let bad = |reason| Err(RequestRefusal::new(StatusCode::BAD_REQUEST, reason));
    if parts.method == Method::CONNECT {
        return Err(RequestRefusal::new(StatusCode::NOT_IMPLEMENTED, "this is no proxy"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match hosts.next().map(HeaderValue::to_str) {
        None => None,
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return bad("the Host header cannot be read"),
    };
    if hosts.next().is_some() {
        return bad("the request has several Host headers");
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    match (authority, host) {
        (None, None | Some("")) => bad("the request does not say for which host it is"),
        (Some(authority), _) if authority.contains('@') => bad("the target of the request has a user name"),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => bad("the request names two hosts"),
        _ => Ok(()),
    }
}

/// Only a declared proxy may hand over a token. From any other address, the header is removed.
fn keep_handed_over(shared: &Shared, peer: IpAddr, headers: &mut HeaderMap) {
    let Some(name) = &shared.options.token_header else { return };
    if !shared.is_proxy(peer) {
        headers.remove(name);
        return;
    }
    if let http::header::Entry::Occupied(mut handed_over) = headers.entry(name) {
        handed_over.iter_mut().for_each(|token| token.set_sensitive(true));
    }
}

/// The path below the public URL, whose own path is `prefix`. A proxy may have taken the prefix off already.
pub fn path_below<'a>(uri: &'a Uri, prefix: &str) -> Cow<'a, str> {
    let path = uri.path();
    match path.strip_prefix(prefix) {
        Some("") => Cow::Borrowed("/"),
        Some(rest) if rest.starts_with('/') => Cow::Borrowed(rest),
        _ => Cow::Borrowed(path),
    }
}

/// A place for an event stream that lasts. One address has fewer of them than are left for others.
struct StreamPlace {
    shared: Arc<Shared>,
    _turn: Box<HandlerTurn>,
}

impl StreamPlace {
    fn take(shared: &Arc<Shared>, places: &Arc<Turns>, client: IpAddr) -> Option<Self> {
        let turn = places.take_now(client)?;
        shared.streaming.fetch_add(1, Ordering::Relaxed);
        Some(Self { shared: Arc::clone(shared), _turn: Box::new(turn) })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.shared.streaming.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an answer occupies until it is sent.
#[derive(Default)]
struct Holds {
    /// Whose it is, unless the request was refused.
    client: Option<IpAddr>,
    /// Time for the rest of an answer that the handler writes while it is read.
    time: Duration,
    place: Option<StreamPlace>,
    _buffered: Option<Share>,
    _handled: Option<Handled>,
    _turn: Option<Box<HandlerTurn>>,
}

/// The body of an answer.
pub(super) struct SentBody {
    content: Content,
    _in_flight: InFlight,
}

#[allow(clippy::large_enum_variant, reason = "most answers are whole, and a box would cost each of them an allocation")]
enum Content {
    /// It is all there.
    Whole(Written),
    /// It is written while it is read.
    Watched(WatchedBody<Written>),
}

/// Why an answer is given up whose client does not read.
const UNTAKEN: &str = "its client takes nothing";

/// An answer, and what it occupies.
struct Written {
    body: HttpBody,
    /// When an event stream that is the answer to a request has to be over.
    deadline: Option<Pin<Box<Sleep>>>,
    observed: Observed,
    holds: Holds,
    shared: Arc<Shared>,
}

impl Written {
    fn give_up(&self, reason: &str) {
        self.observed.within(|| tracing::info!(reason, "an answer was cancelled"));
    }

    /// Goes on without an end, if that is possible: another server writes the answer, and there is a place for it.
    fn lasts(&mut self) -> bool {
        if !self.body.is_relayed() {
            return false;
        }
        let take = |client| StreamPlace::take(&self.shared, &self.shared.relayed_streams, client);
        self.holds.place = self.holds.client.and_then(take);
        if self.holds.place.is_some() {
            self.deadline = None;
        }
        self.holds.place.is_some()
    }
}

impl Body for Written {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
            && !self.lasts()
        {
            self.give_up("it took too long");
            return Poll::Ready(Some(Err(BrokenOff { reason: "it took too long".to_owned() })));
        }
        let Self { body, observed, .. } = &mut *self;
        if !body.is_event_stream() {
            return Pin::new(body).poll_frame(context);
        }
        // What an event stream does belongs to the request.
        observed.within(|| Pin::new(&mut *body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.content {
            Content::Whole(body) => Pin::new(body).poll_frame(context),
            Content::Watched(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(body) => body.is_end_stream(),
            Content::Watched(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => body.size_hint(),
            Content::Watched(body) => body.size_hint(),
        }
    }
}
