//! Environment of a benchmark: real servers, topics with generated records, and a table for each sink.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;

use crate::cleanup;
use crate::error::BenchError;
use crate::sink::{RunningSink, SinkConfig};
use crate::usage::tree::Snapshot;
use testkit::cassandra_client::{CassandraClient, CassandraClientError, TEXT_COLUMNS};
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::people::{Person, people};
use testkit::servers::{CassandraOptions, KafkaOptions, Node, ServerError, Stack, StackOptions};
use testkit::workspace;

/// Timeout for draining the largest backlog with the slowest sink.
pub const TIMEOUT: Duration = Duration::from_secs(1_800);
/// Seed of the users in backlogs.
pub const SEED: u64 = 1;
/// Name of the table in each keyspace.
const TABLE: &str = "created_users";
const POLL: Duration = Duration::from_millis(50);
/// Records per write and rows per count.
const SLICE: u64 = 20_000;
const DELETION_TIMEOUT: Duration = Duration::from_secs(30);

/// Running servers with their clients.
pub struct BenchEnv {
    /// The servers.
    pub stack: Stack,
    /// The client that writes records.
    pub kafka_client: KafkaClient,
    /// The client that reads rows.
    pub cassandra_client: Arc<CassandraClient>,
    /// Folder for logs.
    pub folder: PathBuf,
    nodes: usize,
    counter: Counter,
    keyspaces: usize,
}

/// How rows are counted while a sink writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counter {
    /// The node's write counter, which is complete only on a single node.
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

impl std::ops::Sub for ServersCpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            kafka: self.kafka - before.kafka,
            cassandra: self.cassandra - before.cassandra,
        }
    }
}

impl BenchEnv {
    /// Starts Kafka and Cassandra with this many nodes and a replica on each.
    ///
    /// # Errors
    /// When a server does not start.
    pub async fn start(kafka: usize, cassandra: usize) -> Result<Self, BenchError> {
        println!("starting Kafka ({kafka}) and Cassandra ({cassandra})");
        let stack = Stack::start(&StackOptions {
            kafka: KafkaOptions {
                nodes: kafka,
                ..KafkaOptions::default()
            },
            cassandra: CassandraOptions {
                nodes: cassandra,
                ..CassandraOptions::default()
            },
        })
        .await?;
        let kafka_client = KafkaClient::new(stack.kafka.bootstrap())?;
        let mut cassandra_client =
            CassandraClient::connect(&stack.cassandra.contact_points(), "none").await?;
        if cassandra > 1 {
            cassandra_client = cassandra_client.by_quorum();
        }
        Ok(Self {
            stack,
            kafka_client,
            cassandra_client: Arc::new(cassandra_client),
            folder: workspace::target_dir()?.join("bench"),
            nodes: cassandra,
            counter: if cassandra == 1 {
                Counter::Server
            } else {
                Counter::Checkpoints
            },
            keyspaces: 0,
        })
    }

    /// Counts rows by checkpoints on any number of nodes, so that clusters are comparable.
    #[must_use]
    pub fn by_checkpoints(self) -> Self {
        Self {
            counter: Counter::Checkpoints,
            ..self
        }
    }

    /// The servers' CPU seconds so far.
    pub fn servers_cpu(&self) -> ServersCpu {
        let now = Snapshot::take();
        let of = |nodes: &[Node]| {
            let pids = nodes.iter().filter_map(Node::pid);
            pids.filter_map(|pid| now.cpu_seconds(pid)).sum()
        };
        ServersCpu {
            kafka: of(self.stack.kafka.nodes()),
            cassandra: of(self.stack.cassandra.nodes()),
        }
    }

