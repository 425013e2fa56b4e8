//! Streamable HTTP in front of the processes: which process a request is for, and in which form its answer goes out.

use std::sync::Arc;

use bytes::Bytes;
use entra_mcp_plugin::clock;
use http::{HeaderValue, Response, StatusCode};

use super::ProcessUpstream;
use super::answer::{self, Wishes};
use super::message::{MessageKind, Object, compact};
use super::owner::ProcessOwner;
use super::running::{Flight, Pin, Process, Unfit};
use super::settings::STREAM_AFTER;
use crate::behind::{AnswerBody, BehindError, Sender};

type Answer = Result<Response<AnswerBody>, BehindError>;

impl ProcessUpstream {
    /// A message of a client.
    pub(super) async fn post(&self, wishes: &Wishes, body: &Bytes, sender: &Sender) -> Answer {
        let Ok(text) = std::str::from_utf8(body) else { return Ok(answer::no_message(false)) };
        let text = compact(text);
        let Some(object) = Object::parse(&text) else {
            return Ok(answer::no_message(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok()));
        };
        let owner = ProcessOwner::of(&sender.caller);
        match object.kind() {
            Some(MessageKind::Request { id, method }) => {
                self.request(wishes, &text, (&id, &method), &owner, sender).await
            }
            Some(MessageKind::Notification { method }) => match self.existing(wishes, &owner).await {
                Some(pin) => self.accepted(pin.process().notify(object, &method)).await,
                None => Ok(answer::no_session()),
            },
            Some(MessageKind::Answer { id }) => match self.existing(wishes, &owner).await {
                Some(pin) => self.accepted(pin.process().answer(object, &id)).await,
                None => Ok(answer::no_session()),
            },
            None => Ok(answer::no_message(true)),
        }
    }

    /// A client of a session listens, for the first time or after it lost a stream.
    pub(super) fn listen(&self, wishes: &Wishes, sender: &Sender) -> Answer {
        let Some(session) = &wishes.session else { return Ok(answer::not_allowed("POST")) };
        let Some(pin) = self.registry.session(session, &ProcessOwner::of(&sender.caller)) else {
            return Ok(answer::no_session());
        };
        if !wishes.events {
            return Ok(answer::empty(StatusCode::NOT_ACCEPTABLE));
        }
        let process = Arc::clone(pin.process());
        let (number, after) = match wishes.last_event.as_deref().map(answer::event_id) {
            None => (0, None),
            Some(Some((number, after))) => (number, Some(after)),
            Some(None) => return Ok(answer::no_events()),
        };
        let Some(stream) = process.stream(number) else { return Ok(answer::no_events()) };
        let Ok(mut body) = stream.attach(after) else { return Ok(answer::no_events()) };
        body.begin_with_comment();
        if number > 0 {
            body.when_gone(move |_| process.left(stream));
        }
        Ok(answer::events(body))
    }

    /// A client ends its session.
    pub(super) fn delete(&self, wishes: &Wishes, sender: &Sender) -> Answer {
        let Some(session) = &wishes.session else { return Ok(answer::not_allowed("POST")) };
        match self.registry.session(session, &ProcessOwner::of(&sender.caller)) {
            Some(pin) => {
                pin.process().stop();
                Ok(answer::empty(StatusCode::OK))
            }
            None => Ok(answer::no_session()),
        }
    }

    /// The process that a notification or an answer is for. None is started for it.
    async fn existing(&self, wishes: &Wishes, owner: &ProcessOwner) -> Option<Pin> {
        match &wishes.session {
            Some(session) => self.registry.session(session, owner),
            None => self.registry.of_owner(owner).await,
        }
    }

    /// The answer to what is not answered, once the process has it.
    async fn accepted(&self, sending: impl Future<Output = Result<(), Unfit>>) -> Answer {
        let sent = tokio::select! {
            sent = sending => sent,
            () = clock::sleep(&*self.clock, self.settings.answer_within) => return Err(BehindError::TimedOut),
        };
        Ok(if sent.is_ok() { answer::empty(StatusCode::ACCEPTED) } else { answer::no_session() })
    }

    async fn request(
        &self,
        wishes: &Wishes,
        text: &str,
        (id, method): (&str, &str),
        owner: &ProcessOwner,
        sender: &Sender,
    ) -> Answer {
        let begins_session = wishes.session.is_none() && method == "initialize" && !wishes.is_stateless();
        // A process may end between the choice and the request: then there is another one, once.
        let mut again = wishes.session.is_none();
        loop {
            let pin = match &wishes.session {
                Some(session) => match self.registry.session(session, owner) {
                    Some(pin) => pin,
                    None => return Ok(answer::no_session()),
                },
                None if begins_session => self.of_new_session(owner, sender).await?,
                None => self.of_owner(owner, sender).await?,
            };
            let process = Arc::clone(pin.process());
            let renewed = process.renew_token(&sender.handle).await;
            renewed.map_err(|error| BehindError::Unreachable(error.to_string()))?;
            let Some(object) = Object::parse(text) else { return Ok(answer::no_message(true)) };
            let sent = tokio::select! {
                sent = process.request(object, id, method, wishes.events) => sent,
                () = clock::sleep(&*self.clock, self.settings.answer_within) => return Err(BehindError::TimedOut),
            };
            return match sent {
                Ok(flight) if begins_session => self.session_answer(wishes, &process, flight).await,
                Ok(flight) => self.answer(wishes, method, flight).await.map(|(answer, _)| answer),
                Err(Unfit::Full) => Err(BehindError::Busy("the process has too many requests".into())),
                Err(Unfit::Over) if again => {
                    again = false;
                    continue;
                }
                Err(Unfit::Over) if wishes.session.is_some() => Ok(answer::no_session()),
                Err(Unfit::Over) => Err(BehindError::Unreachable("the process ended at once".into())),
            };
        }
    }

    /// The answer to `initialize`, with the id of the session that it begins. Without a session, the process ends.
    async fn session_answer(&self, wishes: &Wishes, process: &Process, flight: Flight) -> Answer {
        let (mut answer, message) = self.answer(wishes, "initialize", flight).await?;
        let refused = message.is_some_and(|message| answer::is_error(&message));
        let id = process.session().and_then(|id| HeaderValue::from_str(id).ok());
        match id.filter(|_| !refused) {
            Some(id) => drop(answer.headers_mut().insert(answer::SESSION_ID, id)),
            None => process.stop(),
        }
        Ok(answer)
    }

    /// Waits for the first message, and answers in the form that it allows. With the message, if there is just one.
    async fn answer(
        &self,
        wishes: &Wishes,
        method: &str,
        flight: Flight,
    ) -> Result<(Response<AnswerBody>, Option<String>), BehindError> {
        let stream = Arc::clone(flight.stream());
        let patience = if wishes.events { STREAM_AFTER } else { self.settings.answer_within };
        let in_time = tokio::select! {
            biased;
            () = stream.grown() => true,
            () = clock::sleep(&*self.clock, patience) => false,
        };
        if !in_time && !wishes.events {
            return Err(BehindError::TimedOut);
        }
        if let Some(message) = stream.only_message().filter(|_| wishes.json) {
            return Ok((answer::json(wishes.status(&message, method), message.clone()), Some(message)));
        }
        if !in_time && wishes.may_be_primed() {
            stream.prime();
        }
        let mut body = stream.attach(None).map_err(|_| BehindError::BrokenOff("the stream is gone".into()))?;
        if !in_time {
            body.begin_with_comment();
        }
        body.when_gone(move |resumable| flight.left(resumable));
        Ok((answer::events(body), None))
    }
}
