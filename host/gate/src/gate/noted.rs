//! Answers that may hand something out to the caller: the id of a task, the state of a request. The component sees the
//! messages that do, and remembers whose that is, before the client has them. They pass as they are.
//!
//! Nothing here makes an answer fail because of its size. Of a message that does not come in one piece, the names are looked for
//! while it passes (`names.rs`). An event that is too long passes without the component, and the caller cannot go on with what
//! it hands out.

use bytes::Bytes;
use entra_mcp_boundary::events::{ListEvent, Splitter, StreamPart};
use futures_util::stream::{self, StreamExt as _};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};

use super::Unfinished;
use super::judged::MessageJudge;
use super::names::NameSearch;
use crate::behind::{AnswerBody, BehindError};
use crate::process::printable;

/// Bytes of the longest event that is looked at. What hands something out is short.
const MAX_BYTES: usize = 1024 * 1024;

/// Words without which a message hands out nothing. Other spellings are not looked for: a name that was not noted is of no
/// use.
const NAMES: [&[u8]; 2] = [b"\"taskId\"", b"\"requestState\""];

/// Whether a text may hand something out.
fn hands_out(text: &[u8]) -> bool {
    NAMES.iter().any(|name| text.windows(name.len()).any(|part| part == *name))
}

/// An answer that was looked at.
pub(super) enum Noted {
    /// All of it, which came in one piece.
    Whole(Bytes),
    /// There is more of it, which is looked at while it passes.
    Passing(AnswerBody),
}

/// Shows an answer that is one message to the component.
pub(super) async fn message(judge: MessageJudge, mut body: AnswerBody) -> Result<Noted, Unfinished> {
    let begin = first(&mut body).await?;
    match begin {
        None => Ok(Noted::Whole(Bytes::new())),
        Some(all) if body.is_end_stream() => whole(&judge, all).await.map(Noted::Whole),
        Some(begin) => Ok(Noted::Passing(passing(judge, begin, body))),
    }
}

/// The first piece of an answer. `None`: it has none.
pub(super) async fn first(body: &mut AnswerBody) -> Result<Option<Bytes>, BehindError> {
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if !data.is_empty() => return Ok(Some(data)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

/// Shows the component a message that came in one piece.
pub(super) async fn whole(judge: &MessageJudge, message: Bytes) -> Result<Bytes, Unfinished> {
    if hands_out(&message) {
        judge.judge(&String::from_utf8_lossy(&message)).await.map_err(Unfinished::Component)?;
    }
    Ok(message)
}

/// Shows the component what a message hands out, each name before the piece passes that completes it.
pub(super) fn passing(judge: MessageJudge, begin: Bytes, body: AnswerBody) -> AnswerBody {
    let pieces = stream::iter([Ok(Frame::data(begin))]).chain(BodyStream::new(body));
    let frames =
        stream::try_unfold((judge, NameSearch::default(), pieces), |(judge, mut names, mut pieces)| async move {
            let Some(frame) = pieces.next().await.transpose()? else { return Ok(None) };
            for message in frame.data_ref().map(|data| names.feed(data)).unwrap_or_default() {
                judge.judge(&message).await.map_err(|error| {
                    tracing::error!(error = printable(&error.to_string()), "an answer was not noted: it ends");
                    BehindError::BrokenOff("the component failed on an answer".to_owned())
                })?;
            }
            Ok(Some((frame, (judge, names, pieces))))
        });
    StreamBody::new(frames).boxed_unsync()
}

/// Shows the events of an answer to the component. Each piece passes after what it completes was shown.
pub(super) fn events(judge: MessageJudge, body: AnswerBody) -> AnswerBody {
    let looked = Looked { judge, body, splitter: Some(Splitter::default()), ended: false };
    let frames = stream::unfold(looked, |mut looked| async move {
        let frame = looked.next().await?;
        looked.ended |= frame.is_err();
        Some((frame, looked))
    });
    StreamBody::new(frames).boxed_unsync()
}

struct Looked {
    judge: MessageJudge,
    body: AnswerBody,
    /// `None`: an event was too long. What follows passes without.
    splitter: Option<Splitter>,
    ended: bool,
}

impl Looked {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BehindError>> {
        if self.ended {
            return None;
        }
        loop {
            let data = match self.body.frame().await {
                // Some clients take for an event what has no end.
                None => {
                    let rest = self.splitter.take().and_then(|mut splitter| splitter.rest());
                    return Self::show(&self.judge, rest.into_iter().collect()).await.err().map(Err);
                }
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            let parts = self.parts(&data);
            return Some(Self::show(&self.judge, parts).await.map(|()| Frame::data(data)));
        }
    }

    /// What a piece completes.
    fn parts(&mut self, data: &[u8]) -> Vec<StreamPart> {
        let Some(splitter) = &mut self.splitter else { return Vec::new() };
        let length = splitter.held().saturating_add(data.len());
        if length > MAX_BYTES || !self.judge.has_room(length) {
            self.splitter = None;
            self.judge.has_room(0);
            return Vec::new();
        }
        splitter.feed(data);
        let parts = std::iter::from_fn(|| splitter.next_part()).collect();
        self.judge.has_room(splitter.held());
        parts
    }

    async fn show(judge: &MessageJudge, parts: Vec<StreamPart>) -> Result<(), BehindError> {
        for part in parts {
            let StreamPart::Event(raw) = part else { continue };
            if !hands_out(&raw) {
                continue;
            }
            if let Some(data) = ListEvent::read(&raw).data {
                judge.judge(&data).await.map_err(|error| {
                    tracing::error!(error = printable(&error.to_string()), "an event was not noted: the stream ends");
                    BehindError::BrokenOff("the component failed on an event".to_owned())
                })?;
            }
        }
        Ok(())
    }
}
