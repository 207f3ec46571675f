//! What the bench of the streamer works with: the servers, a topic to drain, the ceiling and the streamer as processes.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::{BenchError, Settings, TOPIC};
use crate::bench::figures::{median, spread};
use crate::bench::people::{Person, people};
use crate::bench::usage::{Cost, cpu_seconds, peak_mib};
use crate::demo::Histogram;
use crate::process::Program;
use crate::servers::{CassandraOptions, Stack, StackOptions};
use crate::service::{Service, ServiceOptions};
use crate::table::Table;
use crate::tap::{Outgoing, Tap};
use crate::workspace;

const PATIENCE: Duration = Duration::from_secs(1_800);
const POLL: Duration = Duration::from_millis(50);
const READY: Duration = Duration::from_secs(60);

pub(super) struct Bench {
    stack: Stack,
    tap: Tap,
    table: Table,
    folder: PathBuf,
    nodes: usize,
    keyspaces: usize,
}

impl Bench {
    /// Kafka, and a Cassandra of `nodes` nodes on which every row has a replica on each.
    pub(super) async fn start(nodes: usize) -> Result<Self, BenchError> {
        println!("starting Kafka and Cassandra, {nodes} nodes");
        let options = CassandraOptions {
            nodes,
            ..CassandraOptions::default()
        };
        let stack = Stack::start(&StackOptions {
            cassandra: options,
            ..StackOptions::default()
        })
        .await?;
        let folder = workspace::target_dir()?.join("bench");
        let tap = Tap::new(stack.kafka.bootstrap())?;
        let table = Table::connect(&stack.cassandra.contact_points(), "none").await?;
        Ok(Self {
            stack,
            tap,
            table,
            folder,
            nodes,
            keyspaces: 0,
        })
    }

    /// Creates the topic with this many records.
    pub(super) async fn fill(&self, topic: &str, records: u64) -> Result<(), BenchError> {
        self.stack.kafka.create_topic(topic, 6).await?;
        self.fill_up(topic, 0..records).await
    }

    /// Adds these records to the topic.
    pub(super) async fn fill_up(&self, topic: &str, records: Range<u64>) -> Result<(), BenchError> {
        const SLICE: u64 = 20_000;
        let mut first = records.start;
        while first < records.end {
            let last = (first + SLICE).min(records.end);
            let slice: Vec<_> = people(1, first..last).map(|person| outgoing(&person)).collect();
            self.tap.write(topic, &slice).await?;
            first = last;
        }
        Ok(())
    }