    /// Deletes a topic, so that it does not affect later measurements.
    ///
    /// # Errors
    /// When Kafka rejects the request.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), BenchError> {
        let failed = |source| ServerError::Kafka {
            operation: "delete a topic",
            source,
        };
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka.bootstrap())
            .create()
            .map_err(failed)?;
        let options = AdminOptions::new().operation_timeout(Some(DELETION_TIMEOUT));
        for deleted in admin.delete_topics(&[topic], &options).await.map_err(failed)? {
            deleted.map_err(|(_, code)| failed(KafkaError::AdminOp(code)))?;
        }
        Ok(())
    }

    /// Writes generated users to a topic.
    ///
    /// # Errors
    /// When Kafka rejects a record.
    pub async fn fill(&self, topic: &str, records: Range<u64>) -> Result<(), BenchError> {
        let mut first = records.start;
        while first < records.end {
            let last = (first + SLICE).min(records.end);
            let records: Vec<_> = people(SEED, first..last)
                .map(|person| outgoing(&person))
                .collect();
            self.kafka_client.write(topic, &records).await?;
            first = last;
        }
        Ok(())
    }

    /// Creates an unused keyspace.
    ///
    /// # Errors
    /// When Cassandra rejects the statement.
    pub async fn keyspace(&mut self) -> Result<String, BenchError> {
        self.keyspaces += 1;
        let name = format!("bench_{}", self.keyspaces);
        let folder = self.folder.join(&name);
        // An interrupted run leaves its state in a folder of this name, and a service would resume from it.
        cleanup::remove_folder(&folder).map_err(BenchError::file(&folder))?;
        let create = format!("CREATE KEYSPACE {name} WITH replication = {}", self.replication());
        self.cassandra_client.run(&create).await?;
        Ok(name)
    }

    /// Replication with a replica on each node.
    fn replication(&self) -> String {
        let nodes = self.nodes;
        format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {nodes}}}")
    }

    /// Prepares a new group and a new table for a sink that reads `topic`. On several nodes the streamer creates
    /// the table, because it waits for schema agreement.
    ///
    /// # Errors
    /// When Cassandra rejects a statement.
    pub async fn prepare_sink(&mut self, topic: &str) -> Result<SinkConfig, BenchError> {
        let keyspace = self.keyspace().await?;
        if self.nodes == 1 {
            let texts = TEXT_COLUMNS.map(|name| format!("{name} text")).join(", ");
            let create = format!(
                "CREATE TABLE {keyspace}.{TABLE} (id uuid PRIMARY KEY, {texts}, dob timestamp, registered_date \
                 timestamp, ingested_at timestamp)"
            );
            self.cassandra_client.run(&create).await?;
        }
        let point = self.stack.cassandra.contact_points().remove(0);
        let cassandra: SocketAddr = point.parse().map_err(|_| BenchError::Incomplete(point.clone()))?;
        Ok(SinkConfig {
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

    /// Drops a keyspace, so that its compaction does not affect later measurements.
    ///
    /// # Errors
    /// When Cassandra rejects the statement.
    pub async fn drop_keyspace(&self, name: &str) -> Result<(), BenchError> {
        self.cassandra_client
            .run(&format!("DROP KEYSPACE {name}"))
            .await?;
        Ok(())
    }

    /// Returns the number of rows in the sink's table.
    ///
    /// # Errors
    /// When Cassandra rejects the query.
    pub async fn written(&self, config: &SinkConfig) -> Result<u64, BenchError> {
        match self.counter {
            Counter::Server => self.counted(config).await,
            Counter::Checkpoints => self.checkpointed(config).await,
        }
    }

    /// Counts the table's rows and compares the count with the expected one. Runs outside the measured time.
    ///
    /// # Errors
    /// When the count differs or Cassandra rejects the query.
    pub async fn verify(&self, config: &SinkConfig, expected: u64) -> Result<(), BenchError> {
        let mut stored = 0;
        for (after, until) in token_slices(expected / SLICE + 1) {
            let ask = format!(
                "SELECT COUNT(*) AS row_count FROM {}.{} WHERE token(id) > {after} AND token(id) <= {until}",
                config.keyspace, config.table
            );
            let rows = self.cassandra_client.run(&ask).await?;
            stored += rows.first().and_then(|row| count(row, "row_count")).unwrap_or(0);
        }
        if stored == expected {
            return Ok(());
        }
        Err(BenchError::Incomplete(format!(
            "{}.{} has {stored} rows instead of {expected}",
            config.keyspace, config.table
        )))
    }

    /// Reads the node's write counter. It is the same for every sink and needs no scan. A row written twice counts
    /// twice.
    async fn counted(&self, config: &SinkConfig) -> Result<u64, BenchError> {
        let ask = format!(
            "SELECT count FROM system_views.local_write_latency WHERE keyspace_name = '{}' AND table_name = '{}'",
            config.keyspace, config.table
        );
        let rows = self.cassandra_client.run(&ask).await?;
        Ok(rows.iter().filter_map(|row| count(row, "count")).sum())
    }

    /// Sums the streamer's checkpoints, because no single node of several has every row.
    async fn checkpointed(&self, config: &SinkConfig) -> Result<u64, BenchError> {
        let SinkConfig {
            keyspace,
            group,
            topic,
            ..
        } = config;
        let exists = format!(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}' AND table_name = \
             'stream_checkpoints'"
        );
        if self.cassandra_client.run(&exists).await?.is_empty() {
            return Ok(0);
        }
        let ask = format!(
            "SELECT next_offset FROM {keyspace}.stream_checkpoints WHERE group_id = '{group}' AND topic = '{topic}'"
        );
        let rows = match self.cassandra_client.run(&ask).await {
            // A node that does not know the new table yet fails with various errors. The caller has its own
            // timeout.
            Err(error @ CassandraClientError::Driver { .. }) => {
                tracing::debug!(?error, "no checkpoints yet");
                Vec::new()
            }
            answer => answer?,
        };
        Ok(rows.iter().filter_map(|row| count(row, "next_offset")).sum())
    }

    /// Waits until this many rows are written. Returns the number of rows.
    ///
    /// # Errors
    /// When the sink ends or the timeout expires.
    pub async fn wait_for_rows(
        &self,
        config: &SinkConfig,
        running: &RunningSink,
        rows: u64,
    ) -> Result<u64, BenchError> {
        let started = Instant::now();
        loop {
            let stored = self.written(config).await?;
            if stored >= rows {
                return Ok(stored);
            }
            running.check()?;
            if started.elapsed() > TIMEOUT {
                return Err(BenchError::Stuck {
                    stored,
                    expected: rows,
                    waited: TIMEOUT,
                    log: running.last_lines(20),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Splits the token ring into slices, exclusive of the first token and inclusive of the second.
/// So no count exceeds the server's timeout. No key has the minimum token.
fn token_slices(slices: u64) -> impl Iterator<Item = (i64, i64)> {
    let width = i128::from(u64::MAX) / i128::from(slices.max(1));
    let at = move |slice: u64| {
        let token = i128::from(i64::MIN) + width * i128::from(slice);
        i64::try_from(token).unwrap_or(i64::MAX)
    };
    (0..slices).map(move |slice| {
        let last = slice + 1 == slices;
        (at(slice), if last { i64::MAX } else { at(slice + 1) })
    })
}

fn count(row: &Row, column: &str) -> Option<u64> {
    let count: Option<i64> = row.by_name(column).ok().flatten();
    u64::try_from(count?).ok()
}

/// The record of a user as the publisher sends it.
pub fn outgoing(person: &Person) -> ProducerRecord {
    ProducerRecord {
        key: Some(person.id.to_string().into_bytes()),
        value: Some(person.json()),
        headers: vec![
            ("content-type".to_owned(), b"application/json".to_vec()),
            ("schema".to_owned(), b"affluent.users.v1.User".to_vec()),
            ("accepted-at-us".to_owned(), b"1700000000000000".to_vec()),
        ],
        ..ProducerRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_slices_cover_every_token_once() {
        for slices in [1, 2, 7, 500] {
            let all: Vec<_> = token_slices(slices).collect();
            assert_eq!(all.len() as u64, slices);
            assert_eq!((all[0].0, all[all.len() - 1].1), (i64::MIN, i64::MAX));
            assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert!(all.iter().all(|(after, until)| after < until));
        }
    }
}
