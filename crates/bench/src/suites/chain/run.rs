//! A run of many users through all services, compared with the streamer's own drain of the same topic afterwards.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use testkit::process::Child;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::service::Service;

use super::breakdown::{self, Breakdown};
use super::pipeline::Pipeline;
use crate::compare::comparison::ratios;
use crate::compare::drain::drain;
use crate::env::ingester::{self, once};
use crate::env::row_count::TIMEOUT;
use crate::env::{BenchEnv, ServersCpu};
use crate::measure::cost::{Cost, as_f64, own_cpu_seconds};
use crate::measure::monitor::{Monitor, Usage};
use crate::measure::spread::{Spread, summary};
use crate::measure::warmup::Warmup;
use crate::plot::data::{ChartLine, downsample};
use crate::report::figure::{Figure, Goal};
use crate::report::table::Table;
use crate::sinks::streamer::Streamer;

/// Kafka's compiler gets only the CPU time that Cassandra leaves it: it needs this many runs.
const WARMUP_ROUNDS: usize = 8;
/// Pages of 100,000 users take about 120 MB. The rounds reuse the warm-up's pages.
const PAGE_CACHE_BYTES: usize = 1 << 30;
/// All runs fetch the same users, so that the API generates them once.
const SEED: &str = "chain";

/// The rounds.
#[derive(Default)]
pub(super) struct ChainRuns {
    /// Users/s of the chain / rows/s of the drain.
    ratios: Vec<f64>,
    /// The same from the first request on.
    ratios_from_request: Vec<f64>,
    /// Peak memory of all three services together.
    peaks: Vec<f64>,
    breakdowns: Vec<Breakdown>,
    /// Memory of all three services over the last run.
    pub(super) memory: Option<ChartLine>,
}

struct ChainRound {
    /// Users per second, from the ingester's start to the last row.
    speed: f64,
    /// Rows per second of the streamer alone.
    drain_speed: f64,
    usage: Usage,
    breakdown: Breakdown,
}

impl ChainRuns {
    pub(super) async fn measure(env: &mut BenchEnv, users: u64, rounds: usize) -> Result<Self> {
        let api = RandomUserApi::start(Options::unlimited().with_page_cache(PAGE_CACHE_BYTES)).await?;
        let mut runs = Self::default();
        let mut warmup = Warmup::at_least(WARMUP_ROUNDS);
        while warmup.needs_another() {
            let topic = format!("warmup_{}", warmup.rounds());
            let speed = measure_round(env, &api, users, &topic).await?.speed;
            println!("warming up: {speed:.0} users/s");
            warmup.record(speed);
        }
        for number in 1..=rounds {
            let round = measure_round(env, &api, users, &format!("chain_{number}")).await?;
            let ChainRound {
                speed, drain_speed, ..
            } = round;
            println!(
                "round {number}: {users} users at {speed:.0} users/s through the chain, {:.1} CPU s and {:.1} MiB for \
                 its three services; the streamer alone {drain_speed:.0} rows/s; {}",
                round.usage.cpu_seconds, round.usage.peak_mib, round.breakdown
            );
            let Breakdown {
                seconds,
                seconds_from_request,
                ..
            } = round.breakdown;
            runs.ratios.push(speed / drain_speed);
            runs.ratios_from_request
                .push(speed * seconds / seconds_from_request / drain_speed);
            runs.peaks.push(round.usage.peak_mib);
            runs.breakdowns.push(round.breakdown);
            let name = "ingester, publisher and streamer";
            let line = ChartLine::new("affluent", downsample(&round.usage.memory));
            runs.memory = Some(line.labelled(name));
        }
        println!(
            "chain / drain: {}; MiB: {}",
            summary(&runs.ratios),
            summary(&runs.peaks)
        );
        Ok(runs)
    }

    pub(super) fn figure(&self) -> Figure {
        let name = "API page to rows, users/s / the streamer's own drain";
        Figure::measured(name, self.ratios.iter().copied(), "ratio", Goal::AtLeast(0.8))
    }

