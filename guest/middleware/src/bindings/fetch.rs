//! Reads a document over `wasi:http/client`: a request without a body, and a bounded answer in a bounded time.

use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use http::{HeaderName, HeaderValue, StatusCode, header};
use world::http_error::Interrupted;
use world::{Http, HttpError};

use super::generated::wasi::clocks::monotonic_clock;
use super::generated::wasi::http::client;
use super::generated::wasi::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use super::generated::wit_future;
use super::wasi::nanoseconds;

/// Bytes of an answer that are read: more than the largest document that is taken, which is a key set.
const MAX_RESPONSE_BYTES: usize = 256 * 1024;
/// Bytes that are asked for at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Header fields that say how long a document is fresh, and what time it is there.
const NEEDED_HEADERS: [HeaderName; 3] = [header::AGE, header::CACHE_CONTROL, header::DATE];
/// How long the whole exchange may take.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) struct Fetch;

#[async_trait(?Send)]
impl Http for Fetch {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
        let exchange = pin!(exchange(request));
        let timeout = pin!(monotonic_clock::wait_for(nanoseconds(TIMEOUT)));
        match select(exchange, timeout).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(HttpError::TimedOut),
        }
    }
}

async fn exchange(request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
    let response = client::send(outgoing(&request)?).await.map_err(|code| error(&code))?;
    let mut answer = http::Response::new(Vec::new());
    let invalid = |_| HttpError::Broken(Interrupted::ResponseInvalid);
    *answer.status_mut() = StatusCode::from_u16(response.get_status_code()).map_err(invalid)?;
    for (name, value) in response.get_headers().copy_all() {
        let needed = NEEDED_HEADERS.iter().find(|needed| name.eq_ignore_ascii_case(needed.as_str()));
        if let (Some(name), Ok(value)) = (needed, HeaderValue::from_bytes(&value)) {
            answer.headers_mut().append(name, value);
        }
    }
    *answer.body_mut() = body(response).await?;
    Ok(answer)
}

/// The request as the host wants it. Only documents are read, so it has no body.
fn outgoing(request: &http::Request<Vec<u8>>) -> Result<Request, HttpError> {
    let invalid = HttpError::Broken(Interrupted::RequestInvalid);
    let fields = request.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let headers = Fields::from_list(&fields.collect::<Vec<_>>()).map_err(|_| invalid)?;
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (outgoing, _transmitted) = Request::new(headers, None, no_trailers, None);
    let uri = request.uri();
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(invalid),
    };
    outgoing
        .set_scheme(Some(&scheme))
        .and_then(|()| outgoing.set_authority(uri.authority().map(|authority| authority.as_str())))
        .and_then(|()| outgoing.set_path_with_query(uri.path_and_query().map(|path| path.as_str())))
        .map_err(|()| invalid)?;
    Ok(outgoing)
}

async fn body(response: Response) -> Result<Vec<u8>, HttpError> {
    let (_, processed) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Response::consume_body(response, processed);
    let mut bytes = Vec::new();
    loop {
        let (status, chunk) = stream.read(Vec::with_capacity(CHUNK_BYTES)).await;
        if bytes.len().saturating_add(chunk.len()) > MAX_RESPONSE_BYTES {
            return Err(HttpError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
        if !matches!(status, wit_bindgen::StreamResult::Complete(_)) {
            break;
        }
    }
    // How the body ended: a connection that broke looks like its end.
    match trailers.await {
        Ok(_) => Ok(bytes),
        Err(_) => Err(HttpError::Broken(Interrupted::Ended)),
    }
}

/// The codes of `wasi:http` that the operator can do something about.
fn error(code: &ErrorCode) -> HttpError {
    world::http_error_of!(ErrorCode, code)
}
