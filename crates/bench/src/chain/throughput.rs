//! Throughput of one run of many users through the chain, compared with the streamer's own drain of the same topic.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use super::breakdown::Breakdown;
use super::pipeline::Pipeline;
use crate::env::{BenchEnv, TIMEOUT};
use crate::error::BenchError;
use crate::report::figures::{Figure, Goal, spread};
use crate::report::spread::Spread;
use crate::report::{BreakdownLine, MemoryLine};
use crate::sink::Streamer;
use crate::sink::drain::drain;
use crate::usage::own_cpu_seconds;
use crate::usage::sampler::{Usage, UsageSampler, downsample};
use crate::usage::warmup::Warmup;
use testkit::process::Child;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::service::Service;

const MAX_SAMPLES: usize = 240;
/// Warm-up runs. Kafka gets few requests, so its JIT compiler takes this many runs.
const WARMUP_RUNS: usize = 8;
/// Size of the API's page cache. Pages of 100,000 users take about 120 MB, and the warm-up fills the cache.
const PAGE_CACHE: usize = 1 << 30;
/// Seed of every run, so that the API generates each page once.
const SEED: &str = "chain";

/// Results of the rounds.
#[derive(Default)]
pub(super) struct ChainThroughput {
    /// The chain's users/s divided by the drain's rows/s.
    ratios: Vec<f64>,
    /// The same from the first API request on.
    from_request: Vec<f64>,
    /// Peak memory of ingester, publisher and streamer together.
    peaks: Vec<f64>,
    breakdowns: Vec<Breakdown>,
    pub(super) memory: Vec<MemoryLine>,
}

/// One round.
struct ChainRound {
    /// Users a second, from the ingester's start to the last row.
    speed: f64,
    /// The streamer's own rows a second.
    drain_speed: f64,
    usage: Usage,
    breakdown: Breakdown,
}

impl ChainThroughput {
    pub(super) async fn measure(env: &mut BenchEnv, users: u64, rounds: usize) -> Result<Self, BenchError> {
        let api = RandomUserApi::start(Options::unlimited().with_page_cache(PAGE_CACHE)).await?;
        let mut results = Self::default();
        let mut warmup = Warmup::with_min_rounds(WARMUP_RUNS);
        while warmup.needs_another_round() {
            let topic = format!("warmup_{}", warmup.rounds());
            let speed = round(env, &api, users, &topic).await?.speed;
            println!("warming up: {speed:.0} users/s");
            warmup.record(speed);
        }
        let mut last = Usage::default();
        for number in 1..=rounds {
            let round = round(env, &api, users, &format!("through_{number}")).await?;
            let ChainRound {
                speed, drain_speed, ..
            } = round;
            println!(
                "round {number}: {users} users at {speed:.0} users/s through the chain, {:.1} CPU s and {:.1} MiB for \
                 its three services; the streamer alone {drain_speed:.0} rows/s; {}",
                round.usage.cpu_seconds, round.usage.peak_mib, round.breakdown
            );
            results.ratios.push(speed / drain_speed);
            let Breakdown {
                seconds,
                from_first_request,
                ..
            } = round.breakdown;
            results
                .from_request
                .push(speed * seconds / from_first_request / drain_speed);
            results.peaks.push(round.usage.peak_mib);
            results.breakdowns.push(round.breakdown);
            last = round.usage;
        }
        println!(
            "chain to drain: {}; MiB: {}",
            spread(&results.ratios),
            spread(&results.peaks)
        );
        results.memory.push(MemoryLine {
            name: "ingester, publisher and streamer".to_owned(),
            samples: downsample(&last.memory, MAX_SAMPLES),
        });
        Ok(results)
    }

    /// The run's figure with its goal.
    pub(super) fn figure(&self) -> Figure {
        let name = "API page to rows, users/s / the streamer's own drain";
        Figure::measured(name, &self.ratios, "ratio", Goal::AtLeast(0.7))
    }

    /// The run's time breakdown.
    pub(super) fn breakdown(&self) -> Vec<BreakdownLine> {
        let ratio = Spread::of(&self.from_request).map(|spread| BreakdownLine {
            name: "users/s from the first request on / the drain".to_owned(),
            unit: "of it".to_owned(),
            spread,
        });
        ratio
            .into_iter()
            .chain(Breakdown::lines(&self.breakdowns))
            .collect()
    }

