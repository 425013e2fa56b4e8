//! The network side: connections, TLS, reading requests, and what the faults do to the wire.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::control;
use super::endpoint::Endpoint;
use super::http::{Incoming, Params, Reply};
use super::world::World;
use super::{authorize, device_code, graph, managed_identity, metadata, sign_in, token_endpoint};

/// Larger than anything Entra ID or Graph would be sent here; a batch of twenty requests is a few kilobytes.
const BODY_AT_MOST: usize = 1024 * 1024;
/// A client that opens a connection and never finishes the TLS handshake is let go after this.
const HANDSHAKE_AT_MOST: Duration = Duration::from_secs(10);

/// The last second of the year 9999, in Unix time: no header names a later one.
const LAST_DATE: u64 = 253_402_300_799;

/// Which of the two servers a connection reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Server {
    Emulator,
    Control,
}

/// Accepts connections until the emulator is shut down.
#[allow(clippy::disallowed_methods, reason = "what cannot be accepted now is tried again a moment later")]
pub(crate) async fn serve(
    listener: TcpListener,
    world: Arc<World>,
    server: Server,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        // An error of accept is about one connection (or a moment without file descriptors), not about the listener.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (world, tls, stop) = (world.clone(), tls.clone(), stop.clone());
        tokio::spawn(connection(stream, world, server, tls, stop));
    }
}

async fn connection(
    stream: TcpStream,
    world: Arc<World>,
    server: Server,
    tls: Option<TlsAcceptor>,
    stop: watch::Receiver<bool>,
) {
    // Small answers to small questions: waiting to fill a packet would only add delay.
    let _ = stream.set_nodelay(true);
    match tls {
        None => answer(TokioIo::new(stream), world, server, stop).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_AT_MOST, tls.accept(stream)).await {
                answer(TokioIo::new(stream), world, server, stop).await;
            }
        }
    }
}

async fn answer<I>(io: I, world: Arc<World>, server: Server, mut stop: watch::Receiver<bool>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| handle(world.clone(), server, request));
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(io, service);
    tokio::select! {
        // The client or an injected fault caused the error, and the connection is gone: it cannot be reported.
        _ = connection => {}
        _ = stop.changed() => {}
    }
}

/// The connection is closed without an answer, because a fault says so.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped by a fault")]
struct Dropped;

#[allow(clippy::disallowed_methods, reason = "a fault may be that an answer is late")]
async fn handle(
    world: Arc<World>,
    server: Server,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Answer>, Dropped> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_AT_MOST).collect().await else {
        return Ok(response(&world, Reply::empty(StatusCode::PAYLOAD_TOO_LARGE), None));
    };
    let incoming = Incoming {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: Params::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        headers: parts.headers,
        body: body.to_bytes(),
    };
    if server == Server::Control {
        return Ok(response(&world, control::serve(&world, &incoming), None));
    }
    let (endpoint, tenant) = Endpoint::of(&incoming.path);
    world.log().record(endpoint, &incoming);
    let fault = world.faults().strike(endpoint, &incoming);
    let Some(fault) = fault else {
        let reply = dispatch(&world, endpoint, tenant, &incoming);
        world.log().note_issued(&reply);
        return Ok(response(&world, reply, None));
    };
    if fault.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    if fault.drop_connection {
        return Err(Dropped);
    }
    let reply = fault.reply(endpoint).unwrap_or_else(|| dispatch(&world, endpoint, tenant, &incoming));
    world.log().note_issued(&reply);
    Ok(response(&world, fault.alter(reply), fault.truncate_body))
}

