//! The nodes of a cluster, each by itself.
//!
//! The client of the cluster sends a command to the node that has its key, and knows which one that is. It does not follow a
//! record that is on its way to another node, since it never sends a command again (see `link`), and it cannot look at all
//! records of one node. Both are done here, over connections of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError as Failure, RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use tokio::sync::Mutex;

/// How long one attempt to connect to a node may take. The client of a cluster waits for all nodes of the address, and then
/// for all that these name: one that keeps silent, as after the loss of its machine, must not take all of an operation's time.
/// While the client looks up where slots are, it waits so long too, and passes no answers on.
pub(super) const CONNECT_NODE_WITHIN: Duration = Duration::from_millis(300);

/// How long one attempt waits for its answer, so that there is time for a second one on a new connection.
pub(super) const ONE_ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// Parts into which a cluster divides names of records. Each has one master.
const SLOTS: u16 = 16_384;

/// Host and port of a node.
pub(super) type Address = (String, u16);

/// A connection that is used by one caller at a time, once it was made.
type Kept = Arc<Mutex<Option<MultiplexedConnection>>>;

/// How nodes are reached one by one.
pub(super) struct Nodes {
    /// Those of the address of the store, of which each tells about all.
    named: Vec<Address>,
    tls: bool,
    settings: RedisConnectionInfo,
    certificates: TlsCertificates,
    /// Connections to nodes that get records.
    receiving: Mutex<HashMap<Address, Kept>>,
}

/// What the masters say of themselves. If it is the same twice, no slot has gone to another node in between.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// By their ids.
    masters: BTreeMap<String, Master>,
}

#[derive(Debug, PartialEq, Eq)]
struct Master {
    /// It grows with each slot that a node gets from another one.
    epoch: String,
    /// Ranges of slots, and slots that it gives away or gets.
    slots: Vec<String>,
}

/// Why not every record can be seen.
#[derive(Debug, PartialEq)]
pub(super) enum Unseen {
    /// A node does not answer, or refuses.
    Failed(Failure),
    /// The servers are not at rest.
    Unsettled(&'static str),
}

impl Nodes {
    pub(super) fn new(
        named: Vec<Address>,
        tls: bool,
        settings: RedisConnectionInfo,
        certificates: TlsCertificates,
    ) -> Self {
        Self { named, tls, settings, certificates, receiving: Mutex::default() }
    }

    /// Sends a command to the node that is about to get a record. The outer failure: it was not sent.
    pub(super) async fn ask_receiver<T: FromRedisValue>(
        &self,
        address: &Address,
        command: &Cmd,
    ) -> RedisResult<RedisResult<T>> {
        let kept = {
            let mut receiving = self.receiving.lock().await;
            Arc::clone(receiving.entry(address.clone()).or_default())
        };
        // `ASKING` is about the next command of the connection, so there is one caller at a time.
        let mut kept = kept.lock().await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.connect(address).await?,
        };
        redis::cmd("ASKING").query_async::<()>(&mut connection).await?;
        let answer: RedisResult<T> = command.query_async(&mut connection).await;
        let is_whole = match &answer {
            Ok(_) => true,
            Err(failure) => matches!(failure.kind(), ErrorKind::Server(_) | ErrorKind::Extension),
        };
        if is_whole {
            *kept = Some(connection);
        }
        Ok(answer)
    }

    /// Where the masters are that have slots.
    pub(super) async fn masters(&self) -> Result<BTreeSet<Address>, Unseen> {
        let mut unseen = Unseen::Unsettled("the address of the store names no node");
        for node in &self.named {
            match self.slots_as_told_by(node).await {
                Ok(slots) => return Ok(masters_of(&slots, &node.0)),
                Err(failure) => unseen = Unseen::Failed(failure),
            }
        }
        Err(unseen)
    }

    async fn slots_as_told_by(&self, node: &Address) -> RedisResult<Vec<Vec<Value>>> {
        let mut connection = self.connect(node).await?;
        redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await
    }

