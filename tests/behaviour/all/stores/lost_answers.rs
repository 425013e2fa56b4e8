//! An answer that is lost on its way from a store on the network.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use entra_mcp_plugin::clock::ManualClock;
use entra_mcp_plugin::secret_store::{RedisError, RedisStore, SecretStore as _, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{bytes, text};
use crate::support::redis::{Redis, keys, options};

/// The name of the next command whose answer is lost.
type Loses = Arc<Mutex<Option<&'static str>>>;

/// Passes on what clients and a server say, but for the answer that is to be lost: then the connection ends.
async fn pass_on(listener: TcpListener, server: SocketAddr, loses: Loses) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(pass_on_one(client, server, Arc::clone(&loses)));
    }
}

async fn pass_on_one(mut client: TcpStream, server: SocketAddr, loses: Loses) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut asked, mut answered) = (vec![0_u8; 65_536], vec![0_u8; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                if is_lost(&loses, &asked[..length]) {
                    // It is done when it is answered.
                    let _ = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn is_lost(loses: &Mutex<Option<&'static str>>, asked: &[u8]) -> bool {
    let mut loses = loses.lock().unwrap();
    let Some(name) = *loses else { return false };
    let word = format!("\r\n{name}\r\n");
    let is_it = asked.windows(word.len()).any(|window| window == word.as_bytes());
    if is_it {
        *loses = None;
    }
    is_it
}

/// How often a server was told a command.
async fn calls(redis: &Redis, command: &str) -> u32 {
    let told = redis.say("INFO commandstats").await;
    let begin = format!("cmdstat_{}:calls=", command.to_lowercase());
    let counted = told.lines().find_map(|line| line.strip_prefix(begin.as_str())?.split(',').next());
    counted.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_cluster_is_not_told_twice_what_may_be_done_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let port = place.port().to_string();
    let announced = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", port.as_str()];
    let redis = Redis::start_cluster(&announced).await;
    let loses = Loses::default();
    tokio::spawn(pass_on(listener, redis.address(), Arc::clone(&loses)));
    let options = options(&format!("redis-cluster://{place}"));
    let store = RedisStore::connect(&options, keys(), Arc::new(ManualClock::new(0))).await.unwrap();
    // From now on the server has the script.
    store.put("code", bytes("first"), None).await.unwrap();
    assert_eq!(text(store.take("code").await.unwrap()).as_deref(), Some("first"));
    for command in ["SET", "DEL", "EVALSHA"] {
        store.put("code", bytes("second"), None).await.unwrap();
        let before = calls(&redis, command).await;
        *loses.lock().unwrap() = Some(command);
        let error = match command {
            "SET" => store.put("code", bytes("third"), None).await.unwrap_err(),
            "DEL" => store.delete("code").await.unwrap_err(),
            _ => store.take("code").await.unwrap_err(),
        };
        assert!(matches!(error, StoreError::Unavailable(_)), "{command}: {error}");
        assert_eq!(calls(&redis, command).await - before, 1, "{command}");
        assert_eq!(*loses.lock().unwrap(), None, "{command}");
        // It was done all the same.
        let left = text(store.get("code").await.unwrap());
        assert_eq!(left.as_deref(), (command == "SET").then_some("third"), "{command}");
    }
}

/// The server may have restarted, or be another one: what it makes of the cursor is not known.
#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_walk_over_all_records_whose_connection_breaks_says_that_it_may_have_passed_over_some() {
    let redis = Redis::start("redis-server").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(&format!("redis://{}/0", listener.local_addr().unwrap()));
    let loses = Loses::default();
    tokio::spawn(pass_on(listener, redis.address(), Arc::clone(&loses)));
    let clock = || Arc::new(ManualClock::new(0));
    let store = RedisStore::connect(&options, keys(), clock()).await.unwrap();
    store.put("k", bytes("v"), None).await.unwrap();
    *loses.lock().unwrap() = Some("SCAN");
    let checked = RedisStore::check(&options, keys(), clock()).await.err();
    assert_eq!(*loses.lock().unwrap(), None);
    *loses.lock().unwrap() = Some("SCAN");
    let rotated = RedisStore::rotated_keys(&options, keys(), clock()).await.err();
    assert_eq!(*loses.lock().unwrap(), None);
    for refused in [checked, rotated] {
        let Some(RedisError::Unsettled { reason, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(reason, "the connection has broken meanwhile");
    }
    assert_eq!(RedisStore::check(&options, keys(), clock()).await.unwrap().records, 1);
}
