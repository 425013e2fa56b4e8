//! What the component and the server behind get of a request, and what the component says instead.

use super::*;

fn fields_of(asked: &Asked, name: &str) -> Vec<String> {
    let fields = asked.headers.iter().filter(|(given, _)| given == name);
    fields.map(|(_, value)| String::from_utf8(value.clone()).unwrap()).collect()
}

#[tokio::test]
async fn an_admitted_request_goes_on_as_the_component_wants_it() {
    let keeper = Keeper::granting(Grant {
        set_headers: vec![
            ("x-user".to_owned(), b"alice".to_vec()),
            ("x-role".to_owned(), b"a".to_vec()),
            ("x-role".to_owned(), b"b".to_vec()),
            ("authorization".to_owned(), b"Bearer delegated".to_vec()),
        ],
        drop_headers: vec!["x-ms-client-principal".to_owned()],
        ..grant()
    });
    let server = Server::new(|| Ok(json("{}")));
    let client = [
        ("authorization", "Bearer client"),
        ("cookie", "a=b"),
        ("origin", "https://page.example"),
        ("x-user", "mallory"),
        ("x-user", "eve"),
        ("x-role", "admin"),
        ("x-ms-client-principal", "bWFsbG9yeQ=="),
        ("mcp-method", "tools/call"),
        ("last-event-id", "7"),
        ("accept-encoding", "gzip"),
        ("content-length", "2"),
        ("expect", "100-continue"),
    ];
    let answer = ask(&gate(&keeper, &server), request(Method::POST, &client)).await;
    assert_eq!((answer.status().as_u16(), text(answer).await.unwrap().as_str()), (200, "{}"));

    let asked = keeper.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.correlation_id.as_str(), asked.method.as_str()), ("c-0", "POST"));
    assert_eq!((asked.path_with_query.as_str(), asked.body.as_slice()), ("/crm/mcp?access_token=secret", &b"{}"[..]));
    assert_eq!(fields_of(&asked, "authorization"), ["Bearer client"]);
    assert_eq!(fields_of(&asked, "origin"), ["https://page.example"]);
    assert_eq!(fields_of(&asked, "host"), ["gate.example"]);

    let seen = server.seen();
    let mut sent: Vec<_> =
        seen.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    sent.sort_unstable();
    let expected = [
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer delegated"),
        ("last-event-id", "7"),
        ("mcp-method", "tools/call"),
        ("x-role", "a"),
        ("x-role", "b"),
        ("x-user", "alice"),
    ];
    assert_eq!(sent, expected);
    assert_eq!((seen.uri().to_string().as_str(), seen.body().as_ref()), ("/crm/mcp", &b"{}"[..]), "no query");
}

#[tokio::test]
async fn nothing_is_smuggled_by_connection_or_by_names_that_others_read_differently() {
    let keeper = Keeper::granting(Grant {
        set_headers: vec![
            ("authorization".to_owned(), b"Bearer delegated".to_vec()),
            ("mcp-session-id".to_owned(), b"theirs".to_vec()),
        ],
        ..grant()
    });
    let server = Server::new(|| Ok(json("{}")));
    let client = [
        ("connection", "authorization, mcp-session-id,X-Client-Address , host"),
        ("connection", "keep-alive, x-mine, (nonsense)"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("trailer", "x-late"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAMAAABk"),
        ("proxy-authorization", "Basic abc"),
        ("proxy-connection", "keep-alive"),
        ("x-mine", "1"),
        ("x-client-address", "203.0.113.7"),
        ("mcp-session-id", "sealed-id"),
        ("x_ms_client_principal", "bWFsbG9yeQ=="),
        ("x-ms-client-principal.name", "mallory"),
    ];
    ask(&gate(&keeper, &server), request(Method::POST, &client)).await;
    let asked = keeper.asked.lock().unwrap()[0].clone();
    let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "x-client-address"], "the component judges what is sent on");
    let seen = server.seen();
    let mut names: Vec<_> = seen.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "mcp-session-id", "x-client-address"], "what the component sets stays");
    assert_eq!(seen.headers()["mcp-session-id"], "theirs");
}

