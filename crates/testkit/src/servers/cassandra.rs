//! A Cassandra cluster of one to three nodes on 127.0.0.1, 127.0.0.2 and 127.0.0.3 with the same ports.

mod nodetool;
mod probe;
mod program;
mod yaml;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

pub use self::nodetool::Nodetool;
pub(super) use self::probe::CassandraProbe;
use self::probe::DEFAULT_SUPERUSER;
use self::program::program;
use self::yaml::{CassandraPorts, CassandraSettings, render};
use super::folder::Folder;
use super::node::{NodeSpec, Probe};
use super::pool::{self, Access, ClusterSpec, Lease};
use super::ports::{PortLease, retry_port_conflicts};
use super::{Node, ServerError, Software, jars, write};
use crate::process::Lifetime;

/// A start takes 12 to 24 s on an idle machine, and longer during a build.
const START_TIMEOUT: Duration = Duration::from_secs(240);

const LOGBACK: &str = r#"<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %level [%thread] %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="console"/></root>
</configuration>
"#;

/// Options of a cluster. The default is one node that ends with this process.
#[derive(Debug, Clone)]
pub struct CassandraOptions {
    /// Number of nodes, 1 to 3.
    pub nodes: usize,
    /// Java heap of each node, in MiB. `None`: 1024 for a single node, 768 for each of several.
    pub heap_mb: Option<u32>,
    /// Whether clients must log in and need permissions; see [`CassandraCluster::superuser`].
    pub authentication: bool,
    /// Folder of data, configuration and logs, which is kept. `None`: a new folder under `target/testkit`, removed on drop.
    pub dir: Option<PathBuf>,
    /// The client port (the nodes' other ports are 2,000, 1,999 and 1,843 lower: 7042, 7043 and 7199 for 9042). `None`:
    /// free ports.
    pub port: Option<u16>,
    /// Whether the nodes end with this process.
    pub lifetime: Lifetime,
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
            heap_mb: None,
            authentication: false,
            dir: None,
            port: None,
            lifetime: Lifetime::WithParent,
            overrides: BTreeMap::new(),
        }
    }
}

impl CassandraOptions {
    /// The ports of a node, relative to `port`.
    pub(super) const PORT_OFFSETS: [i32; 4] = [0, -2000, -1999, -1843];

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
}

/// A running cluster. Dropping it kills its nodes (unless detached) and removes its folder (unless named).
#[derive(Debug)]
pub struct CassandraCluster {
    // Dropped in this order: the nodes, then their data, then their ports.
    nodes: Vec<Node>,
    nodetool: Nodetool,
    _folder: Folder,
    _ports: [PortLease; 4],
}

