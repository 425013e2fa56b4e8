//! Answers to requests that carried a token: nothing in them tells the token.
//!
//! A service that repeats what it was sent would hand the token to the tool. Header fields that hold it are removed, and a
//! body that holds it breaks off before its first byte. The part that makes a token usable, its signature, is looked for as
//! well. The request asks for an uncompressed answer; a compressed one, in which nothing could be found, is refused.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::Error;
use zeroize::Zeroizing;

use crate::outbound::ResponseBody;

/// Shortest last part of a token that is looked for by itself: shorter ones could occur by chance.
const MIN_SIGNATURE_BYTES: usize = 20;

/// Fields that have to do with credentials, and are of no use to a tool that has none.
const CREDENTIAL_FIELDS: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("authentication-info"),
];

/// The answer without anything that tells `token`.
pub(super) fn scrubbed(response: Response<ResponseBody>, token: &str) -> Result<Response<ResponseBody>, Error> {
    let (mut parts, inner) = response.into_parts();
    if let Some(coding) = parts.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        tracing::warn!(
            ?coding,
            "an answer to a request with a token is compressed, although the request asks for none of that"
        );
        return Err(Error::HttpResponseContentCoding(coding.to_str().ok().map(str::to_owned)));
    }
    let secrets = secrets(token);
    remove_secrets(&mut parts.headers, &secrets);
    // The reason phrase of HTTP/1.1 is there.
    parts.extensions = http::Extensions::new();
    let needles = secrets.into_iter().map(Needle::new).collect();
    let body = Scrubbed { inner, needles, held: BytesMut::new(), ended: false };
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// What must not be told: the token, and its signature.
fn secrets(token: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let signature = token.rsplit_once('.').map(|(_, signature)| signature);
    let signature = signature.filter(|signature| signature.len() >= MIN_SIGNATURE_BYTES);
    [Some(token), signature].into_iter().flatten().map(|secret| Zeroizing::new(secret.as_bytes().to_vec())).collect()
}

fn remove_secrets(headers: &mut HeaderMap, secrets: &[Zeroizing<Vec<u8>>]) {
    let telling = |value: &[u8]| {
        secrets
            .iter()
            .any(|secret| !secret.is_empty() && value.windows(secret.len()).any(|window| window == secret.as_slice()))
    };
    let mut removed: Vec<HeaderName> = CREDENTIAL_FIELDS.into();
    for (name, value) in headers.iter() {
        if telling(value.as_bytes()) {
            tracing::warn!(%name, "a header field repeats the token of its request, and was removed");
            removed.push(name.clone());
        }
    }
    for name in removed {
        headers.remove(name);
    }
}

/// Looks for a secret in a stream of bytes (Knuth, Morris and Pratt).
struct Needle {
    secret: Zeroizing<Vec<u8>>,
    /// For each prefix of the secret, the length of the longest proper prefix that is also its end.
    fallback: Vec<usize>,
    /// How many bytes of the secret the stream ends with.
    matched: usize,
}

