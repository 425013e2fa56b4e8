//! Tests of `egress.rs`: what leaves for which caller, and what a tool sees of the answer.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::clock::ManualClock;
use crate::outbound::{BoxFuture, NoObserver};
use crate::outbound_http::OutboundHttp;
use crate::tool_components::EgressEntry;
use crate::tool_components::call_context::EndOfCall;

const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
const CHALLENGE: &str = r#"Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlIjoiYzEifX19""#;

/// An API that keeps what it is sent, and answers as it is told.
#[derive(Default)]
struct Api {
    requests: Mutex<Vec<(Request<()>, Bytes)>>,
    answers: Mutex<VecDeque<Response<&'static str>>>,
}

impl Api {
    fn answering(answers: impl IntoIterator<Item = Response<&'static str>>) -> Arc<Self> {
        Arc::new(Self { requests: Mutex::default(), answers: Mutex::new(answers.into_iter().collect()) })
    }

    fn seen(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(request, _)| format!("{} {}", request.method(), request.uri())).collect()
    }

    fn field(&self, number: usize, name: &str) -> Option<String> {
        let requests = self.requests.lock().unwrap();
        requests[number].0.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

impl Outbound for Api {
    fn send(self: Arc<Self>, request: Request<RequestBody>, _: Option<RequestOptions>) -> BoxFuture<Answer> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            self.requests.lock().unwrap().push((Request::from_parts(head, ()), body));
            let answer = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| Response::new("hello"));
            Ok(answer.map(|text| Full::from(text).map_err(|never| match never {}).boxed_unsync()))
        })
    }
}

/// Tokens that tell their caller, their permissions and the refusal before them; and refusals.
#[derive(Default)]
struct Tokens {
    refused: Mutex<VecDeque<Option<DelegationError>>>,
}

#[async_trait]
impl DelegatedTokens for Tokens {
    async fn token(
        &self,
        handle: &str,
        permissions: &[String],
        challenge: Option<Challenge>,
    ) -> Result<Zeroizing<String>, DelegationError> {
        if let Some(Some(refused)) = self.refused.lock().unwrap().pop_front() {
            return Err(refused);
        }
        let after = challenge.map(|challenge| format!("-after-{}-{}", challenge.refused_token, challenge.claims.len()));
        Ok(Zeroizing::new(format!("{handle}-{}{}", permissions.join("+"), after.unwrap_or_default())))
    }
}

fn needs_person() -> DelegationError {
    DelegationError {
        category: DelegationErrorCategory::NeedsPerson,
        code: "sign-in-required".to_owned(),
        message: String::new(),
        claims: None,
        retry_after_seconds: None,
    }
}

const ENTRIES: [(&str, &[&str]); 3] = [
    ("https://graph.microsoft.com", &["Mail.Read"]),
    ("https://api.contoso.com/v1/", &["Orders.Read", "Orders.List"]),
    ("https://public.example", &[]),
];

fn egress(api: &Arc<Api>, refused: impl IntoIterator<Item = Option<DelegationError>>) -> Egress {
    let entries = ENTRIES.map(|(to, permissions)| EgressEntry {
        to: to.to_owned(),
        permissions: permissions.iter().map(|permission| (*permission).to_owned()).collect(),
    });
    Egress {
        server: "mail".into(),
        destinations: Destinations::new(&entries, "https://graph.microsoft.com").unwrap(),
        http: Arc::clone(api) as Arc<dyn Outbound>,
        tokens: Arc::new(Tokens { refused: Mutex::new(refused.into_iter().collect()) }),
        observer: Arc::new(NoObserver),
        clock: Arc::new(ManualClock::new(0)),
        places: Arc::new(Semaphore::new(MAX_REQUESTS_OF_A_SERVER)),
    }
}

