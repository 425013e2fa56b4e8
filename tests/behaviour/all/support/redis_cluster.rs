//! A cluster of Redis: three masters, and a replica of the first one.

use entra_mcp_plugin::secret_store::RedisOptions;

use super::patience::eventually;
use super::redis::{Redis, free_port, options};

/// For how many milliseconds a node is silent until the others take it for lost.
const LOST_AFTER: &str = "2000";

/// The slots of each master, the first and the last.
const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

/// The most keys that are moved at once: their names are in one answer.
const KEYS_AT_ONCE: usize = 20;

/// The nodes, which end with this value.
pub(crate) struct Cluster {
    pub(crate) masters: Vec<Redis>,
    pub(crate) replica: Redis,
}

impl Cluster {
    /// Starts the nodes, and waits until all know each other and the replica has what its master has.
    pub(crate) async fn start() -> Self {
        let (mut masters, mut ports) = (Vec::new(), Vec::new());
        for (number, (first, last)) in SLOTS.iter().enumerate() {
            let (master, between) = node().await;
            // Masters of the same epoch would settle between themselves which of them has another one.
            done(&master, &format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await;
            done(&master, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
            ports.push((master.address().port(), between));
            masters.push(master);
        }
        let (replica, between) = node().await;
        ports.push((replica.address().port(), between));
        for (port, between) in &ports[1..] {
            done(&masters[0], &format!("CLUSTER MEET 127.0.0.1 {port} {between}")).await;
        }
        let cluster = Self { masters, replica };
        let replicate = format!("CLUSTER REPLICATE {}", id(&cluster.masters[0]).await);
        // It has to have heard of its master.
        let is_replica = || async { cluster.replica.say(&replicate).await.starts_with("+OK").then_some(()) };
        eventually(is_replica).await.unwrap();
        for node in cluster.masters.iter().chain([&cluster.replica]) {
            let port = format!(":{}\r\n", cluster.replica.address().port());
            let is_ready = || async {
                let info = node.say("CLUSTER INFO").await;
                let is_whole = info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:4");
                (is_whole && node.say("CLUSTER SLOTS").await.contains(&port)).then_some(())
            };
            eventually(is_ready).await.unwrap();
        }
        cluster.replicated().await;
        cluster
    }

    /// The address of a store on it, which names all nodes.
    pub(crate) fn url(&self) -> String {
        let more = self.masters[1..].iter().chain([&self.replica]);
        let more: Vec<_> = more.map(|node| format!("node={}", node.address())).collect();
        format!("redis-cluster://{}?{}", self.masters[0].address(), more.join("&"))
    }

    /// How this store is reached.
    pub(crate) fn options(&self) -> RedisOptions {
        options(&self.url())
    }

    /// The slot of a key, and its master as long as it has not moved.
    pub(crate) async fn slot_of(&self, key: &str) -> (u16, usize) {
        let told = self.masters[0].say(&format!("CLUSTER KEYSLOT {key}")).await;
        let slot: u16 = told.trim().trim_start_matches(':').parse().unwrap();
        (slot, SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).unwrap())
    }

    /// Begins to move a slot: from now on, new records of it are at the other master.
    pub(crate) async fn begin_to_move(&self, slot: u16, from: usize, to: usize) {
        let (giver, taker) = (id(&self.masters[from]).await, id(&self.masters[to]).await);
        done(&self.masters[to], &format!("CLUSTER SETSLOT {slot} IMPORTING {giver}")).await;
        done(&self.masters[from], &format!("CLUSTER SETSLOT {slot} MIGRATING {taker}")).await;
    }

    /// Moves at most so many records of a slot that has begun to move. Returns how many were there.
    pub(crate) async fn move_some(&self, slot: u16, from: usize, to: usize, count: usize) -> usize {
        let told = self.masters[from].say(&format!("CLUSTER GETKEYSINSLOT {slot} {count}")).await;
        // The number of keys, and before each its length.
        let keys: Vec<_> = told.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
        for key in &keys {
            let port = self.masters[to].address().port();
            let moved = self.masters[from].say(&format!("MIGRATE 127.0.0.1 {port} {key} 0 5000")).await;
            // One that was removed meanwhile has not moved.
            assert!(moved.starts_with("+OK") || moved.starts_with("+NOKEY"), "{key}: {moved}");
        }
        keys.len()
    }

    /// Moves what is left, and tells all masters.
    pub(crate) async fn end_move(&self, slot: u16, from: usize, to: usize) {
        while self.move_some(slot, from, to, KEYS_AT_ONCE).await > 0 {}
        let taker = id(&self.masters[to]).await;
        let others = (0..self.masters.len()).filter(|number| ![from, to].contains(number));
        for number in [to, from].into_iter().chain(others) {
            done(&self.masters[number], &format!("CLUSTER SETSLOT {slot} NODE {taker}")).await;
        }
    }

    /// Waits until the replica has all that the first master has written.
    pub(crate) async fn replicated(&self) {
        let same = || async {
            let (master, replica) = (self.masters[0].say("INFO replication"), self.replica.say("INFO replication"));
            let (master, replica) = (master.await, replica.await);
            let is_up = replica.contains("master_link_status:up");
            let same = field(&master, "master_repl_offset")? == field(&replica, "slave_repl_offset")?;
            (is_up && same).then_some(())
        };
        eventually(same).await.unwrap();
    }
}

/// A node that knows no other, and the port at which nodes talk to each other.
async fn node() -> (Redis, u16) {
    let between = free_port();
    let text = between.to_string();
    let arguments = [
        &["--cluster-enabled", "yes", "--cluster-port", text.as_str(), "--cluster-node-timeout", LOST_AFTER][..],
        &["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"],
        // A replica that has got nothing yet is not named among the nodes.
        &["--repl-ping-replica-period", "1"],
    ];
    (Redis::start_with("redis-server", &arguments.concat()).await, between)
}

/// Says a command that has to work.
async fn done(node: &Redis, line: &str) {
    let told = node.say(line).await;
    assert!(told.starts_with("+OK"), "{line}: {told}");
}

/// The id of a node.
async fn id(node: &Redis) -> String {
    let told = node.say("CLUSTER MYID").await;
    told.lines().nth(1).unwrap_or_else(|| panic!("a node has no id: {told}")).to_owned()
}

/// A field of an answer to `INFO`.
fn field<'a>(told: &'a str, name: &str) -> Option<&'a str> {
    told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
