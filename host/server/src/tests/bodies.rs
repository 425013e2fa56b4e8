//! Bodies of requests: those that nothing depends on, those that come too slowly, and those that give way when there is
//! no more room.

use super::*;

/// Reads until the answer has come, without waiting for the end of the connection.
async fn answer(stream: &mut TcpStream) -> Reply {
    let mut text = String::new();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            let reply = Reply { text: text.clone() };
            let length = reply.header("content-length").map(|length| length.parse::<usize>().unwrap());
            if text.contains("\r\n\r\n") && reply.body().len() >= length.unwrap_or(0) {
                return reply;
            }
            let length = stream.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0, "the connection ends: {text}");
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    };
    soon(reading).await.expect("an answer")
}

fn post(path: &str, length: usize, sent: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{sent}")
}

#[tokio::test]
async fn a_request_that_needs_no_body_is_answered_before_it_and_the_connection_lives_on() {
    let server = Running::new().await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream.write_all(post("/nothing", 10, "").as_bytes()).await.unwrap();
        let early = answer(&mut stream).await;
        assert_eq!((early.status(), early.body(), early.header("connection")), (200, "", None));
        stream.write_all(b"0123456789").await.unwrap();
    }
    stream.write_all(post("/", 3, "abc").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.body(), "abc");
    let seen = server.component.seen.lock().unwrap();
    assert!(seen[0].body().is_empty() && !seen[0].headers().contains_key("content-length"));
    assert_eq!(seen[2].headers()["content-length"], "3");
}

#[tokio::test]
async fn a_chunked_body_that_is_not_needed_is_forgotten_too() {
    let server = Running::new().await;
    let mut stream = server.connect().await;
    let head = "POST /nothing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.status(), 200);
    stream.write_all(b"3\r\nabc\r\n0\r\n\r\n").await.unwrap();
    stream.write_all(post("/", 3, "abc").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.body(), "abc");
    assert!(!server.component.seen.lock().unwrap()[0].headers().contains_key("transfer-encoding"));
}

#[tokio::test]
async fn a_large_body_that_is_not_needed_is_not_read_and_the_connection_ends() {
    let server = Running::new().await;
    let limits = Limits::default();
    let reply = server.send(post("/nothing", limits.unneeded_bytes + 1, "")).await;
    assert_eq!((reply.status(), reply.header("connection")), (200, Some("close")));
    let waits = "POST /nothing HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let reply = server.send(waits).await;
    assert_eq!((reply.status(), reply.header("connection")), (200, Some("close")), "no 100 comes before it");
}

