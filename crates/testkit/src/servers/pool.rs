//! Servers that the test processes of one run share: a pool process owns them, tests lease them over a Unix socket.
//!
//! `testkit pool -- COMMAND` runs a command with the variable [`SOCKET`]. Under it,
//! [`KafkaCluster::lease`](super::KafkaCluster::lease) and [`CassandraCluster::lease`](super::CassandraCluster::lease) take
//! a cluster of the pool instead of starting one. A shared cluster has any number of users, who must not disturb it. An
//! exclusive one has one user, who may freeze and kill its nodes; the pool repairs it before the next lease. Data stays, so
//! tests use topics and keyspaces of their own.
//!
//! The servers are children of the pool process and die with it, however it dies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{CassandraOptions, KafkaOptions, ServerError};

/// The environment variable with the path of the pool's socket.
pub const SOCKET: &str = "AFFLUENT_SERVER_POOL";

/// Who may use a leased cluster at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Any number of tests that leave the nodes alone.
    Shared,
    /// One test, which may freeze, kill and restart the nodes.
    Exclusive,
}

/// What a cluster of the pool is made of, without its folder and ports. Leases with equal specifications reuse a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum ClusterSpec {
    Kafka(KafkaOptions),
    Cassandra(CassandraOptions),
}

/// A test process's request to the pool; one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum PoolRequest {
    Lease { spec: Box<ClusterSpec>, access: Access },
    Start { node: usize },
}

/// The pool's reply; one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum PoolReply {
    Leased { dir: PathBuf, port: u16 },
    Started,
    Failed { reason: String },
}

/// The socket of the pool that this process runs under.
#[must_use]
pub fn socket() -> Option<PathBuf> {
    std::env::var_os(SOCKET).map(PathBuf::from)
}

/// A leased cluster. It is returned when the last clone is dropped, or when this process ends.
#[derive(Debug, Clone)]
pub(super) struct Lease(Arc<Mutex<BufReader<UnixStream>>>);

impl Lease {
    /// Leases a cluster from the pool at `socket`: its folder and its first port.
    pub(super) async fn take(
        socket: &Path,
        spec: ClusterSpec,
        access: Access,
    ) -> Result<(Self, PathBuf, u16), ServerError> {
        let path = socket.to_path_buf();
        let spec = Box::new(spec);
        let taken = tokio::task::spawn_blocking(move || {
            let stream = UnixStream::connect(&path).map_err(ServerError::file(&path))?;
            let lease = Self(Arc::new(Mutex::new(BufReader::new(stream))));
            match lease.request(&PoolRequest::Lease { spec, access })? {
                PoolReply::Leased { dir, port } => Ok((lease, dir, port)),
                other => Err(ServerError::Pool(format!("unexpected reply: {other:?}"))),
            }
        });
        taken
            .await
            .map_err(|error| ServerError::Pool(error.to_string()))?
    }

    /// Requests that the pool starts a node that was killed or stopped.
    pub(super) fn start(&self, node: usize) -> Result<(), ServerError> {
        self.request(&PoolRequest::Start { node }).map(drop)
    }

    /// One request and its reply. The pool replies to a lease as soon as a cluster is free and serves.
    fn request(&self, request: &PoolRequest) -> Result<PoolReply, ServerError> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: &dyn std::fmt::Display| ServerError::Pool(error.to_string());
        let mut line = serde_json::to_string(request).map_err(|error| failed(&error))?;
        line.push('\n');
        stream
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|error| failed(&error))?;
        line.clear();
        stream.read_line(&mut line).map_err(|error| failed(&error))?;
        match serde_json::from_str(&line).map_err(|error| failed(&error))? {
            PoolReply::Failed { reason } => Err(ServerError::Pool(reason)),
            reply => Ok(reply),
        }
    }
}
