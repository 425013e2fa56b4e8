//! Answers to requests of a tool: nothing in them tells a token of the call. The rules are those of the program
//! (`host/plugin/src/tool_components/scrub.rs`), which says why: a body breaks off before a token, or before the begin of its
//! signature.

use zeroize::Zeroizing;

use crate::fields::{self, Field};

/// How much of a signature is looked for, in bytes: 120 bits, which do not occur by chance.
const SIGNATURE_BYTES: usize = 20;

/// Most different tokens of one call.
pub const MAX_TOKENS: usize = 32;

/// Names of encodings of characters, or what they begin with, in which the characters of a token are the bytes of ASCII.
const ASCII_CHARSETS: [&str; 16] = [
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "iso-8859-",
    "iso8859-",
    "latin1",
    "windows-125",
    "windows-874",
    "cp125",
    "koi8-",
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
    "euc-",
];

/// Fields that have to do with credentials, and are of no use to a tool that has none.
const CREDENTIAL_FIELDS: [&str; 6] = [
    "authorization",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "www-authenticate",
    "authentication-info",
];

/// Whether a token could be hidden in an answer with this head: it is compressed, or in another encoding of characters.
pub fn hides(head: &[Field]) -> bool {
    let other_coding = |name: &str, harmless: &str| {
        fields::values(head, name).any(|value| {
            let value = String::from_utf8_lossy(value);
            value.split(',').any(|coding| !coding.trim().is_empty() && !coding.trim().eq_ignore_ascii_case(harmless))
        })
    };
    let other_charset = fields::values(head, "content-type").any(|value| {
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        value.split("charset").skip(1).any(|charset| {
            let charset = charset.trim_start_matches(|character: char| " \t=*\"'".contains(character));
            !ASCII_CHARSETS.iter().any(|known| charset.starts_with(known))
        })
    });
    other_coding("content-encoding", "identity") || other_coding("transfer-encoding", "chunked") || other_charset
}

/// The fields that a tool gets. `carried`: the request had a token.
pub fn cleaned(head: &[Field], carried: bool, tokens: &[Zeroizing<String>]) -> Vec<Field> {
    let needles: Vec<_> = tokens.iter().flat_map(|token| secrets(token)).collect();
    let tells = |(name, value): &&Field| {
        let credential = carried && CREDENTIAL_FIELDS.contains(&name.as_str());
        credential || needles.iter().any(|needle| needle.is_in(value))
    };
    head.iter().filter(|field| !tells(field)).cloned().collect()
}

/// What must not be told: the token up to the begin of its signature, and that begin alone. A token without a signature is
/// looked for as a whole.
fn secrets(token: &str) -> Vec<Needle> {
    let signature = token.rsplit_once('.').map(|(signed, _)| signed.len().saturating_add(1));
    let signature = signature.and_then(|start| Some((start, start.checked_add(SIGNATURE_BYTES)?)));
    let parts = signature.and_then(|(start, end)| Some([token.get(..end)?, token.get(start..end)?]));
    match parts {
        Some(parts) => parts.into_iter().map(|part| Needle::new(part, false)).collect(),
        None => vec![Needle::new(token, true)],
    }
}

/// Looks for a secret in a stream of bytes (Knuth, Morris and Pratt).
struct Needle {
    secret: Zeroizing<Vec<u8>>,
    /// For each prefix of the secret, the length of the longest proper prefix that is also its end.
    fallback: Vec<usize>,
    /// How many bytes of the secret the stream ends with.
    matched: usize,
    /// It has no signature: its begin may be all that makes it usable.
    opaque: bool,
}

impl Needle {
    fn new(secret: &str, opaque: bool) -> Self {
        let secret = Zeroizing::new(secret.as_bytes().to_vec());
        let mut fallback = vec![0; secret.len()];
        let mut length = 0;
        for (position, byte) in secret.iter().enumerate().skip(1) {
            while length > 0 && secret.get(length) != Some(byte) {
                length = fallback.get(length.wrapping_sub(1)).copied().unwrap_or_default();
            }
            if secret.get(length) == Some(byte) {
                length = length.saturating_add(1);
            }
            if let Some(place) = fallback.get_mut(position) {
                *place = length;
            }
        }
        Self { secret, fallback, matched: 0, opaque }
    }

    fn is_in(&self, value: &[u8]) -> bool {
        !self.secret.is_empty() && value.windows(self.secret.len()).any(|window| window == self.secret.as_slice())
    }

