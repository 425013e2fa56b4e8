//! Memory while many calls wait: of `entra-mcp`, for Graph; of the other servers, for as long in their tool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entra_mcp_emulator::{Endpoint, Fault};
use tokio::task::JoinSet;

use crate::memory::{self, Memory};
use crate::report::Report;
use crate::servers::{Contender, Running, World};
use crate::wire;

const CALLS: usize = 1_000;
/// Addresses that they come from. `entra-mcp serve` lets an address have a further call at work only while it has fewer
/// than are left, so many have all but one part in so many and one.
const ADDRESSES: usize = 128;
/// How long a call waits: longer than it takes all of them to arrive.
const DELAY: Duration = Duration::from_secs(10);
/// The bounds of `entra-mcp serve` that have to be raised, as far as they can be; and each call asks Graph.
const MORE: [&str; 6] = ["--max-instances", "1024", "--max-connections", "4096", "--profile-cache-seconds", "0"];
/// Between two looks at the memory.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) async fn measure(world: &World, report: &mut Report) {
    for contender in Contender::KINDS {
        let Some(running) = world.start_with(contender, &MORE, Some(DELAY)).await else { continue };
        // Its first call is not delayed by Graph, but it is by the tools of others.
        let target = running.own_target().await;
        let control = world.emulator.control();
        let milliseconds = u64::try_from(DELAY.as_millis()).unwrap();
        control.inject(Fault::on(Endpoint::GraphMe).always().delay_ms(milliseconds));
        let seen = play(&running, target.request().to_vec()).await;
        control.clear_faults();
        seen.put(report, contender);
    }
}

/// What came of it.
struct Seen {
    /// At the most.
    memory: Memory,
    /// By status; 0 for no answer.
    answers: BTreeMap<u16, u32>,
    /// The slowest of those that were answered.
    slowest: Duration,
}

async fn play(running: &Running, request: Vec<u8>) -> Seen {
    let (address, request) = (running.address(), Arc::new(request));
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let request = Arc::clone(&request);
        calls.spawn(async move {
            let asked = Instant::now();
            let status = match wire::connect(address, number, ADDRESSES).await {
                Some(mut stream) => wire::ask(&mut stream, &request).await,
                None => None,
            };
            (status.unwrap_or(0), asked.elapsed())
        });
    }
    let mut seen = Seen { memory: Memory::default(), answers: BTreeMap::new(), slowest: Duration::ZERO };
    let mut looks = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            answered = calls.join_next() => match answered {
                Some(answered) => {
                    let (status, took) = answered.unwrap();
                    *seen.answers.entry(status).or_default() += 1;
                    seen.slowest = seen.slowest.max(took);
                }
                None => return seen,
            },
            _ = looks.tick() => {
                let now = Memory::of(running.pid());
                if now.resident > seen.memory.resident {
                    seen.memory = now;
                }
            }
        }
    }
}

impl Seen {
    fn put(&self, report: &mut Report, contender: Contender) {
        memory::put_memory(report, &format!("waiting: {CALLS} calls"), contender, self.memory);
        let right = self.answers.get(&200).copied().unwrap_or(0);
        report.put(&format!("waiting: calls of {CALLS} that were answered"), contender, f64::from(right));
        let slowest = self.slowest.as_secs_f64() / DELAY.as_secs_f64();
        report.put("waiting: the slowest call, in times of the wait", contender, slowest);
        if self.answers.len() > 1 {
            println!("{}: answers by status: {:?}", contender.name(), self.answers);
        }
    }
}
