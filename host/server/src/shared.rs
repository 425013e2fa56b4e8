//! What the connections of a server share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use tokio_rustls::TlsAcceptor;

use super::handler::HttpHandler;
use super::options::Options;
use super::shares::Shares;
use super::turns::Turns;

/// Everything that the connections of a server share.
pub(crate) struct Shared {
    pub(crate) handler: Arc<dyn HttpHandler>,
    pub(crate) options: Options,
    /// Plain http on a network: only declared proxies, and health checks, are served.
    pub(crate) proxies_only: bool,
    pub(crate) acceptor: Option<TlsAcceptor>,
    pub(crate) protocols: auto::Builder<TokioExecutor>,
    pub(crate) buffered: Arc<Shares>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) event_streams: Arc<Turns>,
    pub(crate) relayed_streams: Arc<Turns>,
    pub(crate) streaming: AtomicUsize,
    /// The log has named a proxy that sends the wrong header.
    pub(crate) has_warned: AtomicBool,
}

impl Shared {
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        self.options.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}
