//! Where sinks are measured: real servers, topics with records of a chosen size, and for each sink a table of its own.

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

use super::leftovers;
use super::sink::{Running, Site};
use super::usage::tree::Snapshot;
use crate::error::BenchError;
use testkit::cassandra_client::{CassandraClient, CassandraClientError, TEXT_COLUMNS};
use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::people::{Person, people};
use testkit::servers::{CassandraOptions, KafkaOptions, Node, ServerError, Stack, StackOptions};
use testkit::workspace;

/// Longer than the slowest sink takes for the largest backlog.
pub const PATIENCE: Duration = Duration::from_secs(1_800);
/// The series of people that backlogs hold.
pub const SEED: u64 = 1;
/// The table's name at each site.
const TABLE: &str = "created_users";
const POLL: Duration = Duration::from_millis(50);
/// Records that are written, or rows that are counted, at a time.
const SLICE: u64 = 20_000;
const DELETION: Duration = Duration::from_secs(30);

/// Servers, with what runs beside them.
pub struct Field {
    /// The servers.
    pub stack: Stack,
    /// A writer of records.
    pub tap: KafkaClient,
    /// A reader of rows.
    pub table: Arc<CassandraClient>,
    /// For logs.
    pub folder: PathBuf,
    nodes: usize,
    counter: Counter,
    sites: usize,
}

/// By what the rows are counted while a sink writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counter {
    /// The server's own count, which only a single node has of every row.
    Server,
    /// The streamer's checkpoints.
    Checkpoints,
}

/// Processor seconds of the servers so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServersCpu {
    /// Of all nodes of Kafka.
    pub kafka: f64,
    /// Of all nodes of Cassandra.
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

