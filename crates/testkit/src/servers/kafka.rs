//! A Kafka cluster of one to three nodes, each broker and controller (KRaft).

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use tokio::time::{Instant, sleep};

use super::folder::Folder;
use super::kafka_properties::{KafkaPorts, properties, render};
use super::metadata::{KafkaProbe, admin};
use super::node::{NodeSpec, Probe};
use super::pool::{self, Access, ClusterSpec, Lease};
use super::ports::PortLease;
use super::{Node, ServerError, Software, jars, jvm};
use crate::process::{Lifetime, Program, last_lines};

/// Any 16 bytes in base64 do. Clusters are told apart by their ports.
const CLUSTER_ID: &str = "QWZmbHVlbnRUZXN0YmVkMQ";

/// A start takes 3 s on an idle machine; a build may run beside it.
const START_DEADLINE: Duration = Duration::from_secs(120);

const START_ATTEMPTS: usize = 3;

const LOG4J: &str = "\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
";

/// How a cluster is started. `KafkaOptions::default()` is one node that dies with this process.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// How many nodes: 1 to 3.
    pub nodes: usize,
    /// Java heap of each node, in MiB.
    pub heap_mb: u32,
    /// Where data, configuration and logs lie; kept. `None`: a fresh folder under `target/testkit`, removed
    /// when the cluster is dropped.
    pub dir: Option<PathBuf>,
    /// The first node's client port, the next nodes' following it (their other ports are 1,000 and 2,000
    /// higher). `None`: free ports.
    pub first_port: Option<u16>,
    /// Whether the nodes end with this process.
    pub lifetime: Lifetime,
    /// Where clients are told to find each node, such as at a proxy before it. Empty: at the node's own port.
    pub advertised: Vec<SocketAddr>,
    /// Server properties that are added or replaced, on every node. Clients come in through the listener
    /// `CLIENT`; brokers talk through `INTERNAL`, which is best left `PLAINTEXT`.
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
    /// One node that sends its heartbeats too seldom: it is fenced before each of them, for 3 of 6 seconds, and says in that time
    /// that the cluster has no brokers.
    #[must_use]
    pub fn fickle() -> Self {
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
    pub(super) fn with<const N: usize>(properties: [(&str, &str); N]) -> Self {
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            properties: properties.into(),
            ..Self::default()
        }
    }
}

/// A running cluster. Dropped, its nodes are killed (unless detached) and its fresh folder is removed.
#[derive(Debug)]
pub struct KafkaCluster {
    // In this order: the nodes die, then their data goes, then their ports are free.
    nodes: Vec<Node>,
    probes: Vec<KafkaProbe>,
    _folder: Folder,
    _ports: Vec<PortLease>,
}

