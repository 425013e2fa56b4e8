//! How many files the operating system lets the process have open: connections are files too, and so are pipes.

use crate::config::ServeConfig;
use crate::config::behind::UpstreamTarget;

/// Files beside those that are counted: the store, the log, connections to Entra ID and Graph, the runtime's own.
const OTHERS: u64 = 256;

/// Files of a process behind: its three pipes, and one to watch over it.
const FILES_PER_PROCESS: usize = 4;

/// Asks for as many open files as the process may have. Shells and containers start programs with 1024, which is fewer
/// than a server with its usual number of connections needs: then it could reach neither Entra ID nor its store.
pub(crate) fn allow_for(config: &ServeConfig) {
    let needed = needed(config);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) if allowed >= needed => {}
        Ok(allowed) => tracing::warn!(
            needed,
            maximum = allowed,
            "there are fewer open files than connections, processes and calls of tools need: raise the limit (ulimit -n, \
             LimitNOFILE), or lower --max-connections, max-processes and max-concurrent"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// The files that may be open at the same time. Every request of a client may have one to an upstream, so that those to all
/// of the upstreams are as many as those of clients.
fn needed(config: &ServeConfig) -> u64 {
    let behind = &config.common.behind;
    let mut is_relaying = false;
    let mut files = config.max_connections;
    for upstream in &behind.upstreams {
        match &upstream.target {
            UpstreamTarget::Http { .. } => is_relaying = true,
            UpstreamTarget::Process(process) => {
                files = files.saturating_add(process.max_processes.saturating_mul(FILES_PER_PROCESS));
            }
        }
    }
    if is_relaying {
        files = files.saturating_add(config.max_connections);
    }
    let calls = behind.tools.iter().map(|tools| tools.max_concurrent);
    let files = calls.fold(files, usize::saturating_add);
    u64::try_from(files).unwrap_or(u64::MAX).saturating_add(OTHERS)
}
