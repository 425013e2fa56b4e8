//! `gatekeeper`: converts between the plain data of the contract and [`server::gatekeeper`].

use base::Secret;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use server::gatekeeper::{Admission, AnswerHead, Grant, TokenChallenge};
use server::message::Request;
use world::provided_tools::{DelegationError, DelegationErrorCategory, ToolCaller};

use super::exports::entra_mcp::plugin::gatekeeper as wit;
use super::generated::entra_mcp::plugin::delegation as wit_delegation;
use super::generated::entra_mcp::plugin::tool_types;

/// The plain form of a request, or the HTTP status of what is wrong with it.
pub(crate) fn request(from: wit::Request, client_address_header: Option<&str>) -> Result<Request, u16> {
    let wit::Request { correlation_id: _, method, path_with_query, headers: fields, body } = from;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| 400_u16)?;
    let headers = super::incoming::header_map(fields)?;
    if body.len() > super::incoming::MAX_BODY_BYTES {
        return Err(413);
    }
    let (path, query) = match path_with_query.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (path_with_query, None),
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let client_address = client_address_header.and_then(text);
    let authority = text(HOST.as_str());
    Ok(Request { method, authority, path, query, headers, body, client_address })
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
    headers.iter().map(field).collect()
}

pub(crate) fn response(from: Response<Vec<u8>>) -> wit::Response {
    let (head, body) = from.into_parts();
    wit::Response { status: head.status.as_u16(), headers: fields(&head.headers), body }
}

pub(crate) fn admission(from: Admission) -> wit::Admission {
    match from {
        Admission::Answer(answer) => wit::Admission::Answer(response(answer)),
        Admission::OwnPath => wit::Admission::OwnPath,
        Admission::Forward(grant) => {
            let Grant {
                server,
                caller,
                handle,
                set_headers,
                drop_headers,
                judge_answer,
                note_answer,
                answer_may_stream,
                event_key,
                report_answer,
            } = *grant;
            wit::Admission::Forward(wit::Grant {
                server,
                caller: (&caller).into(),
                handle: handle.into_revealed(),
                set_headers: fields(&set_headers),
                drop_headers: drop_headers.into_iter().map(|name| name.as_str().to_owned()).collect(),
                judge_answer,
                note_answer,
                answer_may_stream,
                event_key: event_key.into_revealed(),
                report_answer,
            })
        }
    }
}

pub(crate) fn answered(from: Result<HeaderMap, Response<Vec<u8>>>) -> wit::AnsweredResult {
    from.map(|headers| fields(&headers)).map_err(response)
}

pub(crate) fn answer_head(from: wit::AnswerHead) -> AnswerHead {
    let wit::AnswerHead { status, latency_us, session_id, refusal } = from;
    AnswerHead { status, latency_us, session_id, refusal: refusal.map(DelegationError::from) }
}

pub(crate) fn challenge(from: wit::Challenge) -> TokenChallenge {
    let wit::Challenge { refused_token, claims } = from;
    TokenChallenge { refused_token: Secret::new(refused_token), claims }
}

impl From<&ToolCaller> for tool_types::Caller {
    fn from(from: &ToolCaller) -> Self {
        // The record of the contract has no place for `agent`.
        let ToolCaller { tenant_id, object_id, client_id, kind, agent: _, scopes, roles, correlation_id } =
            from.clone();
        Self { tenant_id, object_id, client_id, kind: kind.into(), scopes, roles, correlation_id }
    }
}

impl From<DelegationError> for wit_delegation::DelegationError {
    fn from(from: DelegationError) -> Self {
        use wit_delegation::DelegationErrorCategory as Category;
        let DelegationError { category, code, message, claims, retry_after } = from;
        let category = match category {
            DelegationErrorCategory::HandleInvalid => Category::HandleInvalid,
            DelegationErrorCategory::NotGranted => Category::NotGranted,
            DelegationErrorCategory::Refused => Category::Refused,
            DelegationErrorCategory::NeedsPerson => Category::NeedsPerson,
            DelegationErrorCategory::Unavailable => Category::Unavailable,
        };
        Self { category, code, message, claims, retry_after_seconds: retry_after }
    }
}

impl From<wit_delegation::DelegationError> for DelegationError {
    fn from(from: wit_delegation::DelegationError) -> Self {
        use wit_delegation::DelegationErrorCategory as Category;
        let wit_delegation::DelegationError { category, code, message, claims, retry_after_seconds } = from;
        let category = match category {
            Category::HandleInvalid => DelegationErrorCategory::HandleInvalid,
            Category::NotGranted => DelegationErrorCategory::NotGranted,
            Category::Refused => DelegationErrorCategory::Refused,
            Category::NeedsPerson => DelegationErrorCategory::NeedsPerson,
            Category::Unavailable => DelegationErrorCategory::Unavailable,
        };
        Self { category, code, message, claims, retry_after: retry_after_seconds }
    }
}
