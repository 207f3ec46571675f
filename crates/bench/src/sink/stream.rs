//! Steady stream of records with probes for their rows.
//!
//! A latency counts from the record's due time, so that stalls of the sender are included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::env::{BenchEnv, outgoing};
use crate::error::BenchError;
use crate::report::LatencyPoint;
use crate::report::figures::median;
use crate::sink::SinkConfig;
use crate::usage::histogram::{histogram, millis, record};
use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::{KafkaClientError, ProducerRecord};
use testkit::people::people;

/// Options of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Records a second.
    pub rate: u64,
    /// Duration.
    pub length: Duration,
    /// Records a second that are probed.
    pub probes: u64,
    /// Maximum pause between two queries for a row. The pause is a tenth of the record's age, to limit the load of
    /// the probes.
    pub max_pause: Duration,
    /// Timeout for a row.
    pub timeout: Duration,
    /// The first record's number in its series.
    pub from: u64,
}

/// A probed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The record's due time.
    pub intended: Instant,
    /// When its row was visible; none after the timeout.
    pub seen: Option<Instant>,
}

impl Probe {
    fn latency(&self) -> Option<Duration> {
        self.seen
            .map(|seen| seen.saturating_duration_since(self.intended))
    }
}

/// Seed of the stream's users; backlogs have another.
const SEED: u64 = 3;
/// Maximum interval between two writes.
const TICK: Duration = Duration::from_millis(2);
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// Maximum lateness of the last third of the rows, relative to the first third and absolute.
const MAX_SLOWDOWN: f64 = 1.5;
const SLACK: Duration = Duration::from_millis(250);

impl Stream {
    /// Sends the records and waits for the probed rows. A record's timestamp is its due time.
    ///
    /// # Errors
    /// When Kafka rejects a record or Cassandra rejects a query.
    pub async fn run(&self, env: &BenchEnv, config: &SinkConfig) -> Result<Vec<Probe>, BenchError> {
        let start = Instant::now() + TICK;
        let mut probes_in_flight = JoinSet::new();
        let mut writes: JoinSet<Result<(), KafkaClientError>> = JoinSet::new();
        let total = self.rate * self.length.as_secs();
        let every = (self.rate / self.probes.max(1)).max(1);
        let mut sent = 0;
        while sent < total {
            let intended = start + self.due(sent);
            tokio::time::sleep_until(intended.into()).await;
            let until = (sent + self.slice()).min(total);
            let slice: Vec<_> = people(SEED, self.from + sent..self.from + until).collect();
            let probed = (sent..until)
                .zip(&slice)
                .filter(|(number, _)| number % every == 0);
            let ids: Vec<Uuid> = probed.map(|(_, person)| person.id).collect();
            let (kafka_client, topic) = (env.kafka_client.clone(), config.topic.clone());
            let timestamp = Some(epoch_at(intended));
            let records = slice.iter().map(|person| ProducerRecord {
                timestamp,
                ..outgoing(person)
            });
            let records: Vec<_> = records.collect();
            writes.spawn(async move { kafka_client.write(&topic, &records).await.map(drop) });
            for id in ids {
                probes_in_flight.spawn(self.probe(
                    Arc::clone(&env.cassandra_client),
                    config.clone(),
                    id,
                    intended,
                ));
            }
            sent = until;
        }
        for written in writes.join_all().await {
            written?;
        }
        probes_in_flight.join_all().await.into_iter().collect()
    }

    /// The due time of a record since the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(number * 1_000_000_000 / self.rate.max(1))
    }

    /// Records per write.
    fn slice(&self) -> u64 {
        let ticks = 1_000_000_000 / TICK.as_nanos().max(1);
        (self.rate / u64::try_from(ticks).unwrap_or(1)).max(1)
    }

    async fn probe(
        self,
        table: Arc<CassandraClient>,
        config: SinkConfig,
        id: Uuid,
        intended: Instant,
    ) -> Result<Probe, BenchError> {
        let ask = format!(
            "SELECT id FROM {}.{} WHERE id = {id}",
            config.keyspace, config.table
        );
        loop {
            if !table.run(&ask).await?.is_empty() {
                let seen = Some(Instant::now());
                return Ok(Probe { intended, seen });
            }
            let age = intended.elapsed();
            if age > self.timeout {
                return Ok(Probe { intended, seen: None });
            }
            tokio::time::sleep((age / 10).clamp(MIN_PAUSE, self.max_pause)).await;
        }
    }
}