impl CassandraCluster {
    /// Starts the nodes one after the other, as Cassandra requires, and waits until each knows all.
    ///
    /// # Errors
    /// When the jars cannot be fetched, or a node ends or is not ready within four minutes, with the end of its log.
    pub fn start(options: &CassandraOptions) -> BoxFuture<'_, Result<Self, ServerError>> {
        Box::pin(retry_port_conflicts(options.port, || Self::start_once(options)))
    }

    /// Leases an exclusive cluster from the server pool of this test run, or starts one where there is no pool. Keyspaces of
    /// earlier tests are still there, so use names of your own.
    ///
    /// # Errors
    /// As [`CassandraCluster::start`].
    pub async fn lease(options: &CassandraOptions) -> Result<Self, ServerError> {
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, Access::Exclusive).await,
            None => Self::start(options).await,
        }
    }

    /// The cluster that all tests of a run share and none disturbs; see [`pool`].
    ///
    /// # Errors
    /// As [`CassandraCluster::start`].
    pub async fn shared(options: &CassandraOptions) -> Result<Self, ServerError> {
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, Access::Shared).await,
            None => Self::start(options).await,
        }
    }

    /// Leases a cluster from the pool at `socket`.
    ///
    /// # Errors
    /// As [`CassandraCluster::start`].
    pub async fn from_pool(
        socket: &Path,
        options: &CassandraOptions,
        access: Access,
    ) -> Result<Self, ServerError> {
        let spec = ClusterSpec::Cassandra {
            nodes: options.nodes,
            heap_mb: options.heap_mb,
            authentication: options.authentication,
            overrides: options.overrides.clone(),
        };
        let (lease, dir, port) = Lease::take(socket, spec, access).await?;
        let options = CassandraOptions {
            dir: Some(dir),
            port: Some(port),
            ..options.clone()
        };
        let mut cluster = Self::configure(&options, &jars(Software::CASSANDRA).await?)?;
        for (index, node) in cluster.nodes.iter_mut().enumerate() {
            node.attach(lease.clone(), index);
        }
        Ok(cluster)
    }

    async fn start_once(options: &CassandraOptions) -> Result<Self, ServerError> {
        let jars = jars(Software::CASSANDRA).await?;
        let cluster = Self::configure(options, &jars)?;
        cluster.launch().await?;
        Ok(cluster)
    }

    /// Writes the configuration of the nodes without starting them.
    pub(super) fn configure(options: &CassandraOptions, jars: &Path) -> Result<Self, ServerError> {
        if !(1..=3).contains(&options.nodes) {
            return Err(ServerError::NodeCount(options.nodes));
        }
        let folder = Folder::open(options.dir.as_deref(), "cassandra")?;
        let addresses: Vec<_> = (1..)
            .take(options.nodes)
            .map(|last| Ipv4Addr::new(127, 0, 0, last))
            .collect();
        let leases = lease_ports(options, &addresses)?;
        let [native, storage, ssl_storage, management] = leases.each_ref().map(PortLease::port);
        let ports = CassandraPorts {
            native,
            storage,
            ssl_storage,
        };
        let nodes = addresses.into_iter().zip(even_tokens(options.nodes));
        let nodes = nodes.map(|(address, token)| {
            let name = format!("cassandra-{}", address.octets()[3]);
            let folder = folder.path().join(&name);
            fs::create_dir_all(&folder).map_err(ServerError::file(&folder))?;
            let yaml = render(&CassandraSettings {
                address,
                seed: Ipv4Addr::LOCALHOST,
                token,
                ports,
                data: &folder,
                authentication: options.authentication,
                overrides: &options.overrides,
            });
            write(&folder.join("cassandra.yaml"), &yaml)?;
            write(&folder.join("logback.xml"), LOGBACK)?;
            // Java listens for `nodetool` on 127.0.0.1, not on the node's address.
            let management = (address == Ipv4Addr::LOCALHOST).then_some(management);
            let address = format!("{address}:{native}");
            Ok(Node::new(NodeSpec {
                name,
                program: program(options, &folder, jars, management),
                folder,
                lifetime: options.lifetime,
                probe: Probe::Cassandra(CassandraProbe {
                    address: address.clone(),
                }),
                address,
                start_timeout: START_TIMEOUT,
            }))
        });
        Ok(Self {
            nodes: nodes.collect::<Result<_, ServerError>>()?,
            nodetool: Nodetool::new(jars, management, folder.path()),
            _folder: folder,
            _ports: leases,
        })
    }

    pub(super) async fn launch(&self) -> Result<(), ServerError> {
        for node in &self.nodes {
            node.start().await?;
        }
        for node in &self.nodes {
            node.wait_until_it_knows(self.nodes.len()).await?;
        }
        Ok(())
    }

    /// The nodes' client addresses, each `127.0.0.N:PORT`.
    pub fn contact_points(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address().to_owned()).collect()
    }

    /// The initial user of a cluster with authentication, which is also its password.
    pub fn superuser(&self) -> &'static str {
        DEFAULT_SUPERUSER
    }

    /// All nodes, 127.0.0.1 first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the node at `index`, from 0.
    pub fn node(&self, index: usize) -> Result<&Node, ServerError> {
        self.nodes.get(index).ok_or(ServerError::NoSuchNode(index))
    }

    /// The `nodetool` of the first node.
    pub fn nodetool(&self) -> &Nodetool {
        &self.nodetool
    }
}

/// Ports for clients, for the nodes (plain and TLS) and for `nodetool`.
fn lease_ports(options: &CassandraOptions, addresses: &[Ipv4Addr]) -> Result<[PortLease; 4], ServerError> {
    if let Some(port) = options.port {
        return Ok([0, 2000, 1999, 1843].map(|below| PortLease::fixed(port.saturating_sub(below))));
    }
    let free = || PortLease::free(addresses);
    Ok([free()?, free()?, free()?, free()?])
}

/// One token for each node, so that each owns the same share of the ring.
fn even_tokens(nodes: usize) -> impl Iterator<Item = i64> {
    let nodes = i128::try_from(nodes).unwrap_or(1);
    let share = (1_i128 << 64) / nodes;
    (0..nodes).filter_map(move |node| i64::try_from(i128::from(i64::MIN) + share * node + share / 2).ok())
}
