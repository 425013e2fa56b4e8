//! Requests of the tool: where they may go, whose token they carry, and what comes back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use entra_mcp_boundary::claims_challenge::wanted_claims;
use http::{HeaderMap, HeaderValue};
use wasip2::http::outgoing_handler as host_handler;
use wasip2::http::types as host;
use wasip2::io::poll::Pollable;
use zeroize::Zeroizing;

use super::bodies::{IncomingResponse, OutgoingBody, Written};
use super::call::{Call, current, with_destinations};
use super::errors;
use super::fields::Fields;
use super::generated::entra_mcp::plugin::gatekeeper::Challenge;
use super::generated::exports::seen::http::outgoing_handler;
use super::generated::exports::seen::http::types as wit;
use super::host_streams::write_all;
use super::methods;
use super::uploads::Upload;
use super::{Keeper, ready};
use crate::destinations::Refused;
use crate::fields::{self, Field};
use crate::{request, scrub};

/// A request of the tool.
pub(super) struct OutgoingRequest {
    method: RefCell<String>,
    path_with_query: RefCell<Option<String>>,
    scheme: RefCell<Option<String>>,
    authority: RefCell<Option<String>>,
    headers: Vec<Field>,
    body_taken: Cell<bool>,
    upload: Rc<Upload>,
    /// The call in which it was made.
    call: Option<Rc<Call>>,
}

impl wit::GuestOutgoingRequest for OutgoingRequest {
    fn new(headers: wit::Headers) -> Self {
        Self {
            method: RefCell::new("GET".to_owned()),
            path_with_query: RefCell::default(),
            scheme: RefCell::default(),
            authority: RefCell::default(),
            headers: Fields::taken(headers),
            body_taken: Cell::new(false),
            upload: Rc::default(),
            call: current(),
        }
    }

    fn body(&self) -> Result<wit::OutgoingBody, ()> {
        if self.body_taken.replace(true) {
            return Err(());
        }
        Ok(OutgoingBody::of(Written::Request(Rc::clone(&self.upload))))
    }

    fn method(&self) -> wit::Method {
        methods::named(&self.method.borrow())
    }

    fn set_method(&self, method: wit::Method) -> Result<(), ()> {
        let method = methods::name(method);
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(());
        }
        *self.method.borrow_mut() = method;
        Ok(())
    }

    fn path_with_query(&self) -> Option<String> {
        self.path_with_query.borrow().clone()
    }

    fn set_path_with_query(&self, path_with_query: Option<String>) -> Result<(), ()> {
        *self.path_with_query.borrow_mut() = path_with_query;
        Ok(())
    }

    fn scheme(&self) -> Option<wit::Scheme> {
        self.scheme.borrow().as_deref().map(|scheme| match scheme {
            "http" => wit::Scheme::Http,
            "https" => wit::Scheme::Https,
            other => wit::Scheme::Other(other.to_owned()),
        })
    }

    fn set_scheme(&self, scheme: Option<wit::Scheme>) -> Result<(), ()> {
        *self.scheme.borrow_mut() = scheme.map(|scheme| match scheme {
            wit::Scheme::Http => "http".to_owned(),
            wit::Scheme::Https => "https".to_owned(),
            wit::Scheme::Other(other) => other,
        });
        Ok(())
    }

    fn authority(&self) -> Option<String> {
        self.authority.borrow().clone()
    }

    fn set_authority(&self, authority: Option<String>) -> Result<(), ()> {
        *self.authority.borrow_mut() = authority;
        Ok(())
    }

    fn headers(&self) -> wit::Headers {
        Fields::of(&self.headers)
    }
}

/// How long the tool waits for an answer, in nanoseconds.
#[derive(Default)]
pub(super) struct RequestOptions {
    connect: Cell<Option<u64>>,
    first_byte: Cell<Option<u64>>,
    between_bytes: Cell<Option<u64>>,
}

impl wit::GuestRequestOptions for RequestOptions {
    fn new() -> Self {
        Self::default()
    }

    fn connect_timeout(&self) -> Option<u64> {
        self.connect.get()
    }

    fn set_connect_timeout(&self, duration: Option<u64>) -> Result<(), ()> {
        self.connect.set(duration);
        Ok(())
    }

    fn first_byte_timeout(&self) -> Option<u64> {
        self.first_byte.get()
    }

    fn set_first_byte_timeout(&self, duration: Option<u64>) -> Result<(), ()> {
        self.first_byte.set(duration);
        Ok(())
    }

    fn between_bytes_timeout(&self) -> Option<u64> {
        self.between_bytes.get()
    }

    fn set_between_bytes_timeout(&self, duration: Option<u64>) -> Result<(), ()> {
        self.between_bytes.set(duration);
        Ok(())
    }
}

