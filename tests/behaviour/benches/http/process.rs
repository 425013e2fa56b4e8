//! What a server process uses, as Linux tells it.

use std::fs;
use std::time::Duration;

/// Linux counts processor time in hundredths of a second, on every architecture.
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Process(u32);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of all threads, since the start.
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(pid)
    }

    pub(crate) fn usage(&self) -> Usage {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        // The second field is the name, in parentheses, and may contain anything.
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Usage { cpu: TICK * ticks, resident_bytes: kilobytes * 1024 }
    }
}
