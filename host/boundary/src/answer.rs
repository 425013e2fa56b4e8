//! The head of an answer of a tool or of a server behind: the parts of it that a client gets.
//!
//! A tool or a server behind shares an origin with the pages on which people sign in and consent, and its clients hold
//! tokens of this server. So only the answer itself passes:
//!
//! - Only some named fields and those of MCP pass. No `Set-Cookie`, no CORS (the component sets it), no challenge,
//!   no `Location`, `Link`, `Refresh`, `Clear-Site-Data`, `Alt-Svc`, `Server`.
//! - The types are JSON, events and plain text. An error of another type, such as a page of a proxy, keeps its status
//!   and loses its body; the gate refuses any other answer of another type. 202 and 204 have no body.
//! - JSON and events are UTF-8. Their type passes without its parameters: a client that decodes by a `charset` would read
//!   another message than the gate and the component have read. An answer that names another charset is refused.
//! - The gate refuses redirects and upgrades. It also refuses 401 and 407, which would send clients to sign in anew
//!   although the server has refused the gate's credentials, not theirs.

use crate::head::{Field, text, values};

/// Most fields of an answer. Servers send some ten.
const MAX_FIELDS: usize = 100;

/// Most bytes of all fields of an answer: as many as the program accepts of clients.
const MAX_FIELD_BYTES: usize = 32 * 1024;

/// Most bytes of a session id. Usual are 36; some servers keep a signed state in it.
const MAX_SESSION_ID_BYTES: usize = 4 * 1024;

/// Fields that pass, besides those whose names begin with [`MCP`].
const PASSED: [&str; 6] = ["allow", CONTENT_ENCODING, "content-language", CONTENT_TYPE, "date", "retry-after"];

/// Fields that say something about a body.
const OF_A_BODY: [&str; 2] = [CONTENT_TYPE, CONTENT_ENCODING];

const CONTENT_TYPE: &str = "content-type";
const CONTENT_ENCODING: &str = "content-encoding";

/// How the fields of MCP begin. Except for the session id, which the component seals, they pass.
const MCP: &str = "mcp-";
const SESSION_ID: &str = "mcp-session-id";

/// The parts of an answer that the gate reads besides its head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// The component judges its messages: what it cannot read does not pass.
    pub judged: bool,
    /// The component sees messages that hand something out.
    pub noted: bool,
    /// The ids of its events are tied to the caller.
    pub tied: bool,
}

impl Reads {
    /// Whether its messages are read.
    pub fn messages(self) -> bool {
        self.judged || self.noted
    }

    /// Whether its events are read.
    pub fn events(self) -> bool {
        self.messages() || self.tied
    }
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerContent {
    /// No body.
    Nothing,
    /// One message.
    Json,
    /// Events.
    Events,
    /// A text for people.
    Text,
}

/// The head of an answer, as judged.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// `Mcp-Session-Id`.
    pub session_id: Option<String>,
    /// The form of the body.
    pub content: AnswerContent,
    /// `Content-Type` of JSON and events, as it passes. `None`: it passes as it is, if there is a body.
    pub content_type: Option<String>,
}

