//! A steady stream of records, and a look for the rows of some of them: when each was to be sent, and when its row was
//! seen. What is late to be sent is late to be seen, so no stall is left out of the figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use uuid::Uuid;

use super::field::{Field, outgoing};
use super::figures::median;
use super::histogram::{histogram, millis, note};
use super::report::LatencyPoint;
use super::sink::Site;
use crate::error::BenchError;
use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::{KafkaClientError, ProducerRecord};
use testkit::people::people;

/// How the stream is sent and looked at.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Records a second.
    pub rate: u64,
    /// For how long.
    pub length: Duration,
    /// Records a second whose rows are looked for.
    pub probes: u64,
    /// A look costs the server something, so the pause between two of them grows with the age of the record: a tenth of
    /// it, but no more than this.
    pub longest_pause: Duration,
    /// When a row is given up.
    pub patience: Duration,
    /// The first record's number in its series.
    pub from: u64,
}

/// A record that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// When it was to be sent.
    pub intended: Instant,
    /// When its row was seen; none: not in time.
    pub seen: Option<Instant>,
}

impl Probe {
    fn latency(&self) -> Option<Duration> {
        self.seen
            .map(|seen| seen.saturating_duration_since(self.intended))
    }
}

/// The people of the stream; backlogs have others.
const SEED: u64 = 3;
/// Records are sent in slices this far apart at most.
const TICK: Duration = Duration::from_millis(2);
const LEAST_PAUSE: Duration = Duration::from_millis(1);
/// The last third of the rows may be so many times as late as the first, and so much more.
const AS_SOON: f64 = 1.5;
const SLACK: Duration = Duration::from_millis(250);

impl Stream {
    /// Sends, looks, and waits for what was looked for. A record's timestamp is when it was to be sent.
    ///
    /// # Errors
    /// When Kafka does not take a record, or Cassandra does not answer.
    pub async fn run(&self, field: &Field, site: &Site) -> Result<Vec<Probe>, BenchError> {
        let start = Instant::now() + TICK;
        let mut looks = JoinSet::new();
        let mut writes: JoinSet<Result<(), KafkaClientError>> = JoinSet::new();
        let total = self.rate * self.length.as_secs();
        let every = (self.rate / self.probes.max(1)).max(1);
        let mut sent = 0;
        while sent < total {
            let intended = start + self.due(sent);
            tokio::time::sleep_until(intended.into()).await;
            let until = (sent + self.slice()).min(total);
            let slice: Vec<_> = people(SEED, self.from + sent..self.from + until).collect();
            let looked_for = (sent..until)
                .zip(&slice)
                .filter(|(number, _)| number % every == 0);
            let ids: Vec<Uuid> = looked_for.map(|(_, person)| person.id).collect();
            let (tap, topic) = (field.tap.clone(), site.topic.clone());
            let timestamp = Some(epoch_at(intended));
            let records = slice.iter().map(|person| ProducerRecord {
                timestamp,
                ..outgoing(person)
            });
            let records: Vec<_> = records.collect();
            writes.spawn(async move { tap.write(&topic, &records).await.map(drop) });
            for id in ids {
                looks.spawn(self.look(Arc::clone(&field.table), site.clone(), id, intended));
            }
            sent = until;
        }
        for written in writes.join_all().await {
            written?;
        }
        looks.join_all().await.into_iter().collect()
    }

    /// When a record is due, from the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(number * 1_000_000_000 / self.rate.max(1))
    }

    /// Records that are sent together.
    fn slice(&self) -> u64 {
        let ticks = 1_000_000_000 / TICK.as_nanos().max(1);
        (self.rate / u64::try_from(ticks).unwrap_or(1)).max(1)
    }

    async fn look(
        self,
        table: Arc<CassandraClient>,
        site: Site,
        id: Uuid,
        intended: Instant,
    ) -> Result<Probe, BenchError> {
        let ask = format!("SELECT id FROM {}.{} WHERE id = {id}", site.keyspace, site.table);
        loop {
            if !table.run(&ask).await?.is_empty() {
                let seen = Some(Instant::now());
                return Ok(Probe { intended, seen });
            }
            let age = intended.elapsed();
            if age > self.patience {
                return Ok(Probe { intended, seen: None });
            }
            tokio::time::sleep((age / 10).clamp(LEAST_PAUSE, self.longest_pause)).await;
        }
    }
}

/// An instant in milliseconds since 1970.
fn epoch_at(instant: Instant) -> i64 {
    let late = i64::try_from(instant.elapsed().as_millis()).unwrap_or(0);
    jiff::Timestamp::now().as_millisecond() - late
}

/// The latencies of a stream as a point of the report. A row that was not seen counts as seen at the end of patience.
pub fn latencies(name: &str, stream: &Stream, probes: &[Probe]) -> LatencyPoint {
    let mut latencies = histogram();
    for probe in probes {
        note(&mut latencies, probe.latency().unwrap_or(stream.patience));
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

/// Whether the last rows came about as soon as the first, however late those were: a sink that falls behind is the later
/// the longer it runs. A row that was never seen says that it does not.
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
    last <= first * AS_SOON + SLACK.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream = Stream {
        rate: 500,
        length: Duration::from_secs(1),
        probes: 25,
        longest_pause: Duration::from_millis(20),
        patience: Duration::from_secs(30),
        from: 0,
    };

    /// Looked for every 40 ms, each seen so many milliseconds after it was due.
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
    fn records_are_due_evenly_however_they_are_sliced() {
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
    fn the_quantiles_are_of_the_time_since_a_record_was_due() {
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
    fn a_sink_that_is_late_from_first_to_last_keeps_up() {
        assert!(kept_up(&probes(&[3_000; 30])));
        assert!(kept_up(&probes(&[5, 5, 5, 5, 5, 5, 5, 5, 900])));
    }

    #[test]
    fn a_sink_that_is_the_later_the_longer_it_runs_does_not_keep_up() {
        let behind: Vec<u64> = (0..30).map(|number| 5 + number * 50).collect();
        assert!(!kept_up(&probes(&behind)));
        let mut backwards = probes(&behind);
        backwards.reverse();
        assert!(!kept_up(&backwards), "what counts is when each was due");
        assert!(!kept_up(&[]));
    }

    #[test]
    fn a_row_that_never_comes_is_not_kept_up_with() {
        let mut lost = probes(&[5, 5]);
        lost[0].seen = None;
        assert!(!kept_up(&lost));
        let point = latencies("it", &STREAM, &lost);
        assert!(point.max_ms > 29_000.0, "{point:?}");
    }
}