/// A request as it is sent, and sent again if the API wants another token.
struct Sent {
    call: Rc<Call>,
    method: String,
    https: bool,
    authority: String,
    path_with_query: String,
    headers: Vec<Field>,
    permissions: Vec<String>,
    token: Option<Zeroizing<String>>,
    timeouts: [Option<u64>; 3],
    upload: Rc<Upload>,
}

impl outgoing_handler::Guest for Keeper {
    fn handle(
        request: outgoing_handler::OutgoingRequest,
        options: Option<outgoing_handler::RequestOptions>,
    ) -> Result<outgoing_handler::FutureIncomingResponse, wit::ErrorCode> {
        let denied = || wit::ErrorCode::HttpRequestDenied;
        let OutgoingRequest { method, path_with_query, scheme, authority, headers, body_taken, upload, call } =
            request.into_inner::<OutgoingRequest>();
        // What another call has left behind is sent in the name of no caller.
        let call = call.filter(|call| !call.has_ended()).ok_or_else(denied)?;
        let (method, body_taken) = (method.into_inner(), body_taken.get());
        let (scheme, authority) = (scheme.into_inner(), authority.into_inner().unwrap_or_default());
        let scheme = scheme.unwrap_or_else(|| "https".to_owned());
        let path = path_with_query.into_inner().unwrap_or_default();
        let found = with_destinations(|destinations| {
            let target = destinations.find(&method, &scheme, &authority, &path)?;
            Ok((target.origin, target.path_with_query, target.permissions.to_vec()))
        });
        let (origin, path_with_query, permissions) = found.map_err(|refused| {
            call.note(&match refused {
                Refused::Method => format!("a request of the tool was denied: the method {method} is never allowed"),
                Refused::Unclear => {
                    "a request of the tool was denied: servers read its URL in different ways".to_owned()
                }
                Refused::NotListed => format!(
                    "a request of the tool was denied: {scheme}://{authority} is no destination in ENTRA_MCP_EGRESS"
                ),
            });
            denied()
        })?;
        let options = options.map(|options| options.into_inner::<RequestOptions>()).unwrap_or_default();
        let mut sent = Sent {
            method,
            https: origin.https,
            authority: origin.authority(),
            path_with_query,
            headers: request::anonymous(&headers),
            permissions,
            token: None,
            timeouts: [options.connect.get(), options.first_byte.get(), options.between_bytes.get()],
            upload,
            call,
        };
        if !sent.permissions.is_empty() {
            sent.token = Some(sent.call.token(&sent.permissions, None).map_err(|reason| {
                sent.call.note(&format!("a request of the tool gets no token: {reason}"));
                denied()
            })?);
        }
        let future = sent.send(body_taken)?;
        let future = FutureIncomingResponse { sent, future: RefCell::new(Some(future)) };
        Ok(outgoing_handler::FutureIncomingResponse::new(future))
    }
}

impl Sent {
    /// The request to the host, with the token.
    fn request(&self, stated: Option<u64>) -> Result<host::OutgoingRequest, wit::ErrorCode> {
        let mut headers = self.headers.clone();
        fields::remove(&mut headers, "content-length");
        if let Some(length) = stated {
            fields::set(&mut headers, "content-length", length.to_string().as_bytes());
        }
        if let Some(token) = &self.token {
            request::authorize(&mut headers, token);
        }
        let internal = |_| wit::ErrorCode::InternalError(None);
        let headers = host::Fields::from_list(&headers).map_err(|_| wit::ErrorCode::InternalError(None))?;
        let request = host::OutgoingRequest::new(headers);
        let method = match self.method.as_str() {
            "GET" => host::Method::Get,
            "HEAD" => host::Method::Head,
            "POST" => host::Method::Post,
            "PUT" => host::Method::Put,
            "DELETE" => host::Method::Delete,
            "OPTIONS" => host::Method::Options,
            "PATCH" => host::Method::Patch,
            other => host::Method::Other(other.to_owned()),
        };
        let scheme = if self.https { host::Scheme::Https } else { host::Scheme::Http };
        request.set_method(&method).map_err(internal)?;
        request.set_scheme(Some(&scheme)).map_err(internal)?;
        request.set_authority(Some(&self.authority)).map_err(internal)?;
        request.set_path_with_query(Some(&self.path_with_query)).map_err(internal)?;
        Ok(request)
    }

    fn options(&self) -> Option<host::RequestOptions> {
        let options = host::RequestOptions::new();
        let [connect, first_byte, between_bytes] = self.timeouts;
        // A host that does not know one keeps its own.
        let _ = options.set_connect_timeout(connect);
        let _ = options.set_first_byte_timeout(first_byte);
        let _ = options.set_between_bytes_timeout(between_bytes);
        self.timeouts.iter().any(Option::is_some).then_some(options)
    }

