//! Memory with many connections that clients keep and do not use. Each has carried one request.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpStream;

use crate::memory;
use crate::report::Report;
use crate::servers::{Contender, Running, World};
use crate::wire;

/// Connections, unless this process may have fewer open files.
const CONNECTIONS: usize = 10_000;
/// Open files of server and load besides.
const OTHER_FILES: usize = 1_024;
/// Addresses that they come from: `entra-mcp serve` gives one address half of the connections at most.
const ADDRESSES: usize = 8;
/// The bound of `entra-mcp serve`.
const MAX_CONNECTIONS: &str = "16384";
/// Connections that are opened at a time: fewer than the shortest queue of a listener.
const AT_A_TIME: usize = 64;
/// Of these connections, one is tried at the end.
const TRIED: usize = 100;
/// The aim, in megabytes.
const AIM: f64 = 200.0;

pub(crate) async fn measure(world: &World, report: &mut Report) {
    let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap());
    let count = CONNECTIONS.min(files.saturating_sub(OTHER_FILES));
    let what = format!("idle: {count} connections");
    if count < CONNECTIONS {
        report.note(format!("Idle connections are {count}, because a process may have {files} open files here."));
    }
    for contender in Contender::KINDS {
        let more = ["--max-connections", MAX_CONNECTIONS];
        let Some(running) = world.start_with(contender, &more, None).await else { continue };
        let mut open = open(&running, count).await;
        memory::put(report, &what, &running);
        let request = request(&running);
        for stream in open.iter_mut().step_by(TRIED) {
            let status = wire::ask(stream, &request).await;
            assert!(status.is_some(), "{} has closed a connection that was to be idle", contender.name());
        }
    }
    report.aim(&memory::resident(&what), AIM);
}

async fn open(running: &Running, count: usize) -> Vec<TcpStream> {
    let (address, request) = (running.address(), request(running));
    let opening = futures_util::stream::iter((0..count).map(|number| open_one(address, number, &request)));
    opening.buffer_unordered(AT_A_TIME).collect().await
}

async fn open_one(address: SocketAddr, number: usize, request: &[u8]) -> TcpStream {
    let mut stream = wire::connect(address, number, ADDRESSES).await.unwrap_or_else(|| panic!("connection {number}"));
    let status = wire::ask(&mut stream, request).await;
    assert!(status.is_some(), "connection {number} was closed");
    stream
}

/// A small request. Servers without such a path answer too.
fn request(running: &Running) -> Vec<u8> {
    format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", running.host()).into_bytes()
}
