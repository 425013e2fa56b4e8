//! How many files the operating system lets the process have open: connections are files too.

/// Files beside the connections of clients: the store, the log, connections to Entra ID and Graph, the runtime's own.
#[cfg(unix)]
const OTHERS: u64 = 256;

/// Asks for as many open files as the process may have. Shells and containers start programs with 1024, which is fewer
/// than a server with its usual number of connections needs: then it could reach neither Entra ID nor its store.
#[cfg(unix)]
pub(crate) fn allow_connections(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    // None is no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let wanted = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    limit.current = Some(wanted);
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the process cannot have more files open");
    } else if wanted < needed {
        tracing::warn!(
            needed,
            maximum = wanted,
            "there are fewer open files than connections: raise the limit (ulimit -n, LimitNOFILE), or lower \
             --max-connections"
        );
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub(crate) fn allow_connections(_: usize) {}
