//! The head of an answer of the tool: what of it a client gets. The rules are those of the gate of the program
//! (`host/gate/src/gate/answer.rs`), which says why.

use crate::fields::{self, Field};

/// Most fields of an answer, and most bytes of all of them.
const MAX_FIELDS: usize = 100;
const MAX_FIELD_BYTES: usize = 32 * 1024;

/// Most bytes of a session id.
const MAX_SESSION_ID_BYTES: usize = 4 * 1024;

/// Fields that pass, besides those whose names begin with [`MCP`].
const PASSED: [&str; 6] = ["allow", "content-encoding", "content-language", "content-type", "date", "retry-after"];

/// How the fields of MCP begin. Except for the session id, which the component seals, they pass.
const MCP: &str = "mcp-";
const SESSION_ID: &str = "mcp-session-id";

/// What is read of an answer besides its head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// The component judges its messages: what it cannot read does not pass.
    pub judged: bool,
    /// The component sees messages that hand something out.
    pub noted: bool,
    /// The ids of its events are tied to the caller.
    pub tied: bool,
}

/// What an answer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No body.
    Nothing,
    /// One message.
    Json,
    /// Events.
    Events,
    /// A text for people.
    Text,
}

/// What may be passed on of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Clean {
    /// HTTP status.
    pub status: u16,
    /// Fields that pass.
    pub fields: Vec<Field>,
    /// `Mcp-Session-Id`.
    pub session_id: Option<String>,
    /// What the body is.
    pub content: Content,
}

/// Looks at the head of an answer. The error is for the operator.
pub fn clean(status: u16, from: &[Field], reads: Reads) -> Result<Clean, &'static str> {
    let size = from.iter().map(|(name, value)| name.len().saturating_add(value.len())).fold(0, usize::saturating_add);
    if from.len() > MAX_FIELDS || size > MAX_FIELD_BYTES {
        return Err("its header is too large");
    }
    match status {
        100..=199 => return Err("it wants to change the protocol"),
        300..=399 => return Err("it redirects"),
        401 | 407 => return Err("it refuses the credentials of the gate"),
        200..=599 => {}
        _ => return Err("its status is none"),
    }
    let session_id = match one(from, SESSION_ID).map_err(|Several| "its session id is none")? {
        None | Some("") => None,
        Some(id) if id.len() <= MAX_SESSION_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some(id.to_owned())
        }
        Some(_) => return Err("its session id is none"),
    };
    let succeeded = (200..300).contains(&status);
    let content_type = one(from, "content-type").map_err(|Several| "its type is none")?;
    let content = match media(content_type) {
        _ if [202, 204, 205].contains(&status) => Content::Nothing,
        Media::None => Content::Nothing,
        Media::Json => Content::Json,
        Media::Events => Content::Events,
        Media::Text if !(reads.judged && succeeded) => Content::Text,
        Media::Text | Media::Other if succeeded => return Err("it is neither JSON nor events"),
        Media::Text | Media::Other => Content::Nothing,
    };
    let is_read = match content {
        Content::Json => reads.judged || reads.noted,
        Content::Events => reads.judged || reads.noted || reads.tied,
        Content::Nothing | Content::Text => false,
    };
    let codings: Vec<_> = fields::values(from, "content-encoding").collect();
    if codings.len() > 1 || (is_read && !codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"identity"))) {
        return Err("it is compressed, and has to be read");
    }
    let passes = |name: &str| PASSED.contains(&name) || (name.starts_with(MCP) && name != SESSION_ID);
    let mut passed: Vec<Field> = from.iter().filter(|(name, _)| passes(name)).cloned().collect();
    if content == Content::Nothing {
        fields::remove(&mut passed, "content-type");
        fields::remove(&mut passed, "content-encoding");
    }
    Ok(Clean { status, fields: passed, session_id, content })
}

/// Adds what every answer of the component has too: a browser does nothing with it but show it, and nothing keeps it. That
/// clients always have to use https is said by the component's own answers, which hold for the whole host.
pub fn secure(fields: &mut Vec<Field>, is_stream: bool) {
    let policy = "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'";
    fields::set(fields, "content-security-policy", policy.as_bytes());
    fields::set(fields, "cache-control", if is_stream { b"no-store, no-transform" } else { b"no-store" });
    fields::set(fields, "x-content-type-options", b"nosniff");
    fields::set(fields, "x-frame-options", b"DENY");
    fields::set(fields, "referrer-policy", b"no-referrer");
    if is_stream {
        fields::set(fields, "x-accel-buffering", b"no");
    }
}

/// A field that has one value has several, or one that is no text.
struct Several;

fn one<'f>(from: &'f [Field], name: &'f str) -> Result<Option<&'f str>, Several> {
    let mut values = fields::values(from, name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value).map(Some).map_err(|_| Several),
        (Some(_), Some(_)) => Err(Several),
    }
}

enum Media {
    None,
    Json,
    Events,
    Text,
    Other,
}

fn media(content_type: Option<&str>) -> Media {
    let Some(content_type) = content_type else { return Media::None };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Media::Json,
        "text/event-stream" => Media::Events,
        "text/plain" => Media::Text,
        other if other.starts_with("application/") && other.ends_with("+json") => Media::Json,
        _ => Media::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    const JUDGED: Reads = Reads { judged: true, noted: false, tied: true };

    #[test]
    fn only_named_fields_pass_and_the_session_id_goes_to_the_component() {
        let from = fields(&[
            ("content-type", "application/json"),
            ("set-cookie", "session=1"),
            ("location", "https://evil.example"),
            ("www-authenticate", "Bearer"),
            ("access-control-allow-origin", "*"),
            ("mcp-session-id", "abc"),
            ("mcp-protocol-version", "2025-11-25"),
            ("x-other", "1"),
        ]);
        let clean = clean(200, &from, Reads::default()).unwrap();
        let names: Vec<_> = clean.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "mcp-protocol-version"]);
        assert_eq!((clean.session_id.as_deref(), clean.content), (Some("abc"), Content::Json));
    }

    #[test]
    fn answers_that_would_lead_a_client_elsewhere_are_refused() {
        for status in [100, 101, 302, 307, 401, 407, 99, 600] {
            assert!(clean(status, &[], Reads::default()).is_err(), "{status}");
        }
        let html = fields(&[("content-type", "text/html")]);
        assert!(clean(200, &html, Reads::default()).is_err());
        assert_eq!(clean(502, &html, Reads::default()).unwrap().content, Content::Nothing);
        let twice = fields(&[("mcp-session-id", "a"), ("mcp-session-id", "b")]);
        assert!(clean(200, &twice, Reads::default()).is_err());
    }

    #[test]
    fn what_has_to_be_read_is_not_compressed() {
        let packed = fields(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
        assert!(clean(200, &packed, Reads::default()).is_ok());
        assert!(clean(200, &packed, JUDGED).is_err());
        assert!(clean(200, &fields(&[("content-type", "text/plain")]), JUDGED).is_err());
        assert_eq!(clean(202, &packed, JUDGED).unwrap().content, Content::Nothing);
    }
}
