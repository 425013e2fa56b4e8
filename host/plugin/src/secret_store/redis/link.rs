//! The connection to Redis, which the program makes anew when it breaks.
//!
//! One connection serves all calls: commands are sent one behind the other and answered in that order. A command that
//! surely was not carried out is sent again, on a new connection; of one whose answer was lost, only what may be done twice
//! is. [`ANSWER_WITHIN`] bounds everything that a call waits for. Once a call has waited in vain, later ones make one attempt
//! each, and none waits for another, so that a server that is away holds up no instances. Nor does a node of a cluster whose
//! others answer: they name it for its records, and for a minute, later calls that are told so twice wait no longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError as Failure, RedisResult, ServerErrorKind,
    TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::cluster::{CONNECT_NODE_WITHIN, Nodes, ONE_ANSWER_WITHIN, receiver};
use super::url::{RedisKind, RedisUrl};
use crate::clock::Clock;
use crate::secret_store::StoreError;

/// How long a call waits, in all. MCP clients give up after some ten seconds, and a call of a tool asks several times.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long one attempt to connect may take, with TLS and authentication.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The pause before the first new attempt, and the longest pause. A server that was restarted is back in some 100 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How often the client of a cluster sends a command again by itself. It would do so also where the answer was lost, whatever
/// the command is. So it never does; but after each failure it looks up anew where records are, and connects to lost nodes.
const CLUSTER_RETRIES: u32 = 0;

/// How long no call waits for a node again for which one has waited in vain: it may be back since.
const LOST_FOR: Duration = Duration::from_secs(60);

/// Whether a command may be carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing, or the same once more.
    Harmless,
    /// Another process may have changed the record in between.
    Never,
}

/// The connection, and how to make another one.
pub(super) struct Link {
    connector: Connector,
    present: Mutex<Present>,
    /// A call has waited in vain, and none has got an answer since.
    away: AtomicBool,
    /// Nodes of a cluster for which a call has waited in vain, although others answer.
    lost: std::sync::Mutex<Lost>,
    clock: Arc<dyn Clock>,
    /// How many connections were made.
    connections: AtomicU64,
    place: String,
}

/// Addresses of nodes, each with a reading of the monotonic clock.
#[derive(Default)]
struct Lost(BTreeMap<String, Duration>);

impl Lost {
    fn insert(&mut self, address: &str, now: Duration) {
        self.0.insert(address.to_owned(), now);
    }

    fn contains(&mut self, address: &str, now: Duration) -> bool {
        self.0.retain(|_, lost_at| now.saturating_sub(*lost_at) < LOST_FOR);
        self.0.contains_key(address)
    }
}

enum Connector {
    Server(Box<Client>),
    /// One for each sentinel.
    Sentinels(Vec<Arc<Mutex<SentinelClient>>>),
    Cluster(Box<Cluster>),
}

struct Cluster {
    client: ClusterClient,
    nodes: Nodes,
}

#[derive(Default)]
struct Present {
    /// Counts connections, so that of many calls that meet a broken one, one makes another.
    generation: u64,
    connection: Option<Connection>,
}

