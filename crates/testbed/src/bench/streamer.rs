//! `scripts/bench streamer`: draining a topic and following a steady stream, against the ceiling of the same run.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use thiserror::Error;

use super::figures::{Figure, Goal, median, spread};
use super::people::people;
use super::usage::{Cost, cpu_seconds, peak_mib};
use crate::demo::Histogram;
use crate::process::{ProcessError, Program};
use crate::servers::{ServerError, Stack, StackOptions};
use crate::service::{Service, ServiceError, ServiceOptions};
use crate::table::{Table, TableError};
use crate::tap::{Outgoing, Tap, TapError};
use crate::workspace::{self, WorkspaceError};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct StreamerBench {
    /// Records in the backlog.
    pub records: u64,
    /// Rounds of ceiling and streamer, alternating.
    pub rounds: usize,
    /// How long each steady rate is held.
    pub steady: Duration,
}

/// The bench could not measure.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum BenchError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Tap(#[from] TapError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("the ceiling's process failed: {0}")]
    Ceiling(String),
    #[error("{stored} of {expected} rows after {} s:\n{log}", waited.as_secs())]
    Stuck {
        stored: u64,
        expected: u64,
        waited: Duration,
        log: String,
    },
}

const TOPIC: &str = "backlog";
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(50);
const READY: Duration = Duration::from_secs(60);

struct Bench {
    stack: Stack,
    tap: Tap,
    table: Table,
    folder: std::path::PathBuf,
    keyspaces: usize,
}

impl StreamerBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`BenchError`]; a goal that is missed is none.
    pub async fn run(&self) -> Result<Vec<Figure>, BenchError> {
        let mut bench = Bench::start().await?;
        println!("filling a topic of 6 partitions with {} records", self.records);
        bench.fill(TOPIC, self.records).await?;
        let best = self.sweep(&mut bench).await?;
        let (mut ceilings, mut drains) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let ceiling = bench.ceiling(&best, self.records).await?;
            let drain = bench.drain(TOPIC, self.records).await?;
            let warming = if round == 0 {
                "  (warming up, not counted)"
            } else {
                ""
            };
            println!(
                "round {round}: ceiling {}, streamer {}{warming}",
                told(&ceiling),
                told(&drain)
            );
            if round > 0 {
                ceilings.push(ceiling);
                drains.push(drain);
            }
        }
        let ratio = |of: fn(&Cost) -> f64| -> Vec<f64> {
            drains
                .iter()
                .zip(&ceilings)
                .map(|(drain, ceiling)| of(drain) / of(ceiling))
                .collect()
        };
        let (cpu, speed) = (ratio(Cost::cpu_per_million), ratio(Cost::rows_per_second));
        println!(
            "CPU per row, streamer to ceiling: {}; rows/s: {}",
            spread(&cpu),
            spread(&speed)
        );
        let rss: Vec<f64> = drains.iter().map(|drain| drain.peak_mib).collect();
        let slow = bench.steady(500, self.steady).await?;
        let fast = bench.steady(5_000, self.steady).await?;
        println!("at 5,000/s: p50 {:.1} ms, p99 {:.1} ms", fast.0, fast.1);
        let ready = bench.start_to_ready().await?;
        Ok(vec![
            Figure::new(
                "CPU per million rows, streamer / ceiling",
                Some(median(&cpu)),
                "ratio",
                Goal::AtMost(1.5),
            ),
            Figure::new(
                "rows/s, streamer / ceiling",
                Some(median(&speed)),
                "ratio",
                Goal::AtLeast(0.90),
            ),
            Figure::new(
                format!("peak RSS draining {}", self.records),
                Some(median(&rss)),
                "MiB",
                Goal::AtMost(48.0),
            ),
            Figure::new(
                "Kafka to row at 500/s, p50",
                Some(slow.0),
                "ms",
                Goal::AtMost(4.0),
            ),
            Figure::new(
                "Kafka to row at 500/s, p99",
                Some(slow.1),
                "ms",
                Goal::AtMost(10.0),
            ),
            Figure::new(
                "start to ready, servers up",
                Some(ready),
                "ms",
                Goal::AtMost(300.0),
            ),
            Figure::new(
                "rows/s at RF 3, 2 replicas, streamer / ceiling",
                None,
                "ratio",
                Goal::AtLeast(0.90),
            ),
            Figure::new(
                "metrics and checkpoints, share of CPU",
                None,
                "%",
                Goal::AtMost(2.0),
            ),
        ])
    }

    /// The driver's best settings on this machine, by a small sweep.
    async fn sweep(&self, bench: &mut Bench) -> Result<Settings, BenchError> {
        let rows = (self.records / 5).max(10_000);
        let mut best: Option<(f64, Settings)> = None;
        let warm = Settings {
            window: 512,
            connections: 2,
            batch: 1,
        };
        bench.ceiling(&warm, rows).await?;
        for settings in SWEEP {
            let cost = bench.ceiling(&settings, rows).await?;
            println!("sweep {settings:?}: {}", told(&cost));
            if best
                .as_ref()
                .is_none_or(|(speed, _)| cost.rows_per_second() > *speed)
            {
                best = Some((cost.rows_per_second(), settings));
            }
        }
        Ok(best.map_or(warm, |(_, settings)| settings))
    }
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    window: usize,
    connections: usize,
    batch: usize,
}

