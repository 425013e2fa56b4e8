//! Receives the redirect of an authorization code flow on the loopback interface (RFC 8252 section 7.3).
//!
//! A listener answers only `GET /?…` with a loopback `Host`, keeps the browser waiting until the component has
//! decided what the page says, and knows nothing about what the query means: `state` is the component's business.
//! It listens on 127.0.0.1 and, where there is IPv6, on ::1 with the same port, since `localhost` may mean either
//! and nobody else should be able to take the other one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::UserAgentError;
use crate::clock::{self, Clock};
use crate::random::{Random, unguessable_id};

/// Listeners at the same time: each is a sign-in that waits for a person.
const MAX_LISTENERS: usize = 16;

/// Connections to one listener at the same time. Browsers open a few in advance; more is somebody else.
const MAX_CONNECTIONS: usize = 16;

/// Redirects that wait for the component at the same time. The first is the one; others are reloads.
const MAX_WAITING_REDIRECTS: usize = 4;

/// Longest request head in bytes. The query holds a code and a state, about 2 KiB from Entra.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long a connection may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the browser is kept waiting for the page (from the WIT contract).
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts to find a port that is free on both loopback addresses.
const PORT_ATTEMPTS: usize = 8;

/// What the browser tab shows in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whether the sign-in succeeded.
    pub success: bool,
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub message: String,
}

/// The listeners of this process. Clones share them.
#[derive(Clone)]
pub struct LoopbackListeners {
    registry: Arc<Registry>,
}

struct Registry {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Bounds listeners whether they are attached or not.
    slots: Arc<Semaphore>,
    detached: Mutex<HashMap<String, Detached>>,
}

/// A listener that runs without a handle, and the task that ends it.
struct Detached {
    listener: Arc<Listener>,
    end: AbortHandle,
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// A listening pair of sockets. Dropping the last reference closes them.
struct Listener {
    port: u16,
    redirects: AsyncMutex<mpsc::Receiver<Redirect>>,
    accepting: Vec<AbortHandle>,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Listener {
    fn drop(&mut self) {
        for task in &self.accepting {
            task.abort();
        }
    }
}

/// A redirect that arrived, and the way to answer the browser that brought it.
struct Redirect {
    query: String,
    page: oneshot::Sender<Page>,
}

/// A handle on a running listener.
pub struct LoopbackListener {
    listener: Arc<Listener>,
    registry: Arc<Registry>,
    answer: Option<oneshot::Sender<Page>>,
}

impl LoopbackListeners {
    /// No listeners yet. `clock` bounds how long they wait.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_LISTENERS));
        Self { registry: Arc::new(Registry { clock, random, slots, detached: Mutex::default() }) }
    }

    /// Starts listening on a free port.
    pub async fn open(&self) -> Result<LoopbackListener, UserAgentError> {
        let registry = Arc::clone(&self.registry);
        let slot = Arc::clone(&registry.slots).try_acquire_owned().map_err(|_| UserAgentError::TooManyListeners)?;
        let sockets = bind().await.map_err(|error| {
            tracing::warn!(%error, "no loopback port");
            UserAgentError::Unavailable(format!("no port could be opened on the loopback interface: {error}"))
        })?;
        let port = sockets.port;
        let (sender, receiver) = mpsc::channel(MAX_WAITING_REDIRECTS);
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accepting = sockets
            .into_listeners()
            .map(|socket| tokio::spawn(accept(socket, port, sender.clone(), Arc::clone(&connections))).abort_handle())
            .collect();
        let listener = Listener { port, redirects: AsyncMutex::new(receiver), accepting, _slot: slot };
        Ok(LoopbackListener { listener: Arc::new(listener), registry, answer: None })
    }

    /// Continues with a detached listener, which is then no longer detached.
    pub fn attach(&self, id: &str) -> Result<LoopbackListener, UserAgentError> {
        let detached = self.registry.detached().remove(id).ok_or(UserAgentError::NoSuchListener)?;
        let listener = Arc::clone(&detached.listener);
        Ok(LoopbackListener { listener, registry: Arc::clone(&self.registry), answer: None })
    }
}

impl Registry {
    fn detached(&self) -> std::sync::MutexGuard<'_, HashMap<String, Detached>> {
        self.detached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a detached listener when its time is over, unless somebody attached to it before.
    fn expire(self: &Arc<Self>, id: String, lifetime: Duration) -> AbortHandle {
        let (registry, clock): (Weak<Self>, _) = (Arc::downgrade(self), Arc::clone(&self.clock));
        tokio::spawn(async move {
            clock::sleep(&*clock, lifetime).await;
            if let Some(registry) = registry.upgrade() {
                registry.detached().remove(&id);
            }
        })
        .abort_handle()
    }
}

impl LoopbackListener {
    /// `http://localhost:{port}`.
    pub fn redirect_uri(&self) -> String {
        format!("http://localhost:{}", self.listener.port)
    }

    /// Waits for a redirect and returns its query; `None` after `timeout`. Dropping the future loses nothing.
    pub async fn wait(&mut self, timeout: Duration) -> Option<String> {
        let clock = Arc::clone(&self.registry.clock);
        let mut redirects = self.listener.redirects.lock().await;
        let redirect = tokio::select! {
            biased;
            redirect = redirects.recv() => redirect?,
            () = clock::sleep(&*clock, timeout) => return None,
        };
        self.answer = Some(redirect.page);
        Some(redirect.query)
    }

