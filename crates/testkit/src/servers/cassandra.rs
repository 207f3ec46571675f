//! A Cassandra cluster of one to three nodes, on 127.0.0.1, 127.0.0.2 and 127.0.0.3 with the same ports.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::cassandra_program::program;
use super::cassandra_yaml::{CassandraPorts, CassandraSettings, render};
use super::cql::{CqlProbe, DEFAULT_SUPERUSER};
use super::folder::Folder;
use super::node::{NodeSpec, Probe};
use super::nodetool::Nodetool;
use super::pool::{self, Access, ClusterSpec, Lease};
use super::ports::PortLease;
use super::{Node, ServerError, Software, jars};
use crate::process::Lifetime;

/// A start takes 12 to 24 s on an idle machine; a build may run beside it.
const START_DEADLINE: Duration = Duration::from_secs(240);

const START_ATTEMPTS: usize = 3;

const LOGBACK: &str = r#"<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %level [%thread] %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="console"/></root>
</configuration>
"#;

/// How a cluster is started. `CassandraOptions::default()` is one node that dies with this process.
#[derive(Debug, Clone)]
pub struct CassandraOptions {
    /// How many nodes: 1 to 3.
    pub nodes: usize,
    /// Java heap of each node, in MiB. `None`: 1024 for a single node, 768 for each of several.
    pub heap_mb: Option<u32>,
    /// Whether clients must log in and need permissions; see [`CassandraCluster::superuser`].
    pub authentication: bool,
    /// Where data, configuration and logs lie; kept. `None`: a fresh folder under `target/testkit`, removed
    /// when the cluster is dropped.
    pub dir: Option<PathBuf>,
    /// The port for clients (the nodes' own are 2,000, 1,999 and 1,843 lower: 7042, 7043 and 7199 for 9042). `None`:
    /// free ports.
    pub port: Option<u16>,
    /// Whether the nodes end with this process.
    pub lifetime: Lifetime,
    /// Top-level keys of `cassandra.yaml` that are added or replaced, on every node; a null takes a key away.
    ///
    /// With the default, `commitlog_sync: periodic`, a killed node forgets what it acknowledged in the last
    /// 100 ms: it marks the end of its commit log that often. [`CassandraOptions::synced`] forgets nothing.
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

    /// Every write is in the commit log on disk before it is acknowledged, at the price of speed.
    #[must_use]
    pub fn synced(mut self) -> Self {
        self.overrides.insert("commitlog_sync".to_owned(), "batch".into());
        self.overrides
            .insert("commitlog_sync_period".to_owned(), Value::Null);
        self
    }
}

/// A running cluster. Dropped, its nodes are killed (unless detached) and its fresh folder is removed.
#[derive(Debug)]
pub struct CassandraCluster {
    // In this order: the nodes die, then their data goes, then their ports are free.
    nodes: Vec<Node>,
    probes: Vec<CqlProbe>,
    nodetool: Nodetool,
    _folder: Folder,
    _ports: Vec<PortLease>,
}

impl CassandraCluster {
    /// Starts the nodes one after the other, as Cassandra wants it, and waits until each knows all.
    ///
    /// # Errors
    /// When the jars cannot be fetched, or a node ends or is not ready within four minutes, with its log's end.
    pub async fn start(options: &CassandraOptions) -> Result<Self, ServerError> {
        let mut attempt = 1;
        loop {
            match Self::start_once(options).await {
                Err(error)
                    if error.is_port_conflict() && options.port.is_none() && attempt < START_ATTEMPTS =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Leases an exclusive cluster from the server pool of this test run, or starts one where there is no pool.
    /// Keyspaces of earlier tests are still there, so use names of your own.
    ///
    /// # Errors
    /// As [`CassandraCluster::start`].
    pub async fn lease(options: &CassandraOptions) -> Result<Self, ServerError> {
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, Access::Exclusive).await,
            None => Self::start(options).await,
        }
    }

    /// The cluster of one node that all tests of a run share; see [`pool`](super::pool). Nobody disturbs it.
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
        Self::describe_leased(&options, &jars(Software::CASSANDRA).await?, Some(&lease))
    }

    async fn start_once(options: &CassandraOptions) -> Result<Self, ServerError> {
        let jars = jars(Software::CASSANDRA).await?;
        let cluster = Self::describe(options, &jars)?;
        cluster.launch().await?;
        Ok(cluster)
    }

    /// The cluster's nodes, with their configuration written but not started.
    pub(super) fn describe(options: &CassandraOptions, jars: &Path) -> Result<Self, ServerError> {
        Self::describe_leased(options, jars, None)
    }

