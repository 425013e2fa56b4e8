//! What a server process uses, as Linux tells it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Linux counts processor time in hundredths of a second, on every architecture.
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Process(u32);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Of all threads, since the start.
    pub(crate) user: Duration,
    /// The same in the kernel.
    pub(crate) system: Duration,
    /// How often a thread gave its processor up, or lost it. Of the threads that still run.
    pub(crate) switches: u64,
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
        let [user, system] = [fields[11], fields[12]].map(|ticks| TICK * ticks.parse::<u32>().unwrap());
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let resident = field(&status, "VmRSS").unwrap() * 1024;
        Usage { user, system, switches: self.switches(), resident_bytes: resident }
    }

    fn switches(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        let statuses = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
        let kinds = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        statuses.map(|status| kinds.iter().filter_map(|kind| field(&status, kind)).sum::<u64>()).sum()
    }

    /// How many system calls the process makes during `work`. `None` where there is no strace, or where it may not watch.
    /// What is watched is much slower: the count is right, no time is.
    pub(crate) async fn system_calls(&self, work: impl Future<Output = ()>) -> Option<u64> {
        let report = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-p", &self.0.to_string(), "-o"]).arg(report.path());
        let mut strace = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        let mut says = BufReader::new(strace.stderr.take()?).lines().map_while(Result::ok);
        let is_attached = says.any(|line| line.contains("attached"));
        // It goes on naming threads, and must not meet a closed pipe.
        std::thread::spawn(move || says.for_each(drop));
        if is_attached {
            work.await;
            kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
        }
        strace.wait().unwrap();
        let table = fs::read_to_string(report.path()).unwrap();
        let total = table.lines().rfind(|line| line.ends_with(" total"))?;
        total.split_whitespace().nth(3)?.parse().ok()
    }
}

/// A field of a status file: a number, which may have a unit behind it.
pub(crate) fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}