#[derive(Clone)]
struct Connection {
    commands: Commands,
    /// The server has closed it.
    ended: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Commands {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What a failed command leaves open.
enum Verdict {
    /// The server has refused it, and would again.
    Refused,
    /// It was not carried out.
    NotDone,
    /// The same, because the record is at another node: the client is about to look that up.
    Elsewhere,
    /// It may have been carried out.
    Unknown,
}

impl Link {
    /// A link to the servers of an address. `roots`: the certificates to trust (PEM).
    pub(super) fn new(url: &RedisUrl, roots: Option<Vec<u8>>, clock: Arc<dyn Clock>) -> RedisResult<Self> {
        let certificates = TlsCertificates { client_tls: None, root_cert: roots };
        let address = |(host, port): &(String, u16)| match url.tls {
            true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let mut settings = RedisConnectionInfo::default().set_db(url.database).set_protocol(ProtocolVersion::RESP3);
        if let Some(user) = &url.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &url.password {
            settings = settings.set_password(password.as_str());
        }
        let info = |node| Ok(address(node).into_connection_info()?.set_redis_settings(settings.clone()));
        let nodes = url.nodes.iter().map(info).collect::<RedisResult<Vec<_>>>()?;
        let connector = match &url.kind {
            RedisKind::Server => {
                let node = nodes.into_iter().next();
                let node = node.ok_or((ErrorKind::InvalidClientConfig, "the address names no server"))?;
                Connector::Server(match url.tls {
                    true => Box::new(Client::build_with_tls(node, certificates)?),
                    false => Box::new(Client::open(node)?),
                })
            }
            RedisKind::Sentinel(master) => {
                let client = |node| sentinel(url, master, address(node), &certificates);
                let shared = |client: SentinelClient| Arc::new(Mutex::new(client));
                let clients = url.nodes.iter().map(|node| client(node).map(shared));
                Connector::Sentinels(clients.collect::<RedisResult<_>>()?)
            }
            RedisKind::Cluster => {
                let mut builder = ClusterClient::builder(nodes)
                    .use_protocol(ProtocolVersion::RESP3)
                    .retries(CLUSTER_RETRIES)
                    .connection_timeout(CONNECT_NODE_WITHIN)
                    .response_timeout(ONE_ANSWER_WITHIN);
                if url.tls {
                    builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
                }
                let nodes = Nodes::new(url.nodes.clone(), url.tls, settings, certificates);
                Connector::Cluster(Box::new(Cluster { client: builder.build()?, nodes }))
            }
        };
        Ok(Self {
            connector,
            present: Mutex::default(),
            away: AtomicBool::new(false),
            lost: std::sync::Mutex::default(),
            clock,
            connections: AtomicU64::new(0),
            place: url.to_string(),
        })
    }

    /// Whether there are several servers, each with a part of the records.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.connector, Connector::Cluster(_))
    }

    /// The nodes of a cluster, each by itself.
    pub(super) fn nodes(&self) -> Option<&Nodes> {
        match &self.connector {
            Connector::Cluster(cluster) => Some(&cluster.nodes),
            Connector::Server(_) | Connector::Sentinels(_) => None,
        }
    }

    /// How many connections were made until now.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The servers, without a password.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Bounds the time of an operation, however many commands it needs.
    pub(super) async fn within<T, E: From<StoreError>>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match tokio::time::timeout(ANSWER_WITHIN, operation).await {
            Ok(result) => result,
            Err(_) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::error!(store = self.place, "the secret store does not answer");
                }
                let seconds = ANSWER_WITHIN.as_secs();
                Err(StoreError::Unavailable(format!("{} has not answered within {seconds} s", self.place)).into())
            }
        }
    }

    /// Sends a command until it is answered. Without [`within`](Self::within), that may be never.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd, repeat: Repeat) -> Result<T, StoreError> {
        self.sent(command, repeat).await.map_err(|failure| self.store_error(&failure))
    }

    /// What a failure means for the caller.
    pub(super) fn store_error(&self, failure: &Failure) -> StoreError {
        match failure.code() {
            Some("OOM") => StoreError::Full(format!("{}: maxmemory of the server", self.place)),
            // A list or the like, which another program has put in the place of a record.
            Some("WRONGTYPE") => StoreError::Unreadable,
            _ => StoreError::Unavailable(format!("{}: {failure}", self.place)),
        }
    }

    /// The same with the error of the server.
    pub(super) async fn sent<T: FromRedisValue>(&self, command: &Cmd, repeat: Repeat) -> RedisResult<T> {
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match self.connection().await {
                Err(failure) => failure,
                Ok((generation, mut connection)) => match self.attempt(&mut connection, command).await {
                    Ok(value) => {
                        if self.away.swap(false, Ordering::Relaxed) {
                            tracing::info!(store = self.place, "the secret store answers again");
                        }
                        return Ok(value);
                    }
                    Err((failure, verdict)) => {
                        if matches!(verdict, Verdict::Refused) {
                            return Err(failure);
                        }
                        if !matches!(verdict, Verdict::Elsewhere) {
                            self.drop_connection(generation).await;
                        } else if self.leads_to_lost(&failure, pause) {
                            return Err(failure);
                        }
                        if matches!(verdict, Verdict::Unknown) && repeat == Repeat::Never {
                            return Err(failure);
                        }
                        failure
                    }
                },
            };
            if self.away.load(Ordering::Relaxed) {
                return Err(failure);
            }
            tracing::debug!(error = %failure, store = self.place, "the secret store is asked again");
            wait(pause).await;
            pause = LONGEST_PAUSE.min(pause.saturating_mul(2));
        }
    }

    /// Whether others of the cluster name a node again for which another call has waited in vain. That they name it once may be
    /// because a slot has moved to it since it is back.
    fn leads_to_lost(&self, failure: &Failure, pause: Duration) -> bool {
        let Some((address, _)) = failure.redirect_node() else { return false };
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        if pause >= LONGEST_PAUSE {
            lost.insert(address, now);
            return false;
        }
        pause > FIRST_PAUSE && lost.contains(address, now)
    }

    /// Sends a command once, and to the node that is about to get its record if that is no more where it was.
    async fn attempt<T: FromRedisValue>(
        &self,
        connection: &mut Connection,
        command: &Cmd,
    ) -> Result<T, (Failure, Verdict)> {
        let failure = match connection.query(command).await {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let failure = match (self.nodes(), receiver(&failure)) {
            (Some(nodes), Some(address)) => match nodes.ask_receiver(&address, command).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                // It was not sent there.
                Err(failure) => {
                    let is_refused = matches!(Verdict::of(&failure), Verdict::Refused);
                    return Err((failure, if is_refused { Verdict::Refused } else { Verdict::Elsewhere }));
                }
            },
            _ => failure,
        };
        let verdict = Verdict::of(&failure);
        Err((failure, verdict))
    }

    /// The present connection, or a new one.
    async fn connection(&self) -> RedisResult<(u64, Connection)> {
        let mut present = if self.away.load(Ordering::Relaxed) {
            let busy = (ErrorKind::Client, "another call is about to connect");
            self.present.try_lock().map_err(|_| Failure::from(busy))?
        } else {
            self.present.lock().await
        };
        let whole = present.connection.as_ref().filter(|connection| !connection.ended.load(Ordering::Relaxed));
        if let Some(connection) = whole {
            return Ok((present.generation, connection.clone()));
        }
        present.connection = None;
        let connecting = tokio::time::timeout(CONNECT_WITHIN, self.connect());
        let late = (ErrorKind::Io, "the connection was not made in time");
        let connection = connecting.await.map_err(|_| Failure::from(late))??;
        present.generation = present.generation.wrapping_add(1);
        self.connections.fetch_add(1, Ordering::Relaxed);
        present.connection = Some(connection.clone());
        Ok((present.generation, connection))
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let ended = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&ended);
        let pushed = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            if push.kind == PushKind::Disconnection {
                mark.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ONE_ANSWER_WITHIN))
            .set_push_sender(pushed);
        let commands = match &self.connector {
            Connector::Server(client) => {
                Commands::One(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Connector::Sentinels(sentinels) => {
                let master = named_by_first(sentinels).await?;
                Commands::One(master.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Connector::Cluster(cluster) => Commands::Cluster(cluster.client.get_async_connection().await?),
        };
        Ok(Connection { commands, ended })
    }

    async fn drop_connection(&self, generation: u64) {
        let mut present = self.present.lock().await;
        if present.generation == generation {
            present.connection = None;
        }
    }
}

impl Connection {
    async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match &mut self.commands {
            Commands::One(connection) => command.query_async(connection).await,
            Commands::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// A client of one sentinel.
fn sentinel(
    url: &RedisUrl,
    master: &str,
    address: ConnectionAddr,
    certificates: &TlsCertificates,
) -> RedisResult<SentinelClient> {
    let mut builder = SentinelClientBuilder::new([address], master, SentinelServerType::Master)?
        .set_client_to_redis_db(url.database)
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if url.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates.clone());
    }
    if let Some(user) = &url.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &url.password {
        builder = builder.set_client_to_redis_password(password.as_str());
    }
    if let Some(user) = &url.sentinel_user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &url.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password.as_str());
    }
    builder.build()
}

