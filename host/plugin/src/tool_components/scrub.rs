//! Answers to requests of a call that has tokens: nothing in them tells one of them, by the rules of
//! `entra_mcp_boundary::scrub`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use entra_mcp_boundary::scrub::{CREDENTIAL_FIELDS, Hidden, Scrub, Tells, hidden};
use http::header::HeaderName;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::Error;

use super::call_context::CallTokens;
use crate::outbound::ResponseBody;

/// Whether the request of an answer carried a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CarriedToken {
    Token,
    NoToken,
}

/// The answer without anything that tells a token of its call.
pub(super) fn scrubbed(
    response: Response<ResponseBody>,
    tokens: &Arc<CallTokens>,
    carried: CarriedToken,
) -> Result<Response<ResponseBody>, Error> {
    let (mut parts, inner) = response.into_parts();
    if carried == CarriedToken::Token {
        check_plain(&parts.headers).inspect_err(|error| {
            tracing::warn!(
                ?error,
                "an answer to a request with a token is encoded, although the request asks for none of that"
            );
        })?;
        for name in CREDENTIAL_FIELDS {
            parts.headers.remove(name);
        }
        // The reason phrase of HTTP/1.1 is there.
        parts.extensions = http::Extensions::new();
    }
    let mut body = Scrubbed { inner, tokens: Arc::clone(tokens), scrub: Scrub::default(), ended: false };
    body.learn();
    remove_tokens(&mut parts.headers, &body.scrub);
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// Refuses an answer in which a token could not be found.
fn check_plain(headers: &HeaderMap) -> Result<(), Error> {
    let head: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    match hidden(&head) {
        None => Ok(()),
        Some(Hidden::ContentCoding(coding)) => Err(Error::HttpResponseContentCoding(Some(coding))),
        Some(Hidden::TransferCoding(coding)) => Err(Error::HttpResponseTransferCoding(Some(coding))),
        Some(Hidden::Charset(value)) => {
            Err(Error::InternalError(Some(format!("the answer has another charset than UTF-8: {value:?}"))))
        }
    }
}

fn remove_tokens(headers: &mut HeaderMap, scrub: &Scrub) {
    let mut removed: Vec<HeaderName> = Vec::new();
    for (name, value) in headers.iter() {
        if scrub.is_told_by(value.as_bytes()) {
            tracing::warn!(%name, "a header field repeats a token of its call, and was removed");
            removed.push(name.clone());
        }
    }
    for name in removed {
        headers.remove(name);
    }
}

/// A body that breaks off before a token.
struct Scrubbed {
    inner: ResponseBody,
    tokens: Arc<CallTokens>,
    scrub: Scrub,
    ended: bool,
}

impl Scrubbed {
    /// Looks for tokens, too, that the call has got meanwhile.
    fn learn(&mut self) {
        self.scrub.learn(&self.tokens.after(self.scrub.known()));
    }

    /// Ends before a token.
    fn break_off(&mut self) -> Error {
        self.ended = true;
        tracing::warn!("an answer repeats a token of its call, and was broken off");
        Error::InternalError(Some("the answer repeats the token that was added to the request".to_owned()))
    }
}

impl Body for Scrubbed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        while !self.ended {
            let passed = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                None => {
                    self.ended = true;
                    self.scrub.finish()
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => {
                    // Trailers are left out: they could hold the token too.
                    let Ok(data) = frame.into_data() else { continue };
                    self.learn();
                    self.scrub.pass(&data)
                }
            };
            match passed {
                Ok(passed) if passed.is_empty() => {}
                Ok(passed) => return Poll::Ready(Some(Ok(Frame::data(passed.into())))),
                Err(Tells) => return Poll::Ready(Some(Err(self.break_off()))),
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use entra_mcp_boundary::scrub::SIGNATURE_BYTES;
    use http::{HeaderValue, header};
    use zeroize::Zeroizing;

    use super::*;

    const SIGNATURE: &str = "c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    fn token() -> String {
        format!("eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn1.{SIGNATURE}")
    }

    fn tokens() -> Arc<CallTokens> {
        let tokens = Arc::<CallTokens>::default();
        assert!(tokens.remember(&Zeroizing::new(token())));
        tokens
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
        let mut body = scrubbed(response, &tokens(), CarriedToken::Token).unwrap().into_body();
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
        // The begin of the token, and a token without most of its signature.
        let begin = &token[..token.len() - SIGNATURE.len() + SIGNATURE_BYTES - 1];
        for text in ["", "hello", "eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn0.eyJ", begin] {
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
        let response = scrubbed(response, &tokens(), CarriedToken::Token).unwrap();
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-other"]);
    }

    #[tokio::test]
    async fn a_body_breaks_off_before_a_token_that_is_cut_off_at_its_end() {
        let token = token();
        for text in [format!("Bearer {}", &token[..token.len() - 1]), format!("Bearer {}!", &token[..token.len() - 1])]
        {
            for length in [1, 7, 1000] {
                let (seen, broken) = seen(chunked(&text, length)).await;
                assert!(broken, "{length}");
                assert!("Bearer ".starts_with(&seen), "{length}: {seen}");
            }
        }
    }

    #[tokio::test]
    async fn a_token_without_a_signature_is_not_told_but_for_its_last_character() {
        let tokens = Arc::<CallTokens>::default();
        let token = "EwB4A8l6BAAUO9chh8cJscQLmU";
        assert!(tokens.remember(&Zeroizing::new(token.to_owned())));
        for (told, breaks) in [(SIGNATURE_BYTES, false), (token.len() - 1, true)] {
            let body = scrubbed(chunked(&token[..told], 3), &tokens, CarriedToken::Token).unwrap().into_body();
            assert_eq!(body.collect().await.is_err(), breaks, "{told}");
        }
    }

    #[tokio::test]
    async fn every_token_of_the_call_is_looked_for_also_one_that_came_later_and_where_none_was_sent() {
        let tokens = Arc::<CallTokens>::default();
        for carried in [CarriedToken::NoToken, CarriedToken::Token] {
            let answer = scrubbed(chunked(&token(), 1000), &tokens, carried).unwrap();
            assert!(tokens.remember(&Zeroizing::new("header.payload.another-signature-that-is-long".to_owned())));
            assert!(tokens.remember(&Zeroizing::new(token())));
            assert!(answer.into_body().collect().await.is_err(), "{carried:?}");
        }
    }

    #[test]
    fn a_call_has_a_bounded_number_of_tokens() {
        let tokens = CallTokens::default();
        let remember = |number: usize| tokens.remember(&Zeroizing::new(number.to_string()));
        assert!((0..32).all(remember));
        assert!(!remember(32));
        assert!(remember(0));
    }

    #[test]
    fn an_answer_in_which_a_token_could_not_be_found_is_refused() {
        for (name, values, refused) in [
            ("content-encoding", &["gzip"][..], true),
            ("content-encoding", &["identity", "gzip"], true),
            ("content-encoding", &["identity, br"], true),
            ("content-encoding", &["Identity", ""], false),
            ("transfer-encoding", &["gzip, chunked"], true),
            ("transfer-encoding", &["chunked"], false),
            ("content-type", &["application/json; charset=UTF-16LE"], true),
            ("content-type", &["text/plain;charset=\"utf-32\""], true),
            ("content-type", &["text/plain; charset=utf-8; charset=utf-16"], true),
            ("content-type", &["text/plain; charset=ibm037"], true),
            ("content-type", &["text/plain; charset=utf-7"], true),
            ("content-type", &["application/json; charset=\"UTF-8\"; odata.metadata=minimal"], false),
            ("content-type", &["text/html; charset=iso-8859-1"], false),
            ("content-type", &["text/html"], false),
        ] {
            for carried in [CarriedToken::Token, CarriedToken::NoToken] {
                let mut response = chunked("", 1);
                for value in values {
                    response.headers_mut().append(name, HeaderValue::from_static(value));
                }
                let answer = scrubbed(response, &tokens(), carried);
                assert_eq!(answer.is_err(), refused && carried == CarriedToken::Token, "{name}: {values:?}");
            }
        }
    }

    #[test]
    fn a_compressed_answer_is_refused() {
        let mut response = chunked("", 1);
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let refused = scrubbed(response, &tokens(), CarriedToken::Token).unwrap_err();
        assert!(matches!(refused, Error::HttpResponseContentCoding(Some(coding)) if coding == "gzip"));
    }
}
