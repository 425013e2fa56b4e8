//! W3C Trace Context, section 3.3: `tracestate`, which goes on with the trace that it came with.
//!
//! The caller writes it for tracing vendors unknown to this host, so the host neither interprets nor extends it. A
//! value that does not have the form of the specification is discarded as a whole, and its trace goes on without it.

use http::{HeaderMap, HeaderName};
use opentelemetry::trace::TraceState;

pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Characters of all fields together: every participant in a trace has to pass on at least this many.
const MAX_CHARACTERS: usize = 512;

/// Members of the list.
const MAX_MEMBERS: usize = 32;

/// Characters of a value.
const MAX_VALUE_CHARACTERS: usize = 256;

/// Reads the header; several are one list.
pub(super) fn of(headers: &HeaderMap) -> TraceState {
    let fields: Result<Vec<_>, _> = headers.get_all(TRACESTATE).iter().map(http::HeaderValue::to_str).collect();
    fields.map(|fields| parse(&fields)).unwrap_or_default()
}

/// Reads the values of fields that are one list together.
///
/// OpenTelemetry's own reader would be too lax: it accepts empty values and control characters in them, the same key
/// twice, and a list of any length, of which it takes the first 32 members.
pub(super) fn parse(fields: &[&str]) -> TraceState {
    members(fields).and_then(|members| TraceState::from_key_value(members).ok()).unwrap_or_default()
}

fn members<'a>(fields: &[&'a str]) -> Option<Vec<(&'a str, &'a str)>> {
    let commas = fields.len().saturating_sub(1);
    if fields.iter().map(|field| field.len()).sum::<usize>().saturating_add(commas) > MAX_CHARACTERS {
        return None;
    }
    let mut members: Vec<(&str, &str)> = Vec::new();
    let list = fields.iter().flat_map(|field| field.split(',')).map(|member| member.trim_matches([' ', '\t']));
    // A member may be empty, and then is none.
    for member in list.filter(|member| !member.is_empty()) {
        let (key, value) = member.split_once('=')?;
        // The characters of a key are looked at by the SDK, those of a value are not.
        if key.is_empty() || !is_value(value) || members.iter().any(|(known, _)| *known == key) {
            return None;
        }
        members.push((key, value));
    }
    (members.len() <= MAX_MEMBERS).then_some(members)
}

fn is_value(text: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    (1..=MAX_VALUE_CHARACTERS).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_list_is_read_in_its_order_and_without_what_is_around_its_members() {
        for (fields, expected) in [
            (&["a=1"][..], "a=1"),
            (&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
            (&["a=1 ,\tb=2\t, c= 3"], "a=1,b=2,c= 3"),
            (&["a=1,,b=2,"], "a=1,b=2"),
            (&["b=1", "", "a=2"], "b=1,a=2"),
            (&["0a_-*/=~!\"#", "fw529a3039@dt=x"], "0a_-*/=~!\"#,fw529a3039@dt=x"),
            (&[""], ""),
            (&[], ""),
        ] {
            assert_eq!(parse(fields).header(), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_discarded_as_a_whole() {
        for wrong in ["b", "=2", "b=", "B=2", "b c=2", "_b=2", "b=2=3", "b=ü", "b=2\u{7f}", "b=2\tc", "a=2", "b@c@d=2"]
        {
            assert_eq!(parse(&["a=1", wrong]), TraceState::NONE, "{wrong}");
        }
    }

    #[test]
    fn a_list_has_bounds() {
        let value = |length: usize| format!("a={}", "x".repeat(length));
        assert_eq!(parse(&[&value(256)]).header(), value(256));
        assert_eq!(parse(&[&value(257)]), TraceState::NONE);
        let list = |members: usize| (0..members).map(|member| format!("k{member}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&[&list(32)]).header(), list(32));
        assert_eq!(parse(&[&list(33)]), TraceState::NONE);
        // 258 characters, a comma, and the rest of 512.
        let (first, second) = (value(256), format!("b={}", "x".repeat(251)));
        assert_eq!(parse(&[&first, &second]).header().len(), 512);
        assert_eq!(parse(&[&first, &second, ""]), TraceState::NONE);
    }

    #[test]
    fn several_headers_are_one_list_and_one_that_is_no_text_spoils_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers), TraceState::NONE);
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
        assert_eq!(of(&headers).header(), "a=1,b=2");
        headers.append(TRACESTATE, HeaderValue::from_bytes(b"c=\xff").unwrap());
        assert_eq!(of(&headers), TraceState::NONE);
    }
}