/// Batches of more than ten such rows pass the 5 KiB at which a server warns of each.
const SWEEP: [Settings; 6] = [
    Settings {
        window: 256,
        connections: 1,
        batch: 1,
    },
    Settings {
        window: 512,
        connections: 2,
        batch: 1,
    },
    Settings {
        window: 1024,
        connections: 2,
        batch: 1,
    },
    Settings {
        window: 64,
        connections: 2,
        batch: 8,
    },
    Settings {
        window: 128,
        connections: 2,
        batch: 8,
    },
    Settings {
        window: 128,
        connections: 2,
        batch: 10,
    },
];

fn told(cost: &Cost) -> String {
    format!(
        "{:.0} rows/s, {:.1} CPU s per million, {:.0} MiB",
        cost.rows_per_second(),
        cost.cpu_per_million(),
        cost.peak_mib
    )
}

impl Bench {
    async fn start() -> Result<Self, BenchError> {
        println!("starting Kafka and Cassandra");
        let stack = Stack::start(&StackOptions::default()).await?;
        let folder = workspace::target_dir()?.join("bench");
        let tap = Tap::new(stack.kafka.bootstrap())?;
        let table = Table::connect(&stack.cassandra.contact_points(), "none").await?;
        Ok(Self {
            stack,
            tap,
            table,
            folder,
            keyspaces: 0,
        })
    }

    async fn fill(&self, topic: &str, records: u64) -> Result<(), BenchError> {
        const SLICE: u64 = 20_000;
        self.stack.kafka.create_topic(topic, 6).await?;
        let mut first = 0;
        while first < records {
            let last = (first + SLICE).min(records);
            let slice: Vec<_> = people(1, first..last).map(|person| outgoing(&person)).collect();
            self.tap.write(topic, &slice).await?;
            first = last;
        }
        Ok(())
    }

    async fn keyspace(&mut self) -> Result<String, BenchError> {
        self.keyspaces += 1;
        let name = format!("bench_{}", self.keyspaces);
        let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
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

    async fn ceiling(&mut self, settings: &Settings, rows: u64) -> Result<Cost, BenchError> {
        let keyspace = self.keyspace().await?;
        let log = self.folder.join(format!("{keyspace}.log"));
        let arguments = [
            ("--contact-point", self.stack.cassandra.contact_points().join("")),
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

    async fn drain(&mut self, topic: &str, records: u64) -> Result<Cost, BenchError> {
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

    /// Median and 99th percentile of Kafka → row in milliseconds, at `rate` records a second.
    async fn steady(&mut self, rate: u64, length: Duration) -> Result<(f64, f64), BenchError> {
        let topic = format!("steady_{rate}");
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
    async fn start_to_ready(&mut self) -> Result<f64, BenchError> {
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

fn outgoing(person: &super::people::Person) -> Outgoing {
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
