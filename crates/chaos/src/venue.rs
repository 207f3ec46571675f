//! The servers of a campaign, warm for all of its rounds, and the proxies before them.
//!
//! Clients come through a proxy because the servers say so: each broker advertises its proxy's address, and a single
//! Cassandra node's driver stays with the contact point that it was given. Three nodes tell of each other, so that a
//! cluster of Cassandra has no proxy, and network faults are of the one-node venue.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::disk::{DiskError, SmallDisk};
use testkit::proxy::{Proxy, ProxyError};
use testkit::randomuser::{Options, RandomUserApi, StartError};
use testkit::servers::{CassandraOptions, KafkaOptions, ServerError, Stack, StackOptions};
use testkit::workspace::{self, WorkspaceError};

/// How many servers there are of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// One broker, one node: any of them lost is all of them lost.
    One,
    /// The same, and the broker's log lies on a small disk of its own.
    Small,
    /// Three of each, every record and every row three times.
    Three,
}

impl Shape {
    /// Servers of each kind.
    #[must_use]
    pub fn nodes(self) -> usize {
        match self {
            Self::One | Self::Small => 1,
            Self::Three => 3,
        }
    }
}

/// The servers of a campaign could not be had.
#[derive(Debug, thiserror::Error)]
pub enum VenueError {
    /// Kafka or Cassandra.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The offline API.
    #[error(transparent)]
    Api(#[from] StartError),
    /// The broker's small disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No place for it.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

/// In MiB: some rounds of records, and a filler that is soon written.
const BROKERS_DISK: u64 = 256;

/// Running servers.
pub struct Venue {
    /// How many.
    pub shape: Shape,
    /// Kafka and Cassandra.
    pub stack: Stack,
    /// Before each broker.
    pub kafka: Vec<Proxy>,
    /// Before the only node of Cassandra.
    pub cassandra: Option<Proxy>,
    /// The offline random-user API.
    pub api: RandomUserApi,
    /// Where the broker's log lies, if on a disk of its own; it goes after the broker.
    pub disk: Option<Arc<SmallDisk>>,
}

impl Venue {
    /// Starts everything and waits until it serves.
    ///
    /// # Errors
    /// When a server, a proxy or the API does not start.
    pub async fn start(shape: Shape) -> Result<Self, VenueError> {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let mut kafka = Vec::new();
        for _ in 0..shape.nodes() {
            // The broker is told of its proxy before it has a port of its own.
            kafka.push(Proxy::start(nowhere).await?);
        }
        let disk = if shape == Shape::Small {
            let disk = SmallDisk::make(&workspace::target_dir()?, BROKERS_DISK)?;
            Some(Arc::new(disk))
        } else {
            None
        };
        let log = disk.iter().map(|disk| disk.path().display().to_string());
        let stack = Stack::start(&StackOptions {
            kafka: KafkaOptions {
                nodes: shape.nodes(),
                advertised: kafka.iter().map(Proxy::address).collect(),
                properties: log.map(|log| ("log.dirs".to_owned(), log)).collect(),
                ..KafkaOptions::default()
            },
            // A killed node forgets nothing that it acknowledged.
            cassandra: CassandraOptions {
                nodes: shape.nodes(),
                ..CassandraOptions::default()
            }
            .synced(),
        })
        .await?;
        for (proxy, node) in kafka.iter().zip(stack.kafka.nodes()) {
            proxy.retarget(address(node.address()));
        }
        let cassandra = match shape {
            Shape::One | Shape::Small => {
                Some(Proxy::start(address(&stack.cassandra.contact_points()[0])).await?)
            }
            Shape::Three => None,
        };
        Ok(Self {
            shape,
            stack,
            kafka,
            cassandra,
            api: RandomUserApi::start(Options::unlimited()).await?,
            disk,
        })
    }

    /// Where the services find Kafka.
    #[must_use]
    pub fn brokers(&self) -> String {
        let addresses = self.kafka.iter().map(|proxy| proxy.address().to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Where the services find Cassandra.
    #[must_use]
    pub fn contact_points(&self) -> String {
        match &self.cassandra {
            Some(proxy) => proxy.address().to_string(),
            None => self.stack.cassandra.contact_points().join(","),
        }
    }

    /// The servers' own addresses, to which no service may be connected.
    #[must_use]
    pub fn behind(&self) -> Vec<SocketAddr> {
        let brokers = self
            .stack
            .kafka
            .nodes()
            .iter()
            .map(|node| address(node.address()));
        let between = self.stack.kafka.internal_bootstrap();
        let brokers = brokers.chain(between.split(',').map(address)).collect::<Vec<_>>();
        let nodes = self.stack.cassandra.contact_points();
        let nodes = nodes
            .iter()
            .filter(|_| self.cassandra.is_some())
            .map(|point| address(point));
        brokers
            .into_iter()
            .chain(nodes)
            .chain([self.api.address()])
            .collect()
    }
}

/// The testbed's own addresses are numbers.
fn address(text: &str) -> SocketAddr {
    text.parse()
        .expect("the testbed's servers have addresses of numbers")
}
