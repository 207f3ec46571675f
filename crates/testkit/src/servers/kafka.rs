//! A Kafka cluster of one to three nodes, each broker and controller (KRaft).

mod probe;
mod properties;
mod security;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;

pub(super) use self::probe::KafkaProbe;
use self::probe::admin_client;
use self::properties::{KafkaPorts, properties, render};
use super::folder::Folder;
use super::node::{NodeSpec, Probe};
use super::pool::{self, Access, ClusterSpec, Lease};
use super::ports::{PortLease, retry_port_conflicts};
use super::{Node, ServerError, Software, jars, jvm, write};
use crate::process::{Lifetime, Program, last_lines};

/// Any 16 bytes in base64. Ports tell clusters apart.
const CLUSTER_ID: &str = "QWZmbHVlbnRUZXN0YmVkMQ";

/// A start takes 3 s on an idle machine, and longer during a build.
const START_TIMEOUT: Duration = Duration::from_secs(120);

const LOG4J: &str = "\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
";

/// Options of a cluster. The default is one node that ends with this process.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Number of nodes, 1 to 3.
    pub nodes: usize,
    /// Java heap of each node, in MiB.
    pub heap_mb: u32,
    /// Folder of data, configuration and logs, which is kept. `None`: a new folder under `target/testkit`, removed on drop.
    pub dir: Option<PathBuf>,
    /// The first node's client port; the next nodes' ports follow (their other ports are 1,000 and 2,000 higher). `None`:
    /// free ports.
    pub first_port: Option<u16>,
    /// Whether the nodes end with this process.
    pub lifetime: Lifetime,
    /// The address advertised to clients for each node, such as a proxy's. Empty: the node's own port.
    pub advertised: Vec<SocketAddr>,
    /// Server properties that are added or replaced on every node. Clients use the listener `CLIENT`; brokers use
    /// `INTERNAL`, which should stay `PLAINTEXT`.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            heap_mb: 512,
            dir: None,
            first_port: None,
            lifetime: Lifetime::WithParent,
            advertised: Vec::new(),
            properties: BTreeMap::new(),
        }
    }
}

impl KafkaOptions {
    /// One node whose session expires before each heartbeat: for 3 of every 6 seconds it is fenced and reports a cluster
    /// without brokers.
    pub fn flapping() -> Self {
        Self::with([
            ("broker.session.timeout.ms", "3000"),
            ("broker.heartbeat.interval.ms", "6000"),
        ])
    }

    /// The ports of a cluster, relative to `first_port`.
    pub(super) fn port_offsets(nodes: usize) -> Vec<i32> {
        let node = |index| [index, 1000 + index, 2000 + index];
        (0..).take(nodes).flat_map(node).collect()
    }

    /// One node with these server properties.
    fn with<const N: usize>(properties: [(&str, &str); N]) -> Self {
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            properties: properties.into(),
            ..Self::default()
        }
    }
}

/// A running cluster. Dropping it kills its nodes (unless detached) and removes its folder (unless named).
#[derive(Debug)]
pub struct KafkaCluster {
    // Dropped in this order: the nodes, then their data, then their ports.
    nodes: Vec<Node>,
    internal_bootstrap: String,
    _folder: Folder,
    _ports: Vec<[PortLease; 3]>,
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

