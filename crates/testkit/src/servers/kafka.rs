//! A Kafka cluster of one to three nodes, each broker and controller (KRaft).

mod access;
mod configuration;
mod options;
mod properties;
mod security;
mod tool;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use uuid::Uuid;

pub use self::access::{AclOperation, KafkaResource};
pub use self::options::KafkaOptions;
use self::properties::{AdvertisedAddresses, KafkaPorts, add_listener, properties, render, use_zookeeper};
pub use self::security::PLAIN_USER;
use super::folder::Folder;
use super::folder::write;
use super::node::{NodeSpec, attach};
use super::pool::{self, Access, ClusterSpec, Lease};
use super::ports::{PortLease, retry_port_conflicts};
use super::probe::{KafkaNodeProbe, Probe, admin_client};
use super::{Node, ServerError, Software, jars, jvm, version};

/// Any 16 bytes in base64. Ports tell clusters apart.
const CLUSTER_ID: &str = "QWZmbHVlbnRUZXN0YmVkMQ";

/// The file with the first records of the cluster's metadata: the versions of its features.
const FORMATTED: &str = "bootstrap.checkpoint";

const MAX_NODES: usize = 3;

/// How far the port of each listener is above that of the clients.
const INTERNAL: u16 = 1000;
const CONTROLLER: u16 = 2000;
const SECOND: u16 = 3000;
const PROXIED: u16 = 4000;

/// The address that the listener for a test's proxy advertises.
const PROXY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A start takes 3 s on an idle machine, and longer during a build.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts both in one process, so that they stop and freeze together.
const KAFKA_WITH_ZOOKEEPER: &str = include_str!("../../servers/KafkaWithZooKeeper.java");

const LOG4J: &str = "\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
";

/// A running cluster. Dropping it kills its nodes (unless detached) and removes its folder (unless named).
#[derive(Debug)]
pub struct KafkaCluster {
    // Dropped in this order: the nodes, then their data, then their ports.
    nodes: Vec<Node>,
    internal_bootstrap: String,
    _folder: Folder,
    ports: PortLease,
}

