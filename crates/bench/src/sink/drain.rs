//! Drains a backlog with a sink and measures the sink's processes.
//!
//! The clock runs from the last row of the first third to the last row. Each round starts a new process, and a JVM
//! compiles during the first third.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::env::{BenchEnv, SEED};
use crate::error::BenchError;
use crate::report::spread::Spread;
use crate::report::{DrainLine, MemoryLine, spreads};
use crate::sink::{RunningSink, Sink, SinkConfig};
use crate::usage::Cost;
use crate::usage::sampler::{Usage, UsageSampler, downsample};
use testkit::cassandra_client::TEXT_COLUMNS;
use testkit::people::people;

/// Rows of a backlog that are compared with their records.
const SAMPLES: u64 = 200;
/// One part in this many of a backlog is warm-up.
const WARMUP_SHARE: u64 = 3;
/// Maximum number of memory samples in a picture.
const MAX_SAMPLES: usize = 240;

/// One drain.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Cost of the rows after the first third.
    pub cost: Cost,
    /// From the start of the sink to the first row.
    pub first_row_seconds: f64,
    /// Usage over the sink's whole life.
    pub usage: Usage,
}

/// A backlog.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Its topic.
    pub topic: String,
    /// Number of records.
    pub records: u64,
}

impl Backlog {
    /// Creates the topic and fills it.
    ///
    /// # Errors
    /// When Kafka rejects a request.
    pub async fn fill(
        env: &BenchEnv,
        topic: &str,
        partitions: i32,
        records: u64,
    ) -> Result<Self, BenchError> {
        env.stack.kafka.create_topic(topic, partitions).await?;
        env.fill(topic, 0..records).await?;
        Ok(Self {
            topic: topic.to_owned(),
            records,
        })
    }

    /// Drains the backlog once into a new table and compares a sample of its rows with the records.
    ///
    /// # Errors
    /// When the sink fails or stores a different row.
    pub async fn drain(&self, env: &mut BenchEnv, sink: &dyn Sink) -> Result<Drain, BenchError> {
        let (drain, config) = drain(env, sink, &self.topic, self.records).await?;
        self.compare(env, sink, &config).await?;
        env.drop_keyspace(&config.keyspace).await?;
        Ok(drain)
    }

    async fn compare(&self, env: &BenchEnv, sink: &dyn Sink, config: &SinkConfig) -> Result<(), BenchError> {
        let every = (self.records / SAMPLES).max(1);
        let columns = TEXT_COLUMNS.join(", ");
        for number in (0..self.records).step_by(usize::try_from(every).unwrap_or(1)) {
            let Some(person) = people(SEED, number..number + 1).next() else {
                continue;
            };
            let unequal = |why: &str| BenchError::Unequal {
                sink: sink.name().to_owned(),
                id: person.id,
                why: why.to_owned(),
            };
            let ask = format!(
                "SELECT {columns}, dob, registered_date, ingested_at FROM {}.{} WHERE id = {}",
                config.keyspace, config.table, person.id
            );
            let rows = env.cassandra_client.run(&ask).await?;
            let row = rows.first().ok_or_else(|| unequal("missing row"))?;
            let row = testkit::cassandra_client::user(row);
            for (column, text) in TEXT_COLUMNS.iter().zip(&person.texts) {
                if row.get(column) != Some(text) {
                    return Err(unequal(column));
                }
            }
            for (column, millis) in [("dob", person.dob), ("registered_date", person.registered)] {
                if row.get(column) != Some(&millis.to_string()) {
                    return Err(unequal(column));
                }
            }
            if !row.contains_key("ingested_at") {
                return Err(unequal("ingested_at"));
            }
        }
        Ok(())
    }
}

/// Backlogs that several measurements share. Each is filled once.
#[derive(Debug, Default)]
pub struct Backlogs(BTreeMap<String, Backlog>);

impl Backlogs {
    /// Returns the backlog of this many partitions and records; fills it if it is new.
    ///
    /// # Errors
    /// When Kafka rejects a request.
    pub async fn of(&mut self, env: &BenchEnv, partitions: i32, records: u64) -> Result<Backlog, BenchError> {
        let topic = format!("backlog_{partitions}_{records}");
        if let Some(backlog) = self.0.get(&topic) {
            return Ok(backlog.clone());
        }
        println!("filling a topic of {partitions} partitions with {records} records");
        let backlog = Backlog::fill(env, &topic, partitions, records).await?;
        self.0.insert(topic, backlog.clone());
        Ok(backlog)
    }

