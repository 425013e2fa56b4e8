//! `wasi:http/types`: the request that the tool serves, and the heads of answers in both directions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasip2::http::types as host;
use wasip2::io::poll::Pollable;

use super::answers::{Answer, fail};
use super::call::{Call, current};
use super::errors;
use super::fields::Fields;
use super::generated::exports::seen::http::types as wit;
use super::generated::exports::seen::io::streams as wit_streams;
use super::requests::{FutureIncomingResponse, OutgoingRequest, RequestOptions, Upload};
use super::streams::{Download, InputStream, OutputStream};
use super::{Keeper, ready};
use crate::fields::Field;

impl wit::Guest for Keeper {
    type Fields = Fields;
    type IncomingRequest = IncomingRequest;
    type OutgoingRequest = OutgoingRequest;
    type RequestOptions = RequestOptions;
    type ResponseOutparam = ResponseOutparam;
    type IncomingResponse = IncomingResponse;
    type IncomingBody = IncomingBody;
    type FutureTrailers = NoTrailers;
    type OutgoingResponse = OutgoingResponse;
    type OutgoingBody = OutgoingBody;
    type FutureIncomingResponse = FutureIncomingResponse;

    fn http_error_code(err: &wasip2::io::error::Error) -> Option<wit::ErrorCode> {
        host::http_error_code(err).map(errors::seen)
    }
}

/// The request that the tool serves.
pub(super) struct IncomingRequest {
    method: String,
    path: String,
    authority: String,
    headers: Vec<Field>,
    body: RefCell<Option<Vec<u8>>>,
}

impl IncomingRequest {
    pub(super) fn new(method: String, path: String, authority: String, headers: Vec<Field>, body: Vec<u8>) -> Self {
        Self { method, path, authority, headers, body: RefCell::new(Some(body)) }
    }
}

impl wit::GuestIncomingRequest for IncomingRequest {
    fn method(&self) -> wit::Method {
        match self.method.as_str() {
            "GET" => wit::Method::Get,
            "HEAD" => wit::Method::Head,
            "POST" => wit::Method::Post,
            "PUT" => wit::Method::Put,
            "DELETE" => wit::Method::Delete,
            "CONNECT" => wit::Method::Connect,
            "OPTIONS" => wit::Method::Options,
            "TRACE" => wit::Method::Trace,
            "PATCH" => wit::Method::Patch,
            other => wit::Method::Other(other.to_owned()),
        }
    }

    fn path_with_query(&self) -> Option<String> {
        Some(self.path.clone())
    }

    fn scheme(&self) -> Option<wit::Scheme> {
        Some(wit::Scheme::Https)
    }

    fn authority(&self) -> Option<String> {
        Some(self.authority.clone())
    }

    fn headers(&self) -> wit::Headers {
        Fields::of(&self.headers)
    }

    fn consume(&self) -> Result<wit::IncomingBody, ()> {
        let body = self.body.borrow_mut().take().ok_or(())?;
        Ok(wit::IncomingBody::new(IncomingBody(RefCell::new(Body::Request(body)))))
    }
}

/// Where the answer of the tool goes.
pub(super) struct ResponseOutparam(Rc<Call>);

impl ResponseOutparam {
    pub(super) fn new(call: Rc<Call>) -> Self {
        Self(call)
    }
}

impl wit::GuestResponseOutparam for ResponseOutparam {
    fn set(param: wit::ResponseOutparam, response: Result<wit::OutgoingResponse, wit::ErrorCode>) {
        let Self(call) = param.into_inner::<Self>();
        match response {
            Ok(response) => {
                let OutgoingResponse { status, headers, body_taken, answer } =
                    response.into_inner::<OutgoingResponse>();
                answer.set(&call, status.get(), &headers, body_taken.get());
            }
            Err(code) => match call.answered(0, None) {
                Ok(_) => fail(&call, &format!("it is the error {code:?}")),
                Err(_) => fail(&call, "it was not recorded"),
            },
        }
    }
}

/// An answer of the tool.
pub(super) struct OutgoingResponse {
    status: Cell<u16>,
    headers: Vec<Field>,
    body_taken: Cell<bool>,
    answer: Rc<Answer>,
}

impl wit::GuestOutgoingResponse for OutgoingResponse {
    fn new(headers: wit::Headers) -> Self {
        let headers = Fields::taken(headers);
        Self { status: Cell::new(200), headers, body_taken: Cell::new(false), answer: Answer::new(current()) }
    }

