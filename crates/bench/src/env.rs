//! The environment of a bench: real Kafka and Cassandra, topics with generated records, and a table for each sink.

pub mod child;
pub mod cleanup;
pub mod ingester;
pub mod records;
pub mod row_count;
pub mod startup;

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::KafkaClient;
use testkit::servers::{CassandraOptions, KafkaOptions, Node, Stack, StackOptions};
use testkit::workspace;

use crate::measure::process_tree::ProcessTree;
use crate::sinks::target::{TABLE, Target, create_table};

/// Partitions of a topic, unless their number is what varies.
pub const PARTITIONS: i32 = 6;
/// The most replicas of a row.
const MAX_REPLICAS: usize = 3;
/// Records written, or rows counted, at a time.
const SLICE: u64 = 20_000;
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

/// Running servers with clients.
pub struct BenchEnv {
    /// The servers.
    pub stack: Stack,
    /// Writes records.
    pub kafka: KafkaClient,
    /// Reads rows.
    pub cassandra: Arc<CassandraClient>,
    /// The folder of logs.
    pub folder: PathBuf,
    nodes: usize,
    row_counter: RowCounter,
    keyspaces: usize,
    topics: usize,
}

/// The source of the count while a sink writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowCounter {
    /// The server's own write count, which covers every row only on a single node.
    Server,
    /// The streamer's checkpoints.
    Checkpoints,
}

/// CPU seconds of the servers so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServersCpu {
    /// All Kafka nodes.
    pub kafka: f64,
    /// All Cassandra nodes.
    pub cassandra: f64,
}

impl BenchEnv {
    /// Starts Kafka and Cassandra with the given number of nodes. A topic has a replica on each broker, and a row on up to
    /// three nodes.
    pub async fn start(kafka: usize, cassandra: usize) -> Result<Self> {
        println!("starting Kafka ({kafka}) and Cassandra ({cassandra})");
        let options = StackOptions {
            kafka: KafkaOptions {
                nodes: kafka,
                ..KafkaOptions::default()
            },
            cassandra: CassandraOptions {
                nodes: cassandra,
                ..CassandraOptions::default()
            },
        };
        let stack = Stack::start(&options).await?;
        let folder = workspace::target_dir()?
            .join("bench")
            .join(format!("nodes-{cassandra}"));
        fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let mut client = CassandraClient::connect(&stack.cassandra.contact_points(), "none").await?;
        if cassandra > 1 {
            client = client.by_quorum();
        }
        Ok(Self {
            kafka: KafkaClient::new(stack.kafka.bootstrap())?,
            cassandra: Arc::new(client),
            stack,
            folder,
            nodes: cassandra,
            row_counter: if cassandra == 1 {
                RowCounter::Server
            } else {
                RowCounter::Checkpoints
            },
            keyspaces: 0,
            topics: 0,
        })
    }

    /// CPU seconds of the servers so far.
    pub fn servers_cpu(&self) -> ServersCpu {
        let tree = ProcessTree::snapshot();
        let sum = |nodes: &[Node]| {
            let pids = nodes.iter().filter_map(Node::pid);
            pids.filter_map(|pid| tree.cpu_seconds(pid)).sum()
        };
        ServersCpu {
            kafka: sum(self.stack.kafka.nodes()),
            cassandra: sum(self.stack.cassandra.nodes()),
        }
    }

    /// Compresses the records that are written from now on, such as with `lz4`.
    pub fn compress(&mut self, codec: &str) -> Result<()> {
        self.kafka = KafkaClient::with_compression(self.stack.kafka.bootstrap(), codec)?;
        Ok(())
    }

    /// Creates a topic.
    pub async fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        Ok(self.stack.kafka.create_topic(topic, partitions).await?)
    }

    /// Deletes a topic, so that its data does not weigh on later measurements.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let context = || format!("failed to delete topic {topic}");
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka.bootstrap())
            .create()
            .with_context(context)?;
        let options = AdminOptions::new().operation_timeout(Some(DELETE_TIMEOUT));
        let deleted = admin
            .delete_topics(&[topic], &options)
            .await
            .with_context(context)?;
        for topic in deleted {
            topic.map_err(|(_, code)| anyhow!(code)).with_context(context)?;
        }
        Ok(())
    }

    /// Appends the users with these numbers to a topic.
    pub async fn fill(&self, topic: &str, numbers: Range<u64>) -> Result<()> {
        let mut first = numbers.start;
        while first < numbers.end {
            let last = (first + SLICE).min(numbers.end);
            self.kafka.write(topic, &records::backlog(first..last)).await?;
            first = last;
        }
        Ok(())
    }

    /// A number for the name of a new topic.
    pub fn next_topic(&mut self) -> usize {
        self.topics += 1;
        self.topics
    }

    /// Creates a keyspace with a new name.
    pub async fn create_keyspace(&mut self) -> Result<String> {
        self.keyspaces += 1;
        let name = format!("bench_{}", self.keyspaces);
        // An aborted run may have left its state in a folder of this name.
        cleanup::remove_folder(&self.folder.join(&name))?;
        let create = format!("CREATE KEYSPACE {name} WITH replication = {}", self.replication());
        self.cassandra.run(&create).await?;
        Ok(name)
    }

    /// A replica on each node, up to [`MAX_REPLICAS`].
    fn replication(&self) -> String {
        let replicas = self.nodes.min(MAX_REPLICAS);
        format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}")
    }

    /// Creates a new consumer group and table for a sink that reads `topic`. With several nodes the streamer creates the
    /// table, because it waits for schema agreement.
    pub async fn create_target(&mut self, topic: &str) -> Result<Target> {
        let keyspace = self.create_keyspace().await?;
        if self.nodes == 1 {
            self.cassandra.run(&create_table(&keyspace)).await?;
        }
        let node = self.stack.cassandra.contact_points().remove(0);
        let cassandra: SocketAddr = node
            .parse()
            .with_context(|| format!("failed to parse the contact point {node}"))?;
        Ok(Target {
            brokers: self.stack.kafka.bootstrap(),
            topic: topic.to_owned(),
            group: keyspace.clone(),
            cassandra,
            folder: self.folder.join(&keyspace),
            replication: self.replication(),
            keyspace,
            table: TABLE.to_owned(),
        })
    }

    /// Drops a keyspace, so that its compaction does not weigh on later measurements.
    pub async fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.cassandra.run(&format!("DROP KEYSPACE {name}")).await?;
        Ok(())
    }
}
