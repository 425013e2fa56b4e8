//! Header fields of a request of the tool, as they are sent, by the rules of `entra_mcp_boundary::request`.

use entra_mcp_boundary::request::{any_charset, endangers_token, tells_identity};

use crate::fields::{self, Field};

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
    fields.retain(|(name, _)| !endangers_token(name));
    if let Some(accepted) = any_charset(&fields::values(fields, "accept").collect::<Vec<_>>()) {
        fields::remove(fields, "accept");
        fields.extend(accepted.into_iter().map(|value| ("accept".to_owned(), value.into_bytes())));
    }
    fields::set(fields, "accept-encoding", b"identity");
    fields::set(fields, "authorization", format!("Bearer {token}").as_bytes());
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
