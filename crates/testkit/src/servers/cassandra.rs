//! A Cassandra cluster of one to seven nodes on 127.0.0.1, 127.0.0.2 and so on, with the same ports.

mod nodetool;
mod options;
mod program;
mod yaml;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use cdrs_tokio::cluster::Murmur3Token;
use futures::future::{BoxFuture, try_join_all};

pub use self::nodetool::Nodetool;
pub use self::options::{CassandraOptions, MAX_VALUE_SIZE};
use self::program::program;
use self::yaml::{CassandraPorts, YamlSettings, render};
use super::folder::Folder;
use super::folder::write;
use super::node::{NodeSpec, attach};
use super::pool::{self, Access, ClusterSpec, Lease};
use super::ports::{PortLease, retry_port_conflicts};
use super::probe::{CassandraNodeProbe, DEFAULT_SUPERUSER, Probe};
use super::{Node, ServerError, Software, jars};

/// The ports of each node for clients, for other nodes (plain and TLS) and for `nodetool`, relative to the first.
const PORT_OFFSETS: [i16; 4] = [0, -2000, -1999, -1843];

const MAX_NODES: usize = 7;

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
    /// The last nodes, which join later.
    spares: usize,
    nodetool: Nodetool,
    _folder: Folder,
    ports: PortLease,
}

impl CassandraCluster {
    /// Starts the first node, from which the others learn the cluster, then the others, and waits until each knows all.
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

    /// Takes a cluster of `nodes` nodes that require a login, for one test that may disturb them; see [`lease`](Self::lease).
    /// Roles are not replicated: each is on its [`owner`](Self::owner). The superuser is on the first node.
    ///
    /// # Errors
    /// As [`CassandraCluster::start`].
    pub async fn lease_nodes(nodes: usize) -> Result<Self, ServerError> {
        let options = CassandraOptions {
            nodes,
            authentication: true,
            ..CassandraOptions::default()
        };
        Self::lease(&options, Access::Exclusive).await
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
        let CassandraOptions { nodes, spares, .. } = *options;
        if nodes == 0 || options.all_nodes() > MAX_NODES {
            return Err(ServerError::NodeCount {
                nodes: options.all_nodes(),
                max: MAX_NODES,
            });
        }
        let folder = Folder::open(options.dir.as_deref(), "cassandra")?;
        let addresses: Vec<_> = (1..)
            .take(options.all_nodes())
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
        let tokens = even_tokens(nodes).into_iter().map(|token| (token, false));
        let spare_tokens = half_tokens(nodes).take(spares).map(|token| (token, true));
        let tokens = tokens.chain(spare_tokens);
        let mut datacenters = options.datacenters.iter();
        let nodes = addresses.into_iter().zip(tokens);
        let nodes = nodes.map(|(address, (token, joins))| {
            let name = format!("cassandra-{}", address.octets()[3]);
            let folder = folder.path().join(&name);
            fs::create_dir_all(&folder).map_err(ServerError::file(&folder))?;
            let yaml = render(&YamlSettings {
                address,
                seed: Ipv4Addr::LOCALHOST,
                token,
                joins,
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
                probe: Probe::Cassandra(CassandraNodeProbe {
                    address: address.clone(),
                }),
                address,
                start_timeout: START_TIMEOUT,
            }))
        });
        Ok(Self {
            nodes: nodes.collect::<Result<_, ServerError>>()?,
            spares,
            nodetool: Nodetool::new(jars, management, folder.path()),
            _folder: folder,
            ports: lease,
        })
    }

    pub(super) async fn launch(&self) -> Result<(), ServerError> {
        let members = self.members();
        let (seed, others) = members.split_first().expect("there is at least one node");
        seed.start().await?;
        try_join_all(others.iter().map(Node::start)).await?;
        for node in members {
            node.wait_until_it_knows(members.len()).await?;
        }
        Ok(())
    }

    /// The port for clients.
    pub(super) fn port(&self) -> u16 {
        self.ports.port()
    }

    /// The nodes without the spares.
    fn members(&self) -> &[Node] {
        &self.nodes[..self.nodes.len() - self.spares]
    }

    /// The nodes' client addresses without those of spares, each `127.0.0.N:PORT`.
    pub fn contact_points(&self) -> Vec<String> {
        self.members()
            .iter()
            .map(|node| node.address().to_owned())
            .collect()
    }

    /// The initial user of a cluster with authentication, which is also its password.
    pub fn superuser(&self) -> &'static str {
        DEFAULT_SUPERUSER
    }

    /// All nodes, 127.0.0.1 first and the spares last.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the node at `index`, from 0.
    pub fn node(&self, index: usize) -> Result<&Node, ServerError> {
        self.nodes.get(index).ok_or(ServerError::NoSuchNode(index))
    }

    /// The index of the node that has the first replica of a partition before a spare joins.
    pub fn owner(&self, partition_key: &[u8]) -> usize {
        owner(&even_tokens(self.members().len()), partition_key)
    }

    /// The `nodetool` of the first node.
    pub fn nodetool(&self) -> &Nodetool {
        &self.nodetool
    }
}

