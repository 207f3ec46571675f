//! Compares the sinks on the same servers: draining a backlog, then a steady stream at increasing rates.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::baseline::sweep::{self, run_baseline, sweep};
use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::report::figures::{Figure, Goal};
use crate::report::spread::order;
use crate::report::{DrainLine, LatencyPoint, MemoryLine, reason};
use crate::sink::drain::{Backlog, Backlogs, Drain, DrainRounds, baseline_line, summary};
use crate::sink::stream::{Stream, latencies};
use crate::sink::{RunningSink, Sink, SinkConfig, Streamer};
use crate::usage::warmup::Warmup;

/// Records a second.
const RATES: [u64; 7] = [100, 500, 2_000, 5_000, 10_000, 20_000, 40_000];
/// Warm-up of a stream: the slowest sink has started by then.
const WARMUP: Duration = Duration::from_secs(4);
/// Attempts to warm up a sink.
const ATTEMPTS: u64 = 3;
const PARTITIONS: i32 = 6;

/// Options of the comparison.
#[derive(Debug, Clone, Copy)]
pub struct SinkComparison {
    /// Records in the backlog.
    pub records: u64,
    /// Measured rounds.
    pub rounds: usize,
    /// Duration of each rate; zero: no rates.
    pub steady: Duration,
}

/// Results of all sinks.
#[derive(Default)]
pub struct SinkResults {
    names: Vec<String>,
    rounds: Vec<DrainRounds>,
    /// Drains of the backlog.
    pub drains: Vec<DrainLine>,
    /// Latencies of the streams.
    pub latencies: Vec<LatencyPoint>,
    /// Memory during each sink's last drain.
    pub memory: Vec<MemoryLine>,
    /// Sinks that could not be measured, with the reason.
    pub absent: BTreeMap<String, String>,
}

/// One sink with its backlog and rounds.
struct MeasuredSink<'a> {
    sink: &'a dyn Sink,
    backlog: Backlog,
    drains: DrainRounds,
    /// Why the sink was excluded.
    excluded: Option<String>,
}

impl MeasuredSink<'_> {
    /// Drains the backlog once. Returns none if the sink is excluded, and excludes it if it fails.
    async fn drain(&mut self, env: &mut BenchEnv, what: &str) -> Option<Drain> {
        if self.excluded.is_some() {
            return None;
        }
        match self.backlog.drain(env, self.sink).await {
            Ok(drain) => {
                println!("{}, {what}: {}", self.sink.name(), summary(&drain));
                Some(drain)
            }
            Err(error) => {
                println!("{} is not measured: {error}", self.sink.name());
                self.drains = DrainRounds::default();
                self.excluded = Some(reason(&error));
                None
            }
        }
    }

    async fn warm(&mut self, env: &mut BenchEnv) {
        let mut warmup = Warmup::default();
        while warmup.needs_another_round() {
            let Some(drain) = self.drain(env, "warming up").await else {
                return;
            };
            warmup.record(drain.cost.rows_per_second());
        }
    }
}

impl SinkComparison {
    /// Measures the streamer first, then the peers. A peer that fails is excluded and reported as absent.
    ///
    /// # Errors
    /// When the streamer, the baseline or a server fails.
    pub async fn run(&self, env: &mut BenchEnv, peers: &[Box<dyn Sink>]) -> Result<SinkResults, BenchError> {
        let streamer = Streamer::default();
        let mut sinks: Vec<&dyn Sink> = vec![&streamer];
        sinks.extend(peers.iter().map(|peer| &**peer));
        let mut measured = self.drains(env, &sinks).await?;
        for sink in sinks {
            if self.steady.is_zero() || measured.absent.contains_key(sink.name()) {
                continue;
            }
            if let Err(error) = self.latencies(env, sink, &mut measured.latencies).await {
                println!("{}: latency is not measured further: {error}", sink.name());
                let name = format!("{}, latency at the next rate", sink.name());
                measured.absent.insert(name, reason(&error));
            }
        }
        Ok(measured)
    }

