//! An emulator: how it is started, where it is, and how it ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::clock::Clock;
use super::config::Config;
use super::control::Control;
use super::keys::KeyError;
use super::listener::{self, TlsError};
use super::random::Random;
use super::world::World;

/// Where the emulator is and what to configure a client with.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Endpoints {
    /// The authority's host, without a tenant.
    pub authority: String,
    /// The directory to sign in to.
    pub tenant_id: String,
    /// A client without a credential.
    pub public_client_id: String,
    /// A client with one.
    pub confidential_client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Graph's address, without the version.
    pub graph: String,
    /// The control API.
    pub control: String,
    /// The certificate authority to trust, if TLS is on.
    pub ca: Option<PathBuf>,
}

/// The emulator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The emulator does not protect secrets, so other machines must not reach it.
    #[error("the emulator listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address is taken, or not one of this machine.
    #[error("the emulator cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate authority could not be written to a file.
    #[error("the emulator cannot write its certificate authority to {path}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A signing key could not be read.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// How to start an emulator.
#[derive(Clone, Debug)]
pub struct Builder {
    listen: SocketAddr,
    control_listen: SocketAddr,
    tls: bool,
    seed: u64,
    clock: Clock,
    config: Config,
}

impl Default for Builder {
    fn default() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: any_port,
            control_listen: any_port,
            tls: false,
            seed: 0,
            clock: Clock::real(),
            config: Config::default(),
        }
    }
}

impl Builder {
    /// Plain HTTP on a free port of 127.0.0.1, seed 0, the system clock, the built-in configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// The address of Entra ID and Graph; loopback only.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The address of the control API; loopback only.
    pub fn control_listen(mut self, address: SocketAddr) -> Self {
        self.control_listen = address;
        self
    }

    /// Serves https with a certificate authority made at start. The control API stays plain.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Makes every random value repeat. The real clock and the order of requests still differ from run to run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The clock to live by.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Tenants, users and applications.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Binds, and serves in the background of this runtime until [`Emulator::shutdown`] or drop.
    pub async fn start(self) -> Result<Emulator, StartError> {
        let (listener, address) = bind(self.listen).await?;
        let (control_listener, control_address) = bind(self.control_listen).await?;
        let (acceptor, ca) = if self.tls {
            let (acceptor, pem) = listener::tls(address)?;
            (Some(acceptor), Some(AuthorityFile::write(address, &pem)?))
        } else {
            (None, None)
        };
        let scheme = if self.tls { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        let endpoints = endpoints(&self.config, &base, control_address, ca.as_ref().map(|file| file.path.clone()));
        let random = Random::new(self.seed);
        let world = Arc::new(World::new(base, endpoints.graph.clone(), self.clock, random, self.config)?);
        let (stop, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(listener::serve(
                listener,
                world.clone(),
                listener::Server::Emulator,
                acceptor,
                stopped.clone(),
            )),
            tokio::spawn(listener::serve(control_listener, world.clone(), listener::Server::Control, None, stopped)),
        ];
        Ok(Emulator { endpoints, world, stop, tasks, _ca: ca })
    }
}

fn endpoints(config: &Config, base: &str, control: SocketAddr, ca: Option<PathBuf>) -> Endpoints {
    let announce = &config.announce;
    let secret = config
        .application(&announce.confidential_client)
        .and_then(|client| client.secrets.iter().find(|secret| !secret.expired))
        .map_or_else(String::new, |secret| secret.value.clone());
    Endpoints {
        authority: base.to_owned(),
        tenant_id: announce.tenant.clone(),
        public_client_id: announce.public_client.clone(),
        confidential_client_id: announce.confidential_client.clone(),
        client_secret: secret,
        graph: format!("{base}/graph"),
        control: format!("http://{control}"),
        ca,
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    if !address.ip().is_loopback() {
        return Err(StartError::NotLoopback(address));
    }
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The certificate authority in a file of its own folder, removed with the emulator.
#[derive(Debug)]
struct AuthorityFile {
    path: PathBuf,
}

impl AuthorityFile {
    fn write(address: SocketAddr, pem: &str) -> Result<Self, StartError> {
        let folder = std::env::temp_dir().join(format!("entra-mcp-emulator-{}-{}", std::process::id(), address.port()));
        let path = folder.join("ca.pem");
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, pem))
            .map_err(|source| StartError::Authority { path: path.clone(), source })?;
        Ok(Self { path })
    }
}

impl Drop for AuthorityFile {
    fn drop(&mut self) {
        // Whatever is left behind is a public certificate in the folder for temporary files.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(self.path.parent().unwrap_or(Path::new("")));
    }
}

/// A running emulator. It stops when this is dropped.
#[derive(Debug)]
pub struct Emulator {
    endpoints: Endpoints,
    world: Arc<World>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _ca: Option<AuthorityFile>,
}

impl Emulator {
    /// Where it is, and what to configure a client with.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What the control API does, from Rust.
    pub fn control(&self) -> Control {
        Control { world: self.world.clone() }
    }

    /// Stops listening and closes every connection.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        for task in std::mem::take(&mut self.tasks) {
            let _ = task.await;
        }
    }
}