impl Head {
    /// Reads the head of an answer. The error is for the operator.
    pub fn read(status: u16, fields: &[Field<'_>], reads: Reads) -> Result<Self, &'static str> {
        let lengths = fields.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        if fields.len() > MAX_FIELDS || lengths.fold(0, usize::saturating_add) > MAX_FIELD_BYTES {
            return Err("its header is too large");
        }
        match status {
            100..=199 => return Err("it wants to change the protocol"),
            300..=399 => return Err("it redirects"),
            401 | 407 => return Err("it does not accept the credentials of the gate"),
            _ => {}
        }
        let session_id = match one(fields, SESSION_ID) {
            Ok(None) => None,
            Ok(Some(id)) if id.len() <= MAX_SESSION_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Some(id.to_owned())
            }
            Ok(Some(_)) | Err(Several) => return Err("its session id is none"),
        };
        let succeeded = (200..300).contains(&status);
        let named = one(fields, CONTENT_TYPE).map_err(|Several| "its type is none")?;
        let content = match named.map_or(Media::None, |named| media(&essence(named))) {
            Media::None => AnswerContent::Nothing,
            _ if [202, 204, 205].contains(&status) => AnswerContent::Nothing,
            Media::Json => AnswerContent::Json,
            Media::Events => AnswerContent::Events,
            Media::Text if !(reads.judged && succeeded) => AnswerContent::Text,
            Media::Text | Media::Other if succeeded => return Err("it is neither JSON nor events"),
            Media::Text | Media::Other => AnswerContent::Nothing,
        };
        let is_read = match content {
            AnswerContent::Json => reads.messages(),
            AnswerContent::Events => reads.events(),
            AnswerContent::Nothing | AnswerContent::Text => false,
        };
        let mut codings = values(fields, CONTENT_ENCODING);
        let coding = codings.next();
        if codings.next().is_some() {
            return Err("it says twice how it is compressed");
        }
        if is_read && !coding.is_none_or(is_identity) {
            return Err("it is compressed, and has to be read");
        }
        let is_utf_8 = matches!(content, AnswerContent::Json | AnswerContent::Events);
        if is_utf_8 && !named.is_none_or(names_utf_8) {
            return Err("its charset is not UTF-8");
        }
        Ok(Self { session_id, content, content_type: named.filter(|_| is_utf_8).map(essence) })
    }

    /// The value with which a field passes. `None`: it does not pass.
    pub fn passed<'v>(&'v self, name: &str, value: &'v [u8]) -> Option<&'v [u8]> {
        let is_mcp = name.starts_with(MCP) && name != SESSION_ID;
        let of_no_body = self.content == AnswerContent::Nothing && OF_A_BODY.contains(&name);
        if of_no_body || !(is_mcp || PASSED.contains(&name)) {
            return None;
        }
        let rewritten = self.content_type.as_deref().filter(|_| name == CONTENT_TYPE);
        Some(rewritten.map_or(value, str::as_bytes))
    }
}

/// The fields that every answer of the component has too: a browser may only show it, and no cache keeps it. The field
/// that makes clients always use https depends on where the answer comes from, and is not among these.
pub fn secure(is_stream: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    const POLICY: &str = "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'";
    let fields = [
        ("content-security-policy", POLICY),
        ("cache-control", if is_stream { "no-store, no-transform" } else { "no-store" }),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ];
    fields.into_iter().chain(is_stream.then_some(("x-accel-buffering", "no")))
}

/// Whether a `Content-Encoding` leaves the content as it is.
fn is_identity(codings: &[u8]) -> bool {
    codings.split(|byte| *byte == b',').all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// A field that has one value has several, or one that is no text.
struct Several;

fn one<'h>(fields: &[Field<'h>], name: &str) -> Result<Option<&'h str>, Several> {
    let mut values = values(fields, name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => text(value).map(Some).ok_or(Several),
        (Some(_), Some(_)) => Err(Several),
    }
}

/// What the type of an answer says.
enum Media {
    None,
    Json,
    Events,
    Text,
    Other,
}

/// A type without its parameters.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn media(essence: &str) -> Media {
    match essence {
        "application/json" => Media::Json,
        "text/event-stream" => Media::Events,
        "text/plain" => Media::Text,
        other => match other.strip_prefix("application/").and_then(|other| other.strip_suffix("+json")) {
            Some(name) if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte)) => {
                Media::Json
            }
            Some(_) | None => Media::Other,
        },
    }
}

