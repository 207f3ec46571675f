//! `scripts/bench publisher`: HTTP to Kafka, compared with a producer baseline and, with `--peers`, with Benthos and the
//! original's loop in Python, in one run.

mod benthos;
mod environment;
mod http_target;
mod python_loops;
mod rounds;
mod secured;

use anyhow::Result;
use clap::Args;

use self::environment::PublisherEnv;
use self::rounds::Rounds;
use crate::report::Report;
use crate::report::figure::{Figure, Goal};
use crate::report::machine::peer_versions;

/// The size of the bench.
#[derive(Debug, Clone, Args)]
pub struct PublisherBench {
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement in a round
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Measure Benthos and the original's loop, too; needs Go and Python with `venv`
    #[arg(long)]
    peers: bool,
}

impl PublisherBench {
    /// Runs the bench and prints its progress.
    pub async fn run(&self) -> Result<Report> {
        let mut env = PublisherEnv::start(self.seconds, self.peers).await?;
        env.measure_noop_route().await?;
        let warmup_rounds = env.warm_up().await?;
        env.sweep_linger().await?;
        let mut rounds = Rounds::default();
        for round in 0..self.rounds {
            rounds.0.push(env.round(round).await?);
        }
        let (mut latencies, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            latencies.push(env.latency().await?);
        }
        for round in 0..self.rounds {
            peaks.push(env.peak_memory(round).await?);
        }
        let ready = env.startup_times().await?;
        let mut report = Report::new("publisher")
            .set("rounds", &self.rounds)
            .set("rounds to warm up", &warmup_rounds)
            .set("seconds of each measurement", &self.seconds)
            .set("linger of the producer baseline, ms", &env.linger_ms);
        if self.peers {
            report.versions.extend(peer_versions());
        }
        report.skipped.clone_from(&env.skipped);
        report.tables.push(rounds.table());
        report.figures = rounds.figures();
        report.figures.extend([
            Figure::measured(
                "one-record latency at 1,000 req/s, p99",
                latencies,
                "ms",
                Goal::AtMost(10.0),
            ),
            Figure::measured("peak RSS at full load", peaks, "MiB", Goal::AtMost(96.0)),
            Figure::measured("start to ready", ready, "ms", Goal::AtMost(200.0)),
        ]);
        Ok(report)
    }
}
