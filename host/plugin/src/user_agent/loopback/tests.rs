use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::clock::ManualClock;
use crate::random::SystemRandomness;

const LONG: Duration = Duration::from_secs(300);

fn listeners() -> (LoopbackListeners, ManualClock) {
    let clock = ManualClock::new(0);
    (LoopbackListeners::new(Arc::new(clock.clone()), Arc::new(SystemRandomness::default())), clock)
}

fn page(title: &str) -> Page {
    Page { success: true, title: title.into(), message: "You can close this tab.".into() }
}

/// Sends `head` as it is and reads to the end of the connection.
async fn exchange(port: u16, head: String) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    // A refusal may come as a reset after the answer.
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8(response).unwrap()
}

fn get(port: u16, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")
}

/// What a browser asks for on behalf of a page.
fn fetched(port: u16, mode: &str, destination: &str) -> String {
    let head = format!("\r\nSec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {destination}\r\n\r\n");
    get(port, "/?code=c").replace("\r\n\r\n", &head)
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn the_redirect_is_delivered_and_the_browser_sees_the_page() {
    let (listeners, _) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    assert_eq!(listener.redirect_uri(), format!("http://localhost:{port}"));
    let browser = tokio::spawn(exchange(port, get(port, "/?code=c&state=s")));

    assert_eq!(listener.wait(LONG).await.as_deref(), Some("code=c&state=s"));
    listener.respond(&page("<Done> & 'dusted'"));
    drop(listener);

    let response = browser.await.unwrap();
    assert_eq!(status(&response), "200");
    assert!(response.contains("<h1>&lt;Done&gt; &amp; &#39;dusted&#39;</h1>"));
    assert!(response.contains("content-security-policy: default-src 'none'; style-src 'unsafe-inline'"));
    assert!(response.contains("cache-control: no-store"));
    assert!(response.contains("referrer-policy: no-referrer"));
}

#[tokio::test]
async fn the_redirect_of_a_browser_that_says_what_it_is_for_is_delivered() {
    let (listeners, _) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    tokio::spawn(exchange(port, fetched(port, "navigate", "document")));
    assert_eq!(listener.wait(LONG).await.as_deref(), Some("code=c"));
}

#[tokio::test]
async fn everything_but_the_redirect_is_refused() {
    let (listeners, _) = listeners();
    let listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    let other_host = |host: &str| format!("GET /?code=c HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (case, head, expected) in [
        ("another path", get(port, "/favicon.ico"), "404"),
        ("another path with a query", get(port, "/x?code=c"), "404"),
        ("no query", get(port, "/"), "404"),
        ("an empty query", get(port, "/?"), "404"),
        ("POST", get(port, "/?code=c").replace("GET", "POST"), "405"),
        ("another host", other_host("evil.example"), "421"),
        ("another port", other_host("localhost:1"), "421"),
        ("a host that begins alike", other_host(&format!("localhost:{port}.evil.example")), "421"),
        ("no host", "GET /?code=c HTTP/1.1\r\n\r\n".to_owned(), "421"),
        ("two hosts", get(port, "/?c=d").replace("\r\n\r\n", "\r\nHost: evil\r\n\r\n"), "421"),
        ("a head over the limit", get(port, &format!("/?code={}", "x".repeat(MAX_HEAD_BYTES))), "431"),
        ("an image in another page", fetched(port, "no-cors", "image"), "403"),
        ("a script of another page", fetched(port, "cors", "empty"), "403"),
        ("a frame in another page", fetched(port, "navigate", "iframe"), "403"),
        ("garbage", "\u{1}\u{2}\r\n\r\n".to_owned(), "400"),
    ] {
        assert_eq!(status(&exchange(port, head).await), expected, "{case}");
    }
}

#[tokio::test]
async fn connections_that_send_nothing_do_not_block_the_redirect() {
    let (listeners, _) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    let mut idle = Vec::new();
    for _ in 0..5 {
        idle.push(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
    }
    tokio::spawn(exchange(port, get(port, "/?code=c")));
    assert_eq!(listener.wait(LONG).await.as_deref(), Some("code=c"));
}

#[tokio::test]
async fn both_loopback_addresses_are_served() {
    let (listeners, _) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    let Ok(mut stream) = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await else {
        return; // A machine without IPv6.
    };
    stream.write_all(format!("GET /?v=6 HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(listener.wait(LONG).await.as_deref(), Some("v=6"));
}

#[tokio::test]
async fn waiting_ends_after_the_timeout_of_the_injected_clock() {
    let (listeners, clock) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let waiting = tokio::spawn(async move { listener.wait(LONG).await });
    assert_eq!(clock.next_wait().await, LONG);
    clock.advance(LONG);
    assert_eq!(waiting.await.unwrap(), None);
}

#[tokio::test]
async fn a_listener_closes_with_its_handle() {
    let (listeners, _) = listeners();
    let listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    let tasks = listener.listener.accepting.clone();
    drop(listener);
    while !tasks.iter().all(AbortHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err());
}

#[tokio::test]
async fn a_browser_that_is_left_waiting_learns_that_the_sign_in_is_over() {
    let (listeners, _) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    let browser = tokio::spawn(exchange(port, get(port, "/?code=c")));
    listener.wait(LONG).await.unwrap();
    drop(listener);
    assert_eq!(status(&browser.await.unwrap()), "410");
}

#[tokio::test]
async fn a_detached_listener_keeps_its_redirect_for_who_attaches() {
    let (listeners, _) = listeners();
    let mut first = listeners.open().await.unwrap();
    let port = first.listener.port;
    let id = first.detach(LONG);
    drop(first);
    let browser = tokio::spawn(exchange(port, get(port, "/?code=c")));

    let mut second = listeners.attach(&id).unwrap();
    assert_eq!(second.wait(LONG).await.as_deref(), Some("code=c"));
    second.respond(&page("Done"));

    assert_eq!(status(&browser.await.unwrap()), "200");
    assert_eq!(listeners.attach(&id).err(), Some(UserAgentError::NoSuchListener));
}

#[tokio::test]
async fn a_detached_listener_closes_when_its_time_is_over() {
    let (listeners, clock) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let id = listener.detach(LONG);
    drop(listener);
    clock.next_wait().await;
    clock.advance(LONG);
    while listeners.registry.detached().contains_key(&id) {
        tokio::task::yield_now().await;
    }
    assert_eq!(listeners.attach(&id).err(), Some(UserAgentError::NoSuchListener));
    assert_eq!(listeners.registry.slots.available_permits(), MAX_LISTENERS);
}

#[tokio::test]
async fn however_often_a_listener_is_detached_it_has_one_id_and_one_end() {
    let (listeners, clock) = listeners();
    let mut listener = listeners.open().await.unwrap();
    let spent = listener.detach(LONG / 2);
    clock.next_wait().await;
    let id = listener.detach(LONG);
    assert_eq!(listeners.attach(&spent).err(), Some(UserAgentError::NoSuchListener));
    // The end of the first time is no longer waited for.
    while clock.next_wait().await != LONG {
        tokio::task::yield_now().await;
    }
    assert_eq!(listeners.registry.detached().len(), 1);
    listeners.attach(&id).unwrap();
    assert_eq!(listeners.registry.detached().len(), 0);
}

#[tokio::test]
async fn an_unknown_id_attaches_to_nothing() {
    let (listeners, _) = listeners();
    for id in ["", "x", "00000000000000000000000000000000"] {
        assert_eq!(listeners.attach(id).err(), Some(UserAgentError::NoSuchListener));
    }
}

#[tokio::test]
async fn listeners_are_bounded_and_closing_one_makes_room() {
    let (listeners, _) = listeners();
    let mut open = Vec::new();
    for _ in 0..MAX_LISTENERS {
        open.push(listeners.open().await.unwrap());
    }
    assert_eq!(listeners.open().await.err(), Some(UserAgentError::TooManyListeners));
    open.pop();
    assert!(listeners.open().await.is_ok());
}

#[tokio::test]
async fn reloads_beyond_the_limit_are_turned_away() {
    let (listeners, _) = listeners();
    let listener = listeners.open().await.unwrap();
    let port = listener.listener.port;
    let mut waiting = Vec::new();
    for number in 0..MAX_WAITING_REDIRECTS {
        waiting.push(tokio::spawn(exchange(port, get(port, &format!("/?n={number}")))));
        while listener.listener.redirects.lock().await.len() <= number {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(status(&exchange(port, get(port, "/?n=more")).await), "503");
}
