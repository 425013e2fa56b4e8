//! What a request is in, and what its answer may be in (RFC 9110 sections 8.3 and 12.5.1).

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};

use crate::mcp::RepeatedField;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    /// `application/json`.
    Json,
    /// `text/event-stream`, with one event.
    EventStream,
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    match (fields.next(), fields.next()) {
        (Some(value), None) => {
            value.to_str().is_ok_and(|value| essence(value).eq_ignore_ascii_case("application/json"))
        }
        _ => false,
    }
}

/// The form to answer in: JSON where the client takes it, since one answer needs no stream. `None`: it takes neither.
/// A client that says nothing takes everything.
pub(super) fn acceptable(headers: &HeaderMap) -> Option<ResponseFormat> {
    let (mut said, mut stream) = (false, false);
    for value in headers.get_all(ACCEPT) {
        said = true;
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',').filter(|range| !is_refused(range)) {
            let range = essence(range);
            if ["application/json", "application/*", "*/*"].iter().any(|json| json.eq_ignore_ascii_case(range)) {
                return Some(ResponseFormat::Json);
            }
            stream |= ["text/event-stream", "text/*"].iter().any(|stream| stream.eq_ignore_ascii_case(range));
        }
    }
    match (said, stream) {
        (false, _) => Some(ResponseFormat::Json),
        (true, true) => Some(ResponseFormat::EventStream),
        (true, false) => None,
    }
}

/// Whether the client takes an event stream. One that says nothing does.
pub(super) fn takes_event_stream(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(ACCEPT).iter().peekable();
    fields.peek().is_none()
        || fields.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
            let accepted = ["text/event-stream", "text/*", "*/*"];
            !is_refused(range) && accepted.iter().any(|stream| stream.eq_ignore_ascii_case(essence(range)))
        })
}

/// A media type without its parameters.
pub(super) fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// Whether a media range has the weight zero.
fn is_refused(range: &str) -> bool {
    range.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('=')).any(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q") && weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0)
    })
}

/// A header field that is sent once.
pub(super) fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> RepeatedField<'a> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (None, _) => RepeatedField::Absent,
        (Some(value), None) => value.to_str().map_or(RepeatedField::Malformed, RepeatedField::Value),
        (Some(_), Some(_)) => RepeatedField::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn json_is_preferred_and_an_event_stream_is_given_to_who_takes_nothing_else() {
        for (accept, form) in [
            (&[][..], Some(ResponseFormat::Json)),
            (&["application/json, text/event-stream"], Some(ResponseFormat::Json)),
            (&["text/event-stream, application/json"], Some(ResponseFormat::Json)),
            (&["text/event-stream", "application/json"], Some(ResponseFormat::Json)),
            (&["*/*"], Some(ResponseFormat::Json)),
            (&["Application/JSON; charset=utf-8"], Some(ResponseFormat::Json)),
            (&["text/event-stream"], Some(ResponseFormat::EventStream)),
            (&["text/event-stream, application/json;q=0"], Some(ResponseFormat::EventStream)),
            (&["text/html"], None),
            (&["application/json;q=0.0"], None),
            (&[""], None),
        ] {
            assert_eq!(acceptable(&headers(ACCEPT, accept)), form, "{accept:?}");
        }
    }

    #[test]
    fn a_body_is_json_if_it_says_so_once() {
        for (types, json) in [
            (&["application/json"][..], true),
            (&["Application/Json; charset=utf-8"], true),
            (&[], false),
            (&["text/plain"], false),
            (&["application/json", "application/json"], false),
            (&["application/jsonp"], false),
        ] {
            assert_eq!(is_json(&headers(CONTENT_TYPE, types)), json, "{types:?}");
        }
    }

    #[test]
    fn a_field_that_is_sent_twice_is_malformed() {
        let name = HeaderName::from_static("mcp-method");
        assert_eq!(field(&headers(name.clone(), &[]), &name), RepeatedField::Absent);
        assert_eq!(field(&headers(name.clone(), &["a"]), &name), RepeatedField::Value("a"));
        assert_eq!(field(&headers(name.clone(), &["a", "a"]), &name), RepeatedField::Malformed);
    }
}