fn request(
    method: &str,
    uri: &str,
    fields: &[(&'static str, &'static str)],
    body: &'static str,
) -> Request<RequestBody> {
    let mut request = Request::new(Full::from(body).map_err(|never| match never {}).boxed_unsync());
    *request.method_mut() = method.parse::<Method>().unwrap();
    *request.uri_mut() = uri.parse().unwrap();
    for (name, value) in fields {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    request
}

async fn get(egress: &Egress, call: &CallContext, uri: &str) -> Answer {
    egress.send(call, request("GET", uri, &[], ""), None, Vec::new()).await
}

fn unauthorized(challenge: &'static str) -> Response<&'static str> {
    Response::builder().status(401).header("www-authenticate", challenge).body("refused").unwrap()
}

#[tokio::test]
async fn each_request_carries_the_token_of_its_own_call_for_the_permissions_of_its_destination() {
    let api = Arc::<Api>::default();
    let egress = egress(&api, []);
    let (alice, bob) = (CallContext::new("alice"), CallContext::new("bob"));
    get(&egress, &alice, "https://graph.microsoft.com/v1.0/me").await.unwrap();
    get(&egress, &bob, "https://graph.microsoft.com/v1.0/me").await.unwrap();
    get(&egress, &alice, "https://api.contoso.com/v1/orders").await.unwrap();
    get(&egress, &alice, "https://public.example/").await.unwrap();
    let sent: Vec<_> = (0..4).map(|number| api.field(number, "authorization")).collect();
    let expected = [
        Some("Bearer alice-Mail.Read"),
        Some("Bearer bob-Mail.Read"),
        Some("Bearer alice-Orders.Read+Orders.List"),
        None,
    ];
    assert_eq!(sent.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_a_tool_says_about_an_identity_is_dropped() {
    for uri in ["https://graph.microsoft.com/v1.0/me", "https://public.example/"] {
        let api = Arc::<Api>::default();
        let fields = [
            ("authorization", "Bearer stolen"),
            ("authorization", "Basic eA=="),
            ("proxy-authorization", "Basic eA=="),
            ("cookie", "session=1"),
            ("x-ms-client-principal", "e30="),
            ("x-ms-token-aad-access-token", "stolen"),
            ("x-other", "kept"),
        ];
        egress(&api, [])
            .send(&CallContext::new("alice"), request("GET", uri, &fields, ""), None, Vec::new())
            .await
            .unwrap();
        let expected = uri.contains("graph").then_some("Bearer alice-Mail.Read");
        assert_eq!(api.field(0, "authorization").as_deref(), expected, "{uri}");
        assert_eq!(
            api.requests.lock().unwrap()[0].0.headers().get_all("authorization").iter().count(),
            expected.iter().count()
        );
        for name in ["proxy-authorization", "cookie", "x-ms-client-principal", "x-ms-token-aad-access-token"] {
            assert_eq!(api.field(0, name), None, "{name}");
        }
        assert_eq!(api.field(0, "x-other").as_deref(), Some("kept"));
    }
}

#[tokio::test]
async fn other_destinations_and_methods_are_denied_unsent() {
    let api = Arc::<Api>::default();
    let (egress, call) = (egress(&api, []), CallContext::new("alice"));
    for (method, uri) in [
        ("GET", "https://evil.example/"),
        ("GET", "http://graph.microsoft.com/"),
        ("GET", "https://graph.microsoft.com:8443/"),
        ("GET", "https://api.contoso.com/v2/orders"),
        ("GET", "https://api.contoso.com/v1/../v2/orders"),
        ("GET", "https://api.contoso.com/v1/%2e%2e/v2"),
        ("GET", "https://169.254.169.254/metadata/identity"),
        ("GET", "http://127.0.0.1/"),
        ("TRACE", "https://graph.microsoft.com/v1.0/me"),
        ("CONNECT", "https://graph.microsoft.com/"),
    ] {
        let denied = egress.send(&call, request(method, uri, &[], ""), None, Vec::new()).await;
        assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{method} {uri}");
    }
    assert_eq!(api.seen(), [""; 0]);
}

#[tokio::test]
async fn nothing_is_sent_for_a_call_that_has_ended_or_without_one() {
    let api = Arc::<Api>::default();
    let egress = Arc::new(egress(&api, []));
    let call = Arc::new(CallContext::new("alice"));
    let mut hooks = ToolHooks { egress: Arc::clone(&egress), call: Some(Arc::clone(&call)) };
    let mut send =
        || hooks.send_request(request("GET", "https://public.example/", &[], ""), None, Box::new(async { Ok(()) }));
    let begun = send();
    drop(EndOfCall(Arc::clone(&call)));
    assert!(matches!(Box::into_pin(begun).await, Err(Error::HttpRequestDenied)));
    hooks.call = None;
    let kept = hooks.send_request(request("GET", "https://public.example/", &[], ""), None, Box::new(async { Ok(()) }));
    assert!(matches!(Box::into_pin(kept).await, Err(Error::HttpRequestDenied)));
    assert_eq!(api.seen(), [""; 0]);
}

#[tokio::test]
async fn a_claims_challenge_is_answered_once_with_a_token_that_has_the_claims() {
    let api = Api::answering([unauthorized(CHALLENGE)]);
    let call = CallContext::new("alice");
    let request = request("POST", "https://graph.microsoft.com/v1.0/me/sendMail", &[], "the mail");
    let answer = egress(&api, []).send(&call, request, None, Vec::new()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let second = format!("Bearer alice-Mail.Read-after-alice-Mail.Read-{}", CLAIMS.len());
    assert_eq!(api.field(1, "authorization"), Some(second));
    assert_eq!(api.requests.lock().unwrap()[1].1, "the mail");
    assert_eq!(call.take_undelegated().map(|error| error.code), None);
}

#[tokio::test]
async fn a_second_challenge_is_for_the_client_and_the_tool_sees_a_bare_401() {
    let api = Api::answering([unauthorized(CHALLENGE), unauthorized(CHALLENGE)]);
    let call = CallContext::new("alice");
    let answer = get(&egress(&api, []), &call, "https://graph.microsoft.com/v1.0/me").await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("www-authenticate")), (401, None));
    assert_eq!(api.seen().len(), 2);
    let error = call.take_undelegated().unwrap();
    assert_eq!((error.category, error.claims.as_deref()), (DelegationErrorCategory::NeedsPerson, Some(CLAIMS)));
}

#[tokio::test]
async fn a_challenge_that_no_token_satisfies_leaves_the_first_answer() {
    let api = Api::answering([unauthorized(CHALLENGE)]);
    let call = CallContext::new("alice");
    let answer = get(&egress(&api, [None, Some(needs_person())]), &call, "https://graph.microsoft.com/").await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("www-authenticate")), (401, None));
    assert_eq!(call.take_undelegated().unwrap().code, "sign-in-required");
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let api = Arc::<Api>::default();
    let call = CallContext::new("alice");
    let denied = get(&egress(&api, [Some(needs_person())]), &call, "https://graph.microsoft.com/").await;
    assert!(matches!(denied, Err(Error::HttpRequestDenied)));
    assert_eq!(api.seen(), [""; 0]);
    assert_eq!(call.take_undelegated().unwrap().code, "sign-in-required");
}

#[tokio::test]
async fn a_refusal_for_another_reason_is_the_tools_own_matter() {
    let api =
        Api::answering([Response::builder().status(403).header("www-authenticate", CHALLENGE).body("no").unwrap()]);
    let call = CallContext::new("alice");
    let answer = get(&egress(&api, []), &call, "https://graph.microsoft.com/").await.unwrap();
    assert_eq!((answer.status().as_u16(), api.seen().len()), (403, 1));
    assert_eq!(call.take_undelegated().map(|error| error.code), None);
}

#[tokio::test]
async fn an_answer_that_repeats_the_token_does_not_reach_the_tool() {
    let repeating =
        Response::builder().header("x-echo", "Bearer alice-Mail.Read").body("Bearer alice-Mail.Read!").unwrap();
    let api = Api::answering([repeating]);
    let answer = get(&egress(&api, []), &CallContext::new("alice"), "https://graph.microsoft.com/").await.unwrap();
    assert_eq!(answer.headers().len(), 0);
    assert!(matches!(answer.into_body().collect().await, Err(Error::InternalError(Some(_)))));
}

#[tokio::test]
async fn requests_with_a_token_ask_for_whole_and_uncompressed_answers() {
    let api = Arc::<Api>::default();
    let fields = [("range", "bytes=0-9"), ("if-range", "x"), ("accept-encoding", "gzip")];
    let egress = egress(&api, []);
    for uri in ["https://graph.microsoft.com/", "https://public.example/"] {
        egress.send(&CallContext::new("alice"), request("GET", uri, &fields, ""), None, Vec::new()).await.unwrap();
    }
    let sent = |number| ["range", "if-range", "accept-encoding"].map(|name| api.field(number, name));
    assert_eq!(sent(0), [None, None, Some("identity".to_owned())]);
    assert_eq!(sent(1), [Some("bytes=0-9".to_owned()), Some("x".to_owned()), Some("gzip".to_owned())]);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_101_is_none() {
    let redirect = Response::builder().status(302).header("location", "https://evil.example/").body("").unwrap();
    let upgrade = Response::builder().status(101).body("").unwrap();
    let api = Api::answering([redirect, upgrade]);
    let (egress, call) = (egress(&api, []), CallContext::new("alice"));
    let answer = get(&egress, &call, "https://public.example/").await.unwrap();
    assert_eq!(answer.status(), 302);
    assert!(matches!(get(&egress, &call, "https://public.example/").await, Err(Error::HttpUpgradeFailed)));
    assert_eq!(api.seen(), ["GET https://public.example/"; 2]);
}

#[tokio::test]
async fn too_long_bodies_are_refused() {
    let api = Arc::<Api>::default();
    let (egress, call) = (egress(&api, []), CallContext::new("alice"));
    let mut long = request("POST", "https://public.example/", &[], "");
    *long.body_mut() = Full::from(vec![0; MAX_REQUEST_BYTES + 1]).map_err(|never| match never {}).boxed_unsync();
    assert!(matches!(
        egress.send(&call, long, None, Vec::new()).await,
        Err(Error::HttpRequestBodySize(Some(1_048_577)))
    ));
}

#[tokio::test]
async fn requests_beyond_those_that_may_be_on_their_way_wait() {
    let api = Arc::<Api>::default();
    let (egress, call) = (egress(&api, []), Arc::new(CallContext::new("alice")));
    let mut places = Vec::new();
    for _ in 0..16 {
        places.push(call.place(&*egress.clock).await.unwrap_or_else(|refused| panic!("{refused:?}")));
    }
    let mut waiting = std::pin::pin!(get(&egress, &call, "https://public.example/"));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("it does not wait"),
        () = std::future::ready(()) => {}
    }
    places.pop();
    waiting.await.unwrap();
    drop(EndOfCall(Arc::clone(&call)));
    assert!(matches!(get(&egress, &call, "https://public.example/").await, Err(Error::HttpRequestDenied)));
}

#[tokio::test]
async fn a_request_is_on_its_way_until_its_answer_is_read_or_dropped() {
    let api = Arc::<Api>::default();
    let egress = egress(&api, []);
    let call = CallContext::new("alice");
    let mut answers = Vec::new();
    for _ in 0..16 {
        answers.push(get(&egress, &call, "https://public.example/").await.unwrap());
    }
    let mut waiting = std::pin::pin!(get(&egress, &call, "https://public.example/"));
    assert!(now(&mut waiting).await.is_none());
    assert_eq!((api.seen().len(), egress.places.available_permits()), (16, MAX_REQUESTS_OF_A_SERVER - 16));
    // It is read to its end, and kept.
    let mut read = answers.pop().unwrap();
    while read.body_mut().frame().await.is_some() {}
    answers.push(waiting.await.unwrap());
    answers.pop();
    get(&egress, &call, "https://public.example/").await.unwrap();
    drop(answers);
    assert_eq!(egress.places.available_permits(), MAX_REQUESTS_OF_A_SERVER);
}

#[tokio::test]
async fn a_tool_that_reads_none_of_its_answers_is_told_that_there_are_too_many() {
    let api = Arc::<Api>::default();
    let clock = ManualClock::new(0);
    let egress = Egress { clock: Arc::new(clock.clone()), ..egress(&api, []) };
    let call = CallContext::new("alice");
    let mut answers = Vec::new();
    for _ in 0..16 {
        answers.push(get(&egress, &call, "https://public.example/").await.unwrap());
    }
    let waiting = async {
        clock.next_wait().await;
        clock.advance(Duration::from_secs(5));
    };
    let (refused, ()) = tokio::join!(get(&egress, &call, "https://public.example/"), waiting);
    assert!(matches!(refused, Err(Error::ConnectionLimitReached)), "{refused:?}");
    answers.pop();
    get(&egress, &call, "https://public.example/").await.unwrap();
}

#[tokio::test]
async fn the_requests_of_all_calls_of_a_server_are_bounded() {
    let api = Arc::<Api>::default();
    let egress = Egress { places: Arc::new(Semaphore::new(1)), ..egress(&api, []) };
    let (alice, bob) = (CallContext::new("alice"), CallContext::new("bob"));
    let answer = get(&egress, &alice, "https://public.example/").await.unwrap();
    let mut waiting = std::pin::pin!(get(&egress, &bob, "https://public.example/"));
    assert!(now(&mut waiting).await.is_none());
    drop(answer);
    waiting.await.unwrap();
}

/// What a future is ready with now, if it is.
async fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn a_request_with_a_token_asks_for_an_answer_in_which_the_token_could_be_found() {
    let api = Arc::<Api>::default();
    let egress = egress(&api, []);
    let fields = [
        ("accept-charset", "utf-16"),
        ("te", "trailers"),
        ("trailer", "x-echo"),
        ("expect", "100-continue"),
        ("content-length", "4"),
        ("accept", "application/json; Charset=utf-16;q=1, text/plain;charset=utf-32"),
        ("accept", "text/html; charset=\"utf-16\""),
    ];
    for (uri, method, body) in [
        ("https://graph.microsoft.com/", "POST", "body"),
        ("https://graph.microsoft.com/", "POST", ""),
        ("https://public.example/", "POST", "body"),
    ] {
        egress.send(&CallContext::new("alice"), request(method, uri, &fields, body), None, Vec::new()).await.unwrap();
    }
    for name in ["accept-charset", "te", "trailer", "expect"] {
        assert_eq!((api.field(0, name), api.field(2, name).is_some()), (None, true), "{name}");
    }
    assert_eq!((api.field(0, "content-length"), api.field(1, "content-length").as_deref()), (None, Some("0")));
    assert_eq!(api.field(0, "accept").as_deref(), Some("application/json;q=1, text/plain"));
}

#[tokio::test]
async fn no_field_of_a_request_with_a_token_names_another_path_or_method() {
    let api = Arc::<Api>::default();
    let egress = egress(&api, []);
    let names = [
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-prefix",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    ];
    let fields = names.map(|name| (name, "/v2/admin"));
    egress
        .send(&CallContext::new("alice"), request("POST", "https://api.contoso.com/v1/", &fields, ""), None, Vec::new())
        .await
        .unwrap();
    assert_eq!(names.map(|name| api.field(0, name)), [const { None }; 8]);
}

#[tokio::test]
async fn no_answer_tells_a_token_that_another_request_of_the_call_carried() {
    let api = Api::answering([unauthorized(CHALLENGE), Response::new("ok"), Response::new("Bearer alice-Mail.Read!")]);
    let (egress, call) = (egress(&api, []), CallContext::new("alice"));
    get(&egress, &call, "https://graph.microsoft.com/v1.0/me").await.unwrap();
    let answer = get(&egress, &call, "https://public.example/").await.unwrap();
    assert!(matches!(answer.into_body().collect().await, Err(Error::InternalError(Some(_)))));
}

/// The client that is used where none is given: it checks the addresses as well.
fn real(to: &str, resolved: Ipv4Addr) -> Egress {
    let entries = [EgressEntry { to: to.to_owned(), permissions: vec!["Mail.Read".to_owned()] }];
    let destinations = Destinations::new(&entries, "https://graph.microsoft.com").unwrap();
    let resolve: crate::outbound_http::Resolve =
        Arc::new(move |_| Box::pin(std::future::ready(Ok(vec![SocketAddr::new(IpAddr::V4(resolved), 0)]))));
    let http = OutboundHttp::new(destinations.policy().unwrap(), None).unwrap().resolving(resolve);
    Egress { destinations, http: Arc::new(http), ..egress(&Arc::default(), []) }
}

#[tokio::test]
async fn a_configured_name_that_leads_to_this_network_is_denied() {
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(169, 254, 169, 254)] {
        let egress = real("https://api.contoso.com", address);
        let denied = get(&egress, &CallContext::new("alice"), "https://api.contoso.com/").await;
        assert!(matches!(denied, Err(Error::DestinationIpProhibited)), "{address}");
    }
}

#[tokio::test]
async fn an_answer_from_loopback_needs_loopback_in_the_configuration() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("http://{}", socket.local_addr().unwrap());
    let peer = tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").await.unwrap();
        String::from_utf8(head[..read].to_vec()).unwrap()
    });
    let egress = real(&origin, Ipv4Addr::LOCALHOST);
    let answer = get(&egress, &CallContext::new("alice"), &format!("{origin}/path?a=b")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hi");
    let head = peer.await.unwrap();
    assert!(head.starts_with("GET /path?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!(head.matches("authorization: Bearer alice-Mail.Read\r\n").count(), 1, "{head}");
    assert_eq!(head.matches("host: ").count(), 1, "{head}");
}
