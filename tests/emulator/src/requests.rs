//! The log of requests: how many each endpoint had, and what the latest ones were.
//!
//! It holds passwords, codes and tokens as they were sent, which is what a test wants to see. They are all worthless.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::endpoint::Endpoint;
use super::http::{Incoming, Reply};

/// Requests kept for each endpoint; enough for any one test. What a test wants to know about more of them it watches for.
const KEPT: usize = 2_000;

/// Members of an answer that are secrets. The code that a person enters is shown to that person.
const SECRETS: [&str; 4] = ["access_token", "device_code", "id_token", "refresh_token"];

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

/// Where in a request a watched text was.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Sighting {
    /// What the request asked for.
    pub endpoint: Endpoint,
    /// `path`, `body`, or a part with its name: `query NAME`, `header NAME`, `form NAME`.
    pub place: String,
}

/// Counts and recent requests.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    counts: BTreeMap<Endpoint, u64>,
    recent: BTreeMap<Endpoint, VecDeque<RecordedRequest>>,
    watched: Vec<String>,
    sightings: BTreeMap<Sighting, u64>,
    /// What was issued since this was asked for.
    issued: Option<BTreeSet<String>>,
}

impl RequestLog {
    pub(crate) fn record(&mut self, endpoint: Endpoint, incoming: &Incoming) {
        let count = self.counts.entry(endpoint).or_default();
        *count = count.saturating_add(1);
        let request = RecordedRequest::new(incoming);
        self.look_for_watched(endpoint, &request, &incoming.body);
        let recent = self.recent.entry(endpoint).or_default();
        if recent.len() >= KEPT {
            recent.pop_front();
        }
        recent.push_back(request);
    }

    /// Notes where watched texts are. This is about every request, however many there are.
    fn look_for_watched(&mut self, endpoint: Endpoint, request: &RecordedRequest, body: &[u8]) {
        if self.watched.is_empty() {
            return;
        }
        let body = if request.form.is_empty() { String::from_utf8_lossy(body) } else { Cow::default() };
        let named = [("query", &request.query), ("header", &request.headers), ("form", &request.form)];
        let named = named.into_iter().flat_map(|(kind, pairs)| {
            pairs.iter().map(move |(name, value)| (format!("{kind} {name}"), format!("{name} {value}")))
        });
        let whole = [("path".to_owned(), request.path.clone()), ("body".to_owned(), body.into_owned())];
        for (place, text) in whole.into_iter().chain(named) {
            if self.watched.iter().any(|watched| text.contains(watched.as_str())) {
                let count = self.sightings.entry(Sighting { endpoint, place }).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    pub(crate) fn keep_issued(&mut self) {
        self.issued.get_or_insert_default();
    }

    pub(crate) fn issued(&self) -> Vec<String> {
        self.issued.iter().flatten().cloned().collect()
    }

    /// Notes the tokens of an answer, and the code in its redirect.
    pub(crate) fn note_issued(&mut self, reply: &Reply) {
        let Some(issued) = &mut self.issued else { return };
        if let Ok(Value::Object(members)) = serde_json::from_slice(&reply.body) {
            let secrets = SECRETS.iter().filter_map(|name| members.get(*name)?.as_str());
            issued.extend(secrets.map(str::to_owned));
        }
        let location = reply.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        if let Some(url) = location.and_then(|location| url::Url::parse(location).ok()) {
            let codes = url.query_pairs().filter(|(name, _)| name == "code");
            issued.extend(codes.map(|(_, code)| code.into_owned()));
        }
    }

    pub(crate) fn watch(&mut self, texts: Vec<String>) {
        self.watched.extend(texts.into_iter().filter(|text| !text.is_empty()));
    }

    pub(crate) fn sightings(&self) -> BTreeMap<Sighting, u64> {
        self.sightings.clone()
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
        *self = Self { watched: std::mem::take(&mut self.watched), issued: self.issued.take(), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, StatusCode};

    use super::*;
    use crate::http::Params;

    fn incoming(query: &str, header: &'static str, kind: &'static str, body: &'static str) -> Incoming {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(header));
        headers.insert("content-type", HeaderValue::from_static(kind));
        Incoming {
            method: Method::POST,
            path: "/path".to_owned(),
            query: Params::parse(query.as_bytes()),
            headers,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn what_is_issued_is_kept_from_the_time_on_that_it_is_asked_for() {
        let answer =
            |text: &'static str| Reply { body: Bytes::from_static(text.as_bytes()), ..Reply::empty(StatusCode::OK) };
        let mut log = RequestLog::default();
        log.note_issued(&answer(r#"{"access_token":"early"}"#));
        log.keep_issued();
        log.note_issued(&answer(r#"{"access_token":"a","refresh_token":"r","id_token":"i","user_code":"shown"}"#));
        log.note_issued(&answer("<html>"));
        let mut redirect = Reply::empty(StatusCode::FOUND);
        redirect.headers.insert("location", HeaderValue::from_static("http://localhost/?code=c%2B1&state=s"));
        log.note_issued(&redirect);
        log.clear();
        assert_eq!(log.issued(), ["a", "c+1", "i", "r"]);
    }

    #[test]
    fn a_watched_text_is_found_in_every_part_of_every_request() {
        let mut log = RequestLog::default();
        log.watch(vec!["s3cret".to_owned()]);
        let form = "application/x-www-form-urlencoded";
        log.record(Endpoint::GraphMessages, &incoming("a=s3cret", "Bearer s3cret", form, "b=%733cret&c=d"));
        log.record(Endpoint::GraphMessages, &incoming("", "Bearer other", "application/json", r#"["s3cret"]"#));
        for _ in 0..=KEPT {
            log.record(Endpoint::GraphMessages, &incoming("", "", form, "c=d"));
        }
        let seen: Vec<(String, u64)> =
            log.sightings().into_iter().map(|(sighting, count)| (sighting.place, count)).collect();
        let places = ["body", "form b", "header authorization", "query a"];
        assert_eq!(seen, places.map(|place| (place.to_owned(), 1)));
        log.clear();
        assert!(log.sightings().is_empty());
        log.record(Endpoint::Token, &incoming("", "Bearer s3cret", form, ""));
        assert_eq!(log.sightings().len(), 1);
    }
}