    /// A connection to a node.
    pub(super) async fn connect(&self, (host, port): &Address) -> RedisResult<MultiplexedConnection> {
        let (host, port) = (host.clone(), *port);
        let client = if self.tls {
            let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            let info = address.into_connection_info()?.set_redis_settings(self.settings.clone());
            Client::build_with_tls(info, self.certificates.clone())?
        } else {
            let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
            Client::open(info.set_redis_settings(self.settings.clone()))?
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_NODE_WITHIN))
            .set_response_timeout(Some(ONE_ANSWER_WITHIN));
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

impl View {
    /// Asks a master about itself.
    pub(super) async fn add(&mut self, master: &mut MultiplexedConnection) -> Result<(), Unseen> {
        let told = redis::cmd("CLUSTER").arg("NODES").query_async::<String>(master).await;
        self.note(&told.map_err(Unseen::Failed)?)
    }

    fn note(&mut self, told: &str) -> Result<(), Unseen> {
        let has = |flags: &str, wanted: &str| flags.split(',').any(|flag| flag == wanted);
        let mut lines = told.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let itself = lines.find(|fields| fields.get(2).is_some_and(|flags| has(flags, "myself"))).unwrap_or_default();
        // The id, the address, flags, the master of a replica, two times, the epoch, the state of the link, and slots.
        let [id, _, flags, _, _, _, epoch, _, slots @ ..] = itself.as_slice() else {
            return Err(Unseen::Unsettled("a node does not say what it is"));
        };
        if !has(flags, "master") {
            return Err(Unseen::Unsettled("a node has just become a replica"));
        }
        let slots = slots.iter().map(|slots| (*slots).to_owned()).collect();
        self.masters.insert((*id).to_owned(), Master { epoch: (*epoch).to_owned(), slots });
        Ok(())
    }

    /// Whether each slot has one master, and none is on its way to another.
    pub(super) fn check(&self) -> Result<(), Unseen> {
        let all = || self.masters.values().flat_map(|master| &master.slots);
        if all().any(|slots| slots.starts_with('[')) {
            return Err(Unseen::Unsettled("a slot is moving from one node to another"));
        }
        let mut ranges: Vec<(u16, u16)> = all().filter_map(|slots| range(slots)).collect();
        ranges.sort_unstable();
        let mut next = 0;
        for (first, last) in ranges {
            if first != next {
                break;
            }
            next = last.saturating_add(1);
        }
        if next == SLOTS { Ok(()) } else { Err(Unseen::Unsettled("not every slot has one master")) }
    }
}

impl From<Failure> for Unseen {
    fn from(failure: Failure) -> Self {
        match failure.kind() {
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
                Self::Unsettled("a record has gone to another node")
            }
            _ => Self::Failed(failure),
        }
    }
}

