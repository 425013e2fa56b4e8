//! Which processors the servers have, and which the load has: no processor is of both, where there are four or more.
//!
//! `ENTRA_MCP_BENCH_PROCESSORS` bounds how many are used, so that a large machine shows what a small one does.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// With fewer, server and load share all of them: with one processor each, neither would be itself.
const ENOUGH_FOR_BOTH: usize = 4;

static DIVIDED: OnceLock<Divided> = OnceLock::new();

struct Divided {
    servers: CpuSet,
    load: CpuSet,
}

/// Divides the processors, and prints how. The calling thread gets those of the load, and so does what it starts: it has to
/// be called before there are other threads.
pub(crate) fn divide() {
    let available = sched_getaffinity(None).unwrap();
    let mut numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|number| available.is_set(*number)).collect();
    if let Ok(most) = std::env::var("ENTRA_MCP_BENCH_PROCESSORS") {
        numbers.truncate(most.parse().unwrap());
    }
    let set = |numbers: &[usize]| {
        let mut set = CpuSet::new();
        numbers.iter().for_each(|number| set.set(*number));
        set
    };
    let divided = if numbers.len() < ENOUGH_FOR_BOTH {
        println!("{} processors, which server and load share: requests/s are of both together", numbers.len());
        Divided { servers: set(&numbers), load: set(&numbers) }
    } else {
        let (servers, load) = numbers.split_at(numbers.len() / 2);
        println!("{} processors for the server, {} others for the load", servers.len(), load.len());
        Divided { servers: set(servers), load: set(load) }
    };
    sched_setaffinity(None, &divided.load).unwrap();
    assert!(DIVIDED.set(divided).is_ok(), "the processors are divided already");
}

/// What `start` starts gets the processors of the servers. `start` has to start it on the calling thread.
pub(crate) fn of_servers<T>(start: impl FnOnce() -> T) -> T {
    let Some(Divided { servers, load }) = DIVIDED.get() else { return start() };
    sched_setaffinity(None, servers).unwrap();
    let started = start();
    sched_setaffinity(None, load).unwrap();
    started
}
