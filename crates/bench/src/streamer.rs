//! `bench streamer`: draining a topic and following a steady stream, compared with the driver baseline.

mod steady;

use std::time::Duration;

use steady::{starts_to_ready, steady};

use crate::baseline::sweep::{self, DriverSettings, GATE_SETTINGS, run_baseline, sweep, warm};
use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::report::Report;
use crate::report::figures::{Figure, Goal, median, spread};
use crate::report::spread::{Spread, order};
use crate::sink::Streamer;
use crate::sink::drain::{Backlog, DrainRounds, baseline_line, summary};
use crate::usage::Cost;
use crate::usage::warmup::Warmup;

/// The drained topic.
const TOPIC: &str = "backlog";
const PARTITIONS: i32 = 6;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct StreamerBench {
    /// Records in the backlog.
    pub records: u64,
    /// Measured rounds.
    pub rounds: usize,
    /// Duration of each steady rate.
    pub steady: Duration,
    /// Records in the large backlog that shows memory growth; skipped unless more than `records`.
    pub large: u64,
}

/// The rounds of baseline and streamer.
#[derive(Default)]
struct Pairs {
    baselines: Vec<Cost>,
    drains: DrainRounds,
}

impl Pairs {
    fn ratios(&self, of: fn(&Cost) -> f64) -> Vec<f64> {
        let pairs = self.drains.0.iter().zip(&self.baselines);
        pairs
            .map(|(drain, baseline)| of(&drain.cost) / of(baseline))
            .collect()
    }
}

impl StreamerBench {
    /// Measures and prints its progress.
    ///
    /// # Errors
    /// [`BenchError`]; a missed goal is no error.
    pub async fn run(&self) -> Result<Report, BenchError> {
        let mut env = BenchEnv::start(1, 1).await?;
        let best = sweep(&mut env, self.small()).await?;
        let mut report = self.drained(&mut env, &best).await?;
        let small = report.drains.iter().find(|it| !it.baseline).map(|it| it.peak_mib);
        if let Some(small) = small {
            report.figures.push(self.memory(&mut env, small).await?);
        }
        report.figures.push(self.latency(&mut env).await?);
        let starts = starts_to_ready(&mut env, TOPIC).await?;
        let name = "ready after start with the servers up";
        report
            .figures
            .push(Figure::measured(name, &starts, "ms", Goal::AtMost(300.0)));
        drop(env);
        report.figures.push(self.cluster(&best).await?);
        // Only a profiler can measure this.
        report.figures.push(Figure::absent(
            "metrics and checkpoints, share of the streamer's CPU",
            "%",
            Goal::AtMost(2.0),
        ));
        Ok(report)
    }

