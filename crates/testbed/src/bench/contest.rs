//! Everybody who stands between topic and table, side by side on the same servers: a backlog drained in turn, then a
//! steady stream at one rate after the other, until it is too much.

use std::time::Duration;

use super::drain::{Backlog, Drains, ceiling_line, told};
use super::field::Field;
use super::figures::{Figure, Goal};
use super::report::{DrainLine, LatencyPoint, MemoryLine};
use super::sink::{Sink, Streamer};
use super::spread::order;
use super::stream::{Stream, latencies};
use super::streamer::rig::ceiling;
use super::streamer::sweep::sweep;
use super::warmup::Warmup;
use crate::error::TestbedError;

/// Records a second.
const RATES: [u64; 7] = [100, 500, 2_000, 5_000, 10_000, 20_000, 40_000];
/// The slowest sink has started and met its first records by then.
const SETTLE: Duration = Duration::from_secs(4);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Contest {
    /// Records in the backlog.
    pub records: u64,
    /// Rounds that count.
    pub rounds: usize,
    /// How long each rate is held; zero: none is measured.
    pub steady: Duration,
}

/// What was seen.
#[derive(Default)]
pub struct Sides {
    names: Vec<String>,
    rounds: Vec<Drains>,
    /// The backlogs.
    pub drains: Vec<DrainLine>,
    /// The streams.
    pub latencies: Vec<LatencyPoint>,
    /// Memory over the last backlog of each.
    pub memory: Vec<MemoryLine>,
}

impl Contest {
    /// Ours first, then the peers.
    ///
    /// # Errors
    /// When one does not get through, or stores something else.
    pub async fn run(&self, field: &mut Field, peers: &[Box<dyn Sink>]) -> Result<Sides, TestbedError> {
        let ours = Streamer::default();
        let mut sinks: Vec<&dyn Sink> = vec![&ours];
        sinks.extend(peers.iter().map(|peer| &**peer));
        let mut sides = self.drains(field, &sinks).await?;
        for sink in sinks {
            if !self.steady.is_zero() {
                sides.latencies.extend(self.latencies(field, sink).await?);
            }
        }
        Ok(sides)
    }

    async fn drains(&self, field: &mut Field, sinks: &[&dyn Sink]) -> Result<Sides, TestbedError> {
        println!("filling a topic with {} records", self.records);
        let backlog = Backlog::fill(field, "contest", 6, self.records, 0).await?;
        for sink in sinks {
            let mut warmup = Warmup::default();
            while warmup.goes_on() {
                let drain = backlog.drain(field, *sink).await?;
                println!("{}, warming up: {}", sink.name(), told(&drain));
                warmup.note(drain.cost.rows_per_second());
            }
        }
        let best = sweep(field, (self.records / 5).max(10_000)).await?;
        let (mut rounds, mut ceilings) = (vec![Drains::default(); sinks.len()], Vec::new());
        for round in 0..self.rounds {
            ceilings.push(ceiling(field, &best, self.records).await?);
            for place in order(round, sinks.len()) {
                let drain = backlog.drain(field, sinks[place]).await?;
                println!("{}, round {}: {}", sinks[place].name(), round + 1, told(&drain));
                rounds[place].0.push(drain);
            }
        }
        let names: Vec<String> = sinks.iter().map(|sink| sink.name().to_owned()).collect();
        let named = || names.iter().zip(&rounds);
        Ok(Sides {
            drains: ceiling_line("bare driver loop", &ceilings)
                .into_iter()
                .chain(named().filter_map(|(name, it)| it.line(name, self.records)))
                .collect(),
            memory: named()
                .filter_map(|(name, it)| it.memory(&format!("{name}, draining")))
                .collect(),
            latencies: Vec::new(),
            rounds,
            names,
        })
    }

    /// One rate after the other, until the sink does not keep up.
    async fn latencies(&self, field: &mut Field, sink: &dyn Sink) -> Result<Vec<LatencyPoint>, TestbedError> {
        let mut points = Vec::new();
        for rate in RATES {
            let point = self.latency(field, sink, rate).await?;
            println!(
                "{} at {rate}/s: p50 {:.1} ms, p99 {:.1} ms{}",
                sink.name(),
                point.p50_ms,
                point.p99_ms,
                if point.kept_up { "" } else { ", did not keep up" }
            );
            let kept_up = point.kept_up;
            points.push(point);
            if !kept_up {
                break;
            }
        }
        Ok(points)
    }

    async fn latency(
        &self,
        field: &mut Field,
        sink: &dyn Sink,
        rate: u64,
    ) -> Result<LatencyPoint, TestbedError> {
        let topic = format!("{}_{rate}", sink.name().to_lowercase().replace(' ', "_"));
        field.stack.kafka.create_topic(&topic, 6).await?;
        let site = field.site(&topic).await?;
        let running = sink.start(&site)?;
        let warm = Stream {
            rate: rate.min(1_000),
            length: SETTLE,
            probes: 5,
            longest_pause: Duration::from_millis(100),
            patience: Duration::from_secs(60),
            from: 0,
        };
        // A record that is sent before the sink has started waits for it.
        warm.run(field, &site).await?;
        let stream = Stream {
            rate,
            length: self.steady,
            probes: 25,
            from: 1_000_000,
            ..warm
        };
        let probes = stream.run(field, &site).await?;
        running.stop().await?;
        field.drop_keyspace(&site.keyspace).await?;
        Ok(latencies(sink.name(), &stream, &probes))
    }
}

impl Sides {
    fn of(&self, name: &str) -> Option<&Drains> {
        let place = self.names.iter().position(|it| it.eq_ignore_ascii_case(name))?;
        self.rounds.get(place)
    }

    /// The most memory of one in each round.
    pub fn peak_of(&self, name: &str) -> Option<Vec<f64>> {
        Some(self.of(name)?.each(|drain| drain.cost.peak_mib))
    }

    /// How many times faster ours drains the backlog.
    pub fn against(&self, peer: &str, times: f64) -> Figure {
        let speed = |drains: &Drains| drains.each(|drain| drain.cost.rows_per_second());
        let ours = self.rounds.first().map(speed).unwrap_or_default();
        let theirs = self.of(peer).map(speed).unwrap_or_default();
        let ratios: Vec<f64> = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        let name = format!("drain, rows/s, streamer / {peer}");
        Figure::measured(name, &ratios, "ratio", Goal::AtLeast(times))
    }
}
