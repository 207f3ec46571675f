//! A steady stream of records, and the latency of some of their rows: from the time a record is due until its row is
//! visible. A late sender makes its rows late, so no stall is omitted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::{KafkaClientError, ProducerRecord};
use testkit::people::people;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::env::BenchEnv;
use crate::env::records::record;
use crate::measure::histogram::{self, histogram, quantile_ms};
use crate::measure::spread::median;
use crate::sinks::target::Target;

/// Rate and length of the stream, and how its rows are observed.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Records per second.
    pub rate: u64,
    /// Length of the stream.
    pub length: Duration,
    /// Records per second whose rows are observed.
    pub probes: u64,
    /// A query costs the server work, so the delay between two is a tenth of the record's age, up to this.
    pub max_delay: Duration,
    /// After this time a row counts as missing.
    pub timeout: Duration,
    /// Number of the first record in its series.
    pub from: u64,
}

/// An observed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowProbe {
    /// When it was due to be sent.
    pub due: Instant,
    /// When its row was visible; `None` after the timeout.
    pub seen: Option<Instant>,
}

/// Latencies at one rate, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Records per second.
    pub rate: u64,
    /// Number of observed rows.
    pub probes: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Maximum.
    pub max: f64,
    /// Whether no row was missing, and the last third was about as fast as the first.
    pub kept_up: bool,
}

/// The series of users in streams.
const SEED: u64 = 3;
/// Longest time between two batches of records.
const TICK: Duration = Duration::from_millis(2);
const MIN_DELAY: Duration = Duration::from_millis(1);
/// The last third of the rows may be slower than the first by this factor and this slack.
const MAX_SLOWDOWN: f64 = 1.5;
const SLACK: Duration = Duration::from_millis(250);

impl RowProbe {
    fn latency(&self) -> Option<Duration> {
        self.seen.map(|seen| seen.saturating_duration_since(self.due))
    }
}

impl Stream {
    /// Sends the records and waits for the observed rows. A record's timestamp is the time it is due.
    pub async fn run(&self, env: &BenchEnv, target: &Target) -> Result<Vec<RowProbe>> {
        let start = Instant::now() + TICK;
        let mut queries = JoinSet::new();
        let mut writes: JoinSet<Result<(), KafkaClientError>> = JoinSet::new();
        let total = self.rate * self.length.as_secs();
        let probe_interval = (self.rate / self.probes.max(1)).max(1);
        let mut sent = 0;
        while sent < total {
            let due = start + self.due(sent);
            tokio::time::sleep_until(due.into()).await;
            let until = (sent + self.batch_size()).min(total);
            let users: Vec<_> = people(SEED, self.from + sent..self.from + until).collect();
            let timestamp = Some(unix_millis(due));
            let records = users.iter().map(|user| ProducerRecord {
                timestamp,
                ..record(user)
            });
            let records: Vec<_> = records.collect();
            let (kafka, topic) = (env.kafka.clone(), target.topic.clone());
            writes.spawn(async move { kafka.write(&topic, &records).await.map(drop) });
            for (number, user) in (sent..until).zip(&users) {
                if number % probe_interval == 0 {
                    let cassandra = Arc::clone(&env.cassandra);
                    queries.spawn(self.observe(cassandra, target.clone(), user.id, due));
                }
            }
            sent = until;
        }
        for written in writes.join_all().await {
            written?;
        }
        queries.join_all().await.into_iter().collect()
    }

    /// When a record is due, from the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(number * 1_000_000_000 / self.rate.max(1))
    }

    /// Records sent together.
    fn batch_size(&self) -> u64 {
        let ticks = 1_000_000_000 / TICK.as_nanos().max(1);
        (self.rate / u64::try_from(ticks).unwrap_or(1)).max(1)
    }

    async fn observe(
        self,
        cassandra: Arc<CassandraClient>,
        target: Target,
        id: Uuid,
        due: Instant,
    ) -> Result<RowProbe> {
        let query = format!("SELECT id FROM {} WHERE id = {id}", target.full_table());
        loop {
            // A node may be down; then the row is not visible through it.
            if cassandra.run(&query).await.is_ok_and(|rows| !rows.is_empty()) {
                let seen = Some(Instant::now());
                return Ok(RowProbe { due, seen });
            }
            let age = due.elapsed();
            if age > self.timeout {
                return Ok(RowProbe { due, seen: None });
            }
            tokio::time::sleep((age / 10).clamp(MIN_DELAY, self.max_delay)).await;
        }
    }

    /// The latencies of the observed rows. A missing row counts with the timeout.
    pub fn latency(&self, probes: &[RowProbe]) -> Latency {
        let mut latencies = histogram();
        for probe in probes {
            histogram::record(&mut latencies, probe.latency().unwrap_or(self.timeout));
        }
        let [p50, p90, p99, max] = [0.50, 0.90, 0.99, 1.0].map(|part| quantile_ms(&latencies, part));
        Latency {
            rate: self.rate,
            probes: latencies.len(),
            p50,
            p90,
            p99,
            max,
            kept_up: kept_up(probes),
        }
    }
}

