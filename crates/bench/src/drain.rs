//! A sink drains a backlog, with what its processes used meanwhile. The clock runs from the last row of the first third to
//! the last row of all: each sink is a new process in each round, and one on a virtual machine compiles itself during
//! the first third.

use std::collections::BTreeMap;
use std::time::Instant;

use super::field::{Field, SEED};
use super::report::{DrainLine, MemoryLine, spreads};
use super::sink::{Running, Sink, Site};
use super::spread::Spread;
use super::usage::Cost;
use super::usage::watch::{Usage, Watch, thinned};
use crate::error::BenchError;
use testkit::cassandra_client::TEXT_COLUMNS;
use testkit::people::people;

/// So many rows of a backlog are held against its records.
const SAMPLES: u64 = 200;
/// The clock does not run during this part of a backlog.
const WARMING: u64 = 3;
/// More samples of memory than a picture shows.
const SHOWN: usize = 240;

/// One drain.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Of the rows behind the first third.
    pub cost: Cost,
    /// From the start of the sink to the first row.
    pub first_row_seconds: f64,
    /// Over the whole life of the sink.
    pub usage: Usage,
}

/// A backlog.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Its topic.
    pub topic: String,
    /// How many records it holds.
    pub records: u64,
    /// About how large each is, in bytes; 0: as people are.
    pub bytes: usize,
}

impl Backlog {
    /// Creates the topic and fills it.
    ///
    /// # Errors
    /// When Kafka does not take it.
    pub async fn fill(
        field: &Field,
        topic: &str,
        partitions: i32,
        records: u64,
        bytes: usize,
    ) -> Result<Self, BenchError> {
        field.stack.kafka.create_topic(topic, partitions).await?;
        field.fill(topic, 0..records, bytes).await?;
        Ok(Self {
            topic: topic.to_owned(),
            records,
            bytes,
        })
    }

    /// Drains it once into a new table, and holds samples of the rows against the records.
    ///
    /// # Errors
    /// When the sink does not get through, or stores something else.
    pub async fn drain(&self, field: &mut Field, sink: &dyn Sink) -> Result<Drain, BenchError> {
        let (drain, site) = drain(field, sink, &self.topic, self.records).await?;
        self.compare(field, sink, &site).await?;
        field.drop_keyspace(&site.keyspace).await?;
        Ok(drain)
    }

