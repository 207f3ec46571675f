//! Raises the process's limit of open files, since each connection is one. The usual soft limit of 1,024 would take
//! precedence over `http.max_connections`.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files other than connections: sockets of brokers and of the admin port, files, timers.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit for `connections`, up to the hard limit.
pub(crate) fn raise_nofile(connections: usize) {
    let wanted = (connections as u64).saturating_add(OTHER_FILES);
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= wanted {
            return Ok(soft);
        }
        let raised = wanted.min(hard);
        setrlimit(Resource::RLIMIT_NOFILE, raised, hard).map(|()| raised)
    });
    match raised {
        Ok(limit) if limit < wanted => {
            tracing::warn!(
                limit,
                wanted,
                "limit of open files too low for http.max_connections; raise the hard limit"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, wanted, "failed to raise the limit of open files"),
    }
}