    async fn drains(&self, env: &mut BenchEnv, sinks: &[&dyn Sink]) -> Result<SinkResults, BenchError> {
        let (mut backlogs, mut measured) = (Backlogs::default(), Vec::new());
        for sink in sinks {
            let records = self.records.min(sink.most_records());
            measured.push(MeasuredSink {
                sink: *sink,
                backlog: backlogs.of(env, PARTITIONS, records).await?,
                drains: DrainRounds::default(),
                excluded: None,
            });
        }
        for sink in &mut measured {
            sink.warm(env).await;
        }
        let best = sweep(env, (self.records / 5).max(10_000)).await?;
        let mut baselines = Vec::new();
        for round in 0..self.rounds {
            for place in order(round, measured.len() + 1) {
                if let Some(sink) = measured.get_mut(place) {
                    let drain = sink.drain(env, &format!("round {}", round + 1)).await;
                    sink.drains.0.extend(drain);
                } else {
                    let cost = run_baseline(env, &best, self.records).await?;
                    println!("baseline, round {}: {}", round + 1, sweep::summary(&cost));
                    baselines.push(cost);
                }
            }
        }
        backlogs.delete(env).await?;
        // Without the streamer there is nothing to compare.
        if let Some(reason) = measured.first().and_then(|streamer| streamer.excluded.clone()) {
            return Err(BenchError::Incomplete(reason));
        }
        let mut results = SinkResults::default();
        results
            .drains
            .extend(baseline_line("driver baseline", &baselines));
        for sink in measured {
            results.add(sink);
        }
        Ok(results)
    }

    /// Measures increasing rates until the sink does not keep up.
    async fn latencies(
        &self,
        env: &mut BenchEnv,
        sink: &dyn Sink,
        points: &mut Vec<LatencyPoint>,
    ) -> Result<(), BenchError> {
        for rate in RATES {
            let point = self.latency(env, sink, rate).await?;
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
        env: &mut BenchEnv,
        sink: &dyn Sink,
        rate: u64,
    ) -> Result<LatencyPoint, BenchError> {
        let topic = format!("{}_{rate}", sink.name().to_lowercase().replace(' ', "_"));
        env.stack.kafka.create_topic(&topic, PARTITIONS).await?;
        let config = env.prepare_sink(&topic).await?;
        let followed = self.follow(env, &config, sink, rate).await;
        env.drop_keyspace(&config.keyspace).await?;
        env.delete_topic(&topic).await?;
        followed
    }

    async fn follow(
        &self,
        env: &BenchEnv,
        config: &SinkConfig,
        sink: &dyn Sink,
        rate: u64,
    ) -> Result<LatencyPoint, BenchError> {
        let running = sink.start(config)?;
        let warm = Stream {
            rate: rate.min(1_000),
            length: WARMUP,
            probes: 5,
            max_pause: Duration::from_millis(100),
            timeout: Duration::from_secs(60),
            from: 0,
        };
        started(env, config, &running, warm).await?;
        let stream = Stream {
            rate,
            length: self.steady,
            probes: 25,
            from: 1_000_000,
            ..warm
        };
        let probes = stream.run(env, config).await?;
        running.check()?;
        running.stop().await?;
        Ok(latencies(sink.name(), &stream, &probes))
    }
}

/// Sends the first records until all probed rows are visible. They wait in the topic until the sink has started.
async fn started(
    env: &BenchEnv,
    config: &SinkConfig,
    running: &RunningSink,
    warm: Stream,
) -> Result<(), BenchError> {
    for attempt in 0..ATTEMPTS {
        let from = attempt * warm.rate * warm.length.as_secs();
        let probes = Stream { from, ..warm }.run(env, config).await?;
        running.check()?;
        if probes.iter().all(|probe| probe.seen.is_some()) {
            return Ok(());
        }
    }
    let log = running.last_lines(20);
    Err(BenchError::Incomplete(format!(
        "{}: missing rows of the first records\n{log}",
        config.topic
    )))
}

impl SinkResults {
    fn add(&mut self, sink: MeasuredSink<'_>) {
        let name = sink.sink.name().to_owned();
        self.drains.extend(sink.drains.line(&name, sink.backlog.records));
        self.memory
            .extend(sink.drains.memory(&format!("{name}, draining")));
        self.absent
            .extend(sink.excluded.map(|reason| (name.clone(), reason)));
        self.rounds.push(sink.drains);
        self.names.push(name);
    }

    fn of(&self, name: &str) -> Option<&DrainRounds> {
        let place = self.names.iter().position(|it| it.eq_ignore_ascii_case(name))?;
        self.rounds.get(place)
    }

    /// The peak memory of a sink in each round.
    pub fn peak_of(&self, name: &str) -> Option<Vec<f64>> {
        Some(self.of(name)?.each(|drain| drain.cost.peak_mib))
    }

    /// Compares the streamer's rows/s with a peer's.
    pub fn against(&self, peer: &str, times: f64) -> Figure {
        let speed = |drains: &DrainRounds| drains.each(|drain| drain.cost.rows_per_second());
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
