//! The head of an answer of a server behind: what of it a client gets, by the rules of `entra_mcp_boundary::answer`.

use entra_mcp_boundary::answer::{AnswerContent, Head, Reads};
use entra_mcp_plugin::gatekeeper::Grant;
use http::header::{HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, Response, StatusCode};

use super::Unfinished;
use crate::behind::{AnswerBody, BehindError};

/// The header that names the correlation id of an error.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// What may be passed on of an answer.
pub(super) struct Clean {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) session_id: Option<String>,
    pub(super) content: GatedBody,
}

/// What an answer consists of.
pub(super) enum GatedBody {
    Nothing,
    Json(AnswerBody),
    Events(AnswerBody),
    Text(AnswerBody),
}

/// What is read of an answer to an admitted request.
pub(super) fn reads(grant: &Grant) -> Reads {
    Reads { judged: grant.judge_answer, noted: grant.note_answer, tied: !grant.event_key.is_empty() }
}

/// Looks at the head of an answer.
pub(super) fn clean(response: Response<AnswerBody>, reads: Reads) -> Result<Clean, Unfinished> {
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let fields: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let head = Head::read(status.as_u16(), &fields, reads)
        .map_err(|reason| BehindError::Malformed(format!("{reason} (status {status})")))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        let Some(passed) = head.passed(name.as_str(), value.as_bytes()) else { continue };
        let passed = HeaderValue::from_bytes(passed)
            .map_err(|_| BehindError::Malformed(format!("its {name} cannot be written (status {status})")))?;
        headers.append(name.clone(), passed);
    }
    let content = match head.content {
        AnswerContent::Nothing => GatedBody::Nothing,
        AnswerContent::Json => GatedBody::Json(body),
        AnswerContent::Events => GatedBody::Events(body),
        AnswerContent::Text => GatedBody::Text(body),
    };
    Ok(Clean { status, headers, session_id: head.session_id, content })
}

/// Adds what every answer of the component has too: a browser does nothing with it but show it, and nothing keeps it.
pub(super) fn secure(headers: &mut HeaderMap, https: bool, is_stream: bool) {
    for (name, value) in entra_mcp_boundary::answer::secure(is_stream) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if https {
        // A year, in seconds, as in the component's own answers.
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}
