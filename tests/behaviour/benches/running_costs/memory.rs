//! What memory a server takes, with all of its processes: when it has just started, and when many callers have called.

use std::fs;
use std::sync::Arc;

use crate::process::field;
use crate::report::Report;
use crate::servers::{Contender, Running, Server, World};
use crate::sessions::Sessions;
use crate::{CONNECTIONS, megabytes};

/// Callers, of which each calls once. `tokens.rs` makes as many tokens.
const CALLERS: [usize; 2] = [1_000, 10_000];

pub(crate) async fn measure(world: &World, report: &mut Report) {
    for contender in Contender::ALL {
        let Some(running) = world.start(contender).await else { continue };
        put(report, "memory: at the start", &running);
        // One that verifies each token by itself remembers nothing of a caller: there, the two of a kind are alike. And
        // thousands of sign-ins at FastMCP take minutes.
        if matches!(contender, Contender::Rmcp | Contender::FastMcpAzure) {
            continue;
        }
        let tokens = callers(world, &running).await;
        for callers in CALLERS {
            Arc::new(running.target(&tokens[..callers]).await).introduce(CONNECTIONS[1]).await;
            put(report, &format!("memory: after calls of {callers} callers"), &running);
        }
    }
}

/// A token of each caller.
async fn callers(world: &World, running: &Running) -> Vec<String> {
    let most = CALLERS[CALLERS.len() - 1];
    match &running.server {
        Server::Ours(ours, session) => {
            let sessions = Sessions::beside(ours, world.emulator.endpoints(), session).await;
            sessions.write(0..most).await;
            (0..most).map(|number| sessions.token(number)).collect()
        }
        Server::Peer { .. } => world.tokens().await.many.clone(),
    }
}

/// What a server takes now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Bytes that are resident.
    pub(crate) resident: u64,
    /// The same, with what processes share divided by their number. `None`: this user may not read it.
    pub(crate) proportional: Option<u64>,
}

impl Memory {
    /// Of a process and all of its children.
    pub(crate) fn of(pid: u32) -> Self {
        let own = Self::of_one(pid);
        let with_child = |sum: Self, child: u32| {
            let child = Self::of(child);
            let proportional = sum.proportional.zip(child.proportional).map(|(sum, child)| sum + child);
            Self { resident: sum.resident + child.resident, proportional }
        };
        children(pid).into_iter().fold(own, with_child)
    }

    /// A process that has ended meanwhile takes none.
    fn of_one(pid: u32) -> Self {
        let bytes = |text: &str, name: &str| field(text, name).map_or(0, |kilobytes| kilobytes * 1024);
        match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
            Ok(text) => Self { resident: bytes(&text, "Rss"), proportional: Some(bytes(&text, "Pss")) },
            Err(_) => {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                Self { resident: bytes(&status, "VmRSS"), proportional: None }
            }
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Puts what a server takes now into the report.
pub(crate) fn put(report: &mut Report, what: &str, running: &Running) {
    put_memory(report, what, running.contender, Memory::of(running.pid()));
}

pub(crate) fn put_memory(report: &mut Report, what: &str, contender: Contender, memory: Memory) {
    report.put(&resident(what), contender, megabytes(memory.resident));
    if let Some(proportional) = memory.proportional {
        report.put(&format!("{what}, PSS, MB"), contender, megabytes(proportional));
    }
}

/// The row with the resident memory.
pub(crate) fn resident(what: &str) -> String {
    format!("{what}, RSS, MB")
}
