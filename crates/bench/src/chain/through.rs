//! One run of many users through the whole chain, against the streamer's own drain of the same topic right after it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use super::line::Line;
use super::split::Split;
use crate::drain::drain;
use crate::error::BenchError;
use crate::field::{Field, PATIENCE};
use crate::figures::{Figure, Goal, spread};
use crate::report::{MemoryLine, SplitLine};
use crate::sink::Streamer;
use crate::spread::Spread;
use crate::usage::own_cpu_seconds;
use crate::usage::watch::{Usage, Watch, thinned};
use crate::warmup::Warmup;
use testkit::process::Child;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::service::Service;

const SHOWN: usize = 240;
/// Kafka's requests are few, and its compiler works only in what Cassandra leaves: it takes so many runs until it is done.
const WARMING: usize = 8;
/// Pages of 100,000 users are some 120 MB. What the warm-up has asked for is not made again in the rounds.
const REMEMBERED: usize = 1 << 30;
/// Every run fetches the same people, so that the API makes them up once.
const SEED: &str = "chain";

/// What the rounds gave.
#[derive(Default)]
pub(super) struct Through {
    /// The chain's users a second, in shares of the drain's rows a second.
    ratios: Vec<f64>,
    /// The same without what comes before the first request.
    from_request: Vec<f64>,
    /// Of ingester, publisher and streamer together.
    peaks: Vec<f64>,
    splits: Vec<Split>,
    pub(super) memory: Vec<MemoryLine>,
}

/// One round.
struct Round {
    /// Users a second, from the ingester's start to the last row.
    speed: f64,
    /// Rows a second of the streamer by itself.
    alone: f64,
    usage: Usage,
    split: Split,
}

impl Through {
    pub(super) async fn measure(field: &mut Field, users: u64, rounds: usize) -> Result<Self, BenchError> {
        let api = RandomUserApi::start(Options::unlimited().with_page_cache(REMEMBERED)).await?;
        let mut seen = Self::default();
        let mut warmup = Warmup::at_least(WARMING);
        while warmup.goes_on() {
            let topic = format!("warmup_{}", warmup.rounds());
            let speed = round(field, &api, users, &topic).await?.speed;
            println!("warming up: {speed:.0} users/s");
            warmup.note(speed);
        }
        let mut last = Usage::default();
        for number in 1..=rounds {
            let round = round(field, &api, users, &format!("through_{number}")).await?;
            let Round { speed, alone, .. } = round;
            println!(
                "round {number}: {users} users at {speed:.0} users/s through the chain, {:.1} CPU s and {:.1} MiB for \
                 its three services; the streamer alone {alone:.0} rows/s; {}",
                round.usage.cpu_seconds, round.usage.peak_mib, round.split
            );
            seen.ratios.push(speed / alone);
            let Split {
                seconds,
                from_first_request,
                ..
            } = round.split;
            seen.from_request
                .push(speed * seconds / from_first_request / alone);
            seen.peaks.push(round.usage.peak_mib);
            seen.splits.push(round.split);
            last = round.usage;
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

    /// Where its time went.
    pub(super) fn split(&self) -> Vec<SplitLine> {
        let ratio = Spread::of(&self.from_request).map(|seen| SplitLine {
            name: "users/s from the first request on / the drain".to_owned(),
            unit: "of it".to_owned(),
            seen,
        });
        ratio.into_iter().chain(Split::lines(&self.splits)).collect()
    }

    /// In shares of what a peer needs by itself in each round.
    pub(super) fn memory_against(&self, peer: Option<&[f64]>) -> Figure {
        let name = "memory of the three services together / Spark's driver";
        let rounds = self.peaks.iter().zip(peer.unwrap_or_default());
        let ratios: Vec<f64> = rounds.map(|(ours, theirs)| ours / theirs).collect();
        Figure::measured(name, &ratios, "ratio", Goal::AtMost(0.2))
    }
}

/// The run, and the streamer's own drain after it. The clock begins when the ingester's process has been started, and
/// ends at the last row, whether the ingester has ended by then or not.
async fn round(field: &mut Field, api: &RandomUserApi, users: u64, topic: &str) -> Result<Round, BenchError> {
    let line = Line::start(field, topic).await?;
    let options = line
        .ingester(api)
        .arg("once")
        .arg("--users")
        .arg(users.to_string())
        .arg("--seed")
        .arg(SEED);
    let (servers, own) = (field.servers_cpu(), own_cpu_seconds());
    let ingester = Service::start(&options)?;
    let begun = Instant::now();
    let pids = [
        ingester.child().map_or(0, Child::pid),
        line.publisher.pids().first().copied().unwrap_or(0),
        line.streamer.pids().first().copied().unwrap_or(0),
    ];
    let watch = Watch::start(pids.to_vec());
    let ended = async {
        ingester.wait(PATIENCE).await?;
        Summary::of(&ingester, users)
    };
    let written = async {
        field.until_written(&line.site, &line.streamer, users).await?;
        Ok::<_, BenchError>(Instant::now())
    };
    let (summary, last_row) = tokio::try_join!(ended, written)?;
    let usage = watch.usage();
    drop(watch);
    let seconds = (last_row - begun).as_secs_f64();
    let first_request = api.first_request_since(begun).unwrap_or(begun);
    let split = Split {
        seconds,
        from_first_request: (last_row - first_request).as_secs_f64(),
        ingester_seconds: summary.seconds,
        cpu: of_each(
            &usage,
            pids,
            own_cpu_seconds() - own,
            field.servers_cpu() - servers,
        ),
        batches: line.batches().await?,
    };
    field.verify(&line.site, users).await?;
    line.stop(field).await?;
    let (drained, site) = drain(field, &Streamer::default(), topic, users).await?;
    field.drop_keyspace(&site.keyspace).await?;
    field.delete_topic(topic).await?;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 users")]
    Ok(Round {
        speed: users as f64 / seconds,
        alone: drained.cost.rows_per_second(),
        usage,
        split,
    })
}

/// Processor seconds by process.
fn of_each(
    usage: &Usage,
    pids: [u32; 3],
    own: f64,
    servers: crate::field::ServersCpu,
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

/// What the ingester says of its run.
struct Summary {
    /// From the run's start to its end, by its own clock.
    seconds: f64,
}

impl Summary {
    /// Its last line; an error unless every user was accepted.
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
