//! One run of many users through the whole chain, against the streamer's own drain of the same topic right after it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::line::Line;
use crate::bench::drain::drain;
use crate::bench::field::Field;
use crate::bench::figures::{Figure, Goal, spread};
use crate::bench::report::MemoryLine;
use crate::bench::sink::Streamer;
use crate::bench::usage::watch::{Usage, Watch, thinned};
use crate::bench::warmup::Warmup;
use crate::error::TestbedError;
use crate::process::Child;
use crate::randomuser::{Options, RandomUserApi};
use crate::service::Service;

/// A run that takes longer has got stuck.
const PATIENCE: Duration = Duration::from_secs(1_800);
const SHOWN: usize = 240;

/// What the rounds gave.
#[derive(Default)]
pub(super) struct Through {
    /// The chain's users a second, in shares of the drain's rows a second.
    pub(super) ratios: Vec<f64>,
    /// Of ingester, publisher and streamer together.
    peaks: Vec<f64>,
    pub(super) memory: Vec<MemoryLine>,
}

impl Through {
    pub(super) async fn measure(field: &mut Field, users: u64, rounds: usize) -> Result<Self, TestbedError> {
        let api = RandomUserApi::start(Options::unlimited()).await?;
        let mut seen = Self::default();
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let topic = format!("warmup_{}", warmup.rounds());
            let (speed, ..) = round(field, &api, users, &topic).await?;
            println!("warming up: {speed:.0} users/s");
            warmup.note(speed);
        }
        let mut last = Usage::default();
        for number in 1..=rounds {
            let (speed, alone, usage) = round(field, &api, users, &format!("through_{number}")).await?;
            println!(
                "round {number}: {users} users at {speed:.0} users/s through the chain, {:.1} CPU s and {:.1} MiB for \
                 its three services; the streamer alone {alone:.0} rows/s",
                usage.cpu_seconds, usage.peak_mib
            );
            seen.ratios.push(speed / alone);
            seen.peaks.push(usage.peak_mib);
            last = usage;
        }
        println!(
            "chain to drain: {}; MiB: {}",
            spread(&seen.ratios),
            spread(&seen.peaks)
        );
        seen.memory.push(MemoryLine {
            name: "ingester, publisher and streamer".to_owned(),
            samples: thinned(&last.memory, SHOWN),
        });
        Ok(seen)
    }

    /// The goal of the run.
    pub(super) fn figure(&self) -> Figure {
        let name = "API page to rows, users/s / the streamer's own drain";
        Figure::measured(name, &self.ratios, "ratio", Goal::AtLeast(0.7))
    }

    /// In shares of what a peer needs by itself in each round.
    pub(super) fn memory_against(&self, peer: Option<&[f64]>) -> Figure {
        let name = "memory of the three services together / Spark's driver";
        let rounds = self.peaks.iter().zip(peer.unwrap_or_default());
        let ratios: Vec<f64> = rounds.map(|(ours, theirs)| ours / theirs).collect();
        Figure::measured(name, &ratios, "ratio", Goal::AtMost(0.2))
    }
}

/// Users a second through the chain, rows a second of the drain, and what the three services used.
async fn round(
    field: &mut Field,
    api: &RandomUserApi,
    users: u64,
    topic: &str,
) -> Result<(f64, f64, Usage), TestbedError> {
    let line = Line::start(field, topic).await?;
    let options = line
        .ingester(api)
        .arg("once")
        .arg("--users")
        .arg(users.to_string());
    let begun = Instant::now();
    let ingester = Service::start(&options)?;
    let mut pids = [line.publisher.pids(), line.streamer.pids()].concat();
    pids.extend(ingester.child().map(Child::pid));
    let watch = Watch::start(pids);
    ingester.wait(PATIENCE).await?;
    let accepted = accepted(&ingester)?;
    field.until_written(&line.site, &line.streamer, accepted).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let usage = watch.usage();
    drop(watch);
    line.stop(field).await?;
    let (alone, site) = drain(field, &Streamer::default(), topic, accepted).await?;
    field.drop_keyspace(&site.keyspace).await?;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 users")]
    Ok((accepted as f64 / seconds, alone.cost.rows_per_second(), usage))
}

/// What the ingester's summary, its last line, says was accepted.
fn accepted(ingester: &Service) -> Result<u64, TestbedError> {
    let log = ingester.last_lines(20);
    let mut lines = log.lines().rev();
    let summary = lines.find_map(|line| serde_json::from_str::<Value>(line).ok());
    summary
        .filter(|summary| summary["outcome"] == "complete")
        .and_then(|summary| summary["accepted"].as_u64())
        .ok_or(TestbedError::Incomplete(log))
}
