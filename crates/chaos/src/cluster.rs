//! Kafka, Cassandra and the offline API behind proxies, shared by the rounds of a campaign.
//!
//! Clients connect through a proxy because the servers advertise it: each broker advertises its proxy's address, and the
//! driver of a single Cassandra node stays with its contact point. Several nodes advertise each other, so a Cassandra
//! cluster has no proxy, and network faults need a single node.

pub(crate) mod kafka_admin;
pub(crate) mod shape;
pub(crate) mod small_disk;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use testkit::kafka_client::{KafkaClient, KafkaClientError};
use testkit::proxy::{Behavior, Proxy};
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::{KafkaOptions, Stack, StackOptions};
use testkit::workspace;

use self::shape::ClusterShape;
use self::small_disk::SmallDisk;

/// Size of the broker's disk in MiB: the records of a few rounds, and little to fill.
const BROKER_DISK: u64 = 256;

/// Running servers with their proxies.
pub(crate) struct Cluster {
    pub(crate) shape: ClusterShape,
    pub(crate) stack: Stack,
    /// One for each broker.
    pub(crate) kafka: Vec<Proxy>,
    /// Only for a single node.
    pub(crate) cassandra: Option<Proxy>,
    pub(crate) api: RandomUserApi,
    /// The disk of the broker's log. Dropped after the broker.
    pub(crate) disk: Option<Arc<SmallDisk>>,
}

impl Cluster {
    /// Starts the servers and waits until they are ready.
    pub(crate) async fn start(shape: ClusterShape) -> Result<Self> {
        let unused = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let mut kafka = Vec::new();
        for _ in 0..shape.brokers() {
            // The broker advertises its proxy, so the proxy starts before the broker has a port.
            kafka.push(Proxy::start(unused).await?);
        }
        let disk = if shape == ClusterShape::SmallDisk {
            let disk = SmallDisk::create(&workspace::target_dir()?, BROKER_DISK)?;
            Some(Arc::new(disk))
        } else {
            None
        };
        let log = disk.iter().map(|disk| disk.path().display().to_string());
        let stack = Stack::start(&StackOptions {
            kafka: KafkaOptions {
                nodes: shape.brokers(),
                advertised: kafka.iter().map(Proxy::address).collect(),
                properties: log.map(|log| ("log.dirs".to_owned(), log)).collect(),
                ..KafkaOptions::default()
            },
            cassandra: shape.cassandra(),
        })
        .await?;
        for (proxy, node) in kafka.iter().zip(stack.kafka.nodes()) {
            proxy.retarget(address(node.address()));
        }
        let cassandra = if shape.nodes() == 1 {
            Some(Proxy::start(address(&stack.cassandra.contact_points()[0])).await?)
        } else {
            None
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

    /// The proxies of Kafka and Cassandra.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.kafka.iter().chain(&self.cassandra)
    }

    /// Removes the faults of every proxy.
    pub(crate) fn reset_proxies(&self) {
        self.proxies().for_each(|proxy| proxy.set(Behavior::default()));
    }

    /// Bootstrap servers for the services: the proxies.
    pub(crate) fn brokers(&self) -> String {
        let addresses = self.kafka.iter().map(|proxy| proxy.address().to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Contact points for the services: the proxy, where there is one, or the nodes of their data centre.
    pub(crate) fn contact_points(&self) -> String {
        match &self.cassandra {
            Some(proxy) => proxy.address().to_string(),
            None => self.stack.cassandra.contact_points()[..self.shape.local_nodes()].join(","),
        }
    }

    /// The oracle's Kafka client, which uses the internal listener.
    pub(crate) fn kafka_client(&self) -> Result<KafkaClient, KafkaClientError> {
        KafkaClient::new(self.stack.kafka.internal_bootstrap())
    }

    /// The servers' own addresses, to which no service may connect.
    pub(crate) fn server_addresses(&self) -> Vec<SocketAddr> {
        let kafka = &self.stack.kafka;
        let advertised = kafka.nodes().iter().map(|node| address(node.address()));
        let internal = kafka.internal_bootstrap();
        let internal = internal.split(',').map(address);
        let points = self.stack.cassandra.contact_points();
        let nodes = points
            .iter()
            .filter(|_| self.cassandra.is_some())
            .map(|point| address(point));
        advertised
            .chain(internal)
            .chain(nodes)
            .chain([self.api.address()])
            .collect()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("test servers have numeric addresses")
}
