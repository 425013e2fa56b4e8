//! Answers to requests of a call that has tokens: they must not reveal a token to the tool.
//!
//! A service that repeats its request would hand the token to the tool. So this removes header fields that hold it, and
//! breaks a body that holds it off before the token's first byte. It looks for all tokens of the call in all its
//! answers. It also looks for the start of a signature, which makes a token usable, because a service may cut off what
//! it repeats. A request with a token asks for a plain answer. This refuses an answer in which it could find nothing,
//! because it is compressed or in another encoding of characters.

use zeroize::Zeroizing;

use crate::head::{Field, values};

/// The length of the part of a signature to look for, in bytes: 120 bits, which do not occur by chance. A shorter last
/// part of a token is no signature.
pub const SIGNATURE_BYTES: usize = 20;

/// Tokens that the requests of one call may carry. There is one for each destination, and another after a challenge. Every
/// byte of an answer is compared with all of them.
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
pub const CREDENTIAL_FIELDS: [&str; 6] = [
    "authorization",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "www-authenticate",
    "authentication-info",
];

/// The places in an answer that could hide a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hidden {
    /// By this `Content-Encoding`.
    ContentCoding(String),
    /// By this `Transfer-Encoding`.
    TransferCoding(String),
    /// By an encoding of characters: the `Content-Type`, in lower case.
    Charset(String),
}

/// How a token could be hidden in an answer with this head. None: it is plain.
pub fn hidden(head: &[Field<'_>]) -> Option<Hidden> {
    if let Some(coding) = other_coding(head, "content-encoding", "identity") {
        return Some(Hidden::ContentCoding(coding));
    }
    if let Some(coding) = other_coding(head, "transfer-encoding", "chunked") {
        return Some(Hidden::TransferCoding(coding));
    }
    let mut types = values(head, "content-type").map(|value| String::from_utf8_lossy(value).to_ascii_lowercase());
    let is_other = |charset: &str| {
        let charset = charset.trim_start_matches(|character: char| " \t=*\"'".contains(character));
        !ASCII_CHARSETS.iter().any(|known| charset.starts_with(known))
    };
    types.find(|value| value.split("charset").skip(1).any(is_other)).map(Hidden::Charset)
}

/// The first coding that a field names besides the one that changes nothing.
fn other_coding(head: &[Field<'_>], name: &str, harmless: &str) -> Option<String> {
    values(head, name).find_map(|value| {
        let value = String::from_utf8_lossy(value);
        let mut codings = value.split(',').map(str::trim);
        codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(harmless)).map(str::to_owned)
    })
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

/// An answer repeats a token: its body ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tells;

/// Finds tokens in an answer. Bytes of its body that may be the start of a token wait for those that follow.
#[derive(Default)]
pub struct Scrub {
    /// How many tokens of the call are looked for.
    known: usize,
    needles: Vec<Needle>,
    held: Vec<u8>,
}

impl Scrub {
    /// How many tokens of the call are looked for.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Looks for these tokens, too, which the call has got meanwhile.
    pub fn learn(&mut self, tokens: &[Zeroizing<String>]) {
        self.known = self.known.saturating_add(tokens.len());
        self.needles.extend(tokens.iter().flat_map(|token| secrets(token)));
    }

    /// Whether the value of a header field tells a token.
    pub fn is_told_by(&self, value: &[u8]) -> bool {
        self.needles.iter().any(|needle| needle.is_in(value))
    }

    /// Takes bytes of the body, and returns those that are no part of a token.
    pub fn pass(&mut self, data: &[u8]) -> Result<Vec<u8>, Tells> {
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

    /// The rest at the end.
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
        let mut scrub = Scrub::default();
        scrub.learn(&[Zeroizing::new(token.to_owned())]);
        let mut seen = Vec::new();
        for chunk in text.as_bytes().chunks(length) {
            match scrub.pass(chunk) {
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
        assert_eq!(scrub.pass(b"a"), Ok(b"a".to_vec()));
        scrub.learn(&[Zeroizing::new(token())]);
        assert_eq!(scrub.known(), 1);
        assert_eq!(scrub.pass(token().as_bytes()), Err(Tells));
    }

    #[test]
    fn a_head_that_could_hide_a_token_says_how() {
        for (name, value, expected) in [
            ("content-encoding", "identity, GZIP", Some(Hidden::ContentCoding("GZIP".to_owned()))),
            ("content-encoding", "identity", None),
            ("transfer-encoding", "gzip, chunked", Some(Hidden::TransferCoding("gzip".to_owned()))),
            (
                "content-type",
                "text/plain; Charset=utf-16",
                Some(Hidden::Charset("text/plain; charset=utf-16".to_owned())),
            ),
            ("content-type", "application/json; charset=\"utf-8\"", None),
        ] {
            assert_eq!(hidden(&[(name, value.as_bytes())]), expected, "{name}: {value}");
        }
    }
}