impl Needle {
    fn new(secret: Zeroizing<Vec<u8>>) -> Self {
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
        Self { secret, fallback, matched: 0 }
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

/// A body that breaks off before a secret. The bytes that may be the begin of one wait for those that follow.
struct Scrubbed {
    inner: ResponseBody,
    needles: Vec<Needle>,
    held: BytesMut,
    ended: bool,
}

impl Scrubbed {
    /// Takes bytes, and returns those that are no part of a secret. `None`: a secret is complete.
    fn pass(&mut self, data: &[u8]) -> Option<Bytes> {
        for byte in data {
            // Every needle takes every byte.
            let complete = self.needles.iter_mut().fold(false, |complete, needle| needle.take(*byte) | complete);
            if complete {
                return None;
            }
        }
        self.held.extend_from_slice(data);
        let begun = self.needles.iter().map(|needle| needle.matched).max().unwrap_or_default();
        Some(self.held.split_to(self.held.len().saturating_sub(begun)).freeze())
    }
}

impl Body for Scrubbed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        while !self.ended {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                None => {
                    self.ended = true;
                    let rest = self.held.split().freeze();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => {
                    // Trailers are left out: they could hold the token too.
                    let Ok(data) = frame.into_data() else { continue };
                    match self.pass(&data) {
                        Some(passed) if passed.is_empty() => {}
                        Some(passed) => return Poll::Ready(Some(Ok(Frame::data(passed)))),
                        None => {
                            self.ended = true;
                            self.held.clear();
                            tracing::warn!("an answer repeats the token of its request, and was broken off");
                            return Poll::Ready(Some(Err(Error::InternalError(Some(
                                "the answer repeats the token that was added to the request".to_owned(),
                            )))));
                        }
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http::HeaderValue;

    use super::*;

    const SIGNATURE: &str = "c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    fn token() -> String {
        format!("eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn1.{SIGNATURE}")
    }

    struct Chunks(VecDeque<Frame<Bytes>>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn chunked(text: &str, length: usize) -> Response<ResponseBody> {
        let frames = text.as_bytes().chunks(length).map(|chunk| Frame::data(Bytes::copy_from_slice(chunk)));
        Response::new(Chunks(frames.collect()).boxed_unsync())
    }

    /// What the tool gets, and whether the body broke off.
    async fn seen(response: Response<ResponseBody>) -> (String, bool) {
        let mut body = scrubbed(response, &token()).unwrap().into_body();
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => seen.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => {
                    assert!(matches!(error, Error::InternalError(Some(_))));
                    assert!(body.frame().await.is_none());
                    return (String::from_utf8(seen).unwrap(), true);
                }
            }
        }
        (String::from_utf8(seen).unwrap(), false)
    }

    #[tokio::test]
    async fn other_bodies_pass_unchanged_however_they_are_cut() {
        let token = token();
        // The begin of the token, and a token that ends differently.
        for text in ["", "hello", "eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn0.eyJ", &token[..token.len() - 1]] {
            for length in [1, 2, 7, 1000] {
                assert_eq!(seen(chunked(text, length)).await, (text.to_owned(), false), "{length}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_breaks_off_before_the_token_however_it_is_cut() {
        let text = format!("{{\"Authorization\": \"Bearer {}\"}}", token());
        for length in 1..text.len() {
            let (seen, broken) = seen(chunked(&text, length)).await;
            assert!(broken, "{length}");
            assert!("{\"Authorization\": \"Bearer ".starts_with(&seen), "{length}: {seen}");
        }
    }

    #[tokio::test]
    async fn a_body_breaks_off_before_the_signature_alone() {
        for length in [1, 3, 1000] {
            let (seen, broken) = seen(chunked(&format!("[\"c2lnbmF0{SIGNATURE}\"]"), length)).await;
            assert!(broken, "{length}");
            assert!("[\"c2lnbmF0".starts_with(&seen), "{length}: {seen}");
        }
    }

    #[tokio::test]
    async fn trailers_are_left_out() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-echo", token().parse().unwrap());
        let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
        assert_eq!(seen(Response::new(Chunks(frames.into()).boxed_unsync())).await, ("hello".to_owned(), false));
    }

    #[test]
    fn fields_that_repeat_the_token_or_carry_credentials_are_removed() {
        let mut response = chunked("", 1);
        for (name, value) in [
            ("x-echo", format!("Bearer {}", token())),
            ("location", format!("https://api.contoso.com/?token={SIGNATURE}")),
            ("set-cookie", "session=1".to_owned()),
            ("www-authenticate", "Bearer error=\"invalid_token\"".to_owned()),
            ("x-other", "kept".to_owned()),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
        }
        let response = scrubbed(response, &token()).unwrap();
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-other"]);
    }

    #[test]
    fn a_compressed_answer_is_refused() {
        let mut response = chunked("", 1);
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let refused = scrubbed(response, &token()).unwrap_err();
        assert!(matches!(refused, Error::HttpResponseContentCoding(Some(coding)) if coding == "gzip"));
    }
}
