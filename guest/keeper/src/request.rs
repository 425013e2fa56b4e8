//! Header fields of a request of the tool, as they are sent. The rules are those of the program
//! (`host/plugin/src/tool_components/egress.rs`), which says why.

use crate::fields::{self, Field};

/// Fields that a request with a token does not carry: a token could be put together from parts of an answer, be hidden by
/// compression or an encoding of characters, or come back in an interim answer or a trailer.
const FIELDS_WITHOUT_TOKEN: [&str; 7] =
    ["range", "if-range", "accept-encoding", "accept-charset", "te", "trailer", "expect"];

/// Fields by which servers and gateways read another method or another path than those that were checked.
const FIELDS_THAT_REDIRECT: [&str; 6] =
    ["forwarded", "x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override"];

/// Whether a field tells an identity. A tool has none: its caller's is added for it.
fn tells_identity(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie"].contains(&name)
        || ["x-ms-client-principal", "x-ms-token-"].iter().any(|prefix| name.starts_with(prefix))
}

/// The fields without those that tell an identity.
pub fn anonymous(fields: &[Field]) -> Vec<Field> {
    fields.iter().filter(|(name, _)| !tells_identity(name)).cloned().collect()
}

/// A request states several lengths, or one that is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthUnclear;

/// The length that the tool states, if it states one.
pub fn stated_length(fields: &[Field]) -> Result<Option<u64>, LengthUnclear> {
    let mut stated = fields::values(fields, "content-length");
    match (stated.next(), stated.next()) {
        (None, _) => Ok(None),
        (Some(length), None) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()).map(Some).ok_or(LengthUnclear)
        }
        _ => Err(LengthUnclear),
    }
}

/// Adds a token.
pub fn authorize(fields: &mut Vec<Field>, token: &str) {
    let redirects = |name: &str| FIELDS_THAT_REDIRECT.contains(&name) || name.starts_with("x-forwarded-");
    fields.retain(|(name, _)| !FIELDS_WITHOUT_TOKEN.contains(&name.as_str()) && !redirects(name));
    accept_any_charset(fields);
    fields::set(fields, "accept-encoding", b"identity");
    fields::set(fields, "authorization", format!("Bearer {token}").as_bytes());
}

/// Leaves out parameters of `Accept` that ask for an encoding of characters in which a token could not be found.
fn accept_any_charset(fields: &mut Vec<Field>) {
    let accepted: Vec<Vec<u8>> = fields::values(fields, "accept").map(<[u8]>::to_vec).collect();
    let mentions = |value: &Vec<u8>| value.to_ascii_lowercase().windows(7).any(|part| part == b"charset");
    if !accepted.iter().any(mentions) {
        return;
    }
    fields::remove(fields, "accept");
    for value in accepted {
        // With quotes, a comma or semicolon separates nothing perhaps. No client writes that.
        let Some(text) = std::str::from_utf8(&value).ok().filter(|text| !text.contains('"')) else { continue };
        let names_charset = |parameter: &&str| {
            parameter.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("charset"))
        };
        let ranges = text.split(',').map(|range| {
            let kept: Vec<_> = range.split(';').filter(|parameter| !names_charset(parameter)).collect();
            kept.join(";")
        });
        fields.push(("accept".to_owned(), ranges.collect::<Vec<_>>().join(",").into_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_tool_tells_no_identity_and_has_nothing_by_which_a_token_could_come_back() {
        let mut sent = anonymous(&fields(&[
            ("authorization", "Bearer own"),
            ("cookie", "a=b"),
            ("x-ms-client-principal-id", "1"),
            ("x-ms-token-aad-access-token", "1"),
            ("x-forwarded-host", "evil.example"),
            ("x-http-method-override", "TRACE"),
            ("range", "bytes=1-2"),
            ("accept", "application/json;charset=utf-16, text/plain"),
            ("prefer", "a"),
        ]));
        authorize(&mut sent, "token");
        let expected = [
            ("prefer", "a"),
            ("accept", "application/json, text/plain"),
            ("accept-encoding", "identity"),
            ("authorization", "Bearer token"),
        ];
        assert_eq!(sent, fields(&expected));
    }

    #[test]
    fn a_length_is_stated_once_and_as_a_number() {
        assert_eq!(stated_length(&[]), Ok(None));
        assert_eq!(stated_length(&fields(&[("content-length", "12")])), Ok(Some(12)));
        for wrong in ["", "-1", "1, 1", "0x1", "99999999999999999999"] {
            assert_eq!(stated_length(&fields(&[("content-length", wrong)])), Err(LengthUnclear), "{wrong}");
        }
        assert_eq!(stated_length(&fields(&[("content-length", "1"), ("content-length", "1")])), Err(LengthUnclear));
    }
}