/// One token for each node, so that each owns the same share of the ring. The first owns the superuser, so that clients log in
/// while others are down.
fn even_tokens(nodes: usize) -> Vec<i64> {
    let share = share_of_ring(nodes);
    let token = |node| i64::try_from(i128::from(i64::MIN) + share * node + share / 2).ok();
    let nodes = i128::try_from(nodes).unwrap_or(1);
    let mut tokens: Vec<_> = (0..nodes).filter_map(token).collect();
    let first = owner(&tokens, DEFAULT_SUPERUSER.as_bytes());
    tokens.rotate_left(first);
    tokens
}

/// The tokens that divide the range of each node in two.
fn half_tokens(nodes: usize) -> impl Iterator<Item = i64> {
    let half = i64::try_from(share_of_ring(nodes) / 2).unwrap_or(i64::MAX);
    even_tokens(nodes)
        .into_iter()
        .map(move |token| token.wrapping_sub(half))
}

/// The tokens of each node's range.
fn share_of_ring(nodes: usize) -> i128 {
    (1 << 64) / i128::try_from(nodes).unwrap_or(1)
}

/// The index of the first token that is not below the key's. Behind the last one the ring begins again.
fn owner(tokens: &[i64], partition_key: &[u8]) -> usize {
    let key = Murmur3Token::generate(partition_key).value;
    let clockwise = (0..tokens.len()).min_by_key(|index| (tokens[*index] < key, tokens[*index]));
    clockwise.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_the_ring_and_the_first_owns_the_superuser() {
        for nodes in 1..=6 {
            let mut tokens = even_tokens(nodes);
            assert_eq!(owner(&tokens, b"cassandra"), 0);
            tokens.sort_unstable();
            let shares: Vec<_> = tokens.windows(2).map(|pair| pair[1].abs_diff(pair[0])).collect();
            assert_eq!(tokens.len(), nodes);
            assert!(shares.iter().all(|share| *share == shares[0]), "{shares:?}");
        }
    }

    #[test]
    fn spare_takes_half_of_a_range() {
        assert_eq!(
            (even_tokens(1), half_tokens(1).next()),
            (vec![0], Some(-i64::MAX))
        );
        let (tokens, halves) = (even_tokens(3), half_tokens(3).collect::<Vec<_>>());
        let half = i128::from(u64::MAX / 6);
        for (token, spare) in tokens.into_iter().zip(halves) {
            let distance = (i128::from(token) - i128::from(spare)).rem_euclid(1 << 64);
            assert!((distance - half).abs() < 10, "{distance}");
        }
    }

    #[test]
    fn partition_is_on_the_next_node_of_the_ring() {
        // Its token is -7468325962851647638.
        let key = b"123";
        assert_eq!(owner(&[0, i64::MIN, -7_468_325_962_851_647_638], key), 2);
        assert_eq!(owner(&[i64::MIN, 5, -7_468_325_962_851_647_637], key), 2);
        assert_eq!(owner(&[-8_000_000_000_000_000_000, i64::MIN], key), 1);
    }
}
