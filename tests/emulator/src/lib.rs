//! An Entra ID and Microsoft Graph emulator, for tests and for development without a tenant.
//!
//! It behaves as Entra ID does where a client would notice: endpoints, tokens, sign-in pages, refusals with their
//! AADSTS codes. It is checked with Microsoft's own client libraries for Python and Node. The rules come from
//! Microsoft's documentation of the identity platform, from what its client libraries expect, and from published error
//! reports.
//!
//! **What it is not.** Nothing here is secure: passwords, secrets and keys are public, random values are predictable.
//! It therefore listens on loopback only. It has no B2C, no SAML or WS-Federation, no implicit flow, no password grant, no
//! brokers, and no writing to the directory besides app registrations. Conditional access is one setting of each user, not a policy engine.
//!
//! [`user_agent`] is a headless browser that signs in at it. The program uses both, for `entra-mcp emulator` and
//! `entra-mcp demo`; so nothing here panics or prints.
//!
//! Each capability is one file. Endpoints are plain functions from a request to a reply over one shared `World`;
//! `listener` does everything that is about networks.

mod agents;
mod arguments;
mod authorize;
mod client_authentication;
mod clock;
mod config;
mod control;
mod device_code;
mod endpoint;
mod errors;
mod faults;
mod graph;
mod http;
mod jwt;
mod keys;
mod listener;
mod managed_identity;
mod metadata;
mod on_behalf_of;
mod pages;
mod policy;
mod random;
mod requests;
mod resources;
mod sign_in;
mod state;
mod tenants;
mod token_endpoint;
mod tokens;
pub mod user_agent;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use arguments::{Arguments, ArgumentsError};
pub use clock::Clock;
pub use config::{
    Announce, Application, Audience, CONSUMERS_TENANT, Config, ConfigError, FederatedCredential, GRAPH_APP_ID,
    GraphPermissions, Guest, ManagedIdentity, Policy, Registration, Requirement, Scope, Secret, Tenant, User,
};
pub use control::{Control, ControlError, FederatedToken};
pub use device_code::{DeviceOutcome, DeviceScript};
pub use endpoint::Endpoint;
pub use faults::{Fault, RedirectFault, TokenFault};
pub use keys::{KeyError, Rotation};
pub use listener::TlsError;
pub use managed_identity::IDENTITY_HEADER;
pub use requests::{RecordedRequest, Sighting};

use faults::Faults;
use keys::KeyRing;
use random::Random;
use requests::RequestLog;
use state::State;

/// Everything the endpoints share.
pub(crate) struct World {
    /// The emulator's own address, without a slash at the end.
    pub(crate) base: String,
    /// Graph's address, without the version.
    pub(crate) graph: String,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) keys: KeyRing,
    config: RwLock<Arc<Config>>,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    log: Mutex<RequestLog>,
    device_script: Mutex<DeviceScript>,
    challenges: AtomicU32,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("base", &self.base).finish_non_exhaustive()
    }
}

// A panic while a lock is held would be a defect of one request; the others go on with what is there.
impl World {
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change_config<T>(&self, change: impl FnOnce(&mut Config) -> T) -> T {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut config))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn device_script(&self) -> DeviceScript {
        self.device_script.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_device_script(&self, script: DeviceScript) {
        *self.device_script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    pub(crate) fn set_challenges(&self, times: u32) {
        self.challenges.store(times, Ordering::SeqCst);
    }

    /// Whether this Graph request is one of those to challenge.
    pub(crate) fn take_challenge(&self) -> bool {
        self.challenges.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    /// The issuer of a tenant's v2 tokens.
    pub(crate) fn issuer(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.base)
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, host)| host)
    }

    /// A cookie of the sign-in pages.
    pub(crate) fn cookie(&self, name: &str, value: &str) -> String {
        let secure = if self.base.starts_with("https:") { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")
    }
}

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
        let world = Arc::new(World {
            graph: endpoints.graph.clone(),
            base,
            clock: self.clock,
            random: Random::new(self.seed),
            keys: KeyRing::new()?,
            config: RwLock::new(Arc::new(self.config)),
            state: Mutex::default(),
            faults: Mutex::default(),
            log: Mutex::default(),
            device_script: Mutex::default(),
            challenges: AtomicU32::new(0),
        });
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