/// The master that the first of the sentinels names which knows one. All are asked at once: one that keeps silent, as after
/// the loss of its machine, delays none of the others.
async fn named_by_first(sentinels: &[Arc<Mutex<SentinelClient>>]) -> RedisResult<Client> {
    let mut asked = JoinSet::new();
    for sentinel in sentinels {
        let sentinel = Arc::clone(sentinel).lock_owned();
        asked.spawn(async move {
            let mut sentinel = sentinel.await;
            sentinel.async_get_client().await
        });
    }
    let mut failure = Failure::from((ErrorKind::EmptySentinelList, "no sentinel has answered"));
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(master)) => return Ok(master),
            Ok(Err(refused)) => failure = refused,
            // The task has ended without an answer.
            Err(_) => {}
        }
    }
    Err(failure)
}

impl Verdict {
    fn of(failure: &Failure) -> Self {
        match failure.kind() {
            // A replica, a server that is starting, or a cluster that has lost a part: it has said no.
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown,
            )
            | ErrorKind::MasterNameNotFoundBySentinel => Self::NotDone,
            // It names no host that a client could reach, and does not until the slot has moved.
            ErrorKind::Server(ServerErrorKind::Ask) if receiver(failure).is_none() => Self::Refused,
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => Self::Elsewhere,
            // One of them is `TRYAGAIN`: of several keys, some are at one node and some at another, until all have moved.
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => Self::Refused,
            // A cluster's client also says that it has no connection of commands that it has sent, when it gives them up.
            _ => Self::Unknown,
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "it waits for another machine, which no injected clock could hurry")]
async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_lost_is_waited_for_again_after_a_minute() {
        let (mut lost, at) = (Lost::default(), Duration::from_secs(1_000));
        lost.insert("10.0.0.1:6379", at);
        assert!(!lost.contains("10.0.0.2:6379", at));
        assert!(lost.contains("10.0.0.1:6379", at + Duration::from_secs(59)));
        assert!(!lost.contains("10.0.0.1:6379", at + Duration::from_secs(60)));
        assert!(lost.0.is_empty());
    }

    #[test]
    fn a_record_on_its_way_to_a_node_without_a_host_is_refused_at_once() {
        let is_refused = |text: &str| {
            let value = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            matches!(Verdict::of(&value.extract_error().unwrap_err()), Verdict::Refused)
        };
        assert!(is_refused("ASK 7 :6380"));
        assert!(!is_refused("ASK 7 10.0.0.1:6380"));
        assert!(!is_refused("MOVED 7 10.0.0.1:6380"));
    }
}