impl KafkaCluster {
    /// Starts all nodes at once and waits until each knows all.
    ///
    /// # Errors
    /// When the jars cannot be fetched, or a node ends or is not ready within two minutes, with the end of its log.
    pub fn start(options: &KafkaOptions) -> BoxFuture<'_, Result<Self, ServerError>> {
        Box::pin(retry_port_conflicts(options.first_port, || {
            Self::start_once(options)
        }))
    }

    /// Takes a cluster of the server pool of this test run, or starts one where there is no pool; see [`pool`]. Topics of
    /// earlier tests are still there, so use names of your own.
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub async fn lease(options: &KafkaOptions, access: Access) -> Result<Self, ServerError> {
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, access).await,
            None => Self::start(options).await,
        }
    }

    /// Leases a cluster from the pool at `socket`.
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub async fn from_pool(
        socket: &Path,
        options: &KafkaOptions,
        access: Access,
    ) -> Result<Self, ServerError> {
        let (lease, dir, port) = Lease::take(socket, ClusterSpec::Kafka(options.clone()), access).await?;
        let mut cluster = Self::configure(&options.at(dir, port), &jars(Software::KAFKA).await?)?;
        attach(&mut cluster.nodes, &lease);
        Ok(cluster)
    }

    async fn start_once(options: &KafkaOptions) -> Result<Self, ServerError> {
        let jars = jars(Software::KAFKA).await?;
        let cluster = Self::configure(options, &jars)?;
        cluster.launch(&jars).await?;
        Ok(cluster)
    }

    /// Writes the configuration of the nodes without starting them.
    pub(super) fn configure(options: &KafkaOptions, jars: &Path) -> Result<Self, ServerError> {
        let max = if needs_zookeeper() { 1 } else { MAX_NODES };
        if !(1..=max).contains(&options.nodes) {
            return Err(ServerError::NodeCount {
                nodes: options.nodes,
                max,
            });
        }
        let folder = Folder::open(options.dir.as_deref(), "kafka")?;
        let lease = match options.first_port {
            Some(port) => PortLease::fixed(port),
            None => PortLease::block(&port_offsets(options.nodes), &[Ipv4Addr::LOCALHOST])?,
        };
        let ports: Vec<_> = (lease.port()..)
            .take(options.nodes)
            .map(|client| KafkaPorts {
                client,
                internal: client.saturating_add(INTERNAL),
                controller: client.saturating_add(CONTROLLER),
                second: client.saturating_add(SECOND),
                proxied: client.saturating_add(PROXIED),
            })
            .collect();
        let nodes = (0..options.nodes).map(|index| node(index, options, &ports, folder.path(), jars));
        let internal = ports.iter().map(|ports| format!("127.0.0.1:{}", ports.internal));
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            internal_bootstrap: internal.collect::<Vec<_>>().join(","),
            _folder: folder,
            ports: lease,
        })
    }

    pub(super) async fn launch(&self, jars: &Path) -> Result<(), ServerError> {
        if !needs_zookeeper() {
            try_join_all((1..).zip(&self.nodes).map(|(id, node)| format(node, id, jars))).await?;
        }
        for node in &self.nodes {
            node.launch()?;
        }
        try_join_all(self.nodes.iter().map(Node::wait_until_ready)).await?;
        for node in &self.nodes {
            node.wait_until_it_knows(self.nodes.len()).await?;
        }
        Ok(())
    }

    /// The first node's client port.
    pub(super) fn first_port(&self) -> u16 {
        self.ports.port()
    }

    /// The address list for clients: `127.0.0.1:PORT[,…]`.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// The address of the first node's second listener.
    pub fn second_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.first_port().saturating_add(SECOND))
    }

    /// The first node's listener of [`KafkaOptions::proxied_listener`]: the address that it advertises, and its own.
    pub fn proxied_listener(&self) -> [SocketAddr; 2] {
        let port = self.first_port().saturating_add(PROXIED);
        [PROXY_ADDRESS, Ipv4Addr::LOCALHOST].map(|address| SocketAddr::from((address, port)))
    }

    /// The first node's listener for the other brokers.
    pub fn internal_listener(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.first_port().saturating_add(INTERNAL)))
    }

    /// The address list of the brokers' own listener, which bypasses every proxy and has no authentication.
    pub fn internal_bootstrap(&self) -> String {
        self.internal_bootstrap.clone()
    }

    /// All nodes, in the order of their ids, which begin at 1.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the node at `index`, from 0.
    pub fn node(&self, index: usize) -> Result<&Node, ServerError> {
        self.nodes.get(index).ok_or(ServerError::NoSuchNode(index))
    }

    /// Creates a topic with a replica on every node.
    ///
    /// # Errors
    /// [`ServerError::Kafka`]
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<(), ServerError> {
        let failed = |source| ServerError::Kafka {
            operation: "create a topic",
            source,
        };
        let client = admin_client(&self.internal_bootstrap).map_err(failed)?;
        let replicas = i32::try_from(self.nodes.len()).unwrap_or(1);
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let results = client.create_topics([&topic], &options).await.map_err(failed)?;
        results.into_iter().try_for_each(|result| {
            result
                .map(drop)
                .map_err(|(_, code)| failed(KafkaError::AdminOp(code)))
        })
    }
}

/// Whether this version has no controllers of its own. Then there is one node only.
fn needs_zookeeper() -> bool {
    version::is_below(version::KAFKA, 3, 3)
}

/// The ports of all nodes for all listeners, relative to the first.
fn port_offsets(nodes: usize) -> Vec<i16> {
    let listeners = [0, INTERNAL, CONTROLLER, SECOND, PROXIED].map(u16::cast_signed);
    let node = |index: i16| listeners.map(|listener| listener + index);
    (0..).take(nodes).flat_map(node).collect()
}