    /// Leases an exclusive cluster from the server pool of this test run, or starts one where there is no pool. Topics of
    /// earlier tests are still there, so use names of your own.
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub async fn lease(options: &KafkaOptions) -> Result<Self, ServerError> {
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, Access::Exclusive).await,
            None => Self::start(options).await,
        }
    }

    /// The cluster that all tests of a run share and none disturbs; see [`pool`].
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub async fn shared() -> Result<Self, ServerError> {
        let options = KafkaOptions::default();
        let options = &options;
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, Access::Shared).await,
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
        let spec = ClusterSpec::Kafka {
            nodes: options.nodes,
            heap_mb: options.heap_mb,
            properties: options.properties.clone(),
        };
        let (lease, dir, port) = Lease::take(socket, spec, access).await?;
        let options = KafkaOptions {
            dir: Some(dir),
            first_port: Some(port),
            ..options.clone()
        };
        let mut cluster = Self::configure(&options, &jars(Software::KAFKA).await?)?;
        for (index, node) in cluster.nodes.iter_mut().enumerate() {
            node.attach(lease.clone(), index);
        }
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
        if !(1..=3).contains(&options.nodes) {
            return Err(ServerError::NodeCount(options.nodes));
        }
        let folder = Folder::open(options.dir.as_deref(), "kafka")?;
        let leases = (0u16..).take(options.nodes);
        let leases: Vec<_> = leases
            .map(|node| lease_ports(options.first_port, node))
            .collect::<Result<_, _>>()?;
        let ports: Vec<_> = leases
            .iter()
            .map(|[client, internal, controller]| KafkaPorts {
                client: client.port(),
                internal: internal.port(),
                controller: controller.port(),
            })
            .collect();
        let nodes = (0..options.nodes).map(|index| node(index, options, &ports, folder.path(), jars));
        let internal = ports.iter().map(|ports| format!("127.0.0.1:{}", ports.internal));
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            internal_bootstrap: internal.collect::<Vec<_>>().join(","),
            _folder: folder,
            _ports: leases,
        })
    }

    pub(super) async fn launch(&self, jars: &Path) -> Result<(), ServerError> {
        try_join_all(self.nodes.iter().map(|node| format(node, jars))).await?;
        for node in &self.nodes {
            node.launch()?;
        }
        try_join_all(self.nodes.iter().map(Node::wait_until_ready)).await?;
        for node in &self.nodes {
            node.wait_until_it_knows(self.nodes.len()).await?;
        }
        Ok(())
    }

    /// The address list for clients: `127.0.0.1:PORT[,…]`.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
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

/// Ports for clients, brokers and controllers.
fn lease_ports(first: Option<u16>, node: u16) -> Result<[PortLease; 3], ServerError> {
    if let Some(first) = first {
        return Ok([0, 1000, 2000].map(|role| PortLease::fixed(first.saturating_add(node + role))));
    }
    let free = || PortLease::free(&[Ipv4Addr::LOCALHOST]);
    Ok([free()?, free()?, free()?])
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
    let advertised = options.advertised.get(index).copied();
    let data = folder.join("data");
    let settings = properties(index, ports, advertised, &data, &options.properties);
    write(&folder.join("server.properties"), &render(&settings))?;
    write(&folder.join("log4j2.properties"), LOG4J)?;
    let program = jvm::java(options.heap_mb).arg(log4j_setting(&folder));
    let program = jvm::run(program, jars, "kafka.Kafka").arg(folder.join("server.properties"));
    Ok(Node::new(NodeSpec {
        name,
        address: format!("127.0.0.1:{}", ports[index].client),
        folder,
        program,
        lifetime: options.lifetime,
        probe: Probe::Kafka(KafkaProbe {
            address: format!("127.0.0.1:{}", ports[index].internal),
            node_id: i32::try_from(id).unwrap_or(i32::MAX),
        }),
        start_timeout: START_TIMEOUT,
    }))
}

/// Formats the data folder, which Kafka requires. Formatting twice does no harm but costs a second.
async fn format(node: &Node, jars: &Path) -> Result<(), ServerError> {
    let folder = node.folder();
    if folder.join("data").join("meta.properties").exists() {
        return Ok(());
    }
    let log = folder.join("format.log");
    let tool = Program::new(jvm::executable())
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1"])
        .arg(log4j_setting(folder));
    let tool = jvm::run(tool, jars, "kafka.tools.StorageTool")
        .args(["format", "--ignore-formatted", "-t", CLUSTER_ID, "-c"])
        .arg(folder.join("server.properties"))
        .log_to(&log);
    let server = format!("the storage tool of {}", node.name());
    let outcome = async { tool.spawn()?.wait(START_TIMEOUT).await };
    match outcome.await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ServerError::Ended {
            server,
            status: status.to_string(),
            log: last_lines(&log, 40),
        }),
        Err(source) => Err(ServerError::Process { server, source }),
    }
}

fn log4j_setting(folder: &Path) -> String {
    format!(
        "-Dlog4j2.configurationFile=file://{}",
        folder.join("log4j2.properties").display()
    )
}