/// Whether a type names no charset, or UTF-8 in the plain form. Forms that some readers put together from several
/// parameters (`charset*`, RFC 2231) have no use here, and count as another one.
fn names_utf_8(content_type: &str) -> bool {
    content_type.split(';').skip(1).all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().strip_prefix("charset") {
            Some("") => ["utf-8", "utf8"].iter().any(|known| value.eq_ignore_ascii_case(known)),
            Some(rest) => !rest.starts_with('*'),
            None => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUDGED: Reads = Reads { judged: true, noted: false, tied: true };

    fn read(status: u16, fields: &[(&str, &str)], reads: Reads) -> Result<Head, &'static str> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        Head::read(status, &fields, reads)
    }

    #[test]
    fn only_named_fields_pass() {
        let head = read(200, &[("content-type", "application/json"), ("mcp-session-id", "abc")], Reads::default());
        let head = head.unwrap();
        assert_eq!((head.session_id.as_deref(), head.content), (Some("abc"), AnswerContent::Json));
        for name in ["content-type", "content-encoding", "mcp-protocol-version", "retry-after"] {
            assert!(head.passed(name, b"a").is_some(), "{name}");
        }
        for name in ["mcp-session-id", "set-cookie", "location", "www-authenticate", "access-control-allow-origin"] {
            assert_eq!(head.passed(name, b"a"), None, "{name}");
        }
        let empty = read(202, &[("content-type", "application/json")], Reads::default()).unwrap();
        for (name, passed) in [("content-type", None), ("content-encoding", None), ("date", Some(&b"a"[..]))] {
            assert_eq!(empty.passed(name, b"a"), passed, "{name}");
        }
    }

    #[test]
    fn what_is_no_text_or_stands_there_twice_is_refused() {
        for (name, value) in [("content-type", "application/json; x=é"), ("mcp-session-id", "é")] {
            assert!(read(200, &[(name, value)], Reads::default()).is_err(), "{name}");
        }
        for name in ["mcp-session-id", "content-type", "content-encoding"] {
            assert!(read(200, &[(name, "a"), (name, "a")], Reads::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_has_to_be_read_is_not_compressed() {
        for (coding, refused) in [("gzip", true), ("identity, gzip", true), ("Identity", false), ("", true)] {
            let fields = [("content-type", "text/event-stream"), ("content-encoding", coding)];
            assert_eq!(
                read(200, &fields, JUDGED),
                if refused {
                    Err("it is compressed, and has to be read")
                } else {
                    Ok(Head {
                        session_id: None,
                        content: AnswerContent::Events,
                        content_type: Some("text/event-stream".to_owned()),
                    })
                }
            );
            assert!(read(200, &fields, Reads::default()).is_ok(), "{coding}");
        }
    }

    #[test]
    fn the_type_of_what_is_utf_8_passes_without_its_parameters() {
        for (named, passed) in [
            ("application/json", "application/json"),
            ("Application/JSON ; Charset=\"UTF-8\"; a=b", "application/json"),
            ("application/json;charset=utf8;charset=utf-8", "application/json"),
            ("application/problem+json; x-charset=utf-7", "application/problem+json"),
            ("TEXT/event-stream;charset=utf-8", "text/event-stream"),
            ("text/event-stream; charsets=utf-7", "text/event-stream"),
            ("text/plain; charset=iso-8859-1", "text/plain; charset=iso-8859-1"),
        ] {
            let head = read(200, &[("content-type", named)], Reads::default()).unwrap();
            let value = head.passed("content-type", named.as_bytes());
            assert_eq!(value, Some(passed.as_bytes()), "{named}");
        }
        let head = read(200, &[("content-type", "application/json")], Reads::default()).unwrap();
        assert_eq!(head.passed("content-language", b"de"), Some(&b"de"[..]));
    }

    #[test]
    fn json_and_events_in_another_charset_than_utf_8_are_refused_whether_they_are_judged_or_not() {
        for media in ["application/json", "Application/JSON", "text/event-stream", "application/problem+json"] {
            for parameters in [
                "charset=utf-7",
                "CHARSET=UTF-7",
                " charset = \"utf-7\"",
                "a=b;charset=utf-16le",
                "charset=utf-8; charset=utf-7",
                "charset=utf-7; charset=utf-8",
                "charset=\"utf-8; charset=utf-7\"",
                "charset*=utf-8''utf-7",
                "Charset*=us-ascii'en'utf%2D7",
                "charset*0=utf; charset*1=-7",
                "charset*0*=utf-8''utf-7",
                "charset=utf-8, text/html",
                "charset=",
                "charset",
            ] {
                let named = format!("{media};{parameters}");
                for (status, reads) in [(200, Reads::default()), (200, JUDGED), (500, JUDGED)] {
                    let head = read(status, &[("content-type", named.as_str())], reads);
                    assert_eq!(head, Err("its charset is not UTF-8"), "{named}");
                }
                let nothing = read(202, &[("content-type", named.as_str())], JUDGED).unwrap();
                assert_eq!((nothing.content, nothing.content_type), (AnswerContent::Nothing, None), "{named}");
            }
        }
    }

    #[test]
    fn a_type_that_only_ends_like_json_is_another_one() {
        for named in ["application/json, text/html+json", "application/a b+json", "application/a\"b+json"] {
            let head = read(200, &[("content-type", named)], Reads::default());
            assert_eq!(head, Err("it is neither JSON nor events"), "{named}");
        }
    }

    #[test]
    fn an_event_stream_is_not_transformed() {
        let value = |stream: bool, name: &str| secure(stream).find(|(known, _)| *known == name).map(|(_, value)| value);
        assert_eq!(value(true, "cache-control"), Some("no-store, no-transform"));
        assert_eq!((value(false, "cache-control"), value(false, "x-accel-buffering")), (Some("no-store"), None));
    }
}