/// The instant in milliseconds since 1970.
fn epoch_at(instant: Instant) -> i64 {
    let late = i64::try_from(instant.elapsed().as_millis()).unwrap_or(0);
    jiff::Timestamp::now().as_millisecond() - late
}

/// The latencies of a stream as a point of the report. A missing row counts with the timeout.
pub fn latencies(name: &str, stream: &Stream, probes: &[Probe]) -> LatencyPoint {
    let mut latencies = histogram();
    for probe in probes {
        record(&mut latencies, probe.latency().unwrap_or(stream.timeout));
    }
    LatencyPoint {
        name: name.to_owned(),
        rate: stream.rate,
        probes: latencies.len(),
        p50_ms: millis(&latencies, 0.50),
        p90_ms: millis(&latencies, 0.90),
        p99_ms: millis(&latencies, 0.99),
        max_ms: millis(&latencies, 1.0),
        kept_up: kept_up(probes),
    }
}

/// Whether the last rows were about as late as the first. A sink that falls behind gets later over time. A missing
/// row counts as not keeping up.
fn kept_up(probes: &[Probe]) -> bool {
    let mut in_order = probes.to_vec();
    in_order.sort_by_key(|probe| probe.intended);
    let seconds: Option<Vec<f64>> = in_order
        .iter()
        .map(|probe| Some(probe.latency()?.as_secs_f64()))
        .collect();
    let Some(seconds) = seconds else { return false };
    let third = seconds.len().div_ceil(3);
    if third == 0 {
        return false;
    }
    let (first, last) = (
        median(&seconds[..third]),
        median(&seconds[seconds.len() - third..]),
    );
    last <= first * MAX_SLOWDOWN + SLACK.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream = Stream {
        rate: 500,
        length: Duration::from_secs(1),
        probes: 25,
        max_pause: Duration::from_millis(20),
        timeout: Duration::from_secs(30),
        from: 0,
    };

    /// Probes 40 ms apart with these latencies in milliseconds.
    fn probes(latencies: &[u64]) -> Vec<Probe> {
        let start = Instant::now();
        let probe = |(number, latency): (u32, &u64)| {
            let intended = start + Duration::from_millis(40) * number;
            let seen = Some(intended + Duration::from_millis(*latency));
            Probe { intended, seen }
        };
        (0..).zip(latencies).map(probe).collect()
    }

    #[test]
    fn records_are_due_evenly_in_any_slice_size() {
        assert_eq!((STREAM.slice(), STREAM.due(250)), (1, Duration::from_millis(500)));
        let fast = Stream {
            rate: 5_000,
            ..STREAM
        };
        assert_eq!((fast.slice(), fast.due(10)), (10, TICK));
        let slow = Stream { rate: 10, ..STREAM };
        assert_eq!((slow.slice(), slow.due(1)), (1, Duration::from_millis(100)));
    }

    #[test]
    fn quantiles_are_of_the_time_since_the_due_time() {
        let mut latencies_ms = vec![5; 98];
        latencies_ms.extend([500, 700]);
        let point = latencies("it", &STREAM, &probes(&latencies_ms));
        let near = |value: f64, wanted: f64| (value - wanted).abs() < wanted / 100.0;
        assert!(
            near(point.p50_ms, 5.0) && near(point.p99_ms, 500.0) && near(point.max_ms, 700.0),
            "{point:?}"
        );
        assert!(point.kept_up && point.probes == 100);
    }

    #[test]
    fn constantly_late_sink_keeps_up() {
        assert!(kept_up(&probes(&[3_000; 30])));
        assert!(kept_up(&probes(&[5, 5, 5, 5, 5, 5, 5, 5, 900])));
    }

    #[test]
    fn increasingly_late_sink_does_not_keep_up() {
        let behind: Vec<u64> = (0..30).map(|number| 5 + number * 50).collect();
        assert!(!kept_up(&probes(&behind)));
        let mut backwards = probes(&behind);
        backwards.reverse();
        assert!(!kept_up(&backwards), "what counts is when each was due");
        assert!(!kept_up(&[]));
    }

    #[test]
    fn missing_row_means_not_keeping_up() {
        let mut lost = probes(&[5, 5]);
        lost[0].seen = None;
        assert!(!kept_up(&lost));
        let point = latencies("it", &STREAM, &lost);
        assert!(point.max_ms > 29_000.0, "{point:?}");
    }
}