#[tokio::test]
async fn a_field_with_one_value_that_occurs_twice_is_refused() {
    for name in ["mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "content-type", "last-event-id"] {
        let keeper = Keeper::granting(grant());
        let server = Server::new(|| Ok(json("{}")));
        let answer = ask(&gate(&keeper, &server), request(Method::POST, &[(name, "a"), (name, "a")])).await;
        refused(answer, 400, "c-0").await;
        assert!(keeper.asked.lock().unwrap().is_empty() && server.seen.lock().unwrap().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_answer_of_the_component_is_the_answer() {
    let keeper = Keeper::granting(grant());
    let server = Server::new(|| Ok(json("{}")));
    let headers = vec![("www-authenticate".to_owned(), b"Bearer".to_vec()), ("vary".to_owned(), b"origin".to_vec())];
    let refusal = Answered { status: 401, headers, body: b"no token".to_vec() };
    *keeper.admission.lock().unwrap() = Some(Ok(Admission::Answer(refusal)));
    let answer = ask(&gate(&keeper, &server), post()).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "www-authenticate")), (401, Some("Bearer")));
    assert_eq!(text(answer).await.unwrap(), "no token");
    for broken in [
        Answered { status: 99, headers: Vec::new(), body: Vec::new() },
        Answered { status: 101, headers: Vec::new(), body: Vec::new() },
        Answered { status: 200, headers: vec![("a b".to_owned(), Vec::new())], body: Vec::new() },
        Answered { status: 200, headers: vec![("a".to_owned(), b"\r\nb: c".to_vec())], body: Vec::new() },
    ] {
        *keeper.admission.lock().unwrap() = Some(Ok(Admission::Answer(broken)));
        refused(ask(&gate(&keeper, &server), post()).await, 500, "c-0").await;
    }
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_component_gets_a_request_back_that_it_serves_itself() {
    let keeper = Keeper::granting(grant());
    *keeper.admission.lock().unwrap() = Some(Ok(Admission::OwnPath));
    let outcome = gate(&keeper, &Server::new(|| Ok(json("{}")))).handle(post(), || panic!("it goes on")).await;
    assert!(matches!(outcome, GateOutcome::OwnPath(request) if request.body().as_ref() == b"{}"));
}

#[tokio::test]
async fn nothing_goes_on_when_the_component_fails() {
    for (error, status, id) in [
        (trapped(), 500, "c0ffee"),
        (Error::Busy { correlation_id: "c0ffee".into() }, 503, "c0ffee"),
        (Error::Missing("store"), 500, "c-0"),
    ] {
        let (keeper, server) = (Keeper::granting(grant()), Server::new(|| Ok(json("{}"))));
        *keeper.admission.lock().unwrap() = Some(Err(error));
        let answer = ask(&gate(&keeper, &server), post()).await;
        assert_eq!(field(&answer, "retry-after"), (status == 503).then_some("1"));
        refused(answer, status, id).await;
        assert!(server.seen.lock().unwrap().is_empty());
    }
    let keeper = Keeper::granting(grant());
    *keeper.answered.lock().unwrap() = Some(Err(trapped()));
    let answer = ask(&gate(&keeper, &Server::new(|| Ok(json("a secret")))), post()).await;
    refused(answer, 500, "c0ffee").await;
}

#[tokio::test]
async fn a_grant_that_cannot_be_followed_is_not() {
    let unknown = Grant { server: "other".to_owned(), ..grant() };
    let broken = Grant { set_headers: vec![("a".to_owned(), b"\n".to_vec())], ..grant() };
    for grant in [unknown, broken] {
        let (keeper, server) = (Keeper::granting(grant), Server::new(|| Ok(json("{}"))));
        refused(ask(&gate(&keeper, &server), post()).await, 502, "c-1").await;
        assert!(server.seen.lock().unwrap().is_empty());
        assert_eq!(keeper.head().status, 0);
    }
}

#[tokio::test]
async fn only_the_methods_of_mcp_go_on() {
    for method in [Method::TRACE, Method::OPTIONS, Method::PUT, Method::HEAD, Method::PATCH] {
        let (keeper, server) = (Keeper::granting(grant()), Server::new(|| Ok(json("{}"))));
        let answer = ask(&gate(&keeper, &server), request(method, &[])).await;
        assert_eq!(field(&answer, "allow"), Some("GET, POST, DELETE"));
        refused(answer, 405, "c-1").await;
        assert!(server.seen.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn one_caller_does_not_keep_others_out() {
    let server = Server::new(|| Ok(events(frames(vec![Ok(Frame::data(Bytes::from_static(b": hi\n\n")))]))));
    let alice = Keeper::granting(grant());
    let bounded = gate_with(&alice, &server, |options| {
        options.streams_per_caller = 1;
        options.requests_per_caller = 2;
    });
    let stream = ask(&bounded, request(Method::GET, &[])).await;
    assert_eq!(stream.status(), 200);
    refused(ask(&bounded, request(Method::GET, &[])).await, 503, "c-1").await;
    let call = ask(&bounded, post()).await;
    assert_eq!(call.status(), 200);
    refused(ask(&bounded, post()).await, 503, "c-1").await;
    let bob = Grant { caller: caller("bob"), ..grant() };
    *alice.admission.lock().unwrap() = Some(Ok(Admission::Forward(bob)));
    assert_eq!(ask(&bounded, request(Method::GET, &[])).await.status(), 200);
    drop(stream);
    assert_eq!(ask(&bounded, request(Method::GET, &[])).await.status(), 200);
    drop(call);
    assert_eq!(ask(&bounded, post()).await.status(), 200);
}

#[tokio::test]
async fn an_answer_of_one_piece_keeps_the_place_of_its_caller_until_it_is_dropped() {
    let judged = Grant { judge_answer: true, ..grant() };
    let watched = Grant { answer_may_stream: true, ..judged.clone() };
    for grant in [grant(), Grant { note_answer: true, ..grant() }, watched, judged] {
        let server = Server::new(|| Ok(json(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)));
        let gate = gate_with(&Keeper::granting(grant), &server, |options| options.requests_per_caller = 1);
        let answer = ask(&gate, post()).await;
        assert!(matches!(answer.body(), Body::Whole(..)));
        refused(ask(&gate, post()).await, 503, "c-1").await;
        drop(answer);
        assert_eq!(ask(&gate, post()).await.status(), 200);
    }
}

/// A server behind that takes four requests at once.
struct Narrow(Arc<Server>);

#[async_trait]
impl Behind for Narrow {
    async fn send(&self, request: Request<Bytes>, sender: Sender) -> Result<Response<AnswerBody>, BehindError> {
        self.0.send(request, sender).await
    }

    fn requests_at_once(&self) -> Option<usize> {
        Some(4)
    }
}

#[tokio::test]
async fn one_caller_gets_half_of_what_a_server_takes_at_once_and_others_the_rest() {
    let server = Server::new(|| Ok(events(frames(vec![Ok(Frame::data(Bytes::from_static(b": hi\n\n")))]))));
    let keeper = Keeper::granting(grant());
    let servers = HashMap::from([("crm".to_owned(), Arc::new(Narrow(server)) as Arc<dyn Behind>)]);
    let options = GateOptions::new(Arc::new(|| "c-0".to_owned()));
    let narrow = Gate::new(Arc::clone(&keeper) as Arc<dyn Gatekeeper>, servers, options);
    let taken = [ask(&narrow, post()).await, ask(&narrow, request(Method::GET, &[])).await];
    assert_eq!(taken.each_ref().map(|answer| answer.status().as_u16()), [200, 200]);
    refused(ask(&narrow, post()).await, 503, "c-1").await;
    let bob = Grant { caller: caller("bob"), ..grant() };
    *keeper.admission.lock().unwrap() = Some(Ok(Admission::Forward(bob)));
    assert_eq!(ask(&narrow, post()).await.status(), 200);
    drop(taken);
    assert_eq!(ask(&narrow, post()).await.status(), 200);
}

#[tokio::test]
async fn it_is_known_that_a_request_goes_on_before_the_server_behind_answers() {
    let (keeper, server) = (Keeper::granting(grant()), Server::silent());
    let gate = Arc::new(gate(&keeper, &server));
    let decided = Arc::<AtomicBool>::default();
    let asking = tokio::spawn({
        let (gate, decided) = (Arc::clone(&gate), Arc::clone(&decided));
        async move { gate.handle(post(), || decided.store(true, Ordering::SeqCst)).await }
    });
    server.has_begun.notified().await;
    assert!(decided.load(Ordering::SeqCst));
    asking.abort();
    *keeper.admission.lock().unwrap() = Some(Err(trapped()));
    let refused = gate.handle(post(), || panic!("it goes on")).await;
    assert!(matches!(refused, GateOutcome::Answer(answer) if answer.status() == 500));
}
