//! `scripts/bench streamer`: drains a topic and follows a steady stream, compared with the driver baseline of the same
//! run.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use testkit::service::Service;

use crate::compare::backlog::Backlog;
use crate::compare::baseline::{self, BaselineSettings, DRIVER_BASELINE};
use crate::compare::comparison::{Comparison, SinkResult, ratios};
use crate::compare::drain::Drains;
use crate::env::startup::startup_times;
use crate::env::{BenchEnv, PARTITIONS};
use crate::load::steady::steady_latency;
use crate::measure::cost::Cost;
use crate::measure::spread::{Spread, median, rotation, summary};
use crate::measure::warmup::Warmup;
use crate::report::Report;
use crate::report::figure::{Figure, Goal};
use crate::sinks::Sink as _;
use crate::sinks::streamer::Streamer;

const TIMEOUT: Duration = Duration::from_secs(60);

/// The size of the bench.
#[derive(Debug, Clone, Args)]
pub struct StreamerBench {
    /// Records in the backlog
    #[arg(long, default_value_t = 500_000)]
    pub records: u64,
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each steady stream
    #[arg(long, default_value_t = 20)]
    pub steady: u64,
    /// Records in a larger backlog, which shows whether memory grows; 0: none
    #[arg(long, default_value_t = 5_000_000)]
    pub large: u64,
}

/// Rounds of streamer and baseline with the same backlog.
struct StreamerRounds {
    baseline: Vec<Cost>,
    streamer: Drains,
}

impl StreamerRounds {
    fn ratios(&self, value: fn(&Cost) -> f64) -> Vec<f64> {
        let baseline: Vec<f64> = self.baseline.iter().map(value).collect();
        ratios(&self.streamer.each(value), &baseline)
    }
}

impl StreamerBench {
    /// Runs the bench and prints its progress.
    pub async fn run(&self) -> Result<Report> {
        let mut env = BenchEnv::start(1, 1).await?;
        let settings = baseline::sweep(&mut env, (self.records / 5).max(10_000)).await?;
        let (mut report, backlog, peaks) = self.drain(&mut env, &settings).await?;
        if let Some(peaks) = peaks {
            let memory = self.memory(&mut env, backlog.clone(), peaks).await?;
            report.figures.push(memory);
        }
        report.figures.extend(self.latency(&mut env).await?);
        let starts = startup(&mut env, &backlog.topic).await?;
        report.figures.push(Figure::measured(
            "ready after start with the servers up",
            starts,
            "ms",
            Goal::AtMost(300.0),
        ));
        drop(env);
        report.figures.push(self.cluster(&settings).await?);
        // Measured with a profiler, not here.
        report.figures.push(Figure::measured(
            "metrics and checkpoints, share of the streamer's CPU",
            [],
            "%",
            Goal::AtMost(2.0),
        ));
        Ok(report)
    }

    /// Measures only the drains, always with the same baseline settings.
    pub async fn compare_with_gate_baseline(&self, env: &mut BenchEnv) -> Result<Report> {
        baseline::warm_up(env, self.records).await?;
        let (report, ..) = self.drain(env, &baseline::GATE_SETTINGS).await?;
        Ok(report)
    }