    fn describe_leased(
        options: &CassandraOptions,
        jars: &Path,
        lease: Option<&Lease>,
    ) -> Result<Self, ServerError> {
        if !(1..=3).contains(&options.nodes) {
            return Err(ServerError::NodeCount(options.nodes));
        }
        let folder = match &options.dir {
            Some(dir) => Folder::named(dir)?,
            None => Folder::fresh("cassandra")?,
        };
        let addresses: Vec<Ipv4Addr> = (1..)
            .take(options.nodes)
            .map(|last| Ipv4Addr::new(127, 0, 0, last))
            .collect();
        let (ports, leases) = lease_ports(options, &addresses)?;
        let mut nodes = Vec::new();
        let mut probes = Vec::new();
        for (address, token) in addresses.into_iter().zip(even_tokens(options.nodes)) {
            let probe = CqlProbe {
                address: format!("{address}:{}", ports.native),
            };
            let mut spec = node_spec((address, token), options, ports, folder.path(), jars, &probe)?;
            spec.lease = lease.map(|lease| (lease.clone(), nodes.len()));
            nodes.push(Node::new(spec));
            probes.push(probe);
        }
        Ok(Self {
            nodes,
            probes,
            nodetool: Nodetool::new(jars, ports.management, folder.path()),
            _folder: folder,
            _ports: leases,
        })
    }

    pub(super) async fn launch(&self) -> Result<(), ServerError> {
        for node in &self.nodes {
            node.start().await?;
        }
        self.wait_for_all().await
    }

    /// The nodes' addresses for clients, each `127.0.0.N:PORT`.
    #[must_use]
    pub fn contact_points(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address().to_owned()).collect()
    }

    /// The name, and the password, of the user that a cluster with authentication begins with.
    #[must_use]
    pub fn superuser(&self) -> &'static str {
        DEFAULT_SUPERUSER
    }

    /// All nodes, 127.0.0.1 first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node at `index`, from 0.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, index: usize) -> Result<&Node, ServerError> {
        self.nodes.get(index).ok_or(ServerError::NoSuchNode(index))
    }

    /// Cassandra's own tool, against the first node.
    #[must_use]
    pub fn nodetool(&self) -> &Nodetool {
        &self.nodetool
    }

    async fn wait_for_all(&self) -> Result<(), ServerError> {
        let until = Instant::now() + START_DEADLINE;
        let peers = u64::try_from(self.nodes.len() - 1).unwrap_or(0);
        for (probe, node) in self.probes.iter().zip(&self.nodes) {
            while probe.peers().await != Some(peers) {
                if Instant::now() >= until {
                    return Err(node.not_ready());
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

fn lease_ports(
    options: &CassandraOptions,
    addresses: &[Ipv4Addr],
) -> Result<(CassandraPorts, Vec<PortLease>), ServerError> {
    let leases = match options.port {
        Some(port) => vec![
            PortLease::fixed(port),
            PortLease::fixed(port.saturating_sub(2000)),
            PortLease::fixed(port.saturating_sub(1999)),
            PortLease::fixed(port.saturating_sub(1843)),
        ],
        None => vec![
            PortLease::free(addresses)?,
            PortLease::free(addresses)?,
            PortLease::free(addresses)?,
            PortLease::free(addresses)?,
        ],
    };
    let ports = CassandraPorts {
        native: leases[0].port(),
        storage: leases[1].port(),
        ssl_storage: leases[2].port(),
        management: leases[3].port(),
    };
    Ok((ports, leases))
}

/// One token for each node, so that each owns the same share of the ring.
fn even_tokens(nodes: usize) -> impl Iterator<Item = i64> {
    let nodes = i128::try_from(nodes).unwrap_or(1);
    let share = (1_i128 << 64) / nodes;
    (0..nodes).filter_map(move |node| i64::try_from(i128::from(i64::MIN) + share * node + share / 2).ok())
}

fn node_spec(
    (address, token): (Ipv4Addr, i64),
    options: &CassandraOptions,
    ports: CassandraPorts,
    cluster: &Path,
    jars: &Path,
    probe: &CqlProbe,
) -> Result<NodeSpec, ServerError> {
    let name = format!("cassandra-{}", address.octets()[3]);
    let folder = cluster.join(&name);
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
    Ok(NodeSpec {
        name,
        address: probe.address.clone(),
        program: if address == Ipv4Addr::LOCALHOST {
            program(options, &folder, jars, Some(ports.management))
        } else {
            program(options, &folder, jars, None)
        },
        folder,
        lifetime: options.lifetime,
        probe: Probe::Cassandra(probe.clone()),
        start_deadline: START_DEADLINE,
        lease: None,
    })
}

fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    fs::write(path, text).map_err(ServerError::file(path))
}
