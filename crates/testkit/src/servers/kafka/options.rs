//! Options of a Kafka cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::process::Lifetime;

/// Options of a cluster. The default is one node that ends with this process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KafkaOptions {
    /// Number of nodes, 1 to 3.
    pub nodes: usize,
    /// Java heap of each node, in MiB.
    pub heap_mb: u32,
    /// Folder of data, configuration and logs, which is kept. `None`: a new folder under `target/testkit`, removed on drop.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// The first node's client port; the next nodes' ports follow (their other ports are 1,000 and 2,000 higher). `None`:
    /// free ports.
    #[serde(skip)]
    pub first_port: Option<u16>,
    /// Whether the nodes end with this process.
    #[serde(skip)]
    pub lifetime: Lifetime,
    /// The address advertised to clients for each node, such as a proxy's. Empty: the node's own port.
    pub advertised: Vec<SocketAddr>,
    /// The address that the first node advertises to the other brokers, such as a proxy's. None: its own.
    pub internal_advertised: Option<SocketAddr>,
    /// Server properties that are added or replaced on every node. Clients use the listener `CLIENT`; brokers use
    /// `INTERNAL`, which should stay `PLAINTEXT`.
    pub properties: BTreeMap<String, String>,
    /// Properties of the Java system, as `name=value`.
    pub java_properties: Vec<String>,
    /// A second listener for clients, 3,000 ports above the first, such as `CERTIFICATE`. None: there is only one.
    pub second_listener: Option<String>,
    /// The address that the second listener advertises. None: its own.
    pub second_advertised: Option<SocketAddr>,
    /// A listener for the clients of a test behind a proxy, 4,000 ports above the first. It advertises the same port of
    /// another loopback address, where the test's proxy listens.
    pub proxied_listener: bool,
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
            internal_advertised: None,
            properties: BTreeMap::new(),
            java_properties: Vec::new(),
            second_listener: None,
            second_advertised: None,
            proxied_listener: false,
        }
    }
}

impl KafkaOptions {
    /// An address that refuses every connection: only root may listen on this port, and nothing does.
    pub const UNREACHABLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    /// One node whose session expires before each heartbeat: for 6 of every 12 seconds it is fenced and reports a cluster
    /// without brokers. Clients rebootstrap after 3 s, and their readiness is requested every 2 s.
    pub fn flapping() -> Self {
        Self::with([
            ("broker.session.timeout.ms", "6000"),
            ("broker.heartbeat.interval.ms", "12000"),
        ])
    }

    /// One node, for tests that need another configuration and disturb no other test. It creates a topic when a client
    /// requests it, looks for expired segments, and removes their files, at once, and stores records without
    /// compression. Its second listener advertises [`UNREACHABLE`](Self::UNREACHABLE). One test puts a proxy in front
    /// of the third.
    pub fn unusual() -> Self {
        Self {
            second_listener: Some("UNREACHABLE".to_owned()),
            second_advertised: Some(Self::UNREACHABLE),
            proxied_listener: true,
            ..Self::with([
                ("auto.create.topics.enable", "true"),
                ("log.retention.check.interval.ms", "500"),
                ("log.segment.delete.delay.ms", "100"),
                ("log.initial.task.delay.ms", "100"),
                ("compression.type", "uncompressed"),
            ])
        }
    }

    /// Three nodes, for tests that disturb some of them. A group's offsets have one replica, so that a test can take away
    /// its coordinator.
    pub fn three_nodes() -> Self {
        Self {
            nodes: 3,
            heap_mb: 384,
            ..Self::with([("offsets.topic.replication.factor", "1")])
        }
    }

    /// Two nodes in different racks: consumers with `client.rack` fetch from the node of their rack. The second node
    /// replicates from the first through the proxy at `replication`, and leaves the in-sync replicas soon after it falls
    /// behind.
    pub fn two_racks(replication: SocketAddr) -> Self {
        Self {
            nodes: 2,
            heap_mb: 384,
            internal_advertised: Some(replication),
            ..Self::with([
                (
                    "replica.selector.class",
                    "org.apache.kafka.common.replica.RackAwareReplicaSelector",
                ),
                ("replica.lag.time.max.ms", "1500"),
            ])
        }
    }

    /// The same cluster with its data in `dir` and its first node's client port.
    pub(in crate::servers) fn at(&self, dir: PathBuf, first_port: u16) -> Self {
        Self {
            dir: Some(dir),
            first_port: Some(first_port),
            ..self.clone()
        }
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