    /// Whether the stream ends with so much of the secret that it must not be told.
    fn ends_telling(&self) -> bool {
        self.opaque && self.matched > SIGNATURE_BYTES
    }

    /// Takes the next byte. Returns whether the secret is complete.
    fn take(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.secret.get(self.matched) != Some(&byte) {
            self.matched = self.fallback.get(self.matched.wrapping_sub(1)).copied().unwrap_or_default();
        }
        if self.secret.get(self.matched) == Some(&byte) {
            self.matched = self.matched.saturating_add(1);
        }
        !self.secret.is_empty() && self.matched == self.secret.len()
    }
}

/// The body repeats a token: it ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tells;

/// Finds tokens in a body. The bytes that may be the begin of one wait for those that follow.
#[derive(Default)]
pub struct Scrub {
    /// How many tokens of the call are looked for.
    known: usize,
    needles: Vec<Needle>,
    held: Vec<u8>,
}

impl Scrub {
    /// Takes bytes, and returns those that are no part of a token. `tokens` are all of the call, which may have got further
    /// ones meanwhile.
    pub fn pass(&mut self, data: &[u8], tokens: &[Zeroizing<String>]) -> Result<Vec<u8>, Tells> {
        for token in tokens.get(self.known..).unwrap_or_default() {
            self.needles.extend(secrets(token));
        }
        self.known = tokens.len();
        for byte in data {
            // Every needle takes every byte.
            let complete = self.needles.iter_mut().fold(false, |complete, needle| needle.take(*byte) | complete);
            if complete {
                self.held.clear();
                return Err(Tells);
            }
        }
        self.held.extend_from_slice(data);
        let begun = self.needles.iter().map(|needle| needle.matched).max().unwrap_or_default();
        let rest = self.held.split_off(self.held.len().saturating_sub(begun));
        Ok(std::mem::replace(&mut self.held, rest))
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Result<Vec<u8>, Tells> {
        let held = std::mem::take(&mut self.held);
        if self.needles.iter().any(Needle::ends_telling) { Err(Tells) } else { Ok(held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    fn token() -> String {
        format!("eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn1.{SIGNATURE}")
    }

    /// What the tool gets, and whether the body broke off.
    fn seen(text: &str, length: usize, token: &str) -> (String, bool) {
        let (mut scrub, tokens) = (Scrub::default(), [Zeroizing::new(token.to_owned())]);
        let mut seen = Vec::new();
        for chunk in text.as_bytes().chunks(length) {
            match scrub.pass(chunk, &tokens) {
                Ok(mut passed) => seen.append(&mut passed),
                Err(Tells) => return (String::from_utf8(seen).unwrap(), true),
            }
        }
        match scrub.finish() {
            Ok(mut rest) => seen.append(&mut rest),
            Err(Tells) => return (String::from_utf8(seen).unwrap(), true),
        }
        (String::from_utf8(seen).unwrap(), false)
    }

    #[test]
    fn a_body_breaks_off_before_a_token_however_it_is_cut() {
        let token = token();
        let cut = &token[..token.len() - 1];
        for text in [format!("Bearer {token}!"), format!("Bearer {cut}"), format!("Bearer {SIGNATURE}")] {
            for length in 1..text.len() {
                let (seen, broken) = seen(&text, length, &token);
                assert!(broken && "Bearer ".starts_with(&seen), "{length}: {seen}");
            }
        }
        let opaque = "EwB4A8l6BAAUO9chh8cJscQLmU";
        assert!(seen(&opaque[..opaque.len() - 1], 3, opaque).1);
    }

    #[test]
    fn other_bodies_pass_unchanged_however_they_are_cut() {
        let token = token();
        let begin = &token[..token.len() - SIGNATURE.len() + SIGNATURE_BYTES - 1];
        for text in ["", "hello", "eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn0.eyJ", begin] {
            for length in [1, 2, 7, 1000] {
                assert_eq!(seen(text, length, &token), (text.to_owned(), false), "{length}");
            }
        }
    }

    #[test]
    fn a_token_that_came_later_is_looked_for_too() {
        let mut scrub = Scrub::default();
        assert_eq!(scrub.pass(b"a", &[]), Ok(b"a".to_vec()));
        assert_eq!(scrub.pass(token().as_bytes(), &[Zeroizing::new(token())]), Err(Tells));
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