    /// Compares the peak memory with a peer's, round by round.
    pub(super) fn memory_against(&self, peer: Option<&[f64]>) -> Figure {
        let name = "memory of the three services together / Spark's driver";
        let rounds = self.peaks.iter().zip(peer.unwrap_or_default());
        let ratios: Vec<f64> = rounds.map(|(ours, theirs)| ours / theirs).collect();
        Figure::measured(name, &ratios, "ratio", Goal::AtMost(0.2))
    }
}

/// Measures one run, then the streamer's own drain of its topic. The clock runs from the start of the ingester's
/// process to the last row.
async fn round(
    env: &mut BenchEnv,
    api: &RandomUserApi,
    users: u64,
    topic: &str,
) -> Result<ChainRound, BenchError> {
    let line = Pipeline::start(env, topic).await?;
    let options = line
        .ingester(api)
        .arg("once")
        .arg("--users")
        .arg(users.to_string())
        .arg("--seed")
        .arg(SEED);
    let (servers, own) = (env.servers_cpu(), own_cpu_seconds());
    let ingester = Service::start(&options)?;
    let begun = Instant::now();
    let pids = [
        ingester.child().map_or(0, Child::pid),
        line.publisher.pids().first().copied().unwrap_or(0),
        line.streamer.pids().first().copied().unwrap_or(0),
    ];
    let sampler = UsageSampler::start(pids.to_vec());
    let ended = async {
        ingester.wait(TIMEOUT).await?;
        Summary::of(&ingester, users)
    };
    let written = async {
        env.wait_for_rows(&line.config, &line.streamer, users).await?;
        Ok::<_, BenchError>(Instant::now())
    };
    let (summary, last_row) = tokio::try_join!(ended, written)?;
    let usage = sampler.usage();
    drop(sampler);
    let seconds = (last_row - begun).as_secs_f64();
    let first_request = api.first_request_since(begun).unwrap_or(begun);
    let breakdown = Breakdown {
        seconds,
        from_first_request: (last_row - first_request).as_secs_f64(),
        ingester_seconds: summary.seconds,
        cpu: cpu_by_process(&usage, pids, own_cpu_seconds() - own, env.servers_cpu() - servers),
        batches: line.batches().await?,
    };
    env.verify(&line.config, users).await?;
    line.stop(env).await?;
    let (drained, config) = drain(env, &Streamer::default(), topic, users).await?;
    env.drop_keyspace(&config.keyspace).await?;
    env.delete_topic(topic).await?;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 users")]
    Ok(ChainRound {
        speed: users as f64 / seconds,
        drain_speed: drained.cost.rows_per_second(),
        usage,
        breakdown,
    })
}

/// Processor seconds by process.
fn cpu_by_process(
    usage: &Usage,
    pids: [u32; 3],
    own: f64,
    servers: crate::env::ServersCpu,
) -> BTreeMap<&'static str, f64> {
    let of = |pid: u32| usage.each.get(&pid).copied().unwrap_or(0.0);
    [
        ("ingester", of(pids[0])),
        ("publisher", of(pids[1])),
        ("streamer", of(pids[2])),
        ("Kafka", servers.kafka),
        ("Cassandra", servers.cassandra),
        ("the bench, the offline API in it", own),
    ]
    .into()
}

/// The ingester's summary of its run.
struct Summary {
    /// From the run's start to its end, by its own clock.
    seconds: f64,
}

impl Summary {
    /// Parses the last line; fails unless every user was accepted.
    fn of(ingester: &Service, users: u64) -> Result<Self, BenchError> {
        let log = ingester.last_lines(20);
        let mut lines = log.lines().rev();
        let summary = lines.find_map(|line| serde_json::from_str::<Value>(line).ok());
        summary
            .filter(|summary| summary["outcome"] == "complete" && summary["accepted"] == users)
            .and_then(|summary| summary["seconds"].as_f64())
            .map(|seconds| Self { seconds })
            .ok_or(BenchError::Incomplete(log))
    }
}