impl Field {
    /// Kafka and Cassandra of so many nodes, with a replica of everything on each.
    ///
    /// # Errors
    /// When they do not start.
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
        let tap = KafkaClient::new(stack.kafka.bootstrap())?;
        let mut table = CassandraClient::connect(&stack.cassandra.contact_points(), "none").await?;
        if cassandra > 1 {
            table = table.by_quorum();
        }
        Ok(Self {
            stack,
            tap,
            table: Arc::new(table),
            folder: workspace::target_dir()?.join("bench"),
            nodes: cassandra,
            counter: if cassandra == 1 {
                Counter::Server
            } else {
                Counter::Checkpoints
            },
            sites: 0,
        })
    }

    /// The same, counting by checkpoints on whatever number of nodes, so that one and several compare.
    #[must_use]
    pub fn by_checkpoints(self) -> Self {
        Self {
            counter: Counter::Checkpoints,
            ..self
        }
    }

    /// What the servers have used so far.
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

    /// What a topic holds must not weigh on what is measured after it.
    ///
    /// # Errors
    /// When Kafka does not delete it.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), BenchError> {
        let failed = |source| ServerError::Kafka {
            operation: "delete a topic",
            source,
        };
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka.bootstrap())
            .create()
            .map_err(failed)?;
        let options = AdminOptions::new().operation_timeout(Some(DELETION));
        for deleted in admin.delete_topics(&[topic], &options).await.map_err(failed)? {
            deleted.map_err(|(_, code)| failed(KafkaError::AdminOp(code)))?;
        }
        Ok(())
    }

    /// Adds these records to a topic, each of about so many bytes; 0: as people are.
    ///
    /// # Errors
    /// When Kafka does not take them.
    pub async fn fill(&self, topic: &str, records: Range<u64>, bytes: usize) -> Result<(), BenchError> {
        let mut first = records.start;
        while first < records.end {
            let last = (first + SLICE).min(records.end);
            self.tap.write(topic, &prepared(first..last, bytes)).await?;
            first = last;
        }
        Ok(())
    }

    /// Adds records that are ready.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub async fn pour(&self, topic: &str, records: &[ProducerRecord]) -> Result<(), BenchError> {
        for slice in records.chunks(usize::try_from(SLICE).unwrap_or(usize::MAX)) {
            self.tap.write(topic, slice).await?;
        }
        Ok(())
    }

    /// A keyspace that nobody has used.
    ///
    /// # Errors
    /// When Cassandra refuses it.
    pub async fn keyspace(&mut self) -> Result<String, BenchError> {
        self.sites += 1;
        let name = format!("bench_{}", self.sites);
        let folder = self.folder.join(&name);
        // A run that was broken off has left its state in a folder of this name, and a service would go on with it.
        leftovers::remove_folder(&folder).map_err(BenchError::file(&folder))?;
        let create = format!("CREATE KEYSPACE {name} WITH replication = {}", self.replication());
        self.table.run(&create).await?;
        Ok(name)
    }

    /// A replica of everything on each node.
    fn replication(&self) -> String {
        let nodes = self.nodes;
        format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {nodes}}}")
    }

    /// A new group and a new table, as the streamer would create it, for a sink that reads `topic`. On several nodes the
    /// streamer creates it, which waits until all know it.
    ///
    /// # Errors
    /// When Cassandra refuses them.
    pub async fn site(&mut self, topic: &str) -> Result<Site, BenchError> {
        let keyspace = self.keyspace().await?;
        if self.nodes == 1 {
            let texts = TEXT_COLUMNS.map(|name| format!("{name} text")).join(", ");
            let create = format!(
                "CREATE TABLE {keyspace}.{TABLE} (id uuid PRIMARY KEY, {texts}, dob timestamp, registered_date \
                 timestamp, ingested_at timestamp)"
            );
            self.table.run(&create).await?;
        }
        let point = self.stack.cassandra.contact_points().remove(0);
        let cassandra: SocketAddr = point.parse().map_err(|_| BenchError::Incomplete(point.clone()))?;
        Ok(Site {
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

    /// What was written is of no use any more; its compaction must not weigh on the next one.
    ///
    /// # Errors
    /// When Cassandra refuses it.
    pub async fn drop_keyspace(&self, name: &str) -> Result<(), BenchError> {
        self.table.run(&format!("DROP KEYSPACE {name}")).await?;
        Ok(())
    }

    /// How many rows the site's table has got.
    ///
    /// # Errors
    /// When Cassandra does not tell.
    pub async fn written(&self, site: &Site) -> Result<u64, BenchError> {
        match self.counter {
            Counter::Server => self.counted(site).await,
            Counter::Checkpoints => self.checkpointed(site).await,
        }
    }

    /// Counts the table's rows, one by one, and holds them against how many there must be. Done when no clock runs.
    ///
    /// # Errors
    /// When there are fewer or more, or Cassandra does not tell.
    pub async fn verify(&self, site: &Site, expected: u64) -> Result<(), BenchError> {
        let mut stored = 0;
        for (after, until) in token_slices(expected / SLICE + 1) {
            let ask = format!(
                "SELECT COUNT(*) AS rows_there FROM {}.{} WHERE token(id) > {after} AND token(id) <= {until}",
                site.keyspace, site.table
            );
            let rows = self.table.run(&ask).await?;
            stored += rows.first().and_then(|row| count(row, "rows_there")).unwrap_or(0);
        }
        if stored == expected {
            return Ok(());
        }
        Err(BenchError::Incomplete(format!(
            "{}.{} has {stored} rows, and not the {expected} of its topic",
            site.keyspace, site.table
        )))
    }

    /// By the server's own count: the same for every sink, and without a scan. A row that is written twice counts twice.
    async fn counted(&self, site: &Site) -> Result<u64, BenchError> {
        let ask = format!(
            "SELECT count FROM system_views.local_write_latency WHERE keyspace_name = '{}' AND table_name = '{}'",
            site.keyspace, site.table
        );
        let rows = self.table.run(&ask).await?;
        Ok(rows.iter().filter_map(|row| count(row, "count")).sum())
    }

    /// By the streamer's checkpoints: of several nodes none needs to have every row.
    async fn checkpointed(&self, site: &Site) -> Result<u64, BenchError> {
        let Site {
            keyspace,
            group,
            topic,
            ..
        } = site;
        let there = format!(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}' AND table_name = \
             'stream_checkpoints'"
        );
        if self.table.run(&there).await?.is_empty() {
            return Ok(0);
        }
        let ask = format!(
            "SELECT next_offset FROM {keyspace}.stream_checkpoints WHERE group_id = '{group}' AND topic = '{topic}'"
        );
        let rows = match self.table.run(&ask).await {
            // A node that has not heard of the new table yet says so in many ways. Who waits for rows has an end of its
            // own.
            Err(error @ CassandraClientError::Driver { .. }) => {
                tracing::debug!(?error, "no checkpoints to be had yet");
                Vec::new()
            }
            answer => answer?,
        };
        Ok(rows.iter().filter_map(|row| count(row, "next_offset")).sum())
    }

    /// Waits until so many rows are written; returns how many are.
    ///
    /// # Errors
    /// When the sink ends, or they do not come.
    pub async fn until_written(&self, site: &Site, running: &Running, rows: u64) -> Result<u64, BenchError> {
        let started = Instant::now();
        loop {
            let stored = self.written(site).await?;
            if stored >= rows {
                return Ok(stored);
            }
            running.check()?;
            if started.elapsed() > PATIENCE {
                return Err(BenchError::Stuck {
                    stored,
                    expected: rows,
                    waited: PATIENCE,
                    log: running.last_lines(20),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// All tokens in so many slices, each from behind its first to its second: no count then takes longer than a server
/// waits. No key has the least token.
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

/// Records that are ready to be sent.
pub fn prepared(numbers: Range<u64>, bytes: usize) -> Vec<ProducerRecord> {
    let people = people(SEED, numbers);
    people.map(|person| outgoing(&person.padded(bytes))).collect()
}

fn count(row: &Row, column: &str) -> Option<u64> {
    let count: Option<i64> = row.by_name(column).ok().flatten();
    u64::try_from(count?).ok()
}

/// A person as the publisher would send it.
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
    fn the_slices_hold_every_token_once() {
        for slices in [1, 2, 7, 500] {
            let all: Vec<_> = token_slices(slices).collect();
            assert_eq!(all.len() as u64, slices);
            assert_eq!((all[0].0, all[all.len() - 1].1), (i64::MIN, i64::MAX));
            assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert!(all.iter().all(|(after, until)| after < until));
        }
    }
}
