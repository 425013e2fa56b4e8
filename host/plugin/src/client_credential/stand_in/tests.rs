use std::collections::VecDeque;

use http::StatusCode;
use http_body_util::{Empty, Full};

use super::*;
use crate::random::SystemRandomness;

const AUTHORITY: &str = "https://login.example";
const TOKEN: &str = "https://login.example/contoso/oauth2/v2.0/token";
const SECRET: &str = "s3cr~t & more+";
/// The secret as a form has it.
const ENCODED: &str = "s3cr%7Et+%26+more%2B";

/// A source with these secrets, of which the last is the one that counts.
struct Source(Mutex<Vec<&'static str>>);

#[async_trait]
impl ClientCredential for Source {
    async fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        let secrets = self.0.lock().unwrap();
        let secret = secrets.last().ok_or_else(|| CredentialError::NotConfigured("none".to_owned()))?;
        Ok(Credential::Secret(Zeroizing::new((*secret).to_owned())))
    }
}

/// Keeps the requests: the length that they declare, and the body.
#[derive(Default)]
struct Sent(Mutex<Vec<(Option<String>, String)>>);

impl Outbound for Sent {
    fn send(
        self: Arc<Self>,
        request: Request<RequestBody>,
        _: Option<RequestOptions>,
    ) -> BoxFuture<Result<Response<ResponseBody>, Error>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let length = head.headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned());
            let body = body.collect().await?.to_bytes();
            self.0.lock().unwrap().push((length, String::from_utf8(body.to_vec()).unwrap()));
            let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
            Ok(Response::builder().status(StatusCode::OK).body(empty).unwrap())
        })
    }
}

/// A body in several frames.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

struct Bench {
    source: Arc<Source>,
    stand_ins: Arc<StandIns>,
    sent: Arc<Sent>,
}

impl Bench {
    fn new(authority: &str) -> Self {
        let source = Arc::new(Source(Mutex::new(vec![SECRET])));
        let random = Arc::new(SystemRandomness::default());
        let stand_ins = StandIns::new(Arc::clone(&source) as Arc<dyn ClientCredential>, authority, random);
        Self { source, stand_ins: Arc::new(stand_ins), sent: Arc::default() }
    }

    async fn stand_in(&self) -> String {
        secret(self.stand_ins.obtain(TOKEN).await.unwrap())
    }

    /// What goes out of a request of the component.
    async fn sends(&self, method: Method, url: &str, body: &str) -> (Option<String>, String) {
        let pieces = body.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let request = Request::builder().method(method).uri(url).header(CONTENT_LENGTH, body.len());
        let request = request.body(Pieces(pieces).boxed_unsync()).unwrap();
        let http = self.stand_ins.filled_in(Arc::clone(&self.sent) as Arc<dyn Outbound>);
        http.send(request, None).await.unwrap();
        self.sent.0.lock().unwrap().pop().unwrap()
    }
}

fn secret(credential: Credential) -> String {
    let Credential::Secret(secret) = credential else { panic!("{credential:?}") };
    secret.to_string()
}

#[tokio::test]
async fn the_component_gets_a_stand_in_and_the_token_endpoint_gets_the_secret() {
    for authority in [AUTHORITY, "https://LOGIN.example:443/"] {
        let bench = Bench::new(authority);
        let stand_in = bench.stand_in().await;
        assert!(!stand_in.contains("s3cr"), "{stand_in}");
        assert_eq!(bench.stand_in().await, stand_in, "one secret has one stand-in");
        let form = format!("grant_type=x&client_secret={stand_in}&client_id=a");
        let expected = format!("grant_type=x&client_secret={ENCODED}&client_id=a");
        assert_eq!(bench.sends(Method::POST, TOKEN, &form).await, (None, expected));
    }
}

#[tokio::test]
async fn a_form_with_a_secret_of_the_length_of_entra_ids_declares_its_length() {
    // In a form, `~` has three characters.
    for secret in ["1234567890abcdefghijABCDEFGHIJ._-~", "x".repeat(200).leak()] {
        let bench = Bench::new(AUTHORITY);
        bench.source.0.lock().unwrap().push(secret);
        let stand_in = bench.stand_in().await;
        let form = format!("client_secret={stand_in}&client_id=a");
        let expected = format!("client_secret={}&client_id=a", secret.replace('~', "%7E"));
        assert_eq!(bench.sends(Method::POST, TOKEN, &form).await, (Some(expected.len().to_string()), expected));
    }
}

