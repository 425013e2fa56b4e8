//! W3C Trace Context, section 3.2: the `traceparent` header.

use std::fmt;

use http::{HeaderMap, HeaderName};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const NAME: &str = "traceparent";
const TRACEPARENT: HeaderName = HeaderName::from_static(NAME);

/// The version that is written. Later ones are read as far as they agree with it.
const VERSION: &str = "00";

/// Characters of all fields of this version, with the dashes between them.
const LENGTH: usize = 55;

/// The value of the header, where the propagator looks for it.
struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == NAME).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![NAME]
    }
}

/// Whether a value is written exactly as the specification has it.
///
/// OpenTelemetry's propagator reads the value, but is laxer: it accepts blanks around it, signs, fields that are too short
/// and a dash at the end. Another reader of such a value may refuse it, or see another trace.
fn is_of_the_form(text: &str) -> bool {
    let Some((fields, further)) = text.as_bytes().split_at_checked(LENGTH) else { return false };
    let allowed = |(index, byte): (usize, &u8)| match index {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    // A later version may have more fields.
    let more = further.is_empty() || further.starts_with(b"-") && !text.starts_with(VERSION);
    fields.iter().enumerate().all(allowed) && more
}

/// A trace, and the span in it that called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: TraceId,
    parent_id: SpanId,
    sampled: bool,
}

impl TraceParent {
    /// Reads the value of the header; `None` if it is not of the form that the specification demands.
    pub fn parse(text: &str) -> Option<Self> {
        if !is_of_the_form(text) {
            return None;
        }
        Self::of_context(&TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(text)))
    }

    /// Reads the header, which must be there once.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.to_str().ok()?),
            _ => None,
        }
    }

    /// The current trace and span of this task, if it has any.
    pub(crate) fn current() -> Option<Self> {
        Context::map_current(Self::of_context)
    }

    /// The host's own span of this task, if it is in the same trace: it is a closer parent than the caller's span.
    pub(crate) fn or_our_own_in_it(self) -> Self {
        let own = Context::map_current(|context| {
            let span = context.span();
            let context = span.span_context();
            Self::of_span_context(context).filter(|own| !context.is_remote() && own.trace_id == self.trace_id)
        });
        own.unwrap_or(self)
    }

    pub(super) fn of_context(context: &Context) -> Option<Self> {
        Self::of_span_context(context.span().span_context())
    }

    pub(super) fn of_span_context(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace_id: context.trace_id(),
            parent_id: context.span_id(),
            sampled: context.is_sampled(),
        })
    }

    /// The calling span, with its trace state for vendors.
    pub(super) fn span_context(self, state: TraceState) -> SpanContext {
        SpanContext::new(self.trace_id, self.parent_id, self.flags(), true, state)
    }

    pub(super) fn flags(self) -> TraceFlags {
        TraceFlags::default().with_sampled(self.sampled)
    }

    pub(super) fn parent_id(self) -> SpanId {
        self.parent_id
    }

    /// The trace: 32 hexadecimal digits.
    pub fn trace_id(self) -> TraceId {
        self.trace_id
    }
}

/// As the header has it.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}-{}-{}-{:02x}", self.trace_id, self.parent_id, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_and_written() {
        let parent = TraceParent::parse(PARENT).unwrap();
        assert_eq!(parent.to_string(), PARENT);
        assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        let context = Context::new().with_remote_span_context(parent.span_context(TraceState::NONE));
        assert_eq!(TraceParent::of_context(&context), Some(parent));
        let unsampled = TraceParent::parse(&PARENT.replace("-01", "-02")).unwrap();
        assert!(unsampled.to_string().ends_with("-00"), "unknown flags are not passed on");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [PARENT.replacen("00", "cc", 1), PARENT.replacen("00", "01", 1) + "-what-comes"] {
            assert_eq!(TraceParent::parse(&later), TraceParent::parse(PARENT), "{later}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_ignored() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319ü-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_span_of_ours_is_closer_than_its_caller_and_one_of_another_trace_is_not() {
        let parent = TraceParent::parse(PARENT).unwrap();
        let own = TraceParent { parent_id: SpanId::from(1), ..parent };
        let entered = |current: TraceParent, remote: bool| {
            let span = SpanContext::new(current.trace_id, current.parent_id, current.flags(), remote, TraceState::NONE);
            let _entered = Context::new().with_remote_span_context(span).attach();
            parent.or_our_own_in_it()
        };
        assert_eq!(parent.or_our_own_in_it(), parent);
        assert_eq!(entered(own, false), own);
        assert_eq!(entered(own, true), parent);
        assert_eq!(entered(TraceParent { trace_id: TraceId::from(1), ..own }, false), parent);
    }

    #[test]
    fn a_header_that_is_there_twice_is_ignored() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceParent::of(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert!(TraceParent::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(TraceParent::of(&headers), None);
    }
}