    async fn compare(&self, field: &Field, sink: &dyn Sink, site: &Site) -> Result<(), BenchError> {
        let every = (self.records / SAMPLES).max(1);
        let columns = TEXT_COLUMNS.join(", ");
        for number in (0..self.records).step_by(usize::try_from(every).unwrap_or(1)) {
            let person = people(SEED, number..number + 1)
                .next()
                .map(|it| it.padded(self.bytes));
            let Some(person) = person else { continue };
            let unequal = |why: &str| BenchError::Unequal {
                sink: sink.name().to_owned(),
                id: person.id,
                why: why.to_owned(),
            };
            let ask = format!(
                "SELECT {columns}, dob, registered_date, ingested_at FROM {}.{} WHERE id = {}",
                site.keyspace, site.table, person.id
            );
            let rows = field.table.run(&ask).await?;
            let row = rows.first().ok_or_else(|| unequal("there is no row"))?;
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

/// Backlogs that several measurements share, each filled once.
#[derive(Debug, Default)]
pub struct Backlogs(BTreeMap<String, Backlog>);

impl Backlogs {
    /// That of this many partitions, records and bytes.
    ///
    /// # Errors
    /// When Kafka does not take it.
    pub async fn of(
        &mut self,
        field: &Field,
        partitions: i32,
        records: u64,
        bytes: usize,
    ) -> Result<Backlog, BenchError> {
        let topic = format!("backlog_{partitions}_{records}_{bytes}");
        if let Some(backlog) = self.0.get(&topic) {
            return Ok(backlog.clone());
        }
        println!("filling a topic of {partitions} partitions with {records} records");
        let backlog = Backlog::fill(field, &topic, partitions, records, bytes).await?;
        self.0.insert(topic, backlog.clone());
        Ok(backlog)
    }

    /// Deletes their topics.
    ///
    /// # Errors
    /// When Kafka does not.
    pub async fn delete(self, field: &Field) -> Result<(), BenchError> {
        for topic in self.0.keys() {
            field.delete_topic(topic).await?;
        }
        Ok(())
    }
}

/// Drains whatever the topic holds, and leaves the table.
///
/// # Errors
/// When the sink does not get through.
pub async fn drain(
    field: &mut Field,
    sink: &dyn Sink,
    topic: &str,
    records: u64,
) -> Result<(Drain, Site), BenchError> {
    let site = field.site(topic).await?;
    let begun = Instant::now();
    let running = sink.start(&site)?;
    let drained = async {
        let drain = followed(field, &site, &running, begun, records).await?;
        running.stop().await?;
        field.verify(&site, records).await?;
        Ok(drain)
    };
    match drained.await {
        Ok(drain) => Ok((drain, site)),
        Err(error) => {
            field.drop_keyspace(&site.keyspace).await?;
            Err(error)
        }
    }
}

/// Watches a sink that was started at `begun` until so many rows are there.
///
/// # Errors
/// When it ends, or does not get through.
pub async fn followed(
    field: &Field,
    site: &Site,
    running: &Running,
    begun: Instant,
    records: u64,
) -> Result<Drain, BenchError> {
    let watch = Watch::start(running.pids());
    field.until_written(site, running, 1).await?;
    let first_row_seconds = begun.elapsed().as_secs_f64();
    let first = field
        .until_written(site, running, records.div_ceil(WARMING))
        .await?;
    let (cpu, started) = (watch.cpu_seconds(), Instant::now());
    let last = field.until_written(site, running, records).await?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = watch.usage();
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
pub struct Drains(pub Vec<Drain>);

impl Drains {
    /// One figure of each round.
    pub fn each(&self, of: impl Fn(&Drain) -> f64) -> Vec<f64> {
        self.0.iter().map(of).collect()
    }

    /// As a line of the report; none without rounds.
    pub fn line(&self, name: &str, records: u64) -> Option<DrainLine> {
        Some(DrainLine {
            name: name.to_owned(),
            ceiling: false,
            records,
            rows_per_second: Spread::of(&self.each(|it| it.cost.rows_per_second()))?,
            cpu_per_million: Spread::of(&self.each(|it| it.cost.cpu_per_million()))?,
            peak_mib: Spread::of(&self.each(|it| it.cost.peak_mib))?,
            first_row_seconds: Spread::of(&self.each(|it| it.first_row_seconds)),
        })
    }

    /// The memory of the last round.
    pub fn memory(&self, name: &str) -> Option<MemoryLine> {
        let last = self.0.last()?;
        Some(MemoryLine {
            name: name.to_owned(),
            samples: thinned(&last.usage.memory, SHOWN),
        })
    }
}

/// The bare loop's rounds as a line of the report.
pub fn ceiling_line(name: &str, costs: &[Cost]) -> Option<DrainLine> {
    let [rows_per_second, cpu_per_million, peak_mib] = spreads(costs)?;
    Some(DrainLine {
        name: name.to_owned(),
        ceiling: true,
        records: costs.first()?.rows,
        rows_per_second,
        cpu_per_million,
        peak_mib,
        first_row_seconds: None,
    })
}

/// A drain in words.
pub fn told(drain: &Drain) -> String {
    format!(
        "{:.0} rows/s, {:.1} CPU s per million, {:.0} MiB, first row after {:.2} s",
        drain.cost.rows_per_second(),
        drain.cost.cpu_per_million(),
        drain.cost.peak_mib,
        drain.first_row_seconds
    )
}
