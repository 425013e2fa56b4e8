//! Faults: what goes wrong when a test says so.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::endpoint::Endpoint;
use super::http::{Incoming, Reply};

/// No body is padded beyond this, so that a typing error cannot exhaust the machine.
const PADDED_AT_MOST: usize = 64 * 1024 * 1024;

/// A fault of the transport or of an answer. Without a status, the endpoint does its work and its answer is altered.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// The endpoint; none means every one.
    pub endpoint: Option<Endpoint>,
    /// Only token requests of this grant type.
    pub grant_type: Option<String>,
    /// How often; none means until the faults are cleared.
    pub times: Option<u32>,
    /// How many matching requests pass unharmed first.
    pub after: u32,
    /// Wait this long before answering, in real milliseconds.
    pub delay_ms: u64,
    /// Answer with this status instead of doing the work.
    pub status: Option<u16>,
    /// Headers set on the answer.
    pub headers: BTreeMap<String, String>,
    /// The body instead of the endpoint's own.
    pub body: Option<String>,
    /// The content type instead of the endpoint's own.
    pub content_type: Option<String>,
    /// Close the connection without answering.
    pub drop_connection: bool,
    /// Announce the whole length, send this many bytes, and close the connection.
    pub truncate_body: Option<usize>,
    /// Pad the body with spaces to this many bytes.
    pub pad_body: Option<usize>,
}

impl Fault {
    /// Once, at this endpoint.
    pub fn on(endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), times: Some(1), ..Self::default() }
    }

    /// At every endpoint, once.
    pub fn anywhere() -> Self {
        Self { times: Some(1), ..Self::default() }
    }

    /// This often.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Until the faults are cleared.
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Lets some matching requests pass first.
    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
        self
    }

    /// Only token requests of this grant type.
    pub fn grant_type(mut self, grant_type: &str) -> Self {
        self.grant_type = Some(grant_type.to_owned());
        self
    }

    /// Answers with a status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets a header of the answer.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Replaces the body.
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Replaces the content type.
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.content_type = Some(content_type.to_owned());
        self
    }

    /// Waits before answering.
    pub fn delay_ms(mut self, milliseconds: u64) -> Self {
        self.delay_ms = milliseconds;
        self
    }

    /// Closes the connection without an answer.
    pub fn drop_connection(mut self) -> Self {
        self.drop_connection = true;
        self
    }

    /// Breaks off the body.
    pub fn truncate_body(mut self, bytes: usize) -> Self {
        self.truncate_body = Some(bytes);
        self
    }

    /// Pads the body.
    pub fn pad_body(mut self, bytes: usize) -> Self {
        self.pad_body = Some(bytes);
        self
    }

    fn matches(&self, endpoint: Endpoint, incoming: &Incoming) -> bool {
        self.endpoint.is_none_or(|one| one == endpoint)
            && self.grant_type.as_deref().is_none_or(|wanted| incoming.form().get("grant_type") == Some(wanted))
    }

    /// The answer instead of the endpoint's own, if the fault has a status. An error without a body of its own looks as
    /// the service writes one when it is overloaded.
    pub(crate) fn reply(&self, endpoint: Endpoint) -> Option<Reply> {
        let status = StatusCode::from_u16(self.status?).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if !status.is_client_error() && !status.is_server_error() {
            return Some(Reply::new(status, "application/json; charset=utf-8", Bytes::new()));
        }
        let code = match status {
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            StatusCode::GATEWAY_TIMEOUT => "GatewayTimeout",
            StatusCode::FORBIDDEN => "Authorization_RequestDenied",
            StatusCode::UNAUTHORIZED => "InvalidAuthenticationToken",
            StatusCode::NOT_FOUND => "Request_ResourceNotFound",
            _ => "generalException",
        };
        let body = if endpoint.is_graph() {
            json!({ "error": { "code": code, "message": "Injected by the emulator.", "innerError": {} } })
        } else {
            json!({
                "error": "temporarily_unavailable",
                "error_description": "AADSTS90033: A transient error has occurred. Please try again.",
                "error_codes": [90033],
            })
        };
        Some(Reply::json(status, &body))
    }

    /// Alters an answer as far as its parts go; the transport does the rest.
    pub(crate) fn alter(&self, mut reply: Reply) -> Reply {
        if let Some(body) = &self.body {
            reply.body = Bytes::from(body.clone());
        }
        if let Some(length) = self.pad_body {
            let mut padded = reply.body.to_vec();
            padded.resize(length.min(PADDED_AT_MOST).max(padded.len()), b' ');
            reply.body = Bytes::from(padded);
        }
        if let Some(Ok(content_type)) = self.content_type.as_deref().map(HeaderValue::from_str) {
            reply.headers.insert(CONTENT_TYPE, content_type);
        }
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                reply.headers.insert(name, value);
            }
        }
        reply
    }
}

/// What is wrong with the next ID tokens.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenFault {
    /// Signed by a key that is not published.
    UnknownKey,
    /// Another `nonce` than the one sent.
    WrongNonce,
    /// No `nonce`.
    MissingNonce,
    /// Another issuer.
    WrongIssuer,
    /// Another audience.
    WrongAudience,
    /// Another tenant.
    WrongTenant,
    /// Expired an hour ago.
    Expired,
    /// Valid in an hour.
    NotYetValid,
}

/// What is wrong with the next redirects to an application.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedirectFault {
    /// Another `state` than the one sent.
    WrongState,
    /// No `state`.
    MissingState,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    tokens: Vec<TokenFault>,
    redirects: Vec<RedirectFault>,
}

/// Faults in force at once; more is a runaway script.
const FAULTS_AT_MOST: usize = 10_000;

impl Faults {
    pub(crate) fn inject(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_AT_MOST {
            self.faults.push(fault);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first fault that strikes this request, used up by it.
    pub(crate) fn strike(&mut self, endpoint: Endpoint, incoming: &Incoming) -> Option<Fault> {
        let index = self.faults.iter_mut().position(|fault| {
            if !fault.matches(endpoint, incoming) {
                return false;
            }
            let due = fault.after == 0;
            fault.after = fault.after.saturating_sub(1);
            due
        })?;
        let fault = self.faults.get_mut(index)?;
        let struck = fault.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.faults.remove(index);
            }
        }
        Some(struck)
    }

    pub(crate) fn spoil_id_tokens(&mut self, fault: TokenFault, times: usize) {
        self.tokens.extend(std::iter::repeat_n(fault, times.min(FAULTS_AT_MOST)));
    }

    pub(crate) fn take_token_fault(&mut self) -> Option<TokenFault> {
        (!self.tokens.is_empty()).then(|| self.tokens.remove(0))
    }

    pub(crate) fn spoil_redirects(&mut self, fault: RedirectFault, times: usize) {
        self.redirects.extend(std::iter::repeat_n(fault, times.min(FAULTS_AT_MOST)));
    }

    pub(crate) fn take_redirect_fault(&mut self) -> Option<RedirectFault> {
        (!self.redirects.is_empty()).then(|| self.redirects.remove(0))
    }
}