#[tokio::test]
async fn a_sender_of_bodies_that_are_not_read_waits_for_its_answer_and_other_clients_do_not() {
    let pause = Duration::from_secs(8);
    let server = Running::limited(Limits { unread_pause: pause, ..Limits::default() }).await;
    let (mut unneeded, mut too_large) = (server.connect().await, server.connect().await);
    let length = Limits::default().body_bytes + 1;
    unneeded.write_all(post("/nothing", length, "").as_bytes()).await.unwrap();
    too_large.write_all(post("/", length, "").as_bytes()).await.unwrap();
    for _ in 0..4 {
        assert_eq!(server.get("/", "").await.status(), 200);
    }
    for stream in [&unneeded, &too_large] {
        assert_eq!(stream.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    pass(pause).await;
    assert_eq!(answer(&mut unneeded).await.status(), 200);
    assert_eq!(answer(&mut too_large).await.status(), 413);
}

#[tokio::test]
async fn every_answer_that_leaves_a_long_body_unread_ends_the_connection() {
    let limits = Limits {
        event_streams: 0,
        relayed_streams: 0,
        request_time: Duration::from_millis(50),
        unread_pause: Duration::ZERO,
        ..Limits::default()
    };
    let component = Component { retry_after: Some(Duration::from_secs(1)), ..Component::default() };
    let server = Running::of(component, "127.0.0.1:0", |options| options.limits = limits.clone()).await;
    assert_eq!(server.send("POST /token HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.status(), 200);
    let long_header = format!("a: {}\r\n", "x".repeat(limits.header_bytes));
    for (status, line, fields) in [
        (StatusCode::BAD_REQUEST, "POST /", "host: y\r\n"),
        (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "POST /", long_header.as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "POST /token", ""),
        (StatusCode::SERVICE_UNAVAILABLE, "GET /sse", ""),
        (StatusCode::SERVICE_UNAVAILABLE, "GET /relay", ""),
        (StatusCode::GATEWAY_TIMEOUT, "POST /wait-without-body", ""),
    ] {
        let length = limits.unneeded_bytes + 1;
        let head = format!("{line} HTTP/1.1\r\nhost: x\r\n{fields}content-length: {length}\r\n\r\n");
        let reply = server.send(head).await;
        reply.refused(status);
        assert_eq!(reply.header("connection"), Some("close"), "{line}");
    }
}

#[tokio::test]
async fn a_sender_of_a_long_body_without_a_length_waits_for_its_answer_too() {
    let pause = Duration::from_secs(8);
    let server = Running::limited(Limits { unread_pause: pause, ..Limits::default() }).await;
    let mut stream = server.connect().await;
    let length = Limits::default().unneeded_bytes + 1;
    let head = "POST /nothing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = format!("{length:x}\r\n{}\r\n", "x".repeat(length));
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    // The server reads the body in between.
    for _ in 0..16 {
        assert_eq!(server.get("/", "").await.status(), 200);
    }
    assert_eq!(stream.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    pass(pause).await;
    let reply = answer(&mut stream).await;
    assert_eq!((reply.status(), reply.header("connection")), (200, Some("close")));
}

/// Notes the statuses of the answers that are known.
#[derive(Default)]
struct Known(Mutex<Vec<u16>>);

struct KnownRequest(Arc<Known>);

impl Observer for Arc<Known> {
    fn request(&self, _: &Method, _: &str, _: bool, _: &HeaderMap) -> Option<Box<dyn ObservedRequest>> {
        Some(Box::new(KnownRequest(Arc::clone(self))))
    }
}

impl ObservedRequest for KnownRequest {
    fn received(&mut self, _: &[u8]) {}

    fn answered(&mut self, status: StatusCode) {
        self.0.0.lock().unwrap().push(status.as_u16());
    }

    fn log_span(&self) -> tracing::Span {
        tracing::Span::none()
    }

    fn within(&self, work: &mut dyn FnMut()) {
        work();
    }
}

#[tokio::test]
async fn the_pause_before_an_answer_is_no_part_of_the_time_that_it_took() {
    let pause = Duration::from_secs(8);
    let known = Arc::<Known>::default();
    let server = Running::with(|options| {
        options.limits = Limits { unread_pause: pause, ..Limits::default() };
        options.observer = Arc::new(Arc::clone(&known));
    })
    .await;
    let mut stream = server.connect().await;
    stream.write_all(post("/nothing", Limits::default().unneeded_bytes + 1, "").as_bytes()).await.unwrap();
    let is_known = async {
        while known.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(is_known).await.expect("the answer is known");
    assert_eq!(*known.0.lock().unwrap(), [200]);
    assert_eq!(stream.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    pass(pause).await;
    assert_eq!(answer(&mut stream).await.status(), 200);
    assert_eq!(known.0.lock().unwrap().len(), 1);
}

/// Behind a declared proxy, which is this machine.
async fn behind_a_proxy(pause: Duration) -> Running {
    Running::with(|options| {
        options.limits = Limits { unread_pause: pause, ..Limits::default() };
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await
}

#[tokio::test]
async fn a_sender_of_bodies_that_are_not_read_waits_behind_a_proxy_too_on_a_connection_that_ends_anyway() {
    let pause = Duration::from_secs(8);
    let server = behind_a_proxy(pause).await;
    let mut stream = server.connect().await;
    stream.write_all(post("/nothing", Limits::default().unneeded_bytes + 1, "").as_bytes()).await.unwrap();
    for _ in 0..4 {
        assert_eq!(server.get("/", "").await.status(), 200);
    }
    assert_eq!(stream.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    pass(pause).await;
    let reply = answer(&mut stream).await;
    assert_eq!((reply.status(), reply.header("connection")), (200, Some("close")));
}

#[tokio::test]
async fn nothing_waits_on_the_http_2_connection_of_a_proxy_because_it_is_for_other_clients_as_well() {
    let server = behind_a_proxy(PATIENCE * 2).await;
    let io = hyper_util::rt::TokioIo::new(server.connect().await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut sender, connection) = handshake.await.expect("a handshake");
    tokio::spawn(connection);
    let request = |client: &str, path: &str, length: usize| {
        let request = Request::post(format!("http://x{path}")).header("x-forwarded-for", client);
        request.body(http_body_util::Full::new(Bytes::from(vec![b'x'; length]))).unwrap()
    };
    let (unneeded, body) = (Limits::default().unneeded_bytes, Limits::default().body_bytes);
    for (path, length, status) in [("/nothing", unneeded, 200), ("/", body, 413)] {
        let refused = soon(sender.send_request(request("203.0.113.1", path, length + 1))).await;
        assert_eq!(refused.expect("an answer").unwrap().status().as_u16(), status);
        let other = soon(sender.send_request(request("203.0.113.2", "/", 3))).await;
        assert_eq!(other.expect("an answer").unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_body_that_is_not_needed_is_not_waited_for_for_long() {
    let server = Running::limited(Limits { unneeded_time: Duration::from_millis(50), ..Limits::default() }).await;
    let reply = server.send(post("/nothing", 10, "0")).await;
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn bodies_that_are_not_needed_occupy_no_memory() {
    let server = Running::limited(Limits { buffered_bytes: 4, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect().await;
        stream.write_all(post("/nothing", 10, "01234567").as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await.status(), 200);
        held.push(stream);
    }
    let mut stream = server.connect().await;
    stream.write_all(post("/", 2, "ab").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.body(), "ab");
}

#[tokio::test]
async fn the_handler_bounds_the_bodies_of_an_endpoint_further() {
    let server = Running::new().await;
    let mut stream = server.connect().await;
    stream.write_all(post("/small", 4, "abcd").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.body(), "abcd");
    let refused = server.send(post("/small", 5, "abcde")).await;
    refused.refused(StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(refused.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_body_that_stops_to_come_is_refused_long_before_its_time_is_over() {
    let limits = Limits { pace_time: Duration::from_millis(100), body_time: PATIENCE * 2, ..Limits::default() };
    let server = Running::limited(limits.clone()).await;
    let begun = "x".repeat(limits.pace_bytes * 2);
    let reply = server.send(post("/", begun.len() + 1, &begun)).await;
    reply.refused(StatusCode::REQUEST_TIMEOUT);
    assert!(reply.body().starts_with("the body comes too slowly"), "{reply:?}");
    assert_eq!(reply.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_body_that_keeps_the_pace_may_take_its_time() {
    let limits = Limits { pace_time: Duration::from_secs(5), pace_bytes: 10, ..Limits::default() };
    let server = Running::limited(limits.clone()).await;
    let mut stream = server.connect().await;
    stream.write_all(post("/", 40, "").as_bytes()).await.unwrap();
    for _ in 0..4 {
        stream.write_all(b"0123456789").await.unwrap();
        // The server reads in between, whatever the clock says.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        pass(limits.pace_time * 9 / 10).await;
    }
    assert_eq!(answer(&mut stream).await.body().len(), 40);
}

/// A connection from another address of this machine.
#[cfg(target_os = "linux")]
async fn from(server: &Running, last: u8) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_sends_little_is_served_when_two_others_have_filled_the_memory() {
    let server = Running::limited(Limits { buffered_bytes: 12, body_time: PATIENCE, ..Limits::default() }).await;
    let mut slow = Vec::new();
    for last in [2, 3] {
        let mut stream = from(&server, last).await;
        stream.write_all(post("/", 6, "xxxxx").as_bytes()).await.unwrap();
        // When it has been read, the address has nearly its half.
        let full = async {
            loop {
                let mut more = from(&server, last).await;
                more.write_all(post("/", 6, "xxxxxx").as_bytes()).await.unwrap();
                let status = answer(&mut more).await.status();
                if status == 503 {
                    return;
                }
                assert_eq!(status, 200);
            }
        };
        soon(full).await.expect("the address has its half");
        slow.push(stream);
    }
    let mut little = from(&server, 4).await;
    little.write_all(post("/", 3, "abc").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut little).await.body(), "abc");
    // One of the two gave way, and is told so. The other one goes on.
    let mut statuses = Vec::new();
    for stream in &mut slow {
        let _ = stream.write_all(b"x").await;
        statuses.push(answer(stream).await.status());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_body_in_one_large_piece_is_served_when_two_others_have_filled_the_memory_with_the_smallest() {
    const EACH: usize = 20;
    // With so little memory, the smallest body costs one byte, and one step is eight of them.
    let limits = Limits { buffered_bytes: 2 * EACH, body_time: PATIENCE, ..Limits::default() };
    let server = Running::limited(limits).await;
    let mut small = Vec::new();
    for last in [2, 3] {
        for _ in 0..EACH {
            let mut stream = from(&server, last).await;
            stream.write_all(post("/", 2, "x").as_bytes()).await.unwrap();
            small.push(stream);
        }
        let full = async {
            loop {
                let mut more = from(&server, last).await;
                more.write_all(post("/", 2, "xx").as_bytes()).await.unwrap();
                if answer(&mut more).await.status() == 503 {
                    return;
                }
            }
        };
        soon(full).await.expect("the address has its half");
    }
    let mut large = from(&server, 4).await;
    large.write_all(post("/", 10, "0123456789").as_bytes()).await.unwrap();
    let answer = answer(&mut large).await;
    assert_eq!((answer.status(), answer.body()), (200, "0123456789"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whole_bodies_whose_requests_are_at_work_leave_room_for_those_of_other_addresses() {
    let limits = Limits { buffered_bytes: 12, request_time: PATIENCE * 2, ..Limits::default() };
    let server = Running::limited(limits).await;
    let mut at_work = Vec::new();
    for last in [2, 2, 3] {
        let mut stream = from(&server, last).await;
        stream.write_all(post("/wait", 3, "xxx").as_bytes()).await.unwrap();
        server.component.has_begun().await;
        at_work.push(stream);
    }
    // The first address has its half, and the second one as much as is left.
    for (last, length, expected) in [(2, 1, 503), (3, 1, 503), (4, 3, 200)] {
        let mut stream = from(&server, last).await;
        stream.write_all(post("/", length, &"x".repeat(length)).as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await.status(), expected, "{length} bytes from 127.0.0.{last}");
    }
    server.component.go_on.notify_waiters();
    for stream in &mut at_work {
        assert_eq!(answer(stream).await.status(), 200);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_small_body_is_served_where_whole_ones_have_filled_the_memory() {
    let limits = Limits { buffered_bytes: 2_048, request_time: PATIENCE * 2, ..Limits::default() };
    let server = Running::limited(limits).await;
    let mut at_work = Vec::new();
    for last in [2, 3] {
        let mut stream = from(&server, last).await;
        stream.write_all(post("/wait", 1_024, &"x".repeat(1_024)).as_bytes()).await.unwrap();
        server.component.has_begun().await;
        at_work.push(stream);
    }
    // A thousandth is small.
    for (body, expected) in [("abc", 503), ("ab", 200)] {
        let mut stream = from(&server, 4).await;
        stream.write_all(post("/", body.len(), body).as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await.status(), expected, "{body}");
    }
    server.component.go_on.notify_waiters();
    for stream in &mut at_work {
        assert_eq!(answer(stream).await.status(), 200);
    }
}

#[tokio::test]
async fn all_of_an_ipv6_network_together_has_half_of_the_memory() {
    for (first, second, third) in [
        ("2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:1::1"),
        ("2001:db8:0:100::1", "2001:db8:0:200::1", "2001:db8:1::1"),
    ] {
        let limits = Limits { buffered_bytes: 12, body_time: PATIENCE, ..Limits::default() };
        let server = Running::with(|options| {
            options.limits = limits;
            options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        })
        .await;
        let body = |client: &str, length: usize, sent: &str| {
            format!("POST / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\ncontent-length: {length}\r\n\r\n{sent}")
        };
        let mut slow = server.connect().await;
        slow.write_all(body(first, 7, "xxxxxx").as_bytes()).await.unwrap();
        let full = async {
            loop {
                let mut more = server.connect().await;
                more.write_all(body(second, 6, "xxxxxx").as_bytes()).await.unwrap();
                if answer(&mut more).await.status() == 503 {
                    return;
                }
            }
        };
        soon(full).await.expect("the network has its half");
        let mut elsewhere = server.connect().await;
        elsewhere.write_all(body(third, 6, "xxxxxx").as_bytes()).await.unwrap();
        assert_eq!(answer(&mut elsewhere).await.status(), 200);
    }
}