impl KafkaCluster {
    /// Starts all nodes at once and waits until each knows all.
    ///
    /// # Errors
    /// When the jars cannot be fetched, or a node ends or is not ready within two minutes, with its log's end.
    pub async fn start(options: &KafkaOptions) -> Result<Self, ServerError> {
        let mut attempt = 1;
        loop {
            match Self::start_once(options).await {
                Err(error)
                    if error.is_port_conflict()
                        && options.first_port.is_none()
                        && attempt < START_ATTEMPTS =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Leases an exclusive cluster from the server pool of this test run, or starts one where there is no pool. Topics
    /// of earlier tests are still there, so use names of your own.
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub async fn lease(options: &KafkaOptions) -> Result<Self, ServerError> {
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, options, Access::Exclusive).await,
            None => Self::start(options).await,
        }
    }

    /// The cluster of one node that all tests of a run share; see [`pool`](super::pool). Nobody disturbs it.
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub async fn shared() -> Result<Self, ServerError> {
        let options = KafkaOptions::default();
        match pool::socket() {
            Some(socket) => Self::from_pool(&socket, &options, Access::Shared).await,
            None => Self::start(&options).await,
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
        Self::describe_leased(&options, &jars(Software::KAFKA).await?, Some(&lease))
    }

    async fn start_once(options: &KafkaOptions) -> Result<Self, ServerError> {
        let jars = jars(Software::KAFKA).await?;
        let cluster = Self::describe(options, &jars)?;
        cluster.launch(&jars).await?;
        Ok(cluster)
    }

    /// The cluster's nodes, with their configuration written but not started.
    pub(super) fn describe(options: &KafkaOptions, jars: &Path) -> Result<Self, ServerError> {
        Self::describe_leased(options, jars, None)
    }

    fn describe_leased(
        options: &KafkaOptions,
        jars: &Path,
        lease: Option<&Lease>,
    ) -> Result<Self, ServerError> {
        if !(1..=3).contains(&options.nodes) {
            return Err(ServerError::NodeCount(options.nodes));
        }
        let folder = match &options.dir {
            Some(dir) => Folder::named(dir)?,
            None => Folder::fresh("kafka")?,
        };
        let (ports, leases) = lease_ports(options)?;
        let mut nodes = Vec::new();
        let mut probes = Vec::new();
        for (index, node_id) in (0..options.nodes).zip(1..) {
            let address = format!("127.0.0.1:{}", ports[index].internal);
            probes.push(KafkaProbe { address, node_id });
            let mut spec = node_spec(index, options, &ports, folder.path(), jars, &probes[index])?;
            spec.lease = lease.map(|lease| (lease.clone(), index));
            nodes.push(Node::new(spec));
        }
        Ok(Self {
            nodes,
            probes,
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
        self.wait_for_all().await
    }

    /// The address list for clients: `127.0.0.1:PORT[,…]`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// The same for those who must pass by every proxy and every setting of the clients' listener: where brokers talk to
    /// each other.
    #[must_use]
    pub fn internal_bootstrap(&self) -> String {
        let addresses = self.probes.iter().map(|probe| probe.address.as_str());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// All nodes, in the order of their ids, which begin at 1.
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

    /// Creates a topic that is on every node.
    ///
    /// # Errors
    /// When Kafka refuses it.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<(), ServerError> {
        let failed = |source| ServerError::Kafka {
            operation: "create a topic",
            source,
        };
        let addresses: Vec<&str> = self.probes.iter().map(|probe| probe.address.as_str()).collect();
        let client = admin(&addresses.join(",")).map_err(failed)?;
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

    /// A node is ready when it serves; the cluster is when every node knows every other.
    async fn wait_for_all(&self) -> Result<(), ServerError> {
        let until = Instant::now() + START_DEADLINE;
        for (probe, node) in self.probes.iter().zip(&self.nodes) {
            while probe.brokers().await.len() < self.nodes.len() {
                if Instant::now() >= until {
                    return Err(node.not_ready());
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

fn lease_ports(options: &KafkaOptions) -> Result<(Vec<KafkaPorts>, Vec<PortLease>), ServerError> {
    let mut ports = Vec::new();
    let mut leases = Vec::new();
    for offset in (0u16..).take(options.nodes) {
        let [client, internal, controller] = match options.first_port {
            Some(first) => [0, 1000, 2000].map(|role| PortLease::fixed(first.saturating_add(offset + role))),
            None => [free_port()?, free_port()?, free_port()?],
        };
        ports.push(KafkaPorts {
            client: client.port(),
            internal: internal.port(),
            controller: controller.port(),
        });
        leases.extend([client, internal, controller]);
    }
    Ok((ports, leases))
}

fn free_port() -> Result<PortLease, ServerError> {
    PortLease::free(&[Ipv4Addr::LOCALHOST])
}

fn node_spec(
    index: usize,
    options: &KafkaOptions,
    ports: &[KafkaPorts],
    cluster: &Path,
    jars: &Path,
    probe: &KafkaProbe,
) -> Result<NodeSpec, ServerError> {
    let name = format!("kafka-{}", index + 1);
    let folder = cluster.join(&name);
    fs::create_dir_all(&folder).map_err(ServerError::file(&folder))?;
    let advertised = options.advertised.get(index).copied();
    let settings = properties(
        index,
        ports,
        advertised,
        &folder.join("data"),
        &options.properties,
    );
    write(&folder.join("server.properties"), &render(&settings))?;
    write(&folder.join("log4j2.properties"), LOG4J)?;
    let program = jvm::java(options.heap_mb).arg(log4j_setting(&folder));
    let program = jvm::run(program, jars, "kafka.Kafka").arg(folder.join("server.properties"));
    Ok(NodeSpec {
        name,
        address: format!("127.0.0.1:{}", ports[index].client),
        folder,
        program,
        lifetime: options.lifetime,
        probe: Probe::Kafka(probe.clone()),
        start_deadline: START_DEADLINE,
        lease: None,
    })
}

/// Kafka refuses a data folder that it has not formatted; formatting twice does no harm but costs a second.
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
    let failed = |source| ServerError::Process {
        server: format!("formatting {}", node.name()),
        source,
    };
    let status = tool
        .spawn()
        .map_err(failed)?
        .wait(START_DEADLINE)
        .await
        .map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let server = format!("formatting {}", node.name());
    Err(ServerError::Ended {
        server,
        status: status.to_string(),
        log: last_lines(&log, 40),
    })
}

fn log4j_setting(folder: &Path) -> String {
    format!(
        "-Dlog4j2.configurationFile=file://{}",
        folder.join("log4j2.properties").display()
    )
}

fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    fs::write(path, text).map_err(ServerError::file(path))
}