    /// Where the time goes.
    pub(super) fn breakdown(&self) -> Table {
        let mut table = Table::new("run through the whole chain", &["measured"]);
        let ratio = Spread::of(self.ratios_from_request.iter().copied());
        if ratio.is_some() {
            table.push("users/s from the first request on / the drain", [ratio.into()]);
        }
        breakdown::add_rows(&mut table, &self.breakdowns);
        table
    }

    /// In shares of a peer's peak memory in each round.
    pub(super) fn memory_ratio(&self, peer_peaks: &[f64]) -> Figure {
        let name = "memory of the three services together / Spark's driver";
        let ratios = ratios(&self.peaks, peer_peaks);
        Figure::measured(name, ratios, "ratio", Goal::AtMost(0.2))
    }
}

/// Measures a run, and then the streamer's own drain. The clock starts when the ingester's process has started, and
/// stops at the last row, even if the ingester still runs.
async fn measure_round(
    env: &mut BenchEnv,
    api: &RandomUserApi,
    users: u64,
    topic: &str,
) -> Result<ChainRound> {
    let pipeline = Pipeline::start(env, topic).await?;
    let options = once(pipeline.ingester(api), users, SEED);
    let (servers_before, own_before) = (env.servers_cpu(), own_cpu_seconds());
    let ingester = Service::start(&options)?;
    let started = Instant::now();
    let pids = [
        ingester.child().map_or(0, Child::pid),
        pipeline.publisher.pids().first().copied().unwrap_or(0),
        pipeline.streamer.pids().first().copied().unwrap_or(0),
    ];
    let monitor = Monitor::start(&pids);
    let run_ended = async {
        ingester.wait(TIMEOUT).await?;
        run_seconds(&ingester, users)
    };
    let rows_written = async {
        env.wait_for_rows(&pipeline.target, &pipeline.streamer, users)
            .await?;
        Ok(Instant::now())
    };
    let (ingester_seconds, last_row) = tokio::try_join!(run_ended, rows_written)?;
    let usage = monitor.usage();
    drop(monitor);
    let seconds = (last_row - started).as_secs_f64();
    let first_request = api.first_request_since(started).unwrap_or(started);
    let own_cpu = own_cpu_seconds() - own_before;
    let breakdown = Breakdown {
        seconds,
        seconds_from_request: (last_row - first_request).as_secs_f64(),
        ingester_seconds,
        cpu: cpu_by_process(&usage, pids, own_cpu, [servers_before, env.servers_cpu()]),
        batches: breakdown::batches(&pipeline.streamer_metrics().await?),
    };
    env.verify_row_count(&pipeline.target, users).await?;
    pipeline.stop(env).await?;
    let (drain, target) = drain(env, &Streamer::default(), topic, users).await?;
    env.drop_keyspace(&target.keyspace).await?;
    env.delete_topic(topic).await?;
    Ok(ChainRound {
        speed: as_f64(users) / seconds,
        drain_speed: Cost::rows_per_second(&drain.cost),
        usage,
        breakdown,
    })
}

fn cpu_by_process(
    usage: &Usage,
    pids: [u32; 3],
    own: f64,
    [before, after]: [ServersCpu; 2],
) -> BTreeMap<&'static str, f64> {
    let [ingester, publisher, streamer] = pids.map(|pid| usage.cpu_by_pid.get(&pid).copied().unwrap_or(0.0));
    [
        ("ingester", ingester),
        ("publisher", publisher),
        ("streamer", streamer),
        ("Kafka", after.kafka - before.kafka),
        ("Cassandra", after.cassandra - before.cassandra),
        ("the bench with the offline API", own),
    ]
    .into()
}

/// The length of the run by the ingester's clock.
fn run_seconds(ingester: &Service, users: u64) -> Result<f64> {
    let summary = ingester::summary(ingester)?;
    summary["seconds"]
        .as_f64()
        .filter(|_| summary["accepted"] == users)
        .with_context(|| format!("not all users were accepted: {summary}"))
}
