//! Bodies that the tool writes and reads, and the heads of answers to its requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasip2::http::types as host;
use wasip2::io::poll::Pollable;

use super::answers::Answer;
use super::call::Call;
use super::fields::Fields;
use super::generated::exports::seen::http::types as wit;
use super::generated::exports::seen::io::streams as wit_streams;
use super::ready;
use super::streams::{Download, InputStream, OutputStream};
use super::uploads::Upload;
use crate::fields::Field;

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

impl IncomingBody {
    /// The body of the request that the tool serves.
    pub(super) fn of_request(body: Vec<u8>) -> wit::IncomingBody {
        wit::IncomingBody::new(Self(RefCell::new(Body::Request(body))))
    }
}

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