    /// Measures only the drains, against a baseline with fixed settings.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn against_baseline(&self, env: &mut BenchEnv) -> Result<Report, BenchError> {
        warm(env, self.records).await?;
        self.drained(env, &GATE_SETTINGS).await
    }

    fn small(&self) -> u64 {
        (self.records / 5).max(10_000)
    }

    /// Drains the backlog with baseline and streamer alternately.
    async fn drained(&self, env: &mut BenchEnv, best: &DriverSettings) -> Result<Report, BenchError> {
        println!(
            "filling a topic of {PARTITIONS} partitions with {} records",
            self.records
        );
        let backlog = Backlog::fill(env, TOPIC, PARTITIONS, self.records).await?;
        let pairs = self.pairs(env, best, &backlog, &Streamer::default()).await?;
        let mut report = Report::new("streamer")
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS)
            .set("seconds at each rate", &self.steady.as_secs())
            .set("baseline", &format!("{best:?}"));
        report.figures = vec![
            Figure::measured(
                "CPU per million rows, streamer / baseline",
                &pairs.ratios(Cost::cpu_per_million),
                "ratio",
                Goal::AtMost(1.5),
            ),
            Figure::measured(
                "rows/s, streamer / baseline",
                &pairs.ratios(Cost::rows_per_second),
                "ratio",
                Goal::AtLeast(0.90),
            ),
        ];
        report
            .drains
            .extend(baseline_line("driver baseline", &pairs.baselines));
        report.drains.extend(pairs.drains.line("affluent", self.records));
        report.memory.extend(pairs.drains.memory("streamer, draining"));
        Ok(report)
    }

    /// Runs warm-up rounds until both are steady, then the measured rounds. The first participant rotates.
    async fn pairs(
        &self,
        env: &mut BenchEnv,
        best: &DriverSettings,
        backlog: &Backlog,
        streamer: &Streamer,
    ) -> Result<Pairs, BenchError> {
        let mut warmup = Warmup::default();
        while warmup.needs_another_round() {
            let baseline = run_baseline(env, best, backlog.records).await?;
            let drain = backlog.drain(env, streamer).await?;
            println!(
                "warming up: baseline {}, streamer {}",
                sweep::summary(&baseline),
                summary(&drain)
            );
            warmup.record(baseline.rows_per_second() + drain.cost.rows_per_second());
        }
        let mut pairs = Pairs::default();
        for round in 0..self.rounds {
            for side in order(round, 2) {
                if side == 0 {
                    let baseline = run_baseline(env, best, backlog.records).await?;
                    println!("round {}: baseline {}", round + 1, sweep::summary(&baseline));
                    pairs.baselines.push(baseline);
                } else {
                    let drain = backlog.drain(env, streamer).await?;
                    println!("round {}: streamer {}", round + 1, summary(&drain));
                    pairs.drains.0.push(drain);
                }
            }
        }
        Ok(pairs)
    }

    /// Fills the topic further: memory must not grow with the backlog.
    async fn memory(&self, env: &mut BenchEnv, small: Spread) -> Result<Figure, BenchError> {
        const MOST: f64 = 48.0;
        const GROWTH: f64 = 1.10;
        let goal = format!("<= {MOST}, the same within 10 %");
        let (few, many) = (self.records, self.large);
        if many <= few {
            let name = format!("peak RSS draining {few} (more not measured)");
            let missed = (small.median > MOST).then_some(false);
            return Ok(Figure::judged(name, None, "MiB", goal, missed).of_rounds(small));
        }
        println!("filling the topic up to {many} records");
        env.fill(TOPIC, few..many).await?;
        let backlog = Backlog {
            topic: TOPIC.to_owned(),
            records: many,
        };
        let mut drains = DrainRounds::default();
        for _ in 0..self.rounds {
            let large = backlog.drain(env, &Streamer::default()).await?;
            println!("{many}: streamer {}", summary(&large));
            drains.0.push(large);
        }
        let name = format!("peak RSS draining {many} ({few}: {:.1})", small.median);
        let peaks = Spread::of(&drains.each(|drain| drain.cost.peak_mib));
        let met =
            peaks.map(|peaks| small.max.max(peaks.max) <= MOST && peaks.median <= small.median * GROWTH);
        Ok(Figure::judged(name, None, "MiB", goal, met).of_rounds(peaks))
    }

    async fn latency(&self, env: &mut BenchEnv) -> Result<Figure, BenchError> {
        const MEDIAN: f64 = 4.0;
        const TAIL: f64 = 10.0;
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            rounds.push(steady(env, 500, self.steady, round).await?);
        }
        let fast = steady(env, 5_000, self.steady, 0).await?;
        println!("at 5,000/s: p50 {:.1} ms, p99 {:.1} ms", fast.0, fast.1);
        let (middles, tails): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        println!("at 500/s: p50 {} ms, p99 {} ms", spread(&middles), spread(&tails));
        let (middle, tail) = (median(&middles), median(&tails));
        let figure = Figure::judged(
            format!("latency at 500/s, p99 (p50: {middle:.1})"),
            None,
            "ms",
            format!("<= {TAIL} (p50: <= {MEDIAN})"),
            Some(middle <= MEDIAN && tail <= TAIL),
        );
        Ok(figure.of_rounds(Spread::of(&tails)))
    }

    /// Three nodes with a replica on each, and two replicas of the streamer.
    async fn cluster(&self, best: &DriverSettings) -> Result<Figure, BenchError> {
        let mut env = BenchEnv::start(1, 3).await?;
        let backlog = Backlog::fill(&env, TOPIC, PARTITIONS, self.records).await?;
        let pairs = self
            .pairs(&mut env, best, &backlog, &Streamer { replicas: 2 })
            .await?;
        Ok(Figure::measured(
            "rows/s with RF 3 on three nodes, 2 replicas, / baseline",
            &pairs.ratios(Cost::rows_per_second),
            "ratio",
            Goal::AtLeast(0.90),
        ))
    }
}