fn dispatch(world: &World, endpoint: Endpoint, tenant: &str, incoming: &Incoming) -> Reply {
    match endpoint {
        Endpoint::InstanceDiscovery => metadata::instance_discovery(world, incoming),
        Endpoint::OpenidConfiguration => metadata::openid_configuration(world, tenant, incoming),
        Endpoint::Keys => metadata::keys(world, tenant, incoming),
        Endpoint::Authorize => authorize::authorize(world, tenant, incoming),
        Endpoint::SignIn => sign_in::submit(world, incoming),
        Endpoint::Token => token_endpoint::token(world, tenant, incoming),
        Endpoint::DeviceCode => device_code::issue(world, tenant, incoming),
        Endpoint::DeviceLogin => device_code::login(world, incoming),
        Endpoint::Logout => metadata::logout(world, tenant, incoming),
        Endpoint::ErrorLookup => metadata::error_lookup(incoming),
        Endpoint::ManagedIdentityAppService => managed_identity::app_service(world, incoming),
        Endpoint::ManagedIdentityImds => managed_identity::instance_metadata(world, incoming),
        Endpoint::ManagedIdentityArc => managed_identity::arc(world, incoming),
        Endpoint::GraphMe
        | Endpoint::GraphUser
        | Endpoint::GraphUsers
        | Endpoint::GraphMemberOf
        | Endpoint::GraphMemberObjects
        | Endpoint::GraphMessages
        | Endpoint::GraphPhoto
        | Endpoint::GraphBatch
        | Endpoint::GraphApplications
        | Endpoint::GraphFederatedCredentials
        | Endpoint::GraphServicePrincipals
        | Endpoint::GraphRoleAssignments
        | Endpoint::GraphPermissionGrants
        | Endpoint::GraphOther => graph::serve(world, endpoint, incoming),
        Endpoint::Unknown => Reply::empty(StatusCode::NOT_FOUND),
    }
}

fn response(world: &World, reply: Reply, truncate: Option<usize>) -> Response<Answer> {
    let announced = u64::try_from(reply.body.len()).unwrap_or(u64::MAX);
    let (data, broken) = match truncate {
        Some(kept) if kept < reply.body.len() => (reply.body.slice(..kept), true),
        _ => (reply.body, false),
    };
    let mut response = Response::new(Answer { data: Some(data), broken, announced });
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    // The time of the emulator, which its tokens have as well; hyper would write that of the machine.
    let seconds = u64::try_from(world.clock.now()).unwrap_or_default().min(LAST_DATE);
    let date = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map(httpdate::fmt_http_date);
    if let Some(Ok(date)) = date.map(|date| http::HeaderValue::from_str(&date)) {
        response.headers_mut().entry(http::header::DATE).or_insert(date);
    }
    response
}

/// A body that may break off before its announced length.
struct Answer {
    data: Option<Bytes>,
    broken: bool,
    announced: u64,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        match self.data.take() {
            Some(data) if !data.is_empty() => Poll::Ready(Some(Ok(Frame::data(data)))),
            _ if self.broken => {
                // One turn of the scheduler between the bytes and the break lets the bytes reach the wire.
                self.broken = false;
                self.data = None;
                self.announced = u64::MAX;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            _ if self.announced == u64::MAX => Poll::Ready(Some(Err(Dropped))),
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.broken && self.announced != u64::MAX && self.data.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

/// Makes a certificate authority and a leaf for the loopback names; returns the acceptor and the authority as PEM.
pub(crate) fn tls(address: SocketAddr) -> Result<(TlsAcceptor, String), TlsError> {
    let authority_key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(rcgen::DnType::CommonName, "entra-mcp emulator authority");
    let authority_certificate = authority.self_signed(&authority_key)?;
    let leaf_key = rcgen::KeyPair::generate()?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let bound = address.ip().to_string();
    if !names.contains(&bound) {
        names.push(bound);
    }
    let mut leaf = rcgen::CertificateParams::new(names)?;
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "entra-mcp emulator");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let leaf_certificate = leaf.signed_by(&leaf_key, &issuer)?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(|_| TlsError::Key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf_certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), authority_certificate.pem()))
}

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The generated certificate is unusable.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The generated key is unusable.
    #[error("a private key could not be made")]
    Key,
    /// The TLS configuration is unusable.
    #[error("TLS could not be configured")]
    Configuration(#[from] rustls::Error),
}

impl From<Infallible> for Dropped {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