    /// Returns the report, the backlog, and the streamer's peak memory.
    async fn drain(
        &self,
        env: &mut BenchEnv,
        settings: &BaselineSettings,
    ) -> Result<(Report, Backlog, Option<Spread>)> {
        let backlog = Backlog::create(env, PARTITIONS, self.records).await?;
        let streamer = Streamer::default();
        let rounds = self.rounds(env, settings, &backlog, &streamer).await?;
        let mut report = Report::new("streamer")
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS)
            .set("seconds at each rate", &self.steady)
            .set(DRIVER_BASELINE, settings);
        report.figures = vec![
            Figure::measured(
                "CPU per million rows, streamer / baseline",
                rounds.ratios(Cost::cpu_per_million),
                "ratio",
                Goal::AtMost(1.25),
            ),
            Figure::measured(
                "rows/s, streamer / baseline",
                rounds.ratios(Cost::rows_per_second),
                "ratio",
                Goal::AtLeast(0.95),
            ),
        ];
        let peaks = Spread::of(rounds.streamer.each(|cost| cost.peak_mib));
        let mut result = SinkResult::new(streamer.name(), self.records);
        result.drains = rounds.streamer;
        let comparison = Comparison {
            baseline: rounds.baseline,
            sinks: vec![result],
        };
        report.tables.push(comparison.drain_table());
        Ok((report, backlog, peaks))
    }

    /// Warms both up, then measures them in alternating order.
    async fn rounds(
        &self,
        env: &mut BenchEnv,
        settings: &BaselineSettings,
        backlog: &Backlog,
        streamer: &Streamer,
    ) -> Result<StreamerRounds> {
        let mut warmup = Warmup::default();
        while warmup.needs_another() {
            let cost = baseline::run(env, settings, backlog.records).await?;
            let drain = backlog.drain(env, streamer).await?;
            println!("warming up: baseline {cost}; streamer {drain}");
            warmup.record(cost.rows_per_second() + drain.cost.rows_per_second());
        }
        let mut rounds = StreamerRounds {
            baseline: Vec::new(),
            streamer: Drains::default(),
        };
        for round in 0..self.rounds {
            for place in rotation(round, 2) {
                if place == 0 {
                    let cost = baseline::run(env, settings, backlog.records).await?;
                    println!("round {}: baseline {cost}", round + 1);
                    rounds.baseline.push(cost);
                } else {
                    let drain = backlog.drain(env, streamer).await?;
                    println!("round {}: streamer {drain}", round + 1);
                    rounds.streamer.0.push(drain);
                }
            }
        }
        Ok(rounds)
    }

    /// Extends the topic: memory must not grow with the backlog.
    async fn memory(&self, env: &mut BenchEnv, backlog: Backlog, small: Spread) -> Result<Figure> {
        const MAX_MIB: f64 = 48.0;
        const MAX_GROWTH: f64 = 1.10;
        let goal = format!("<= {MAX_MIB}, the same within 10 %");
        let (few, many) = (self.records, self.large);
        if many <= few {
            let name = format!("peak RSS draining {few} (more not measured)");
            let missed = (small.median > MAX_MIB).then_some(false);
            return Ok(Figure::new(name, Some(small), "MiB", goal, missed));
        }
        println!("extending the topic to {many} records");
        env.fill(&backlog.topic, few..many).await?;
        let large = Backlog {
            records: many,
            ..backlog
        };
        let mut drains = Drains::default();
        for _ in 0..self.rounds {
            let drain = large.drain(env, &Streamer::default()).await?;
            println!("{many} records: streamer {drain}");
            drains.0.push(drain);
        }
        let name = format!("peak RSS draining {many} ({few}: {:.1})", small.median);
        let peaks = Spread::of(drains.each(|cost| cost.peak_mib));
        let met = peaks
            .map(|peaks| small.max.max(peaks.max) <= MAX_MIB && peaks.median <= small.median * MAX_GROWTH);
        Ok(Figure::new(name, peaks, "MiB", goal, met))
    }

    /// From Kafka to the row, at a low rate and at about half the drain's.
    async fn latency(&self, env: &mut BenchEnv) -> Result<[Figure; 2]> {
        const MAX_P50: f64 = 3.0;
        const MAX_P99: f64 = 6.0;
        let length = Duration::from_secs(self.steady);
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            low.push(steady_latency(env, 500, length).await?);
            high.push(steady_latency(env, 20_000, length).await?);
        }
        let [(low_p50, low_p99), (high_p50, high_p99)] =
            [low, high].map(|rounds| rounds.into_iter().unzip::<f64, f64, Vec<_>, Vec<_>>());
        for (rate, p50, p99) in [(500, &low_p50, &low_p99), (20_000, &high_p50, &high_p99)] {
            println!("at {rate}/s: p50 {} ms, p99 {} ms", summary(p50), summary(p99));
        }
        Ok([
            Figure::new(
                format!("latency at 500/s, p99 (p50: {:.1})", median(&low_p50)),
                Spread::of(low_p99.iter().copied()),
                "ms",
                format!("<= {MAX_P99} (p50: <= {MAX_P50})"),
                Some(median(&low_p50) <= MAX_P50 && median(&low_p99) <= MAX_P99),
            ),
            Figure::measured("latency at 20,000/s, p99", high_p99, "ms", Goal::AtMost(50.0)),
        ])
    }

    /// Three nodes with a replica of each row, and two replicas of the streamer.
    async fn cluster(&self, settings: &BaselineSettings) -> Result<Figure> {
        let mut env = BenchEnv::start(1, 3).await?;
        let backlog = Backlog::create(&env, PARTITIONS, self.records).await?;
        let streamer = Streamer { replicas: 2 };
        let rounds = self.rounds(&mut env, settings, &backlog, &streamer).await?;
        Ok(Figure::measured(
            "rows/s with RF 3 on three nodes, 2 replicas, / baseline",
            rounds.ratios(Cost::rows_per_second),
            "ratio",
            Goal::AtLeast(0.90),
        ))
    }
}

/// Milliseconds from the start of the process until it is ready; tables and topics exist.
async fn startup(env: &mut BenchEnv, topic: &str) -> Result<Vec<f64>> {
    let target = env.create_target(topic).await?;
    let options = Streamer::options(&target).set("checkpoint.on_missing", "latest");
    let mut streamer = Service::start(&options)?;
    streamer.wait_until_ready(TIMEOUT).await?;
    let times = startup_times(&mut streamer).await?;
    streamer.terminate(TIMEOUT).await?;
    env.drop_keyspace(&target.keyspace).await?;
    Ok(times)
}