    fn status_code(&self) -> u16 {
        self.status.get()
    }

    fn set_status_code(&self, status_code: u16) -> Result<(), ()> {
        if !(100..=599).contains(&status_code) {
            return Err(());
        }
        self.status.set(status_code);
        Ok(())
    }

    fn headers(&self) -> wit::Headers {
        Fields::of(&self.headers)
    }

    fn body(&self) -> Result<wit::OutgoingBody, ()> {
        if self.body_taken.replace(true) {
            return Err(());
        }
        Ok(OutgoingBody::of(Written::Answer(Rc::clone(&self.answer))))
    }
}

/// A body that the tool writes.
pub(super) struct OutgoingBody {
    written: Option<Written>,
    taken: Cell<bool>,
}

/// What a body belongs to.
pub(super) enum Written {
    Answer(Rc<Answer>),
    Request(Rc<Upload>),
}

impl OutgoingBody {
    pub(super) fn of(written: Written) -> wit::OutgoingBody {
        wit::OutgoingBody::new(Self { written: Some(written), taken: Cell::new(false) })
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        match self.written.take() {
            Some(Written::Answer(answer)) => answer.dropped(),
            Some(Written::Request(upload)) => upload.dropped(),
            None => {}
        }
    }
}

impl wit::GuestOutgoingBody for OutgoingBody {
    fn write(&self) -> Result<wit_streams::OutputStream, ()> {
        if self.taken.replace(true) {
            return Err(());
        }
        let stream = match &self.written {
            Some(Written::Answer(answer)) => OutputStream::Answer(Rc::clone(answer)),
            Some(Written::Request(upload)) => OutputStream::Request(Rc::clone(upload)),
            None => return Err(()),
        };
        Ok(wit_streams::OutputStream::new(stream))
    }

    /// Trailers go nowhere: no client of MCP reads them, and no API needs them.
    fn finish(this: wit::OutgoingBody, _trailers: Option<wit::Trailers>) -> Result<(), wit::ErrorCode> {
        match this.into_inner::<Self>().written.take() {
            Some(Written::Answer(answer)) => {
                answer.finish();
                Ok(())
            }
            Some(Written::Request(upload)) => upload.finish(),
            None => Ok(()),
        }
    }
}

/// An answer to a request of the tool.
pub(super) struct IncomingResponse {
    pub(super) status: u16,
    pub(super) headers: Vec<Field>,
    pub(super) response: RefCell<Option<host::IncomingResponse>>,
    pub(super) call: Rc<Call>,
}

impl wit::GuestIncomingResponse for IncomingResponse {
    fn status(&self) -> u16 {
        self.status
    }

    fn headers(&self) -> wit::Headers {
        Fields::of(&self.headers)
    }

    fn consume(&self) -> Result<wit::IncomingBody, ()> {
        let response = self.response.borrow_mut().take().ok_or(())?;
        let body = Rc::new(response.consume()?);
        Ok(wit::IncomingBody::new(IncomingBody(RefCell::new(Body::Answer(body, Rc::clone(&self.call))))))
    }
}

/// A body that the tool reads.
pub(super) struct IncomingBody(RefCell<Body>);

enum Body {
    Request(Vec<u8>),
    Answer(Rc<host::IncomingBody>, Rc<Call>),
    Taken,
}

impl wit::GuestIncomingBody for IncomingBody {
    fn stream(&self) -> Result<wit_streams::InputStream, ()> {
        let stream = match self.0.replace(Body::Taken) {
            Body::Taken => return Err(()),
            Body::Request(body) => InputStream::Request { body, position: Cell::new(0) },
            Body::Answer(body, call) => {
                let stream = body.stream()?;
                InputStream::Answer(Box::new(Download::new(stream, body, call)))
            }
        };
        Ok(wit_streams::InputStream::new(stream))
    }

    fn finish(_this: wit::IncomingBody) -> wit::FutureTrailers {
        wit::FutureTrailers::new(NoTrailers(Cell::new(false)))
    }
}

/// Trailers are left out: a token could come back in them.
pub(super) struct NoTrailers(Cell<bool>);

impl wit::GuestFutureTrailers for NoTrailers {
    fn subscribe(&self) -> Pollable {
        ready()
    }

    fn get(&self) -> Option<Result<Result<Option<wit::Trailers>, wit::ErrorCode>, ()>> {
        Some(if self.0.replace(true) { Err(()) } else { Ok(Ok(None)) })
    }
}
