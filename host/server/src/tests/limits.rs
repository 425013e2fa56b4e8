//! What clients may occupy.

use super::*;

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let server = Running::limited(Limits { body_bytes: 10, ..Limits::default() }).await;
    let declared = |length: usize| {
        format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{}",
            "x".repeat(length)
        )
    };
    assert_eq!(server.send(declared(10)).await.status(), 200);
    server.send(declared(11)).await.refused(StatusCode::PAYLOAD_TOO_LARGE);
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = server.send(format!("{head}6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n0\r\n\r\n")).await;
    chunked.refused(StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(chunked.header("connection"), Some("close"));
    assert_eq!(server.component.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_header_over_the_limit_is_refused() {
    let server = Running::new().await;
    let field = |bytes: usize| format!("x: {}\r\n", "x".repeat(bytes));
    assert_eq!(server.get("/", &field(32 * 1024 - 200)).await.status(), 200);
    server.get("/", &field(32 * 1024)).await.refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let target = format!("/{}", "x".repeat(32 * 1024));
    server.get(&target, "").await.refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    // Far over the limit, hyper itself refuses.
    let far = server.get("/", &field(100 * 1024)).await;
    assert_eq!(far.status(), 431, "{far:?}");
    assert_eq!(server.component.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_refused() {
    let server = Running::limited(short()).await;
    let reply = server.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nxx").await;
    reply.refused(StatusCode::REQUEST_TIMEOUT);
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(server.component.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_that_does_not_finish_a_header_is_closed() {
    let server = Running::limited(short()).await;
    for begun in ["", "G", "GET / HTTP/1.1\r\nhost: x\r\n", "PRI * HTTP/2.0\r\n"] {
        assert_eq!(server.send(begun).await.text, "", "{begun:?}");
    }
}

#[tokio::test]
async fn a_slow_header_after_a_request_ends_the_connection_too() {
    let server = Running::limited(Limits { idle_time: PATIENCE * 2, ..short() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    stream.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.text, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = Running::limited(Limits { request_time: PATIENCE, ..short() }).await;
    assert_eq!(server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.status(), 200);

    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.component.has_begun().await;
    pass(short().idle_time * 2).await;
    server.component.go_on.notify_one();
    assert_eq!(Reply::read(&mut stream).await.status(), 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_until_one_is_closed() {
    let server = Running::limited(Limits { connections: 1, ..Limits::default() }).await;
    let first = server.connect().await;
    let refused = server.send("").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    drop(first);
    let given_back = async { while server.get("/", "").await.status() != 200 {} };
    soon(given_back).await.expect("the place is given back");
}

#[tokio::test]
async fn bodies_beyond_what_may_be_in_memory_are_refused_and_their_room_is_given_back() {
    let server = Running::limited(Limits { buffered_bytes: 12, ..Limits::default() }).await;
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let mut waiting = server.connect().await;
    waiting.write_all(post("/wait", "xxx").as_bytes()).await.unwrap();
    server.component.has_begun().await;
    let mut waiting_too = server.connect().await;
    waiting_too.write_all(post("/wait", "xx").as_bytes()).await.unwrap();
    server.component.has_begun().await;
    // Of twelve bytes, one address has six.
    let refused = server.send(post("/", "xx")).await;
    refused.refused(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.send(post("/", "x")).await.status(), 200);

    server.component.go_on.notify_one();
    assert_eq!(Reply::read(&mut waiting).await.status(), 200);
    assert_eq!(server.send(post("/", "xxxx")).await.status(), 200);
}

/// A connection from another address of this machine.
#[cfg(target_os = "linux")]
async fn from_elsewhere(server: &Running) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn bodies_that_one_address_sends_slowly_leave_room_for_others() {
    let limits = Limits { buffered_bytes: 12, body_time: PATIENCE, ..Limits::default() };
    let server = Running::limited(limits).await;
    let slow = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\nxxxxxx";
    let whole = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 6\r\n\r\nxxxxxx";
    let mut stream = server.connect().await;
    stream.write_all(slow.as_bytes()).await.unwrap();
    // When it has been read, the address has its half.
    let refused = async { while server.send(whole).await.status() != 503 {} };
    soon(refused).await.expect("one address does not get everything");
    let mut elsewhere = from_elsewhere(&server).await;
    elsewhere.write_all(whole.as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut elsewhere).await.status(), 200);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_that_is_no_proxy_has_half_of_the_connections() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = Running::limited(limits.clone()).await;
    let _held = (server.connect().await, server.connect().await);
    assert_eq!(server.send("").await.status(), 503);
    let mut elsewhere = from_elsewhere(&server).await;
    elsewhere.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert_eq!(Reply::read(&mut elsewhere).await.status(), 200);

    let behind = Running::with(|options| {
        options.limits = limits;
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let server = behind.await;
    let _held = (server.connect().await, server.connect().await);
    assert_eq!(server.get("/", "").await.status(), 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cancelled() {
    let server = Running::limited(short()).await;
    server.get("/wait", "").await.refused(StatusCode::GATEWAY_TIMEOUT);
    server.component.was_cancelled().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    let server = Running::new().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.component.has_begun().await;
    drop(stream);
    server.component.was_cancelled().await;
}

/// Opens an event stream and waits for its first event.
async fn listening(server: &Running) -> TcpStream {
    streaming(server, "/sse").await
}

/// Opens the event stream of a path and waits for its first event.
async fn streaming(server: &Running, path: &str) -> TcpStream {
    streaming_on(server.connect().await, path).await
}

/// The same on a connection.
async fn streaming_on(mut stream: TcpStream, path: &str) -> TcpStream {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.contains("data: hello") {
        let mut buffer = [0; 1024];
        let length = soon(stream.read(&mut buffer)).await.unwrap_or_else(|_| panic!("no event: {text}")).unwrap();
        assert_ne!(length, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    stream
}

#[tokio::test]
async fn event_streams_are_bounded_and_one_that_its_client_leaves_makes_room() {
    let server = Running::limited(Limits { event_streams: 1, ..short() }).await;
    let stream = listening(&server).await;
    // Longer than an ordinary request may take.
    pass(short().request_time * 2).await;
    let refused = server.get("/sse", "").await;
    refused.refused(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.get("/", "").await.status(), 200);

    drop(stream);
    server.component.was_cancelled().await;
    drop(listening(&server).await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_leaves_places_for_event_streams_to_others() {
    let limits = Limits { event_streams: 4, relayed_streams: 4, ..short() };
    for path in ["/sse", "/relay", "/relayed-answer"] {
        let server = Running::limited(limits.clone()).await;
        let _held = (streaming(&server, path).await, streaming(&server, path).await);
        if path == "/relayed-answer" {
            // Now they take their places.
            pass(limits.request_time * 2).await;
            server.get("/relay", "").await.refused(StatusCode::SERVICE_UNAVAILABLE);
            drop(streaming_on(from_elsewhere(&server).await, "/relay").await);
            continue;
        }
        let refused = server.get(path, "").await;
        refused.refused(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.header("retry-after"), Some("1"));
        drop(streaming_on(from_elsewhere(&server).await, path).await);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stream_that_waits_for_its_turn_takes_no_place_of_others() {
    let limits = Limits { at_work: 2, waiting: 1, event_streams: 1, request_time: PATIENCE * 2, ..Limits::default() };
    let server = Running::limited(limits).await;
    let mut at_work = server.connect().await;
    at_work.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.component.has_begun().await;
    let mut waits = server.connect().await;
    waits.write_all(b"GET /sse HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // When this one finds no place to wait, the stream waits.
    server.get("/", "").await.refused(StatusCode::SERVICE_UNAVAILABLE);
    drop(streaming_on(from_elsewhere(&server).await, "/sse").await);
}

#[tokio::test]
async fn streams_that_are_relayed_have_places_of_their_own() {
    let server = Running::limited(Limits { event_streams: 1, relayed_streams: 1, ..short() }).await;
    let relayed = streaming(&server, "/relay").await;
    pass(short().request_time * 2).await;
    server.get("/relay", "").await.refused(StatusCode::SERVICE_UNAVAILABLE);
    let _own = listening(&server).await;
    drop(relayed);
    server.component.was_cancelled().await;
    drop(streaming(&server, "/relay").await);
}

#[tokio::test]
async fn a_relayed_answer_lasts_if_there_is_a_place_and_ends_in_time_if_there_is_none() {
    let server = Running::limited(Limits { relayed_streams: 1, ..short() }).await;
    let lasting = streaming(&server, "/relayed-answer").await;
    pass(short().request_time * 2).await;
    // It has taken the place.
    server.get("/relay", "").await.refused(StatusCode::SERVICE_UNAVAILABLE);
    let mut other = streaming(&server, "/relayed-answer").await;
    let mut rest = Vec::new();
    soon(other.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    server.component.was_cancelled().await;
    server.component.cancelled.flag.store(false, Ordering::SeqCst);
    drop(lasting);
    server.component.was_cancelled().await;
    drop(streaming(&server, "/relay").await);
}

#[tokio::test]
async fn a_handler_may_take_longer_where_it_says_so() {
    let server = Running::limited(short()).await;
    let mut waiting = server.connect().await;
    waiting.write_all(b"GET /long HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    server.component.has_begun().await;
    pass(short().request_time * 2).await;
    server.component.go_on.notify_one();
    assert_eq!(Reply::read(&mut waiting).await.status(), 200);
}

#[tokio::test]
async fn an_answer_that_is_written_while_it_is_read_may_take_as_long_as_its_handler_says() {
    let server = Running::limited(short()).await;
    let long = streaming(&server, "/long-answer").await;
    pass(short().request_time * 2).await;
    assert!(!server.component.cancelled.flag.load(Ordering::SeqCst), "it goes on");
    drop(long);
    server.component.was_cancelled().await;
    server.component.cancelled.flag.store(false, Ordering::SeqCst);
    let _ordinary = streaming(&server, "/answer").await;
    server.component.was_cancelled().await;
}

/// An HTTP/2 client that opens this window for each answer, and the answer to a GET.
async fn answer_over_http2(server: &Running, path: &str, window: u32) -> Response<hyper::body::Incoming> {
    let io = hyper_util::rt::TokioIo::new(server.connect().await);
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(window);
    let (mut sender, connection) = client.handshake::<_, http_body_util::Empty<Bytes>>(io).await.expect("a handshake");
    tokio::spawn(connection);
    let request = Request::get(format!("http://x{path}")).body(http_body_util::Empty::new()).unwrap();
    soon(sender.send_request(request)).await.expect("the head comes").unwrap()
}

#[tokio::test]
async fn an_http2_client_that_opens_no_window_does_not_keep_the_place_of_a_stream() {
    for path in ["/relay", "/relayed-answer"] {
        let server = Running::limited(Limits { relayed_streams: 1, ..Limits::default() }).await;
        let _unread = answer_over_http2(&server, path, 0).await;
        pass(Limits::default().stall_time - Duration::from_secs(1)).await;
        assert!(!server.component.cancelled.flag.load(Ordering::SeqCst), "{path}");
        // The first event may be on its way, for which there is a second.
        pass(Duration::from_secs(3)).await;
        server.component.was_cancelled().await;
        drop(streaming(&server, "/relay").await);
    }
}

#[tokio::test]
async fn an_http2_client_that_waits_for_events_keeps_its_stream() {
    let server = Running::new().await;
    let mut answer = answer_over_http2(&server, "/relay", 1024).await;
    let first = soon(answer.frame()).await.expect("the first event").unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: hello\n\n");
    pass(Limits::default().stall_time * 10).await;
    assert!(!server.component.cancelled.flag.load(Ordering::SeqCst));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_has_half_of_what_is_at_work_and_others_are_served_at_once() {
    const WAIT: &[u8] = b"GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let from = async |server: &Running, last: u8| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    let limits = Limits { at_work: 4, waiting: 0, request_time: PATIENCE * 2, ..Limits::default() };
    let server = Running::limited(limits).await;
    let mut at_work = Vec::new();
    for _ in 0..2 {
        let mut stream = from(&server, 2).await;
        stream.write_all(WAIT).await.unwrap();
        server.component.has_begun().await;
        at_work.push(stream);
    }
    let mut third = from(&server, 2).await;
    third.write_all(WAIT).await.unwrap();
    let refused = Reply::read(&mut third).await;
    refused.refused(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), Some("1"));
    for _ in 0..8 {
        let mut other = from(&server, 3).await;
        other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert_eq!(Reply::read(&mut other).await.status(), 200);
    }
    // A stream that another server writes keeps no turn.
    let mut relayed = Vec::new();
    for _ in 0..4 {
        let mut stream = from(&server, 3).await;
        stream.write_all(b"GET /relay HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        server.component.has_begun().await;
        let length = stream.read(&mut [0; 1024]).await.unwrap();
        assert_ne!(length, 0);
        relayed.push(stream);
    }
    server.component.go_on.notify_waiters();
    for mut stream in at_work {
        assert_eq!(Reply::read(&mut stream).await.status(), 200);
    }
}

#[tokio::test]
async fn a_request_that_another_server_works_on_keeps_no_turn() {
    let limits = Limits { at_work: 2, waiting: 0, request_time: PATIENCE * 2, ..Limits::default() };
    let server = Running::limited(limits).await;
    let begin = async |path: &str| {
        let mut stream = server.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        server.component.has_begun().await;
        stream
    };
    let mut begun = Vec::new();
    for path in ["/elsewhere", "/elsewhere", "/wait"] {
        begun.push(begin(path).await);
    }
    server.get("/", "").await.refused(StatusCode::SERVICE_UNAVAILABLE);
    server.component.go_on.notify_waiters();
    for stream in &mut begun {
        assert_eq!(Reply::read(stream).await.status(), 200);
    }
    assert_eq!(server.get("/", "").await.status(), 200);
}