    /// Hands the request to the host. Its body may be written later.
    fn send(&self, body_taken: bool) -> Result<host::FutureIncomingResponse, wit::ErrorCode> {
        let stated = request::stated_length(&self.headers)
            .map_err(|request::LengthUnclear| wit::ErrorCode::HttpRequestHeaderSize(None))?;
        // Servers demand the length of an empty body of methods that have one.
        let needs_length = ["POST", "PUT", "PATCH"].contains(&self.method.as_str());
        let empty = self.upload.is_empty_for_good(body_taken) && needs_length;
        let stated = stated.or(empty.then_some(0));
        let request = self.request(stated)?;
        let body = request.body().map_err(|()| wit::ErrorCode::InternalError(None))?;
        let future = host_handler::handle(request, self.options()).map_err(errors::seen)?;
        self.upload.begin(body, stated, body_taken)?;
        Ok(future)
    }

    /// Sends it once more with another token, and waits for the answer. None: what has come is the answer.
    fn again(&mut self, refused: &host::IncomingResponse) -> Option<Result<host::IncomingResponse, wit::ErrorCode>> {
        let token = self.token.clone().filter(|_| refused.status() == 401)?;
        let mut headers = HeaderMap::new();
        for value in refused.headers().get("www-authenticate") {
            headers.append(http::header::WWW_AUTHENTICATE, HeaderValue::from_bytes(&value).ok()?);
        }
        let claims = wanted_claims(&headers)?;
        let body = self.upload.whole()?;
        let challenge = Challenge { refused_token: token.to_string(), claims };
        match self.call.token(&self.permissions, Some(challenge)) {
            Ok(token) => self.token = Some(token),
            Err(reason) => {
                self.call.note(&format!("a request of the tool gets no other token: {reason}"));
                return None;
            }
        }
        Some(self.repeat(&body))
    }

    fn repeat(&self, body: &[u8]) -> Result<host::IncomingResponse, wit::ErrorCode> {
        let request = self.request(Some(body.len() as u64).filter(|length| *length > 0))?;
        let sent = request.body().map_err(|()| wit::ErrorCode::InternalError(None))?;
        let future = host_handler::handle(request, self.options()).map_err(errors::seen)?;
        let stream = sent.write().map_err(|()| wit::ErrorCode::InternalError(None))?;
        write_all(&stream, body).map_err(|_| wit::ErrorCode::ConnectionTerminated)?;
        drop(stream);
        host::OutgoingBody::finish(sent, None).map_err(errors::seen)?;
        future.subscribe().block();
        match future.get() {
            Some(Ok(response)) => response.map_err(errors::seen),
            Some(Err(())) | None => Err(wit::ErrorCode::InternalError(None)),
        }
    }
}

/// An answer that is to come.
pub(super) struct FutureIncomingResponse {
    sent: Sent,
    future: RefCell<Option<host::FutureIncomingResponse>>,
}

impl wit::GuestFutureIncomingResponse for FutureIncomingResponse {
    fn subscribe(&self) -> Pollable {
        self.future.borrow().as_ref().map_or_else(ready, host::FutureIncomingResponse::subscribe)
    }

    fn get(&self) -> Option<Result<Result<wit::IncomingResponse, wit::ErrorCode>, ()>> {
        let come = match self.future.borrow().as_ref() {
            None => return Some(Err(())),
            Some(future) => future.get()?,
        };
        *self.future.borrow_mut() = None;
        Some(come.map(|come| come.map_err(errors::seen).and_then(|response| self.seen(response))))
    }
}

impl FutureIncomingResponse {
    /// The answer as the tool gets it.
    fn seen(&self, response: host::IncomingResponse) -> Result<wit::IncomingResponse, wit::ErrorCode> {
        let mut sent = self.sent.copy();
        if sent.call.has_ended() {
            return Err(wit::ErrorCode::HttpRequestDenied);
        }
        let response = match sent.again(&response) {
            Some(second) => second?,
            None => response,
        };
        let head: Vec<Field> = response.headers().entries();
        let carried = sent.token.is_some();
        if carried && scrub::hides(&head) {
            sent.call
                .note("an answer to a request with a token is encoded, although the request asks for none of that");
            return Err(wit::ErrorCode::HttpResponseContentCoding(None));
        }
        // A tool gets no connection of its own.
        if response.status() == 101 {
            return Err(wit::ErrorCode::HttpUpgradeFailed);
        }
        let headers = sent.call.with_tokens(|tokens| scrub::cleaned(&head, carried, tokens));
        Ok(wit::IncomingResponse::new(IncomingResponse {
            status: response.status(),
            headers,
            response: RefCell::new(Some(response)),
            call: sent.call,
        }))
    }
}

impl Sent {
    fn copy(&self) -> Self {
        Self {
            call: Rc::clone(&self.call),
            method: self.method.clone(),
            https: self.https,
            authority: self.authority.clone(),
            path_with_query: self.path_with_query.clone(),
            headers: self.headers.clone(),
            permissions: self.permissions.clone(),
            token: self.token.clone(),
            timeouts: self.timeouts,
            upload: Rc::clone(&self.upload),
        }
    }
}
