//! How many files the process may have open: each connection is one. The usual limit of 1,024 is a soft one, which a
//! process may raise by itself; `http.max_connections` would be no bound without it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is open besides connections: the broker's sockets, the admin port's, files, timers.
const OTHERS: u64 = 256;

/// Raises the soft limit so that `connections` fit, as far as the hard one lets it.
pub(crate) fn make_room(connections: usize) {
    let wanted = (connections as u64).saturating_add(OTHERS);
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= wanted {
            return Ok(soft);
        }
        let raised = wanted.min(hard);
        setrlimit(Resource::RLIMIT_NOFILE, raised, hard).map(|()| raised)
    });
    match raised {
        Ok(limit) if limit < wanted => {
            tracing::warn!(limit, wanted, "fewer files than http.max_connections needs");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, wanted, "the limit of open files is not known"),
    }
}
