//! Tests of the server: real connections on loopback, and a handler that stands for the component.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;

mod bodies;
mod connections;
mod lifecycle;
mod limits;
mod requests;
mod tls;

/// Longer than any passing test takes. It decides nothing: it makes a test that waits in vain end with a message.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a future that becomes ready if everything works.
async fn soon<T>(future: impl Future<Output = T>) -> Result<T, tokio::time::error::Elapsed> {
    tokio::time::timeout(PATIENCE, future).await
}

/// Lets time pass for the server and for the test, without waiting for it.
async fn pass(time: Duration) {
    /// Timers that are set anew while the time passes have to go off in it too.
    const STEPS: u32 = 16;
    tokio::time::pause();
    for _ in 0..STEPS {
        tokio::time::advance(time / STEPS).await;
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
}

/// A handler whose behaviour depends on the path.
#[derive(Default)]
struct Component {
    /// `/wait` answers when this is notified.
    go_on: Notify,
    /// A `/wait` or `/sse` has begun.
    begun: Notify,
    /// A `/wait` or `/sse` was dropped before its end.
    cancelled: Arc<Cancelled>,
    seen: Mutex<Vec<Request<Bytes>>>,
    /// If set, the second request of an address to an endpoint is refused, to be repeated after this time.
    retry_after: Option<Duration>,
    counted: Mutex<HashSet<(String, IpAddr)>>,
}

#[derive(Default)]
struct Cancelled {
    flag: AtomicBool,
    changed: Notify,
}

struct CancelGuard {
    cancelled: Option<Arc<Cancelled>>,
}

impl CancelGuard {
    fn done(mut self) {
        self.cancelled = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(cancelled) = &self.cancelled {
            cancelled.flag.store(true, Ordering::SeqCst);
            cancelled.changed.notify_one();
        }
    }
}

impl Component {
    fn guard(&self) -> CancelGuard {
        CancelGuard { cancelled: Some(Arc::clone(&self.cancelled)) }
    }

    async fn was_cancelled(&self) {
        let changed = async {
            while !self.cancelled.flag.load(Ordering::SeqCst) {
                self.cancelled.changed.notified().await;
            }
        };
        soon(changed).await.expect("the call is cancelled");
    }

    async fn has_begun(&self) {
        soon(self.begun.notified()).await.expect("the call begins");
    }
}

#[async_trait]
impl HttpHandler for Component {
    async fn handle_http(&self, request: Request<Bytes>) -> Response<HttpBody> {
        let (path, body) = (request.uri().path().to_owned(), request.body().clone());
        let at_work = request.extensions().get::<AtWork>().cloned().expect("it is at work");
        self.seen.lock().unwrap().push(request);
        match path.as_str() {
            "/wait" | "/long" | "/wait-without-body" | "/elsewhere" => {
                let guard = self.guard();
                if path == "/elsewhere" {
                    at_work.end();
                }
                self.begun.notify_one();
                self.go_on.notified().await;
                guard.done();
            }
            "/sse" | "/relay" | "/relayed-answer" | "/answer" | "/long-answer" => {
                let guard = self.guard();
                self.begun.notify_one();
                let hello = futures_util::stream::unfold((guard, true), |(guard, first)| async move {
                    if !first {
                        std::future::pending::<()>().await;
                    }
                    Some((Ok(http_body::Frame::data(Bytes::from_static(b"data: hello\n\n"))), (guard, false)))
                });
                let hello = http_body_util::StreamBody::new(hello);
                let is_relayed = path.starts_with("/relay");
                let body = if is_relayed { HttpBody::relayed_stream(hello) } else { HttpBody::event_stream(hello) };
                return Response::new(body);
            }
            _ => {}
        }
        Response::new(HttpBody::full(body))
    }

    async fn admit(&self, method: &Method, path: &str, client: IpAddr) -> Result<(), Duration> {
        let counted = ["/authorize", "/token", "/register", "/auth/callback", "/revoke"];
        let Some(after) = self.retry_after.filter(|_| *method != Method::OPTIONS && counted.contains(&path)) else {
            return Ok(());
        };
        let first = self.counted.lock().unwrap().insert((path.to_owned(), client));
        if first { Ok(()) } else { Err(after) }
    }

    fn body_need(&self, _method: &Method, path: &str, _headers: &HeaderMap) -> BodyNeed {
        match path {
            "/nothing" | "/sse" | "/relay" | "/wait-without-body" => BodyNeed::Nothing,
            "/small" => BodyNeed::UpTo(4),
            _ => BodyNeed::UpTo(usize::MAX),
        }
    }

    fn lasts(&self, method: &Method, path: &str) -> bool {
        *method == Method::GET && path == "/sse"
    }

    fn relays(&self, method: &Method, path: &str) -> bool {
        *method == Method::GET && path == "/relay"
    }

    fn request_time(&self, _method: &Method, path: &str) -> Option<Duration> {
        path.starts_with("/long").then_some(PATIENCE)
    }

    fn is_health_check(&self, path: &str) -> bool {
        matches!(path, "/healthz" | "/readyz")
    }
}

/// The header that tells the component the address of the client.
const CLIENT_ADDRESS_HEADER: &str = "x-client-address";

fn options() -> Options {
    Options::new(HeaderName::from_static(CLIENT_ADDRESS_HEADER), Arc::new(|| "c0ffee".to_owned()))
}

/// A server that runs.
struct Running {
    address: SocketAddr,
    component: Arc<Component>,
    stop: Option<oneshot::Sender<()>>,
    cancel: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
}

/// Limits that are reached soon.
fn short() -> Limits {
    Limits {
        header_time: Duration::from_millis(200),
        handshake_time: Duration::from_millis(200),
        body_time: Duration::from_millis(200),
        request_time: Duration::from_millis(200),
        idle_time: Duration::from_millis(400),
        grace: Duration::from_millis(300),
        ..Limits::default()
    }
}

impl Running {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn limited(limits: Limits) -> Self {
        Self::with(|options| options.limits = limits).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::on("127.0.0.1:0", change).await
    }

    async fn on(address: &str, change: impl FnOnce(&mut Options)) -> Self {
        Self::of(Component::default(), address, change).await
    }

    async fn of(component: Component, address: &str, change: impl FnOnce(&mut Options)) -> Self {
        let server = HttpServer::bind(address.parse().unwrap()).await.unwrap();
        let address = SocketAddr::new("127.0.0.1".parse().unwrap(), server.address().port());
        let mut options = options();
        change(&mut options);
        let component = Arc::new(component);
        let (stop, stopped) = oneshot::channel();
        let (cancel, cancelled) = oneshot::channel();
        let handler = Arc::<Component>::clone(&component);
        // A channel that is dropped means nothing.
        let wait = |receiver: oneshot::Receiver<()>| async move {
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let task = tokio::spawn(server.serve(handler, options, wait(stopped), wait(cancelled)));
        Self { address, component, stop: Some(stop), cancel: Some(cancel), task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of its own, and returns all that comes back until the server closes it.
    async fn send(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        Reply::read(&mut stream).await
    }

    /// A GET with more header lines, each with its line break.
    async fn get(&self, path: &str, lines: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n")).await
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn ended(self) {
        soon(self.task).await.expect("the server ends").unwrap().unwrap();
    }
}

/// The answer on a connection.
#[derive(Debug)]
struct Reply {
    text: String,
}

impl Reply {
    async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        let reading = async {
            let mut buffer = [0; 4096];
            // A connection may be reset when the server closes it with bytes unread.
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                bytes.extend_from_slice(&buffer[..length]);
            }
        };
        soon(reading).await.expect("the server closes the connection");
        Self { text: String::from_utf8(bytes).unwrap() }
    }

    /// 0 if nothing was answered.
    fn status(&self) -> u16 {
        self.text.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }

    fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap();
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// A refusal of the host's own: plain text with a correlation id.
    fn refused(&self, status: StatusCode) {
        assert_eq!(self.status(), status.as_u16(), "{}", self.text);
        assert_eq!(self.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(self.header("server"), None);
        assert!(self.body().contains("(correlation id "), "{}", self.text);
    }
}