/// Where a record is on its way to.
pub(super) fn receiver(failure: &Failure) -> Option<Address> {
    if failure.kind() != ErrorKind::Server(ServerErrorKind::Ask) {
        return None;
    }
    let (address, _) = failure.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// The masters in an answer to `CLUSTER SLOTS`. `asked`: the host of the node that has answered.
fn masters_of(slots: &[Vec<Value>], asked: &str) -> BTreeSet<Address> {
    let master = |range: &Vec<Value>| {
        let Some(Value::Array(node)) = range.get(2) else { return None };
        let [host, Value::Int(port), ..] = node.as_slice() else { return None };
        let host = match host {
            Value::BulkString(host) => String::from_utf8_lossy(host).into_owned(),
            Value::SimpleString(host) => host.clone(),
            // It has no name that all clients could use.
            _ => String::new(),
        };
        let host = if host.is_empty() { asked.to_owned() } else { host };
        Some((host, u16::try_from(*port).ok()?))
    };
    slots.iter().filter_map(master).collect()
}

/// The first and the last of `5-9` or `5`.
fn range(slots: &str) -> Option<(u16, u16)> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a master says, with another one in it.
    fn told(id: &str, epoch: u32, slots: &str) -> String {
        format!(
            "other 127.0.0.1:7002@17002 master - 0 1795400487000 9 connected 1\n\
             {id} 127.0.0.1:7001@17001 myself,master - 0 1795400487000 {epoch} connected {slots}\n"
        )
    }

    fn view(masters: &[(&str, u32, &str)]) -> View {
        let mut view = View::default();
        for (id, epoch, slots) in masters {
            view.note(&told(id, *epoch, slots)).unwrap();
        }
        view
    }

    #[test]
    fn a_cluster_is_at_rest_if_each_slot_has_one_master() {
        let moving = Err(Unseen::Unsettled("a slot is moving from one node to another"));
        let divided = Err(Unseen::Unsettled("not every slot has one master"));
        for (first, second, expected) in [
            ("0-5460", "5461-16383", Ok(())),
            ("0-99 101-5460", "100 5461-16383", Ok(())),
            ("0-5460 [7->-b]", "5461-16383", moving),
            ("0-5460", "5462-16383", divided),
        ] {
            assert_eq!(view(&[("a", 1, first), ("b", 2, second)]).check(), expected, "{first} {second}");
        }
        for (first, second) in [("0-5460", "5461-16382"), ("0-5460", "5460-16383"), ("1-5460", "5461-16383"), ("", "")]
        {
            let expected = Err(Unseen::Unsettled("not every slot has one master"));
            assert_eq!(view(&[("a", 1, first), ("b", 2, second)]).check(), expected, "{first} {second}");
        }
    }

    #[test]
    fn a_slot_that_has_moved_there_and_back_is_noticed_by_the_epoch() {
        let before = view(&[("a", 1, "0-5460"), ("b", 2, "5461-16383")]);
        assert_eq!(before, view(&[("b", 2, "5461-16383"), ("a", 1, "0-5460")]));
        assert_ne!(before, view(&[("a", 3, "0-5460"), ("b", 2, "5461-16383")]));
        assert_ne!(before, view(&[("a", 1, "0-5459"), ("b", 2, "5460-16383")]));
        assert_ne!(before, view(&[("c", 1, "0-5460"), ("b", 2, "5461-16383")]));
    }

    #[test]
    fn a_node_that_is_no_master_has_no_part() {
        let replica = told("a", 1, "").replace("myself,master", "myself,slave");
        let expected = Err(Unseen::Unsettled("a node has just become a replica"));
        assert_eq!(View::default().note(&replica), expected);
        for text in ["", "a 127.0.0.1:7001@17001 myself,master", "a b master - 0 0 1 connected 0-16383"] {
            let expected = Err(Unseen::Unsettled("a node does not say what it is"));
            assert_eq!(View::default().note(text), expected, "{text}");
        }
    }

    #[test]
    fn masters_are_where_the_cluster_says_or_at_the_host_that_was_asked() {
        let range = |host: Value, port: i64| {
            let node =
                |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
            let replica = node(Value::BulkString(b"replica".to_vec()), 1);
            vec![Value::Int(0), Value::Int(9), node(host, port), replica]
        };
        let slots = [
            range(Value::BulkString(b"10.0.0.1".to_vec()), 6379),
            range(Value::BulkString(b"10.0.0.1".to_vec()), 6379),
            range(Value::Nil, 6380),
            range(Value::BulkString(Vec::new()), 6381),
            range(Value::Nil, 99_999),
        ];
        let expected = [("10.0.0.1", 6379), ("asked", 6380), ("asked", 6381)];
        let expected = expected.map(|(host, port): (&str, u16)| (host.to_owned(), port));
        assert_eq!(masters_of(&slots, "asked"), BTreeSet::from(expected));
    }

    #[test]
    fn a_record_is_followed_to_where_it_is_on_its_way_to() {
        let told = |text: &str| {
            let value = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            receiver(&value.extract_error().unwrap_err())
        };
        assert_eq!(told("ASK 7 10.0.0.1:6380"), Some(("10.0.0.1".to_owned(), 6380)));
        assert_eq!(told("ASK 7 2001:db8::1:6380"), Some(("2001:db8::1".to_owned(), 6380)));
        for text in ["ASK 7 :6380", "ASK 7 10.0.0.1", "MOVED 7 10.0.0.1:6380", "TRYAGAIN later"] {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