    /// Deletes the backlogs' topics.
    ///
    /// # Errors
    /// When Kafka rejects a request.
    pub async fn delete(self, env: &BenchEnv) -> Result<(), BenchError> {
        for topic in self.0.keys() {
            env.delete_topic(topic).await?;
        }
        Ok(())
    }
}

/// Drains the topic and keeps the table.
///
/// # Errors
/// When the sink fails.
pub async fn drain(
    env: &mut BenchEnv,
    sink: &dyn Sink,
    topic: &str,
    records: u64,
) -> Result<(Drain, SinkConfig), BenchError> {
    let config = env.prepare_sink(topic).await?;
    let begun = Instant::now();
    let running = sink.start(&config)?;
    let drained = async {
        let drain = measure_drain(env, &config, &running, begun, records).await?;
        running.stop().await?;
        env.verify(&config, records).await?;
        Ok(drain)
    };
    match drained.await {
        Ok(drain) => Ok((drain, config)),
        Err(error) => {
            env.drop_keyspace(&config.keyspace).await?;
            Err(error)
        }
    }
}

/// Measures a sink started at `begun` until this many rows are written.
///
/// # Errors
/// When the sink fails.
pub async fn measure_drain(
    env: &BenchEnv,
    config: &SinkConfig,
    running: &RunningSink,
    begun: Instant,
    records: u64,
) -> Result<Drain, BenchError> {
    let sampler = UsageSampler::start(running.pids());
    env.wait_for_rows(config, running, 1).await?;
    let first_row_seconds = begun.elapsed().as_secs_f64();
    let first = env
        .wait_for_rows(config, running, records.div_ceil(WARMUP_SHARE))
        .await?;
    let (cpu, started) = (sampler.cpu_seconds(), Instant::now());
    let last = env.wait_for_rows(config, running, records).await?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = sampler.usage();
    let cost = Cost {
        rows: last - first,
        seconds,
        cpu_seconds: usage.cpu_seconds - cpu,
        peak_mib: usage.peak_mib,
    };
    Ok(Drain {
        cost,
        first_row_seconds,
        usage,
    })
}

/// All rounds of one sink on one backlog.
#[derive(Debug, Clone, Default)]
pub struct DrainRounds(pub Vec<Drain>);

impl DrainRounds {
    /// One value of each round.
    pub fn each(&self, of: impl Fn(&Drain) -> f64) -> Vec<f64> {
        self.0.iter().map(of).collect()
    }

    /// The line of the report; none without rounds.
    pub fn line(&self, name: &str, records: u64) -> Option<DrainLine> {
        Some(DrainLine {
            name: name.to_owned(),
            baseline: false,
            records,
            rows_per_second: Spread::of(&self.each(|it| it.cost.rows_per_second()))?,
            cpu_per_million: Spread::of(&self.each(|it| it.cost.cpu_per_million()))?,
            peak_mib: Spread::of(&self.each(|it| it.cost.peak_mib))?,
            first_row_seconds: Spread::of(&self.each(|it| it.first_row_seconds)),
        })
    }

    /// The memory samples of the last round.
    pub fn memory(&self, name: &str) -> Option<MemoryLine> {
        let last = self.0.last()?;
        Some(MemoryLine {
            name: name.to_owned(),
            samples: downsample(&last.usage.memory, MAX_SAMPLES),
        })
    }
}

/// The line of the report for a baseline.
pub fn baseline_line(name: &str, costs: &[Cost]) -> Option<DrainLine> {
    let [rows_per_second, cpu_per_million, peak_mib] = spreads(costs)?;
    Some(DrainLine {
        name: name.to_owned(),
        baseline: true,
        records: costs.first()?.rows,
        rows_per_second,
        cpu_per_million,
        peak_mib,
        first_row_seconds: None,
    })
}

/// The drain as text.
pub fn summary(drain: &Drain) -> String {
    format!(
        "{:.0} rows/s, {:.1} CPU s per million, {:.0} MiB, first row after {:.2} s",
        drain.cost.rows_per_second(),
        drain.cost.cpu_per_million(),
        drain.cost.peak_mib,
        drain.first_row_seconds
    )
}