#[tokio::test]
async fn no_other_request_and_no_other_field_gets_the_secret() {
    let bench = Bench::new(AUTHORITY);
    let stand_in = bench.stand_in().await;
    let form = format!("client_secret={stand_in}");
    for (method, url) in [
        (Method::GET, TOKEN),
        (Method::POST, "https://graph.example/contoso/oauth2/v2.0/token"),
        (Method::POST, "http://login.example/contoso/oauth2/v2.0/token"),
        (Method::POST, "https://login.example:8443/contoso/oauth2/v2.0/token"),
        (Method::POST, "https://login.example.evil.example/contoso/oauth2/v2.0/token"),
        (Method::POST, "https://login.example/oauth2/v2.0/token"),
        (Method::POST, "https://login.example//oauth2/v2.0/token"),
        (Method::POST, "https://login.example/a/b/oauth2/v2.0/token"),
        (Method::POST, "https://login.example/contoso/oauth2/v2.0/token?x"),
        (Method::POST, "https://login.example/contoso?/oauth2/v2.0/token"),
        (Method::POST, "https://login.example/contoso/oauth2/v2.0/devicecode"),
    ] {
        let (_, sent) = bench.sends(method.clone(), url, &form).await;
        assert_eq!(sent, form, "{method} {url}");
    }
    for form in [
        format!("scope={stand_in}"),
        format!("x_client_secret={stand_in}"),
        format!("client_secret={stand_in}x"),
        format!("client_secret=x{stand_in}"),
        "client_secret=stand-in-00000000000000000000000000000000".to_owned(),
        "client_secret".to_owned(),
        String::new(),
    ] {
        assert_eq!(bench.sends(Method::POST, TOKEN, &form).await.1, form);
    }
}

#[tokio::test]
async fn a_secret_that_was_replaced_gives_way_to_the_new_one() {
    let bench = Bench::new(AUTHORITY);
    let old = bench.stand_in().await;
    let refused = Credential::Secret(Zeroizing::new(old.clone()));
    assert_eq!(bench.stand_ins.replacement(TOKEN, &refused).await, Ok(Credential::None), "there is no other");
    bench.source.0.lock().unwrap().push("new");
    let new = secret(bench.stand_ins.replacement(TOKEN, &refused).await.unwrap());
    assert_ne!(new, old);
    // A request that was on its way has the old one.
    for (stand_in, expected) in [(&old, ENCODED), (&new, "new")] {
        let (_, sent) = bench.sends(Method::POST, TOKEN, &format!("client_secret={stand_in}")).await;
        assert_eq!(sent, format!("client_secret={expected}"));
    }
}

#[tokio::test]
async fn a_secret_of_long_ago_is_forgotten_and_its_stand_in_is_replaced() {
    let bench = Bench::new(AUTHORITY);
    let old = bench.stand_in().await;
    for new in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        bench.source.0.lock().unwrap().push(new);
        bench.stand_in().await;
    }
    let form = format!("client_secret={old}");
    assert_eq!(bench.sends(Method::POST, TOKEN, &form).await.1, form);
    let other = bench.stand_ins.replacement(TOKEN, &Credential::Secret(Zeroizing::new(old))).await.unwrap();
    assert_eq!(secret(other), bench.stand_in().await);
}

#[tokio::test]
async fn assertions_and_faults_are_handed_on() {
    struct Assertion;

    #[async_trait]
    impl ClientCredential for Assertion {
        async fn obtain(&self, audience: &str) -> Result<Credential, CredentialError> {
            if audience.is_empty() {
                return Err(CredentialError::Unavailable("away".to_owned()));
            }
            Ok(Credential::Assertion(Zeroizing::new("signed".to_owned())))
        }
    }

    let stand_ins = StandIns::new(Arc::new(Assertion), AUTHORITY, Arc::new(SystemRandomness::default()));
    let assertion = Credential::Assertion(Zeroizing::new("signed".to_owned()));
    assert_eq!(stand_ins.obtain(TOKEN).await, Ok(assertion.clone()));
    assert_eq!(stand_ins.replacement(TOKEN, &assertion).await, Ok(Credential::None));
    assert_eq!(stand_ins.obtain("").await, Err(CredentialError::Unavailable("away".to_owned())));
}

#[tokio::test]
async fn a_form_that_is_too_long_is_refused() {
    let bench = Bench::new(AUTHORITY);
    let body = Full::new(Bytes::from(vec![b'a'; MAX_FORM_BYTES + 1])).map_err(|never| match never {});
    let request = Request::post(TOKEN).body(body.boxed_unsync()).unwrap();
    let http = bench.stand_ins.filled_in(Arc::clone(&bench.sent) as Arc<dyn Outbound>);
    let answer = http.send(request, None).await;
    assert!(matches!(answer, Err(Error::HttpRequestBodySize(Some(1_048_577)))), "{:?}", answer.err());
}

#[tokio::test]
async fn a_form_is_read_whole_whatever_length_it_declares() {
    for declared in [None, Some(0), Some(5), Some(1_000), Some(usize::MAX)] {
        let pieces = b"client_id=a&assertion=b".chunks(7).map(Bytes::copy_from_slice).collect();
        let form = form(Pieces(pieces).boxed_unsync(), declared).await.unwrap();
        assert_eq!(form, "client_id=a&assertion=b", "{declared:?}");
    }
}

#[test]
fn a_form_that_is_as_long_as_declared_stays_in_its_place() {
    let mut form = Zeroizing::new(Vec::with_capacity(20));
    append(&mut form, b"0123456789");
    let place = form.as_ptr();
    append(&mut form, b"0123456789");
    assert_eq!((form.as_slice(), form.as_ptr()), (&b"01234567890123456789"[..], place));
    append(&mut form, b"and more");
    assert_eq!(form.as_slice(), b"01234567890123456789and more");
}
