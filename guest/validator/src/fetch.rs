//! Sends a request over `wasi:http/outgoing-handler` and reads a bounded answer in a bounded time, whatever bounds the host
//! has.
//!
//! Threat: what answers sends without end, or a byte a minute. A verdict blocks its host, so it has to give up.
//!
//! The components of `guest/wasmcp` have this file too: `interfaces` of the module above it names the bindings of WASI.

use std::time::Duration;

use async_trait::async_trait;
use http::uri::Uri;
use http::{HeaderName, HeaderValue, StatusCode, header};
use world::http_error::Interrupted;
use world::{Http, HttpError};

use super::interfaces::clocks::monotonic_clock;
use super::interfaces::http::outgoing_handler;
use super::interfaces::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use super::interfaces::io::poll::{Pollable, poll};
use super::interfaces::io::streams::{InputStream, StreamError};

/// Bytes of an answer that are read: more than the largest document that is taken, which is a key set.
const MAX_RESPONSE_BYTES: usize = 256 * 1024;
/// Bytes that are asked for at once.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Header fields that say how long a document is fresh and what time it is there, what an answer is, and what a refusal asks
/// for.
const NEEDED_HEADERS: [HeaderName; 7] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::DATE,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    REQUEST_ID,
];
/// By which Microsoft Graph knows a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the whole exchange may take.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) struct Fetch;

#[async_trait(?Send)]
impl Http for Fetch {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
        let deadline = Deadline(monotonic_clock::subscribe_duration(nanoseconds(TIMEOUT)));
        let (outgoing, to_write) = outgoing(&request)?;
        let future = outgoing_handler::handle(outgoing, Some(options())).map_err(|code| error(&code))?;
        let written = to_write.map_or(Ok(()), |body| write(body, request.body(), &deadline));
        // What answers before it has read everything says more than that it stopped reading.
        let response = answer(&future, &deadline)?;
        written?;
        let mut answer = http::Response::new(Vec::new());
        let invalid = |_| HttpError::Broken(Interrupted::ResponseInvalid);
        *answer.status_mut() = StatusCode::from_u16(response.status()).map_err(invalid)?;
        for (name, value) in response.headers().entries() {
            let needed = NEEDED_HEADERS.into_iter().find(|needed| name.eq_ignore_ascii_case(needed.as_str()));
            if let (Some(name), Ok(value)) = (needed, HeaderValue::from_bytes(&value)) {
                answer.headers_mut().append(name, value);
            }
        }
        *answer.body_mut() = body(&response, &deadline)?;
        Ok(answer)
    }
}

/// The end of the time for an exchange.
struct Deadline(Pollable);

impl Deadline {
    /// Waits for something until then.
    fn wait(&self, until: &Pollable) -> Result<(), HttpError> {
        poll(&[until, &self.0]);
        if until.ready() || !self.0.ready() { Ok(()) } else { Err(HttpError::TimedOut) }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A host that cannot bound the phases of an exchange ignores these: [`Deadline`] bounds the whole.
fn options() -> RequestOptions {
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(Some(nanoseconds(CONNECT_TIMEOUT)));
    let _ = options.set_first_byte_timeout(Some(nanoseconds(TIMEOUT)));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(TIMEOUT)));
    options
}

/// The request as the host wants it, and its body if it has one, which is written when the request is on its way.
fn outgoing(request: &http::Request<Vec<u8>>) -> Result<(OutgoingRequest, Option<OutgoingBody>), HttpError> {
    let invalid = HttpError::Broken(Interrupted::RequestInvalid);
    let fields = request.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let headers = Fields::from_list(&fields.collect::<Vec<_>>()).map_err(|_| invalid)?;
    let outgoing = OutgoingRequest::new(headers);
    let uri: &Uri = request.uri();
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(invalid),
    };
    let method = match request.method().as_str() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        _ => return Err(invalid),
    };
    let path = uri.path_and_query().map(|path| path.as_str());
    outgoing
        .set_method(&method)
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(uri.authority().map(|authority| authority.as_str())))
        .and_then(|()| outgoing.set_path_with_query(path))
        .map_err(|()| invalid)?;
    let body = outgoing.body().map_err(|()| invalid)?;
    if !request.body().is_empty() {
        return Ok((outgoing, Some(body)));
    }
    OutgoingBody::finish(body, None).map_err(|code| error(&code))?;
    Ok((outgoing, None))
}

fn write(body: OutgoingBody, bytes: &[u8], deadline: &Deadline) -> Result<(), HttpError> {
    let ended = |_| HttpError::Broken(Interrupted::Ended);
    let stream = body.write().map_err(|()| HttpError::Broken(Interrupted::Unknown))?;
    let pollable = stream.subscribe();
    let mut rest = bytes;
    while !rest.is_empty() {
        deadline.wait(&pollable)?;
        let permitted = usize::try_from(stream.check_write().map_err(ended)?).unwrap_or(usize::MAX);
        let (now, later) = rest.split_at(permitted.min(rest.len()));
        stream.write(now).map_err(ended)?;
        rest = later;
    }
    stream.flush().map_err(ended)?;
    deadline.wait(&pollable)?;
    stream.check_write().map_err(ended)?;
    drop(pollable);
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|code| error(&code))
}

fn answer(future: &FutureIncomingResponse, deadline: &Deadline) -> Result<IncomingResponse, HttpError> {
    let pollable = future.subscribe();
    loop {
        match future.get() {
            Some(Ok(answer)) => return answer.map_err(|code| error(&code)),
            Some(Err(())) => return Err(HttpError::Broken(Interrupted::Unknown)),
            None => deadline.wait(&pollable)?,
        }
    }
}

fn body(response: &IncomingResponse, deadline: &Deadline) -> Result<Vec<u8>, HttpError> {
    let broken = HttpError::Broken(Interrupted::Unknown);
    let body = response.consume().map_err(|()| broken)?;
    let stream: InputStream = body.stream().map_err(|()| broken)?;
    let pollable = stream.subscribe();
    let mut bytes = Vec::new();
    loop {
        deadline.wait(&pollable)?;
        match stream.read(CHUNK_BYTES) {
            Ok(chunk) if bytes.len() + chunk.len() > MAX_RESPONSE_BYTES => return Err(HttpError::TooLarge),
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(HttpError::Broken(Interrupted::Ended)),
        }
    }
}

/// The codes of `wasi:http` that the developer of a host can do something about.
fn error(code: &ErrorCode) -> HttpError {
    world::http_error_of!(ErrorCode, code)
}
