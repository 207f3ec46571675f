//! A Cassandra cluster of one to three nodes on 127.0.0.1, 127.0.0.2 and 127.0.0.3 with the same ports.

mod nodetool;
mod options;
mod program;
mod yaml;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};

pub use self::nodetool::Nodetool;
pub use self::options::{CassandraOptions, MAX_VALUE_SIZE};
use self::program::program;
use self::yaml::{CassandraPorts, CassandraSettings, render};
use super::folder::Folder;
use super::node::{NodeSpec, attach};
use super::pool::{self, Access, ClusterSpec, Lease};
use super::ports::{PortLease, retry_port_conflicts};
use super::probe::{CassandraProbe, DEFAULT_SUPERUSER, Probe};
use super::{Node, ServerError, Software, jars, write};

/// The ports of each node for clients, for other nodes (plain and TLS) and for `nodetool`, relative to the first.
const PORT_OFFSETS: [i16; 4] = [0, -2000, -1999, -1843];

/// A start takes 12 to 24 s on an idle machine, and longer during a build.
const START_TIMEOUT: Duration = Duration::from_secs(240);

const LOGBACK: &str = r#"<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %level [%thread] %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="console"/></root>
</configuration>
"#;

/// A running cluster. Dropping it kills its nodes (unless detached) and removes its folder (unless named).
#[derive(Debug)]
pub struct CassandraCluster {
    // Dropped in this order: the nodes, then their data, then their ports.
    nodes: Vec<Node>,
    nodetool: Nodetool,
    _folder: Folder,
    ports: PortLease,
}

impl CassandraCluster {
    /// Starts the first node, which the others ask for the cluster, then the others, and waits until each knows all.
    ///
    /// # Errors
    /// When the jars cannot be fetched, or a node ends or is not ready within four minutes, with the end of its log.
    pub fn start(options: &CassandraOptions) -> BoxFuture<'_, Result<Self, ServerError>> {
        Box::pin(retry_port_conflicts(options.port, || Self::start_once(options)))
    }

    /// Takes a cluster of the server pool of this test run, or starts one where there is no pool; see [`pool`]. Keyspaces of
    /// earlier tests are still there, so use names of your own.
    ///
    /// # Errors
    /// As [`CassandraCluster::start`].
    pub async fn lease(options: &CassandraOptions, access: Access) -> Result<Self, ServerError> {
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, access).await,
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
        let (lease, dir, port) = Lease::take(socket, ClusterSpec::Cassandra(options.clone()), access).await?;
        let mut cluster = Self::configure(&options.at(dir, port), &jars(Software::CASSANDRA).await?)?;
        attach(&mut cluster.nodes, &lease);
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
        let lease = match options.port {
            Some(port) => PortLease::fixed(port),
            None => PortLease::block(&PORT_OFFSETS, &addresses)?,
        };
        let port = |offset| lease.port().saturating_add_signed(offset);
        let [native, storage, ssl_storage, management] = PORT_OFFSETS.map(port);
        let ports = CassandraPorts {
            native,
            storage,
            ssl_storage,
        };
        let nodes = addresses.into_iter().zip(even_tokens(options.nodes));
        let mut datacenters = options.datacenters.iter();
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
            let datacenter = datacenters.next().map_or("datacenter1", String::as_str);
            let location = format!("dc={datacenter}\nrack=rack1\n");
            write(&folder.join("cassandra-rackdc.properties"), &location)?;
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
            ports: lease,
        })
    }

    pub(super) async fn launch(&self) -> Result<(), ServerError> {
        let (seed, others) = self.nodes.split_first().expect("there is at least one node");
        seed.start().await?;
        try_join_all(others.iter().map(Node::start)).await?;
        for node in &self.nodes {
            node.wait_until_it_knows(self.nodes.len()).await?;
        }
        Ok(())
    }

    /// The port for clients.
    pub(super) fn port(&self) -> u16 {
        self.ports.port()
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

/// One token for each node, so that each owns the same share of the ring.
fn even_tokens(nodes: usize) -> impl Iterator<Item = i64> {
    let nodes = i128::try_from(nodes).unwrap_or(1);
    let share = (1_i128 << 64) / nodes;
    (0..nodes).filter_map(move |node| i64::try_from(i128::from(i64::MIN) + share * node + share / 2).ok())
}
