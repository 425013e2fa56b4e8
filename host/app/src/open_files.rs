//! How many files the operating system lets the process have open: connections are files too.

/// Files beside the connections of clients: the store, the log, connections to Entra ID and Graph, the runtime's own.
const OTHERS: u64 = 256;

/// Asks for as many open files as the process may have. Shells and containers start programs with 1024, which is fewer
/// than a server with its usual number of connections needs: then it could reach neither Entra ID nor its store.
pub(crate) fn allow_connections(connections: usize) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    match rlimit::increase_nofile_limit(needed) {
        Ok(allowed) if allowed >= needed => {}
        Ok(allowed) => tracing::warn!(
            needed,
            maximum = allowed,
            "there are fewer open files than connections: raise the limit (ulimit -n, LimitNOFILE), or lower \
             --max-connections"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}
