//! Answers to requests of a tool: nothing in them tells a token of the call, by the rules of `entra_mcp_boundary::scrub`.

use entra_mcp_boundary::scrub::{CREDENTIAL_FIELDS, Scrub, hidden};
use zeroize::Zeroizing;

use crate::fields::{self, Field};

/// Whether a token could be hidden in an answer with this head: it is compressed, or in another encoding of characters.
pub fn hides(head: &[Field]) -> bool {
    hidden(&fields::head(head)).is_some()
}

/// The fields that a tool gets. `carried`: the request had a token.
pub fn cleaned(head: &[Field], carried: bool, tokens: &[Zeroizing<String>]) -> Vec<Field> {
    let mut scrub = Scrub::default();
    scrub.learn(tokens);
    let tells =
        |(name, value): &&Field| (carried && CREDENTIAL_FIELDS.contains(&name.as_str())) || scrub.is_told_by(value);
    head.iter().filter(|field| !tells(field)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    fn token() -> String {
        format!("eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn1.{SIGNATURE}")
    }

    #[test]
    fn heads_hide_no_token_and_repeat_none() {
        let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        for (name, value, hidden) in [
            ("content-encoding", "gzip", true),
            ("content-encoding", "identity", false),
            ("transfer-encoding", "gzip, chunked", true),
            ("content-type", "application/json; charset=UTF-16LE", true),
            ("content-type", "application/json; charset=\"utf-8\"", false),
        ] {
            assert_eq!(hides(&[field(name, value)]), hidden, "{name}: {value}");
        }
        let head =
            [field("set-cookie", "a"), field("location", &format!("https://a/?{SIGNATURE}")), field("etag", "1")];
        let tokens = [Zeroizing::new(token())];
        assert_eq!(cleaned(&head, true, &tokens), [field("etag", "1")]);
        assert_eq!(cleaned(&head, false, &[]).len(), 3);
    }
}
