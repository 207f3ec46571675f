//! Everybody who stands between topic and table, side by side on the same servers: a backlog drained in turn, then a
//! steady stream at one rate after the other, until it is too much.

use std::collections::BTreeMap;
use std::time::Duration;

use super::drain::{Backlog, Backlogs, Drain, Drains, ceiling_line, told};
use super::field::Field;
use super::figures::{Figure, Goal};
use super::report::{DrainLine, LatencyPoint, MemoryLine, reason};
use super::sink::{Running, Sink, Site, Streamer};
use super::spread::order;
use super::stream::{Stream, latencies};
use super::streamer::rig::ceiling;
use super::streamer::sweep::{self, sweep};
use super::warmup::Warmup;
use crate::error::BenchError;

/// Records a second.
const RATES: [u64; 7] = [100, 500, 2_000, 5_000, 10_000, 20_000, 40_000];
/// The slowest sink has started and met its first records by then.
const SETTLE: Duration = Duration::from_secs(4);
/// So often a sink is sent its first records.
const TRIES: u64 = 3;
const PARTITIONS: i32 = 6;

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
    /// What could not be measured, and why not.
    pub absent: BTreeMap<String, String>,
}

/// One of those that are measured.
struct Side<'a> {
    sink: &'a dyn Sink,
    backlog: Backlog,
    drains: Drains,
    /// Why it takes part no more.
    out: Option<String>,
}

impl Side<'_> {
    /// Drains the backlog; none when it is out, or is so from now on.
    async fn drain(&mut self, field: &mut Field, what: &str) -> Option<Drain> {
        if self.out.is_some() {
            return None;
        }
        match self.backlog.drain(field, self.sink).await {
            Ok(drain) => {
                println!("{}, {what}: {}", self.sink.name(), told(&drain));
                Some(drain)
            }
            Err(error) => {
                println!("{} is not measured: {error}", self.sink.name());
                self.drains = Drains::default();
                self.out = Some(reason(&error));
                None
            }
        }
    }

    async fn warm(&mut self, field: &mut Field) {
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let Some(drain) = self.drain(field, "warming up").await else {
                return;
            };
            warmup.note(drain.cost.rows_per_second());
        }
    }
}

impl Contest {
    /// Ours first, then the peers. A peer that fails takes part no more, and is told among what is absent.
    ///
    /// # Errors
    /// When ours or the bare loop fails, or the servers do.
    pub async fn run(&self, field: &mut Field, peers: &[Box<dyn Sink>]) -> Result<Sides, BenchError> {
        let ours = Streamer::default();
        let mut sinks: Vec<&dyn Sink> = vec![&ours];
        sinks.extend(peers.iter().map(|peer| &**peer));
        let mut sides = self.drains(field, &sinks).await?;
        for sink in sinks {
            if self.steady.is_zero() || sides.absent.contains_key(sink.name()) {
                continue;
            }
            if let Err(error) = self.latencies(field, sink, &mut sides.latencies).await {
                println!("{}: latency is not measured further: {error}", sink.name());
                let name = format!("{}, latency at the next rate", sink.name());
                sides.absent.insert(name, reason(&error));
            }
        }
        Ok(sides)
    }

    async fn drains(&self, field: &mut Field, sinks: &[&dyn Sink]) -> Result<Sides, BenchError> {
        let (mut backlogs, mut sides) = (Backlogs::default(), Vec::new());
        for sink in sinks {
            let records = self.records.min(sink.most_records());
            sides.push(Side {
                sink: *sink,
                backlog: backlogs.of(field, PARTITIONS, records, 0).await?,
                drains: Drains::default(),
                out: None,
            });
        }
        for side in &mut sides {
            side.warm(field).await;
        }
        let best = sweep(field, (self.records / 5).max(10_000)).await?;
        let mut ceilings = Vec::new();
        for round in 0..self.rounds {
            for place in order(round, sides.len() + 1) {
                if let Some(side) = sides.get_mut(place) {
                    let drain = side.drain(field, &format!("round {}", round + 1)).await;
                    side.drains.0.extend(drain);
                } else {
                    let cost = ceiling(field, &best, self.records).await?;
                    println!("bare loop, round {}: {}", round + 1, sweep::told(&cost));
                    ceilings.push(cost);
                }
            }
        }
        backlogs.delete(field).await?;
        // Without ours there is nothing to compare.
        if let Some(reason) = sides.first().and_then(|ours| ours.out.clone()) {
            return Err(BenchError::Incomplete(reason));
        }
        let mut seen = Sides::default();
        seen.drains.extend(ceiling_line("bare driver loop", &ceilings));
        for side in sides {
            seen.add(side);
        }
        Ok(seen)
    }

    /// One rate after the other, until the sink does not keep up.
    async fn latencies(
        &self,
        field: &mut Field,
        sink: &dyn Sink,
        points: &mut Vec<LatencyPoint>,
    ) -> Result<(), BenchError> {
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
        Ok(())
    }

    async fn latency(
        &self,
        field: &mut Field,
        sink: &dyn Sink,
        rate: u64,
    ) -> Result<LatencyPoint, BenchError> {
        let topic = format!("{}_{rate}", sink.name().to_lowercase().replace(' ', "_"));
        field.stack.kafka.create_topic(&topic, PARTITIONS).await?;
        let site = field.site(&topic).await?;
        let followed = self.follow(field, &site, sink, rate).await;
        field.drop_keyspace(&site.keyspace).await?;
        field.delete_topic(&topic).await?;
        followed
    }

    async fn follow(
        &self,
        field: &Field,
        site: &Site,
        sink: &dyn Sink,
        rate: u64,
    ) -> Result<LatencyPoint, BenchError> {
        let running = sink.start(site)?;
        let warm = Stream {
            rate: rate.min(1_000),
            length: SETTLE,
            probes: 5,
            longest_pause: Duration::from_millis(100),
            patience: Duration::from_secs(60),
            from: 0,
        };
        started(field, site, &running, warm).await?;
        let stream = Stream {
            rate,
            length: self.steady,
            probes: 25,
            from: 1_000_000,
            ..warm
        };
        let probes = stream.run(field, site).await?;
        running.check()?;
        running.stop().await?;
        Ok(latencies(sink.name(), &stream, &probes))
    }
}

/// Sends the first records, which wait for a sink that has not started yet, until all that are looked for are seen.
async fn started(field: &Field, site: &Site, running: &Running, warm: Stream) -> Result<(), BenchError> {
    for attempt in 0..TRIES {
        let from = attempt * warm.rate * warm.length.as_secs();
        let probes = Stream { from, ..warm }.run(field, site).await?;
        running.check()?;
        if probes.iter().all(|probe| probe.seen.is_some()) {
            return Ok(());
        }
    }
    let log = running.last_lines(20);
    Err(BenchError::Incomplete(format!(
        "{}: some of its first records have no rows\n{log}",
        site.topic
    )))
}

impl Sides {
    fn add(&mut self, side: Side<'_>) {
        let name = side.sink.name().to_owned();
        self.drains.extend(side.drains.line(&name, side.backlog.records));
        self.memory
            .extend(side.drains.memory(&format!("{name}, draining")));
        self.absent.extend(side.out.map(|reason| (name.clone(), reason)));
        self.rounds.push(side.drains);
        self.names.push(name);
    }

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