    /// Answers the browser whose redirect [`LoopbackListener::wait`] returned last.
    pub fn respond(&mut self, page: &Page) {
        if let Some(answer) = self.answer.take() {
            // The person may have closed the tab.
            let _ = answer.send(page.clone());
        }
    }

    /// Leaves the listener running for `lifetime` after this handle is dropped; returns the id to attach with, an
    /// id that belongs to no listener if there is no randomness for one.
    pub fn detach(&mut self, lifetime: Duration) -> String {
        let Ok(id) = unguessable_id(&*self.registry.random) else {
            return String::new();
        };
        // Locked first: a lifetime of zero ends only after it began.
        let mut detached = self.registry.detached();
        let end = self.registry.expire(id.clone(), lifetime);
        // A listener has one id, or a component could fill the memory with them.
        detached.retain(|_, other| !Arc::ptr_eq(&other.listener, &self.listener));
        detached.insert(id.clone(), Detached { listener: Arc::clone(&self.listener), end });
        id
    }
}

struct Sockets {
    port: u16,
    v4: TcpListener,
    v6: Option<TcpListener>,
}

impl Sockets {
    fn into_listeners(self) -> impl Iterator<Item = TcpListener> {
        std::iter::once(self.v4).chain(self.v6)
    }
}

async fn bind() -> std::io::Result<Sockets> {
    let mut attempts = 0;
    loop {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = v4.local_addr()?.port();
        match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(v6) => return Ok(Sockets { port, v4, v6: Some(v6) }),
            // Somebody else would receive what a browser sends to `localhost`: take another port.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                attempts += 1;
                if attempts == PORT_ATTEMPTS {
                    return Err(error);
                }
            }
            // A machine without IPv6.
            Err(_) => return Ok(Sockets { port, v4, v6: None }),
        }
    }
}

async fn accept(socket: TcpListener, port: u16, redirects: mpsc::Sender<Redirect>, connections: Arc<Semaphore>) {
    loop {
        // Wait for room first: what is over the limit waits in the system's queue.
        let Ok(room) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        match socket.accept().await {
            Ok((stream, peer)) => {
                let redirects = redirects.clone();
                // A task of its own: it still answers its browser after the listener is closed.
                tokio::spawn(async move {
                    serve(stream, peer, port, redirects).await;
                    drop(room);
                });
            }
            Err(error) => {
                // Out of file descriptors, or a connection that was reset in the queue.
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, port: u16, redirects: mpsc::Sender<Redirect>) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let redirects = redirects.clone();
        async move { Ok::<_, Infallible>(answer(&request, port, redirects).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // The whole exchange is bounded, so that no browser holds a connection for ever.
    match tokio::time::timeout(HEAD_TIMEOUT + PAGE_TIMEOUT + HEAD_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection to the redirect listener broke"),
        Err(_) => tracing::debug!(%peer, "a connection to the redirect listener took too long"),
    }
}

async fn answer<B>(request: &Request<B>, port: u16, redirects: mpsc::Sender<Redirect>) -> Response<Full<Bytes>> {
    if !has_loopback_host(request, port) {
        return plain(StatusCode::MISDIRECTED_REQUEST);
    }
    if is_for_another_page(request) {
        return plain(StatusCode::FORBIDDEN);
    }
    if request.uri().path() != "/" {
        return plain(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(query) = request.uri().query().filter(|query| !query.is_empty()) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let (page, decided) = oneshot::channel();
    if redirects.try_send(Redirect { query: query.to_owned(), page }).is_err() {
        return plain(StatusCode::SERVICE_UNAVAILABLE);
    }
    drop(redirects);
    match tokio::time::timeout(PAGE_TIMEOUT, decided).await {
        Ok(Ok(page)) => show(StatusCode::OK, &page),
        _ => show(
            StatusCode::GONE,
            &Page {
                success: false,
                title: "This sign-in is over".into(),
                message: "The program that asked for it is no longer waiting. You can close this tab.".into(),
            },
        ),
    }
}

/// A page of another site can make a browser connect here under a name of its own; that name is then in `Host`.
fn has_loopback_host<B>(request: &Request<B>, port: u16) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| host.as_bytes() == format!("{name}:{port}").as_bytes())
}

/// The redirect is what the person sees in the end: a document, not a part of one. Browsers say what a request is for
/// (Fetch Metadata), so that a page that tries ports cannot spend the redirect that is waited for.
fn is_for_another_page<B>(request: &Request<B>) -> bool {
    [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
        .iter()
        .any(|(name, expected)| request.headers().get(*name).is_some_and(|value| value != expected))
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    harden(&mut response);
    response
}

fn show(status: StatusCode, page: &Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(html(page)));
    *response.status_mut() = status;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    harden(&mut response);
    response
}

fn harden(response: &mut Response<Full<Bytes>>) {
    const POLICY: &str =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONNECTION, "close"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn html(page: &Page) -> String {
    let (title, message) = (escape(&page.title), escape(&page.message));
    let (colour, sign) = if page.success { ("#0b6a0b", "&#10003;") } else { ("#a4262c", "&#33;") };
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1.1rem/1.5 system-ui, sans-serif; }}
main {{ max-width: 32rem; padding: 2rem; text-align: center; }}
.sign {{ display: inline-block; width: 3rem; border-radius: 50%; background: {colour}; color: #fff; font-size: 2rem; }}
h1 {{ font-size: 1.5rem; }}
</style>
</head>
<body>
<main role="{role}">
<div class="sign" aria-hidden="true">{sign}</div>
<h1>{title}</h1>
<p>{message}</p>
</main>
</body>
</html>
"#,
        role = if page.success { "status" } else { "alert" },
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
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
}
