//! Compares sinks on the same servers: all drain a backlog in turns, then each follows a steady stream at rising rates
//! until it falls behind.

pub mod backlog;
pub mod baseline;
pub mod comparison;
pub mod drain;

use std::time::Duration;

use anyhow::{Result, bail};

use self::backlog::Backlogs;
use self::comparison::{Comparison, SinkResult};
use crate::env::{BenchEnv, PARTITIONS};
use crate::load::stream::{Latency, Stream};
use crate::measure::spread::rotation;
use crate::report::reason;
use crate::sinks::Sink;
use crate::sinks::running::RunningSink;
use crate::sinks::streamer::Streamer;
use crate::sinks::target::Target;

/// Records per second.
const RATES: [u64; 7] = [100, 500, 2_000, 5_000, 10_000, 20_000, 40_000];
/// Length of the stream that starts a sink up.
const SETTLE_TIME: Duration = Duration::from_secs(4);
/// Attempts until all probes of the first records are visible.
const SETTLE_ATTEMPTS: u64 = 3;
const MAX_SETTLE_RATE: u64 = 1_000;

/// The size of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct SinkComparison {
    /// Records in the backlog.
    pub records: u64,
    /// Measured rounds.
    pub rounds: usize,
    /// Length of each stream; zero: no streams.
    pub steady: Duration,
}

impl SinkComparison {
    /// Measures Affluent's streamer and the peers. A peer that fails is excluded, with the reason.
    pub async fn run(&self, env: &mut BenchEnv, peers: &[Box<dyn Sink>]) -> Result<Comparison> {
        let streamer = Streamer::default();
        let mut sinks: Vec<&dyn Sink> = vec![&streamer];
        sinks.extend(peers.iter().map(|peer| &**peer));
        let mut comparison = self.drain_all(env, &sinks).await?;
        for (sink, result) in sinks.into_iter().zip(&mut comparison.sinks) {
            if self.steady.is_zero() || result.failure.is_some() {
                continue;
            }
            if let Err(error) = self.latencies(env, sink, &mut result.latencies).await {
                println!("{}: latency is not measured further: {error:#}", sink.name());
                result.latency_failure = Some(reason(&error));
            }
        }
        Ok(comparison)
    }

    async fn drain_all(&self, env: &mut BenchEnv, sinks: &[&dyn Sink]) -> Result<Comparison> {
        let mut backlogs = Backlogs::default();
        let mut results = Vec::new();
        for sink in sinks {
            let records = self.records.min(sink.max_records());
            let backlog = backlogs.get(env, PARTITIONS, records).await?;
            let mut result = SinkResult::new(sink.name(), records);
            if let Err(error) = backlog.warm_up(env, *sink).await {
                result.fail(&error);
            }
            results.push(result);
        }
        let settings = baseline::sweep(env, (self.records / 5).max(10_000)).await?;
        let mut baseline_costs = Vec::new();
        for round in 0..self.rounds {
            for place in rotation(round, sinks.len() + 1) {
                let Some(result) = results.get_mut(place) else {
                    let cost = baseline::run(env, &settings, self.records).await?;
                    println!("{}, round {}: {cost}", baseline::DRIVER_BASELINE, round + 1);
                    baseline_costs.push(cost);
                    continue;
                };
                if result.failure.is_some() {
                    continue;
                }
                let backlog = backlogs.get(env, PARTITIONS, result.records).await?;
                match backlog.drain(env, sinks[place]).await {
                    Ok(drain) => {
                        println!("{}, round {}: {drain}", result.name, round + 1);
                        result.drains.0.push(drain);
                    }
                    Err(error) => result.fail(&error),
                }
            }
        }
        backlogs.delete(env).await?;
        if let Some(reason) = results.first().and_then(|streamer| streamer.failure.as_ref()) {
            bail!("failed to measure the streamer: {reason}");
        }
        Ok(Comparison {
            baseline: baseline_costs,
            sinks: results,
        })
    }

    /// Raises the rate until the sink does not keep up.
    async fn latencies(
        &self,
        env: &mut BenchEnv,
        sink: &dyn Sink,
        latencies: &mut Vec<Latency>,
    ) -> Result<()> {
        for rate in RATES {
            let topic = format!("{}_{rate}", sink.name().to_lowercase().replace(' ', "_"));
            env.create_topic(&topic, PARTITIONS).await?;
            let target = env.create_target(&topic).await?;
            let latency = self.latency(env, &target, sink, rate).await;
            env.drop_keyspace(&target.keyspace).await?;
            env.delete_topic(&topic).await?;
            let latency = latency?;
            println!(
                "{} at {rate}/s: p50 {:.1} ms, p99 {:.1} ms{}",
                sink.name(),
                latency.p50,
                latency.p99,
                if latency.kept_up { "" } else { ", did not keep up" }
            );
            latencies.push(latency);
            if !latency.kept_up {
                break;
            }
        }
        Ok(())
    }

    async fn latency(&self, env: &BenchEnv, target: &Target, sink: &dyn Sink, rate: u64) -> Result<Latency> {
        let running = sink.start(target)?;
        let settle = Stream {
            rate: rate.min(MAX_SETTLE_RATE),
            length: SETTLE_TIME,
            probes: 5,
            max_delay: Duration::from_millis(100),
            timeout: Duration::from_secs(60),
            from: 0,
        };
        wait_until_settled(env, target, &running, settle).await?;
        let stream = Stream {
            rate,
            length: self.steady,
            probes: 25,
            from: 1_000_000,
            ..settle
        };
        let probes = stream.run(env, target).await?;
        running.check()?;
        running.stop().await?;
        Ok(stream.latency(&probes))
    }
}

/// Sends the first records, possibly before the sink is ready, until all their probes are visible.
async fn wait_until_settled(
    env: &BenchEnv,
    target: &Target,
    sink: &RunningSink,
    settle: Stream,
) -> Result<()> {
    for attempt in 0..SETTLE_ATTEMPTS {
        let from = attempt * settle.rate * settle.length.as_secs();
        let probes = Stream { from, ..settle }.run(env, target).await?;
        sink.check()?;
        if probes.iter().all(|probe| probe.seen.is_some()) {
            return Ok(());
        }
    }
    bail!(
        "{}: some of the first records have no rows\n{}",
        target.topic,
        sink.last_lines(20)
    )
}
