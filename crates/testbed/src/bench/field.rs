//! Where sinks are measured: real servers, topics with records of a chosen size, and for each sink a table of its own.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;

use super::people::{Person, people};
use super::sink::{Running, Site};
use crate::error::TestbedError;
use crate::servers::{CassandraOptions, KafkaOptions, Stack, StackOptions};
use crate::table::{TEXT_COLUMNS, Table, TableError};
use crate::tap::{Outgoing, Tap};
use crate::workspace;

/// Longer than the slowest sink takes for the largest backlog.
pub const PATIENCE: Duration = Duration::from_secs(1_800);
/// The series of people that backlogs hold.
pub const SEED: u64 = 1;
/// The table's name at each site.
const TABLE: &str = "created_users";
const POLL: Duration = Duration::from_millis(50);

/// Servers, with what runs beside them.
pub struct Field {
    /// The servers.
    pub stack: Stack,
    /// A writer of records.
    pub tap: Tap,
    /// A reader of rows.
    pub table: Arc<Table>,
    /// For logs.
    pub folder: PathBuf,
    nodes: usize,
    sites: usize,
}

impl Field {
    /// Kafka and Cassandra of so many nodes, with a replica of everything on each.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn start(kafka: usize, cassandra: usize) -> Result<Self, TestbedError> {
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
        let tap = Tap::new(stack.kafka.bootstrap())?;
        let mut table = Table::connect(&stack.cassandra.contact_points(), "none").await?;
        if cassandra > 1 {
            table = table.by_quorum();
        }
        Ok(Self {
            stack,
            tap,
            table: Arc::new(table),
            folder: workspace::target_dir()?.join("bench"),
            nodes: cassandra,
            sites: 0,
        })
    }

    /// Adds these records to a topic, each of about so many bytes; 0: as people are.
    ///
    /// # Errors
    /// When Kafka does not take them.
    pub async fn fill(&self, topic: &str, records: Range<u64>, bytes: usize) -> Result<(), TestbedError> {
        const SLICE: u64 = 20_000;
        let mut first = records.start;
        while first < records.end {
            let last = (first + SLICE).min(records.end);
            let slice: Vec<_> = people(SEED, first..last)
                .map(|person| outgoing(&person.padded(bytes)))
                .collect();
            self.tap.write(topic, &slice).await?;
            first = last;
        }
        Ok(())
    }

    /// A keyspace that nobody has used.
    ///
    /// # Errors
    /// When Cassandra refuses it.
    pub async fn keyspace(&mut self) -> Result<String, TestbedError> {
        self.sites += 1;
        let (name, nodes) = (format!("bench_{}", self.sites), self.nodes);
        let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {nodes}}}");
        let create = format!("CREATE KEYSPACE {name} WITH replication = {replication}");
        self.table.run(&create).await?;
        Ok(name)
    }

    /// A new group and a new table, as the streamer would create it, for a sink that reads `topic`. On several nodes the
    /// streamer creates it, which waits until all know it.
    ///
    /// # Errors
    /// When Cassandra refuses them.
    pub async fn site(&mut self, topic: &str) -> Result<Site, TestbedError> {
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
        let cassandra: SocketAddr = point
            .parse()
            .map_err(|_| TestbedError::Incomplete(point.clone()))?;
        Ok(Site {
            brokers: self.stack.kafka.bootstrap(),
            topic: topic.to_owned(),
            group: keyspace.clone(),
            cassandra,
            folder: self.folder.join(&keyspace),
            keyspace,
            table: TABLE.to_owned(),
        })
    }

    /// What was written is of no use any more; its compaction must not weigh on the next one.
    ///
    /// # Errors
    /// When Cassandra refuses it.
    pub async fn drop_keyspace(&self, name: &str) -> Result<(), TestbedError> {
        self.table.run(&format!("DROP KEYSPACE {name}")).await?;
        Ok(())
    }

    /// How many rows the site's table has got.
    ///
    /// # Errors
    /// When Cassandra does not tell.
    pub async fn written(&self, site: &Site) -> Result<u64, TestbedError> {
        if self.nodes == 1 {
            self.counted(site).await
        } else {
            self.checkpointed(site).await
        }
    }

    /// By the server's own count: the same for every sink, and without a scan. A row that is written twice counts twice.
    async fn counted(&self, site: &Site) -> Result<u64, TestbedError> {
        let ask = format!(
            "SELECT count FROM system_views.local_write_latency WHERE keyspace_name = '{}' AND table_name = '{}'",
            site.keyspace, site.table
        );
        let rows = self.table.run(&ask).await?;
        Ok(rows.iter().filter_map(|row| count(row, "count")).sum())
    }

    /// By the streamer's checkpoints: of several nodes none needs to have every row.
    async fn checkpointed(&self, site: &Site) -> Result<u64, TestbedError> {
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
            // A node that does not know the new table yet says the one, and who asks it for a row hears the other.
            Err(error) if is_too_early(&error) => Vec::new(),
            answer => answer?,
        };
        Ok(rows.iter().filter_map(|row| count(row, "next_offset")).sum())
    }

    /// Waits until so many rows are written; returns how many are.
    ///
    /// # Errors
    /// When the sink ends, or they do not come.
    pub async fn until_written(
        &self,
        site: &Site,
        running: &Running,
        rows: u64,
    ) -> Result<u64, TestbedError> {
        let started = Instant::now();
        loop {
            let stored = self.written(site).await?;
            if stored >= rows {
                return Ok(stored);
            }
            running.check()?;
            if started.elapsed() > PATIENCE {
                return Err(TestbedError::Stuck {
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

fn is_too_early(error: &TableError) -> bool {
    let error = format!("{error:?}");
    error.contains("does not exist") || error.contains("ReadFailure")
}

fn count(row: &Row, column: &str) -> Option<u64> {
    let count: Option<i64> = row.by_name(column).ok().flatten();
    u64::try_from(count?).ok()
}

/// A person as the publisher would send it.
pub fn outgoing(person: &Person) -> Outgoing {
    Outgoing {
        key: Some(person.id.to_string().into_bytes()),
        value: Some(person.json()),
        headers: vec![
            ("content-type".to_owned(), b"application/json".to_vec()),
            ("schema".to_owned(), b"affluent.users.v1.User".to_vec()),
            ("accepted-at-us".to_owned(), b"1700000000000000".to_vec()),
        ],
        ..Outgoing::default()
    }
}
