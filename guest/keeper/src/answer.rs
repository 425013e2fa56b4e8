//! The head of an answer of the tool: what of it a client gets, by the rules of `entra_mcp_boundary::answer`.

use entra_mcp_boundary::answer::{AnswerContent, Head, Reads};

use crate::fields::{self, Field};

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
    pub content: AnswerContent,
}

/// Looks at the head of an answer. The error is for the operator.
pub fn clean(status: u16, from: &[Field], reads: Reads) -> Result<Clean, &'static str> {
    if !(100..600).contains(&status) {
        return Err("its status is none");
    }
    let head = Head::read(status, &fields::head(from), reads)?;
    let passed = |(name, value): &Field| Some((name.clone(), head.passed(name, value)?.to_vec()));
    let passed = from.iter().filter_map(passed).collect();
    let session_id = head.session_id.filter(|id| !id.is_empty());
    Ok(Clean { status, fields: passed, session_id, content: head.content })
}

/// Adds what every answer of the component has too. That clients always have to use https is said by the component's own
/// answers, which hold for the whole host.
pub fn secure(fields: &mut Vec<Field>, is_stream: bool) {
    for (name, value) in entra_mcp_boundary::answer::secure(is_stream) {
        fields::set(fields, name, value.as_bytes());
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
        assert_eq!((clean.session_id.as_deref(), clean.content), (Some("abc"), AnswerContent::Json));
    }

    #[test]
    fn the_type_passes_without_its_parameters_and_another_charset_is_refused() {
        for media in ["application/json", "text/event-stream"] {
            let named = |parameters: &str| fields(&[("content-type", format!("{media}{parameters}").as_str())]);
            let clean = clean(200, &named("; Charset=\"UTF-8\"; a=b"), JUDGED).unwrap();
            assert_eq!(clean.fields, fields(&[("content-type", media)]));
            for parameters in
                [";charset=utf-7", ";charset*=utf-8''utf-7", ";charset*0=utf-7", ";charset=utf-8;charset=a"]
            {
                let refused = super::clean(200, &named(parameters), Reads::default());
                assert_eq!(refused, Err("its charset is not UTF-8"), "{media}{parameters}");
            }
        }
    }

    #[test]
    fn answers_that_would_lead_a_client_elsewhere_are_refused() {
        for status in [100, 101, 302, 307, 401, 407, 99, 600] {
            assert!(clean(status, &[], Reads::default()).is_err(), "{status}");
        }
        let html = fields(&[("content-type", "text/html")]);
        assert!(clean(200, &html, Reads::default()).is_err());
        assert_eq!(clean(502, &html, Reads::default()).unwrap().content, AnswerContent::Nothing);
        let twice = fields(&[("mcp-session-id", "a"), ("mcp-session-id", "b")]);
        assert!(clean(200, &twice, Reads::default()).is_err());
    }

    #[test]
    fn what_has_to_be_read_is_not_compressed() {
        let packed = fields(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
        assert!(clean(200, &packed, Reads::default()).is_ok());
        assert!(clean(200, &packed, JUDGED).is_err());
        assert!(clean(200, &fields(&[("content-type", "text/plain")]), JUDGED).is_err());
        assert_eq!(clean(202, &packed, JUDGED).unwrap().content, AnswerContent::Nothing);
    }
}
