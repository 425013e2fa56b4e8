//! Requests to Microsoft Graph about app registrations, and its refusals.

use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::probe::{Explained, Probe, Unanswered};

/// The id of Microsoft Graph as an API; the same in every tenant.
pub(crate) const GRAPH_APP_ID: &str = "00000003-0000-0000-c000-000000000000";

/// Pages of a list that are read. A page has a hundred items.
const PAGES_AT_MOST: usize = 20;

/// Most characters of what Graph says that are shown.
const MAX_SAID: usize = 300;

/// Why Graph did not do what it was asked.
#[derive(Debug)]
pub(crate) enum GraphFault {
    /// It gave no answer.
    Unanswered(Explained),
    /// It refused.
    Refused(GraphRefusal),
    /// Its answer is not what is documented.
    Unexpected(String),
}

/// A refusal of Graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GraphRefusal {
    pub(crate) status: StatusCode,
    /// `error.code`.
    pub(crate) code: String,
    /// `error.details[0].code`.
    pub(crate) detail: String,
    /// `error.message`.
    pub(crate) message: String,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u64>,
}

impl GraphFault {
    /// Whether what was named is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.status == StatusCode::NOT_FOUND)
    }

    /// Whether the token lacks a permission, or its account a right.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.status == StatusCode::FORBIDDEN)
    }

    /// Whether Graph does not know yet what it has just made: its replicas learn of it within seconds.
    pub(crate) fn is_not_yet_known(&self) -> bool {
        let Self::Refused(refused) = self else { return false };
        refused.status == StatusCode::NOT_FOUND || refused.detail == "NoBackingApplicationObject"
    }
}

impl std::fmt::Display for GraphFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unanswered(explained) => write!(f, "{}: {}", explained.what, explained.change),
            Self::Refused(GraphRefusal { status, code, message, .. }) => {
                write!(f, "{message} ({} {code})", status.as_u16())
            }
            Self::Unexpected(what) => write!(f, "Microsoft Graph answers with something unexpected: {what}"),
        }
    }
}

/// Microsoft Graph with a token.
pub(crate) struct Graph<'a> {
    probe: &'a Probe,
    /// Without the version.
    base: &'a str,
    authorization: Zeroizing<String>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(probe: &'a Probe, base: &'a str, token: &str) -> Self {
        Self { probe, base, authorization: Zeroizing::new(format!("Bearer {token}")) }
    }

    /// The URL of a path below the version.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v1.0{path}", self.base)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, GraphFault> {
        self.send(Method::GET, path, None).await
    }

    /// The same; `None` if it is not there.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, GraphFault> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.is_not_found() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// All items of a list.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, GraphFault> {
        let mut items = Vec::new();
        let mut next = path.to_owned();
        for _ in 0..PAGES_AT_MOST {
            let mut page = self.get(&next).await?;
            if let Some(Value::Array(found)) = page.get_mut("value").map(Value::take) {
                items.extend(found);
            }
            let Some(link) = page.get("@odata.nextLink").and_then(Value::as_str) else { return Ok(items) };
            // The token goes nowhere else, whatever the answer names.
            let Some(path) = link.strip_prefix(&self.url("")) else {
                return Err(GraphFault::Unexpected(format!("the next page of {path} is elsewhere")));
            };
            path.clone_into(&mut next);
        }
        Ok(items)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, GraphFault> {
        let mut headers = vec![("authorization", self.authorization.as_str()), ("accept", "application/json")];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let answer = self.probe.send(method, &self.url(path), &headers, body).await;
        let answer = answer.map_err(|reason| self.unanswered(&reason))?;
        let said = answer.json();
        if answer.status.is_success() {
            return match (said, answer.status) {
                (Some(said), _) => Ok(said),
                (None, StatusCode::NO_CONTENT) => Ok(Value::Null),
                (None, status) => Err(GraphFault::Unexpected(format!("{status} without a JSON object"))),
            };
        }
        let error = said.as_ref().and_then(|said| said.get("error"));
        let text = |pointer: &str| {
            let text = error.and_then(|error| error.pointer(pointer)?.as_str()).unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect::<String>()
        };
        Err(GraphFault::Refused(GraphRefusal {
            status: answer.status,
            code: text("/code"),
            detail: text("/details/0/code"),
            message: text("/message").trim_end_matches('.').to_owned(),
            retry_after: answer.text(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok()),
        }))
    }

    fn unanswered(&self, reason: &Unanswered) -> GraphFault {
        let url = url::Url::parse(self.base).ok();
        let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
        GraphFault::Unanswered(reason.explained("Microsoft Graph", host, "--graph-url"))
    }
}

/// `?$filter=` for text that equals a property.
pub(crate) fn filter(property: &str, text: &str) -> String {
    let text = text.replace('\'', "''");
    let encoded: String = form_urlencoded::byte_serialize(format!("{property} eq '{text}'").as_bytes()).collect();
    format!("?$filter={}", encoded.replace('+', "%20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_filter_is_doubled_and_nothing_ends_the_query() {
        assert_eq!(filter("displayName", "O'Neil & co"), "?$filter=displayName%20eq%20%27O%27%27Neil%20%26%20co%27");
    }

    #[test]
    fn only_what_was_made_a_moment_ago_is_worth_another_attempt() {
        let refused = |status: u16, code: &str, detail: &str| {
            GraphFault::Refused(GraphRefusal {
                status: StatusCode::from_u16(status).unwrap(),
                code: code.to_owned(),
                detail: detail.to_owned(),
                message: String::new(),
                retry_after: None,
            })
        };
        assert!(refused(404, "Request_ResourceNotFound", "").is_not_yet_known());
        assert!(refused(400, "Request_BadRequest", "NoBackingApplicationObject").is_not_yet_known());
        assert!(!refused(400, "Request_BadRequest", "ObjectConflict").is_not_yet_known());
        assert!(!refused(403, "Authorization_RequestDenied", "").is_not_yet_known());
    }
}