    async fn keyspace(&mut self) -> Result<String, BenchError> {
        self.keyspaces += 1;
        let name = format!("bench_{}", self.keyspaces);
        let nodes = self.nodes;
        let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {nodes}}}");
        self.table
            .run(&format!(
                "CREATE KEYSPACE {name} WITH replication = {replication}"
            ))
            .await?;
        Ok(name)
    }

    /// What was written last is of no use any more; its compaction must not weigh on the next one.
    async fn drop_keyspace(&self, name: &str) -> Result<(), BenchError> {
        self.table.run(&format!("DROP KEYSPACE {name}")).await?;
        Ok(())
    }

    /// The bare loop, as a process of its own.
    pub(super) async fn ceiling(&mut self, settings: &Settings, rows: u64) -> Result<Cost, BenchError> {
        let keyspace = self.keyspace().await?;
        let log = self.folder.join(format!("{keyspace}.log"));
        let arguments = [
            (
                "--contact-point",
                self.stack.cassandra.contact_points()[0].clone(),
            ),
            ("--keyspace", keyspace.clone()),
            ("--rows", rows.to_string()),
            ("--window", settings.window.to_string()),
            ("--connections", settings.connections.to_string()),
            ("--batch", settings.batch.to_string()),
        ];
        let mut program = Program::new(workspace::binary("testbed")?)
            .arg("ceiling")
            .log_to(&log);
        for (name, value) in arguments {
            program = program.arg(name).arg(value);
        }
        let child = program.spawn()?;
        child.wait(PATIENCE).await?;
        let last = child.last_lines(1);
        let cost = serde_json::from_str(&last).map_err(|_| BenchError::Ceiling(child.last_lines(5)))?;
        self.drop_keyspace(&keyspace).await?;
        Ok(cost)
    }

    fn options(&self, topic: &str, keyspace: &str) -> ServiceOptions {
        ServiceOptions::new("streamer", &self.folder)
            .set("kafka.brokers", self.stack.kafka.bootstrap())
            .set("kafka.topic", topic)
            .set("kafka.group", keyspace)
            .set(
                "cassandra.contact_points",
                self.stack.cassandra.contact_points().join(","),
            )
            .set("cassandra.keyspace", keyspace)
    }

    /// One streamer drains the topic: from its first row to its last.
    pub(super) async fn drain(&mut self, topic: &str, records: u64) -> Result<Cost, BenchError> {
        let keyspace = self.keyspace().await?;
        let mut streamer = Service::start(&self.options(topic, &keyspace))?;
        streamer.ready(READY).await?;
        let pid = streamer.child().map_or(0, crate::process::Child::pid);
        let first = wait_for_rows(&streamer, 1, PATIENCE).await?;
        let cpu = cpu_seconds(pid).unwrap_or(0.0);
        let started = Instant::now();
        let last = wait_for_rows(&streamer, records, PATIENCE).await?;
        let cost = Cost {
            rows: last - first,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds(pid).unwrap_or(0.0) - cpu,
            peak_mib: peak_mib(pid).unwrap_or(0.0),
        };
        streamer.terminate(READY).await?;
        self.drop_keyspace(&keyspace).await?;
        Ok(cost)
    }

    /// Two members of one group drain the topic: from the first row until every checkpoint is at its end, the
    /// rebalance of their start included. Returns rows a second.
    pub(super) async fn drain_by_two(&mut self, topic: &str, records: u64) -> Result<f64, BenchError> {
        let keyspace = self.keyspace().await?;
        let options = self.options(topic, &keyspace);
        let mut first = Service::start(&options.clone().log_name("streamer-1"))?;
        let mut second = Service::start(&options.log_name("streamer-2"))?;
        first.ready(READY).await?;
        second.ready(READY).await?;
        let started = Instant::now();
        let table = Table::connect(&self.stack.cassandra.contact_points(), keyspace.as_str()).await?;
        let ends = self.tap.ends(topic).await?;
        loop {
            let checkpoints = table.checkpoints(&keyspace, topic).await?;
            let at_end = |(partition, end): (&i32, &i64)| {
                checkpoints
                    .get(partition)
                    .is_some_and(|checkpoint| checkpoint.next_offset == *end)
            };
            if ends.iter().all(at_end) {
                break;
            }
            if started.elapsed() > PATIENCE {
                return Err(BenchError::Stuck {
                    stored: 0,
                    expected: records,
                    waited: PATIENCE,
                    log: first.last_lines(20),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        let seconds = started.elapsed().as_secs_f64();
        first.terminate(READY).await?;
        second.terminate(READY).await?;
        self.drop_keyspace(&keyspace).await?;
        Ok(count(records) / seconds)
    }

    /// Median and 99th percentile of Kafka → row in milliseconds, at `rate` records a second.
    pub(super) async fn steady(
        &mut self,
        rate: u64,
        length: Duration,
        round: usize,
    ) -> Result<(f64, f64), BenchError> {
        let topic = format!("steady_{rate}_{round}");
        self.stack.kafka.create_topic(&topic, 6).await?;
        let keyspace = self.keyspace().await?;
        let mut streamer = Service::start(&self.options(&topic, &keyspace))?;
        streamer.ready(READY).await?;
        let sent = self.pace(&topic, rate, Duration::from_secs(3), 0).await?;
        wait_for_rows(&streamer, sent, PATIENCE).await?;
        let before = Histogram::read(
            &streamer.ask("/metrics").await?.1,
            "streamer_kafka_to_row_seconds",
        );
        let sent = sent + self.pace(&topic, rate, length, sent).await?;
        wait_for_rows(&streamer, sent, PATIENCE).await?;
        let after = Histogram::read(
            &streamer.ask("/metrics").await?.1,
            "streamer_kafka_to_row_seconds",
        );
        let latencies = after.since(&before);
        streamer.terminate(READY).await?;
        self.drop_keyspace(&keyspace).await?;
        Ok((
            latencies.quantile(0.50) * 1_000.0,
            latencies.quantile(0.99) * 1_000.0,
        ))
    }

    /// Sends at a steady rate, whatever the answers do; returns how many.
    async fn pace(&self, topic: &str, rate: u64, length: Duration, from: u64) -> Result<u64, BenchError> {
        const TICKS: u64 = 100;
        let mut ticks = tokio::time::interval(Duration::from_millis(1_000 / TICKS));
        let mut writes = Vec::new();
        let mut sent = 0;
        let total = length.as_secs() * rate;
        while sent < total {
            ticks.tick().await;
            let slice: Vec<_> = people(3, from + sent..from + sent + rate / TICKS)
                .map(|it| outgoing(&it))
                .collect();
            sent += slice.len() as u64;
            let (tap, topic) = (self.tap.clone(), topic.to_owned());
            writes.push(tokio::spawn(
                async move { tap.write(&topic, &slice).await.map(drop) },
            ));
        }
        for result in try_join_all(writes).await.unwrap_or_default() {
            result?;
        }
        Ok(sent)
    }

    /// Milliseconds from the process's start until `/readyz` says yes, tables and topics being there; median of 5.
    pub(super) async fn start_to_ready(&mut self) -> Result<f64, BenchError> {
        let keyspace = self.keyspace().await?;
        let options = self
            .options(TOPIC, &keyspace)
            .set("checkpoint.on_missing", "latest");
        let mut streamer = Service::start(&options)?;
        streamer.ready(READY).await?;
        streamer.terminate(READY).await?;
        let mut times = Vec::new();
        for _ in 0..5 {
            let started = Instant::now();
            streamer.spawn()?;
            streamer.ready(READY).await?;
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
            streamer.terminate(READY).await?;
        }
        println!("start to ready: {} ms", spread(&times));
        Ok(median(&times))
    }
}

fn outgoing(person: &Person) -> Outgoing {
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

async fn wait_for_rows(streamer: &Service, rows: u64, patience: Duration) -> Result<u64, BenchError> {
    let started = Instant::now();
    loop {
        let found = streamer.metric("streamer_rows_total", "").await?.unwrap_or(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter"
        )]
        let stored = found as u64;
        if stored >= rows {
            return Ok(stored);
        }
        if started.elapsed() > patience {
            let log = streamer.last_lines(20);
            return Err(BenchError::Stuck {
                stored,
                expected: rows,
                waited: patience,
                log,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 rows")]
fn count(rows: u64) -> f64 {
    rows as f64
}
