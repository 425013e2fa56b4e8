//! A hardened HTTP server: connections, TLS, limits and lifecycle. What is asked and answered is its handler's business.
//!
//! A request reaches the [`HttpHandler`] only when all of it is here, and an answer leaves it before it is sent: a slow
//! client occupies a connection, never the handler. The exception are event streams, whose number is bounded.
//!
//! What may not be in it: a session, a token, a metric, a word of Entra ID or MCP. It trusts no header about the client,
//! unless a declared proxy sent it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use activity::Activity;
use connection::Connection;
use shared::Shared;
use shares::{ShareBounds, Shares};
use turns::Turns;

mod activity;
mod body;
mod client_address;
mod connection;
mod handler;
mod observer;
mod options;
mod refusal;
mod request_body;
mod service;
mod shared;
mod shares;
mod stall;
mod tls;
mod turns;
mod untaken;

pub use body::{BrokenOff, HttpBody};
pub use client_address::ForwardedHeader;
pub use handler::{BodyNeed, HttpHandler};
pub use observer::{NoObserver, ObservedRequest, Observer};
pub use options::{CorrelationIds, Limits, Options};
pub use service::path_below;
pub use tls::{Certificates, TlsError};
pub use turns::AtWork;

/// How often the server looks, at its end, whether only event streams are left.
const END_POLL: Duration = Duration::from_millis(100);

/// How many looks in a row have to find only event streams: last answers of other requests may still be under way.
const END_POLLS: u32 = 10;

/// What a body that is held costs at least: a page. A few bytes in each of very many bodies are not for free. Where there
/// is little memory for them, it is a thousandth.
const LEAST_BODY_BYTES: usize = 4096;

/// What part of the memory for bodies the largest body is that is little, 64 KiB of 64 MiB: where others have occupied all, a
/// client that occupies nothing else still has one taken.
const LITTLE_BODY_PART: usize = 1_024;

/// What part of the memory for bodies there is besides, for little ones: 16 MiB, for 256 clients at least.
const SPARE_PART: usize = 4;

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections beyond the limit to which the server sends a refusal at the same time. It closes further ones silently.
const MAX_REFUSALS: usize = 64;

/// Connections that the system has made and the server has not accepted yet; the system may allow fewer
/// (`net.core.somaxconn`). The default of the standard library is 128: beyond them, the system drops the first packet of a
/// client, which tries again a second later. A burst from one address would cost every other client that second.
const BACKLOG: u32 = 4_096;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        reason: io::Error,
    },
    /// Passwords and tokens would cross a network in clear.
    #[error(
        "plain http on {0} is refused, because tokens would cross the network unencrypted: pass --tls-cert and \
         --tls-key, or listen on loopback, or declare the proxy that terminates TLS with --trusted-proxy"
    )]
    Insecure(SocketAddr),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// As [`TcpListener::bind`], with room for more connections that wait.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again does not wait until the connections of the one before are over. Elsewhere, the option
    // would let two programs listen on one port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A server that listens.
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpServer {
    /// Starts to listen. Clients may connect, and wait for [`HttpServer::serve`].
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let failed = |reason| ServerError::Listen { address, reason };
        let listener = listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says whether tokens would cross a network unencrypted.
    pub fn check(address: SocketAddr, tls: bool, trusted_proxies: &[IpNet]) -> Result<(), ServerError> {
        if tls || address.ip().to_canonical().is_loopback() || !trusted_proxies.is_empty() {
            return Ok(());
        }
        Err(ServerError::Insecure(address))
    }

    /// Serves until `stop` completes. Then lets requests in flight finish, until the time for that is over or
    /// `cancel` completes.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub async fn serve(
        self,
        handler: Arc<dyn HttpHandler>,
        options: Options,
        stop: impl Future<Output = ()>,
        cancel: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let https = options.tls.is_some();
        Self::check(self.address, https, &options.trusted_proxies)?;
        let (limits, tls) = (options.limits.clone(), options.tls.clone());
        let shared = Arc::new(Shared {
            handler,
            proxies_only: !https && !self.address.ip().to_canonical().is_loopback(),
            acceptor: tls.as_ref().map(Certificates::acceptor).transpose()?,
            protocols: connection::protocols(&limits),
            buffered: Shares::new(ShareBounds {
                most: limits.buffered_bytes,
                most_each: limits.buffered_bytes / 2,
                least: LEAST_BODY_BYTES.min(limits.buffered_bytes / 1_000).max(1),
                newcomers_first: false,
                little: limits.buffered_bytes / LITTLE_BODY_PART,
                spare: limits.buffered_bytes / SPARE_PART,
            }),
            turns: Turns::new(limits.at_work, limits.waiting, limits.wait),
            event_streams: Turns::places(limits.event_streams),
            relayed_streams: Turns::places(limits.relayed_streams),
            streaming: AtomicUsize::new(0),
            has_warned: AtomicBool::new(false),
            options,
        });
        let reloading = tls.map(|tls| tokio::spawn(tls.keep_fresh()));
        let (ending, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let places = Shares::new(ShareBounds {
            most: limits.connections,
            most_each: (limits.connections / 2).max(1),
            least: 1,
            newcomers_first: true,
            little: 0,
            spare: 0,
        });
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        let accepting = async {
            loop {
                let accepted = tokio::select! {
                    accepted = self.listener.accept() => accepted,
                    Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                };
                let (stream, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // The error concerns one connection, or a moment without file descriptors.
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let peer = peer.ip().to_canonical();
                let activity = Arc::<Activity>::default();
                // A proxy's connections carry the requests of all its clients, so they have no share.
                let mut place = places.share((!shared.is_proxy(peer)).then_some(peer), &activity);
                match place.grow(1, 1) {
                    true => {
                        let connection = Connection { stream, peer, activity, place };
                        connections.spawn(connection::serve(Arc::clone(&shared), connection, ended.clone()));
                    }
                    false => {
                        tracing::warn!(connections = limits.connections, "too many connections: one is refused");
                        if let (false, Ok(place)) = (https, Arc::clone(&refusals).try_acquire_owned()) {
                            connections.spawn(async move {
                                connection::refuse(stream).await;
                                drop(place);
                            });
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop => {}
        }
        drop(self.listener);
        ending.send_replace(true);
        tracing::info!(connections = connections.len(), "the server ends");
        tokio::select! {
            () = finish(&mut connections, &shared) => {}
            () = tokio::time::sleep(limits.grace) => {
                tracing::warn!(connections = connections.len(), "requests in flight are cancelled");
            }
            () = cancel => {}
        }
        connections.shutdown().await;
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        Ok(())
    }
}

/// Returns when the connections are closed, or nothing but event streams has been left for a moment.
#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
async fn finish(connections: &mut JoinSet<()>, shared: &Shared) {
    let mut quiet = 0_u32;
    while quiet < END_POLLS {
        tokio::select! {
            ended = connections.join_next() => {
                if ended.is_none() {
                    return;
                }
            }
            () = tokio::time::sleep(END_POLL) => {
                let only_streams = connections.len() <= shared.streaming.load(Ordering::Relaxed);
                quiet = if only_streams { quiet.saturating_add(1) } else { 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests;
