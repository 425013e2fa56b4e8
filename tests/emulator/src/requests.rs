//! The log of requests: how many each endpoint had, and what the latest ones were.
//!
//! It holds passwords, codes and tokens as they were sent, which is what a test wants to see. They are all worthless.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use super::http::Incoming;

/// Requests kept for each endpoint; enough for any one test.
const KEPT: usize = 200;

/// A request as it arrived.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordedRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query's parameters.
    pub query: Vec<(String, String)>,
    /// Header names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// The body's parameters, if it was a form.
    pub form: Vec<(String, String)>,
}

impl RecordedRequest {
    fn new(incoming: &Incoming) -> Self {
        let is_form =
            incoming.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        Self {
            method: incoming.method.to_string(),
            path: incoming.path.clone(),
            query: incoming.query.0.clone(),
            headers: incoming
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            form: if is_form { incoming.form().0 } else { Vec::new() },
        }
    }

    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The first parameter of the form of this name.
    pub fn form(&self, name: &str) -> Option<&str> {
        find(&self.form, name)
    }

    /// The first parameter of the query of this name.
    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Counts and recent requests.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    counts: BTreeMap<Endpoint, u64>,
    recent: BTreeMap<Endpoint, VecDeque<RecordedRequest>>,
}

impl RequestLog {
    pub(crate) fn record(&mut self, endpoint: Endpoint, incoming: &Incoming) {
        let count = self.counts.entry(endpoint).or_default();
        *count = count.saturating_add(1);
        let recent = self.recent.entry(endpoint).or_default();
        if recent.len() >= KEPT {
            recent.pop_front();
        }
        recent.push_back(RecordedRequest::new(incoming));
    }

    pub(crate) fn count(&self, endpoint: Endpoint) -> u64 {
        self.counts.get(&endpoint).copied().unwrap_or(0)
    }

    pub(crate) fn counts(&self) -> BTreeMap<Endpoint, u64> {
        self.counts.clone()
    }

    pub(crate) fn recent(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        self.recent.get(&endpoint).map(|recent| recent.iter().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
