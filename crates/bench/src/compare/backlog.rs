//! Topics filled with records before a measurement.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context as _, Result, ensure};
use model::Contract;
use testkit::cassandra_client::CassandraClient;
use testkit::people::people;
use testkit::rows::{INGESTED_AT, RowId};

use super::drain::{Drain, drain};
use crate::env::BenchEnv;
use crate::env::records::BACKLOG_SEED;
use crate::measure::warmup::Warmup;
use crate::sinks::Sink;
use crate::sinks::target::Target;

/// Rows of a backlog that are compared with their records.
const COMPARED_ROWS: u64 = 200;

/// A filled topic.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// The topic.
    pub topic: String,
    /// Number of records.
    pub records: u64,
}

impl Backlog {
    /// Creates a topic and fills it.
    pub async fn create(env: &BenchEnv, partitions: i32, records: u64) -> Result<Self> {
        println!("filling a topic of {partitions} partitions with {records} records");
        let topic = format!("backlog_{partitions}_{records}");
        env.create_topic(&topic, partitions).await?;
        env.fill(&topic, 0..records).await?;
        Ok(Self { topic, records })
    }

    /// Drains it into a new table, and compares some rows with their records.
    pub async fn drain(&self, env: &mut BenchEnv, sink: &dyn Sink) -> Result<Drain> {
        let (drain, target) = drain(env, sink, &self.topic, self.records).await?;
        self.compare_rows(sink, &target).await?;
        env.drop_keyspace(&target.keyspace).await?;
        Ok(drain)
    }

    /// Drains it until the speed no longer rises.
    pub async fn warm_up(&self, env: &mut BenchEnv, sink: &dyn Sink) -> Result<()> {
        let mut warmup = Warmup::default();
        while warmup.needs_another() {
            let drain = self.drain(env, sink).await?;
            println!("{}, warming up: {drain}", sink.name());
            warmup.record(drain.cost.rows_per_second());
        }
        Ok(())
    }

    async fn compare_rows(&self, sink: &dyn Sink, target: &Target) -> Result<()> {
        let interval = usize::try_from((self.records / COMPARED_ROWS).max(1)).unwrap_or(1);
        let contract = Contract::user();
        let table = CassandraClient::connect(&[target.cassandra.to_string()], &*target.keyspace)
            .await?
            .for_record(contract.clone(), &*target.table)
            // With several nodes, no node needs to have every row.
            .by_quorum();
        for number in (0..self.records).step_by(interval) {
            for person in people(BACKLOG_SEED, number..number + 1) {
                let id = RowId::from(person.id);
                let found = table.rows_of_key(&id.key).await?;
                let row = found
                    .get(&id)
                    .with_context(|| format!("{}: user {} has no row", sink.name(), person.id))?;
                let json = person.json();
                let record = contract.parse_strict(&json)?;
                for (column, bytes) in testkit::rows::row(&record) {
                    ensure!(
                        row.get(&column) == Some(&bytes),
                        "{}: {column} of user {} differs from the record",
                        sink.name(),
                        person.id
                    );
                }
                ensure!(
                    row.contains_key(INGESTED_AT),
                    "{}: user {} has no ingested_at",
                    sink.name(),
                    person.id
                );
            }
        }
        Ok(())
    }
}

/// Backlogs by partitions and records; each is filled once.
#[derive(Debug, Default)]
pub struct Backlogs(BTreeMap<(i32, u64), Backlog>);

impl Backlogs {
    /// Returns a backlog of this size, and fills it first if it is new.
    pub async fn get(&mut self, env: &BenchEnv, partitions: i32, records: u64) -> Result<Backlog> {
        let backlog = match self.0.entry((partitions, records)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Backlog::create(env, partitions, records).await?),
        };
        Ok(backlog.clone())
    }

    /// Deletes the topics.
    pub async fn delete(self, env: &BenchEnv) -> Result<()> {
        for backlog in self.0.values() {
            env.delete_topic(&backlog.topic).await?;
        }
        Ok(())
    }
}
