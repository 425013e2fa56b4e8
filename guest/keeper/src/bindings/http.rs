//! `wasi:http/types`: the request that the tool serves, and the heads of answers in both directions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasip2::http::types as host;

use super::Keeper;
use super::answers::{Answer, fail};
use super::bodies::{IncomingBody, IncomingResponse, NoTrailers, OutgoingBody, Written};
use super::call::{Call, current};
use super::errors;
use super::fields::Fields;
use super::generated::exports::seen::http::types as wit;
use super::methods;
use super::requests::{FutureIncomingResponse, OutgoingRequest, RequestOptions};
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
        methods::named(&self.method)
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
        Ok(IncomingBody::of_request(body))
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
