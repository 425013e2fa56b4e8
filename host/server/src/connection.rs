//! One connection: its handshake, its protocol, and when it is given up.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::activity::Activity;
use super::options::Limits;
use super::service;
use super::shared::Shared;
use super::shares::Share;
use super::stall::StallGuard;
use super::untaken::BUFFERED_BYTES;

/// How long sending the refusal to a refused connection may take.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// The refusal that is sent on a connection beyond the limit.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: text/plain; \
    charset=utf-8\r\ncontent-length: 38\r\nconnection: close\r\n\r\nthe server has too many connections.\r\n";

/// The windows of HTTP/2 flow control: how many bytes a client may send before the server reads them, per request and
/// per connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// The protocols, with their limits. hyper itself refuses, in less clear words, header fields twice as long as allowed.
pub(super) fn protocols(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_bytes = limits.header_bytes.saturating_mul(2);
    // The watch below bounds the time for header fields, for both protocols.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(header_bytes.max(8 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_send_buf_size(BUFFERED_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX));
    builder
}

/// Decides, look by look, whether a connection is given up.
struct Watch {
    /// Looks after which a request must have come whole.
    slow_after: u32,
    idle_after: u32,
    begun: u64,
    slow: u32,
    quiet: u32,
}

enum Verdict {
    Stay,
    /// The connection has been idle for too long.
    Leave,
    /// The header of a request takes too long, or the client does not close the connection when asked.
    Break,
}

/// Looks per [`Limits::header_time`].
const LOOKS: u32 = 4;

impl Watch {
    fn new(limits: &Limits) -> (Self, Duration) {
        let pause = (limits.header_time / LOOKS).max(Duration::from_millis(1));
        let idle_after = limits.idle_time.as_millis().div_ceil(pause.as_millis());
        let idle_after = u32::try_from(idle_after).unwrap_or(u32::MAX).max(1);
        (Self { slow_after: LOOKS, idle_after, begun: 0, slow: 0, quiet: 0 }, pause)
    }

    fn look(&mut self, activity: &Activity) -> Verdict {
        let begun = activity.begun();
        if activity.is_active() || begun != self.begun {
            (self.begun, self.slow, self.quiet) = (begun, 0, 0);
            return Verdict::Stay;
        }
        self.quiet = self.quiet.saturating_add(1);
        self.slow = if activity.is_reading() || begun == 0 { self.slow.saturating_add(1) } else { 0 };
        if self.slow >= self.slow_after || self.quiet > self.idle_after.saturating_add(1) {
            Verdict::Break
        } else if self.quiet >= self.idle_after {
            Verdict::Leave
        } else {
            Verdict::Stay
        }
    }
}

/// A connection that has its place.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) activity: Arc<Activity>,
    pub(super) place: Share,
}

/// Serves a connection to its end, or until another client needs its place.
pub(super) async fn serve(shared: Arc<Shared>, connection: Connection, ended: watch::Receiver<bool>) {
    let Connection { stream, peer, activity, place } = connection;
    let gives_way = Notify::new();
    let mut serving = pin!(begin(shared, stream, peer, Arc::clone(&activity), ended, &gives_way));
    let was_idle = tokio::select! {
        biased;
        () = serving.as_mut() => return,
        was_idle = place.displaced() => was_idle,
    };
    tracing::debug!(%peer, "a connection gave way to that of another client");
    // Its place was taken because nothing was going on, and now a request has begun: that one is answered.
    if was_idle && activity.is_active() {
        gives_way.notify_one();
        serving.await;
    }
}

async fn begin(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: IpAddr,
    activity: Arc<Activity>,
    ended: watch::Receiver<bool>,
    gives_way: &Notify,
) {
    // Small answers to small questions: waiting to fill a packet would only add delay.
    let _ = stream.set_nodelay(true);
    let stream = StallGuard::new(stream, shared.options.limits.stall_time, Arc::clone(&activity));
    let Some(acceptor) = &shared.acceptor else {
        return drive(TokioIo::new(stream), shared, peer, activity, ended, gives_way).await;
    };
    match tokio::time::timeout(shared.options.limits.handshake_time, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => drive(TokioIo::new(stream), shared, peer, activity, ended, gives_way).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
async fn drive<I>(
    io: I,
    shared: Arc<Shared>,
    peer: IpAddr,
    activity: Arc<Activity>,
    mut ended: watch::Receiver<bool>,
    gives_way: &Notify,
) where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = {
        let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
        service_fn(move |request| {
            let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
            async move { Ok::<_, Infallible>(service::answer(&shared, peer, &activity, request).await) }
        })
    };
    let mut connection = pin!(shared.protocols.serve_connection(io, service));
    let (mut watch, pause) = Watch::new(&shared.options.limits);
    let mut ending = *ended.borrow();
    if ending {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "a connection broke off");
                }
                return;
            }
            _ = ended.changed(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = gives_way.notified() => connection.as_mut().graceful_shutdown(),
            () = tokio::time::sleep(pause) => match watch.look(&activity) {
                Verdict::Stay => {}
                Verdict::Leave => connection.as_mut().graceful_shutdown(),
                Verdict::Break => {
                    tracing::debug!(%peer, "a connection was given up");
                    return;
                }
            },
        }
    }
}

/// Says that there are too many connections. Plain http only: a handshake would cost more than the refusal saves.
pub(super) async fn refuse(mut stream: TcpStream) {
    let telling = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await
    };
    // A client that does not read misses the refusal; that is acceptable.
    let _ = tokio::time::timeout(REFUSAL_TIME, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_has_the_length_that_it_declares() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
