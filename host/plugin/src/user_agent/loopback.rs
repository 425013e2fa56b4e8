//! Receives the redirect of an authorization code flow on the loopback interface (RFC 8252 section 7.3).
//!
//! A listener answers only `GET /?…` with a loopback `Host`, and keeps the browser waiting until the component has
//! decided what the page says. It does not interpret the query: `state` is the component's business. It listens on
//! 127.0.0.1 and, where there is IPv6, on ::1 with the same port. `localhost` may mean either, and no other program
//! should be able to take the second one.

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

use super::{Page, UserAgentError};
use crate::clock::{self, Clock};
use crate::random::{Random, unguessable_id};

/// Concurrent listeners: each is a sign-in that waits for a person.
const MAX_LISTENERS: usize = 16;

/// Concurrent connections to one listener. Browsers open a few in advance; more come from another program.
const MAX_CONNECTIONS: usize = 16;

/// Concurrent redirects that wait for the component. The first one counts; the others are reloads.
const MAX_WAITING_REDIRECTS: usize = 4;

/// Longest request head in bytes. The query holds a code and a state, about 2 KiB from Entra ID.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long a connection may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the browser is kept waiting for the page (from the WIT contract).
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts to find a port that is free on both loopback addresses.
const PORT_ATTEMPTS: usize = 8;

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

/// A listener without a handle, and the task that ends it.
struct Detached {
    listener: Arc<BoundListener>,
    end: AbortHandle,
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// A listening pair of sockets. Dropping the last reference closes them.
struct BoundListener {
    port: u16,
    redirects: AsyncMutex<mpsc::Receiver<Redirect>>,
    accepting: Vec<AbortHandle>,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for BoundListener {
    fn drop(&mut self) {
        for task in &self.accepting {
            task.abort();
        }
    }
}

/// A redirect, and the channel to answer its browser.
struct Redirect {
    query: String,
    page: oneshot::Sender<Page>,
}

/// A handle on a running listener.
pub struct LoopbackListener {
    listener: Arc<BoundListener>,
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
        let listener = BoundListener { port, redirects: AsyncMutex::new(receiver), accepting, _slot: slot };
        Ok(LoopbackListener { listener: Arc::new(listener), registry, answer: None })
    }

    /// Takes over a detached listener, which is then attached again.
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

    /// Closes a detached listener when its time is over, unless a caller attached to it before.
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

    /// Answers the browser of the redirect that [`LoopbackListener::wait`] returned last.
    pub fn respond(&mut self, page: &Page) {
        if let Some(answer) = self.answer.take() {
            // The person may have closed the tab.
            let _ = answer.send(page.clone());
        }
    }

    /// Keeps the listener running for `lifetime` after this handle is dropped; returns the id to attach with. Without
    /// randomness for an id, the returned id belongs to no listener.
    pub fn detach(&mut self, lifetime: Duration) -> String {
        let Ok(id) = unguessable_id(&*self.registry.random) else {
            return String::new();
        };
        // Locked first: a lifetime of zero must not end before it began.
        let mut detached = self.registry.detached();
        let end = self.registry.expire(id.clone(), lifetime);
        // A listener has one id, or a component could fill the memory with ids.
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
            // Another program would receive what a browser sends to `localhost`: take another port.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                attempts += 1;
                if attempts == PORT_ATTEMPTS {
                    return Err(error);
                }
            }
            // This machine has no IPv6.
            Err(_) => return Ok(Sockets { port, v4, v6: None }),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
async fn accept(socket: TcpListener, port: u16, redirects: mpsc::Sender<Redirect>, connections: Arc<Semaphore>) {
    loop {
        // Wait for a place first: connections over the limit wait in the system's queue.
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
                // No file descriptors are left, or a queued connection was reset.
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
    // The whole exchange is bounded, so that no browser holds a connection forever.
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

/// A page of another site can make a browser connect here under a name of its own, which is then in `Host`.
fn has_loopback_host<B>(request: &Request<B>, port: u16) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| host.as_bytes() == format!("{name}:{port}").as_bytes())
}

/// The person sees the redirect as a document, not as a part of one. Browsers say what a request is for (Fetch
/// Metadata), so a page that tries ports cannot use up the redirect that the listener waits for.
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

/// Escapes a text for an element or an attribute. The only place of the host that needs it; `html-escape` would write
/// `&#x27;`, where clients and tests expect `&#39;`. The component has the same for its own pages (`guest/base`): no crate of
/// the host depends on one of the component.
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
mod tests;