/// An instant in milliseconds since 1970.
fn unix_millis(instant: Instant) -> i64 {
    let age = i64::try_from(instant.elapsed().as_millis()).unwrap_or(0);
    jiff::Timestamp::now().as_millisecond() - age
}

/// Whether latency stayed about constant. A sink that falls behind gets slower the longer it runs.
fn kept_up(probes: &[RowProbe]) -> bool {
    let mut in_order = probes.to_vec();
    in_order.sort_by_key(|probe| probe.due);
    let seconds: Option<Vec<f64>> = in_order
        .iter()
        .map(|probe| Some(probe.latency()?.as_secs_f64()))
        .collect();
    let Some(seconds) = seconds else { return false };
    let third = seconds.len().div_ceil(3);
    if third == 0 {
        return false;
    }
    let (first, last) = (&seconds[..third], &seconds[seconds.len() - third..]);
    median(last) <= median(first) * MAX_SLOWDOWN + SLACK.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream = Stream {
        rate: 500,
        length: Duration::from_secs(1),
        probes: 25,
        max_delay: Duration::from_millis(20),
        timeout: Duration::from_secs(30),
        from: 0,
    };

    /// Probes due every 40 ms, each visible after the given milliseconds.
    fn probes(latencies: &[u64]) -> Vec<RowProbe> {
        let start = Instant::now();
        let probe = |(number, latency): (u32, &u64)| {
            let due = start + Duration::from_millis(40) * number;
            let seen = Some(due + Duration::from_millis(*latency));
            RowProbe { due, seen }
        };
        (0..).zip(latencies).map(probe).collect()
    }

    #[test]
    fn records_are_due_evenly_in_batches_of_any_size() {
        let batch_and_due = |stream: Stream, number| (stream.batch_size(), stream.due(number));
        assert_eq!(batch_and_due(STREAM, 250), (1, Duration::from_millis(500)));
        let fast = Stream {
            rate: 5_000,
            ..STREAM
        };
        assert_eq!(batch_and_due(fast, 10), (10, TICK));
        let slow = Stream { rate: 10, ..STREAM };
        assert_eq!(batch_and_due(slow, 1), (1, Duration::from_millis(100)));
    }

    #[test]
    fn quantiles_count_from_the_due_time() {
        let mut latencies_ms = vec![5; 98];
        latencies_ms.extend([500, 700]);
        let latency = STREAM.latency(&probes(&latencies_ms));
        let near = |value: f64, expected: f64| (value - expected).abs() < expected / 100.0;
        assert!(
            near(latency.p50, 5.0) && near(latency.p99, 500.0) && near(latency.max, 700.0),
            "{latency:?}"
        );
        assert!(latency.kept_up && latency.probes == 100);
    }

    #[test]
    fn constantly_slow_sink_keeps_up() {
        assert!(kept_up(&probes(&[3_000; 30])));
        assert!(kept_up(&probes(&[5, 5, 5, 5, 5, 5, 5, 5, 900])));
    }

    #[test]
    fn sink_that_falls_behind_does_not_keep_up() {
        let behind: Vec<u64> = (0..30).map(|number| 5 + number * 50).collect();
        assert!(!kept_up(&probes(&behind)));
        let mut backwards = probes(&behind);
        backwards.reverse();
        assert!(!kept_up(&backwards), "probes count in the order they are due");
        assert!(!kept_up(&[]));
    }

    #[test]
    fn missing_row_does_not_keep_up() {
        let mut lost = probes(&[5, 5]);
        lost[0].seen = None;
        assert!(!kept_up(&lost));
        let latency = STREAM.latency(&lost);
        assert!(latency.max > 29_000.0, "{latency:?}");
    }
}
