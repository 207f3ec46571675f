//! Options of a Cassandra cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::process::Lifetime;

/// Maximum size in bytes of a column's value that a client of [`CassandraOptions::secured`] may write.
pub const MAX_VALUE_SIZE: usize = 400;

/// Options of a cluster. The default is one node that ends with this process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CassandraOptions {
    /// Number of nodes, 1 to 7 with the spares.
    pub nodes: usize,
    /// Number of further nodes that are not started, at most `nodes`. The first start of one bootstraps it into the cluster,
    /// where it takes half of a node's range.
    pub spares: usize,
    /// The data centre of each node. Empty: all are in `datacenter1`.
    pub datacenters: Vec<String>,
    /// Java heap of each node, in MiB. `None`: 1024 for a single node, 768 for each of several.
    pub heap_mb: Option<u32>,
    /// Whether clients must log in and need permissions; see [`CassandraCluster::superuser`](super::CassandraCluster::superuser).
    pub authentication: bool,
    /// Folder of data, configuration and logs, which is kept. `None`: a new folder under `target/testkit`, removed on drop.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// The client port (the nodes' other ports are 2,000, 1,999 and 1,843 lower: 7042, 7043 and 7199 for 9042). `None`:
    /// free ports.
    #[serde(skip)]
    pub port: Option<u16>,
    /// Whether the nodes end with this process.
    #[serde(skip)]
    pub lifetime: Lifetime,
    /// Whether a killed node knows the latest schema when it starts again. Writing the schema to disk at each change takes a
    /// third of the CPU time of new tables.
    pub keeps_schema: bool,
    /// Top-level keys of `cassandra.yaml` that are added or replaced on every node. A null removes a key.
    ///
    /// With the default, `commitlog_sync: periodic`, a killed node loses acknowledged writes of its last 100 ms, the interval
    /// at which it marks the end of its commit log. [`CassandraOptions::synced`] loses none.
    pub overrides: BTreeMap<String, Value>,
}

impl Default for CassandraOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            spares: 0,
            datacenters: Vec::new(),
            heap_mb: None,
            authentication: false,
            dir: None,
            port: None,
            lifetime: Lifetime::WithParent,
            keeps_schema: true,
            overrides: BTreeMap::new(),
        }
    }
}

impl CassandraOptions {
    /// Syncs every write to the commit log on disk before it is acknowledged, which costs throughput.
    #[must_use]
    pub fn synced(mut self) -> Self {
        let sync = [
            ("commitlog_sync", "batch".into()),
            ("commitlog_sync_period", Value::Null),
        ];
        self.overrides
            .extend(sync.map(|(key, value)| (key.to_owned(), value)));
        self
    }

    /// This many nodes in `datacenter1`, and then in `datacenter2`.
    pub fn two_datacenters(first: usize, second: usize) -> Self {
        let nodes = [("datacenter1", first), ("datacenter2", second)];
        let names = nodes.map(|(name, nodes)| vec![name.to_owned(); nodes]);
        let snitch = ("endpoint_snitch".to_owned(), "GossipingPropertyFileSnitch".into());
        Self {
            nodes: first + second,
            datacenters: names.concat(),
            overrides: BTreeMap::from([snitch]),
            ..Self::default()
        }
        .synced()
    }

    /// One node that requires a login and keeps every acknowledged write, for tests that disturb it.
    pub fn with_login() -> Self {
        Self {
            authentication: true,
            ..Self::default()
        }
        .synced()
    }

    /// One node that requires a login, with optional TLS on the same port. Clients with TLS need a certificate of
    /// `authority`. `keystore` holds the node's key and certificate as PEM. Permissions and passwords that change take effect
    /// at once, and [`MAX_VALUE_SIZE`] limits values.
    pub fn secured(keystore: &Path, authority: &Path) -> Self {
        let caches = ["permissions_validity", "roles_validity", "credentials_validity"];
        let caches = caches.map(|key| (key, json!("100ms")));
        let limit = json!(format!("{MAX_VALUE_SIZE}B"));
        let encryption = json!({
            "enabled": true,
            "optional": true,
            "require_client_auth": "true",
            "keystore": keystore,
            "truststore": authority,
            "ssl_context_factory": {
                "class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory",
            },
        });
        let others = [
            ("dynamic_data_masking_enabled", json!(true)),
            ("column_value_size_fail_threshold", limit),
            ("client_encryption_options", encryption),
        ];
        let mut options = Self::with_login();
        let overrides = caches.into_iter().chain(others);
        options
            .overrides
            .extend(overrides.map(|(key, value)| (key.to_owned(), value)));
        options
    }

    /// Java heap of each node, in MiB.
    pub(in crate::servers) fn heap_mb(&self) -> u32 {
        self.heap_mb
            .unwrap_or(if self.all_nodes() == 1 { 1024 } else { 768 })
    }

    /// The number of nodes with the spares.
    pub(in crate::servers) fn all_nodes(&self) -> usize {
        self.nodes + self.spares
    }

    /// The same cluster with its data in `dir` and this client port.
    pub(in crate::servers) fn at(&self, dir: PathBuf, port: u16) -> Self {
        Self {
            dir: Some(dir),
            port: Some(port),
            ..self.clone()
        }
    }
}