fn node(
    index: usize,
    options: &KafkaOptions,
    ports: &[KafkaPorts],
    cluster: &Path,
    jars: &Path,
) -> Result<Node, ServerError> {
    let id = index + 1;
    let name = format!("kafka-{id}");
    let folder = cluster.join(&name);
    fs::create_dir_all(&folder).map_err(ServerError::file(&folder))?;
    let advertised = AdvertisedAddresses {
        client: options.advertised.get(index).copied(),
        internal: options.internal_advertised.filter(|_| index == 0),
    };
    let data = folder.join("data");
    let mut settings = properties(index, ports, advertised, &data, &options.properties);
    if needs_zookeeper() {
        use_zookeeper(&mut settings, ports[index].controller);
    }
    if let Some(name) = &options.second_listener {
        let advertised = options.second_advertised;
        add_listener(&mut settings, name, ports[index].second, advertised);
    }
    if options.proxied_listener {
        let port = ports[index].proxied;
        let advertised = SocketAddr::from((PROXY_ADDRESS, port));
        add_listener(&mut settings, "PROXIED", port, Some(advertised));
    }
    write(&folder.join("server.properties"), &render(&settings))?;
    write(&folder.join("log4j2.properties"), LOG4J)?;
    let java_properties = options
        .java_properties
        .iter()
        .map(|property| format!("-D{property}"));
    let program = jvm::java(options.heap_mb)
        .arg(tool::log4j_setting(&folder))
        .args(java_properties);
    let program = if needs_zookeeper() {
        let launcher = folder.join("KafkaWithZooKeeper.java");
        write(&launcher, KAFKA_WITH_ZOOKEEPER)?;
        jvm::run(program, jars, &launcher.to_string_lossy())
            .arg(ports[index].controller.to_string())
            .arg(folder.join("zookeeper"))
    } else {
        jvm::run(program, jars, "kafka.Kafka")
    };
    let program = program.arg(folder.join("server.properties"));
    Ok(Node::new(NodeSpec {
        name,
        address: format!("127.0.0.1:{}", ports[index].client),
        folder,
        program,
        lifetime: options.lifetime,
        probe: Probe::Kafka(KafkaNodeProbe {
            address: format!("127.0.0.1:{}", ports[index].internal),
            node_id: i32::try_from(id).unwrap_or(i32::MAX),
        }),
        start_timeout: START_TIMEOUT,
    }))
}

/// Formats the data folder, which Kafka requires. Its tool takes more than a second, so its result is kept beside the jars:
/// the same for all nodes of a version, but for `meta.properties`.
async fn format(node: &Node, id: usize, jars: &Path) -> Result<(), ServerError> {
    let (data, kept) = (node.folder().join("data"), jars.join(FORMATTED));
    if data.join("meta.properties").exists() {
        return Ok(());
    }
    let formatted = data.join(FORMATTED);
    if !kept.exists() {
        run_format_tool(node, jars).await?;
        let partial = jars.join(format!("{FORMATTED}.{}", Uuid::new_v4()));
        fs::copy(&formatted, &partial).map_err(ServerError::file(&formatted))?;
        return fs::rename(&partial, &kept).map_err(ServerError::file(&kept));
    }
    fs::create_dir_all(&data).map_err(ServerError::file(&data))?;
    fs::copy(&kept, &formatted).map_err(ServerError::file(&formatted))?;
    // A broker adds the id of its folder.
    let meta = format!("version=1\ncluster.id={CLUSTER_ID}\nnode.id={id}\n");
    write(&data.join("meta.properties"), &meta)
}

async fn run_format_tool(node: &Node, jars: &Path) -> Result<(), ServerError> {
    let properties = node.folder().join("server.properties");
    let properties = properties.to_string_lossy();
    let arguments = [
        "format",
        "--ignore-formatted",
        "-t",
        CLUSTER_ID,
        "-c",
        &properties,
    ];
    tool::run(node, jars, ("storage", "kafka.tools.StorageTool"), &arguments).await
}
