//! `scripts/bench streamer`: draining a topic and following a steady stream, against the ceiling of the same run.

pub(super) mod rig;
pub(super) mod sweep;

use std::time::Duration;

use rig::{ceiling, starts_to_ready, steady};
use sweep::{SAME, Settings, sweep, warm};

use super::drain::{Backlog, Drains, ceiling_line, told};
use super::field::Field;
use super::figures::{Figure, Goal, median, spread};
use super::report::Report;
use super::sink::Streamer;
use super::spread::{Spread, order};
use super::usage::Cost;
use super::warmup::Warmup;
use crate::error::BenchError;

/// The topic that is drained.
const TOPIC: &str = "backlog";
const PARTITIONS: i32 = 6;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct StreamerBench {
    /// Records in the backlog.
    pub records: u64,
    /// Rounds of ceiling and streamer, alternating.
    pub rounds: usize,
    /// How long each steady rate is held.
    pub steady: Duration,
    /// Records in the large backlog that shows whether memory grows; not drained unless more than `records`.
    pub large: u64,
}

/// The rounds of one field.
#[derive(Default)]
struct Pairs {
    ceilings: Vec<Cost>,
    drains: Drains,
}

impl Pairs {
    fn ratios(&self, of: fn(&Cost) -> f64) -> Vec<f64> {
        let pairs = self.drains.0.iter().zip(&self.ceilings);
        pairs
            .map(|(drain, ceiling)| of(&drain.cost) / of(ceiling))
            .collect()
    }
}

impl StreamerBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`BenchError`]; a goal that is missed is none.
    pub async fn run(&self) -> Result<Report, BenchError> {
        let mut field = Field::start(1, 1).await?;
        let best = sweep(&mut field, self.small()).await?;
        let mut report = self.drained(&mut field, &best).await?;
        let small = report.drains.iter().find(|it| !it.ceiling).map(|it| it.peak_mib);
        if let Some(small) = small {
            report.figures.push(self.memory(&mut field, small).await?);
        }
        report.figures.push(self.latency(&mut field).await?);
        let starts = starts_to_ready(&mut field).await?;
        let name = "ready after start with the servers up";
        report
            .figures
            .push(Figure::measured(name, &starts, "ms", Goal::AtMost(300.0)));
        drop(field);
        report.figures.push(self.cluster(&best).await?);
        // A profiler tells, not this bench.
        report.figures.push(Figure::absent(
            "metrics and checkpoints, share of the streamer's CPU",
            "%",
            Goal::AtMost(2.0),
        ));
        Ok(report)
    }

    /// Only the drains, against a loop of the same settings whenever this is measured.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn against_ceiling(&self, field: &mut Field) -> Result<Report, BenchError> {
        warm(field, self.records).await?;
        self.drained(field, &SAME).await
    }

    fn small(&self) -> u64 {
        (self.records / 5).max(10_000)
    }

    /// Ceiling and streamer in turn.
    async fn drained(&self, field: &mut Field, best: &Settings) -> Result<Report, BenchError> {
        println!(
            "filling a topic of {PARTITIONS} partitions with {} records",
            self.records
        );
        let backlog = Backlog::fill(field, TOPIC, PARTITIONS, self.records, 0).await?;
        let pairs = self.pairs(field, best, &backlog, &Streamer::default()).await?;
        let mut report = Report::new("streamer")
            .set("records", &self.records)
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS)
            .set("seconds at each rate", &self.steady.as_secs())
            .set("bare loop", &format!("{best:?}"));
        report.figures = vec![
            Figure::measured(
                "CPU per million rows, streamer / ceiling",
                &pairs.ratios(Cost::cpu_per_million),
                "ratio",
                Goal::AtMost(1.5),
            ),
            Figure::measured(
                "rows/s, streamer / ceiling",
                &pairs.ratios(Cost::rows_per_second),
                "ratio",
                Goal::AtLeast(0.90),
            ),
        ];
        report
            .drains
            .extend(ceiling_line("bare driver loop", &pairs.ceilings));
        report.drains.extend(pairs.drains.line("affluent", self.records));
        report.memory.extend(pairs.drains.memory("streamer, draining"));
        Ok(report)
    }

    /// Rounds until both are warm, which do not count, then those that do; who is first changes from round to round.
    async fn pairs(
        &self,
        field: &mut Field,
        best: &Settings,
        backlog: &Backlog,
        streamer: &Streamer,
    ) -> Result<Pairs, BenchError> {
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let ceiling = ceiling(field, best, backlog.records).await?;
            let drain = backlog.drain(field, streamer).await?;
            println!(
                "warming up: ceiling {}, streamer {}",
                sweep::told(&ceiling),
                told(&drain)
            );
            warmup.note(ceiling.rows_per_second() + drain.cost.rows_per_second());
        }
        let mut pairs = Pairs::default();
        for round in 0..self.rounds {
            for side in order(round, 2) {
                if side == 0 {
                    let ceiling = ceiling(field, best, backlog.records).await?;
                    println!("round {}: ceiling {}", round + 1, sweep::told(&ceiling));
                    pairs.ceilings.push(ceiling);
                } else {
                    let drain = backlog.drain(field, streamer).await?;
                    println!("round {}: streamer {}", round + 1, told(&drain));
                    pairs.drains.0.push(drain);
                }
            }
        }
        Ok(pairs)
    }

    /// The same topic, filled up: what is held must not grow with what waits.
    async fn memory(&self, field: &mut Field, small: Spread) -> Result<Figure, BenchError> {
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
        field.fill(TOPIC, few..many, 0).await?;
        let backlog = Backlog {
            topic: TOPIC.to_owned(),
            records: many,
            bytes: 0,
        };
        let mut drains = Drains::default();
        for _ in 0..self.rounds {
            let large = backlog.drain(field, &Streamer::default()).await?;
            println!("{many}: streamer {}", told(&large));
            drains.0.push(large);
        }
        let name = format!("peak RSS draining {many} ({few}: {:.1})", small.median);
        let peaks = Spread::of(&drains.each(|drain| drain.cost.peak_mib));
        let met =
            peaks.map(|peaks| small.max.max(peaks.max) <= MOST && peaks.median <= small.median * GROWTH);
        Ok(Figure::judged(name, None, "MiB", goal, met).of_rounds(peaks))
    }

    async fn latency(&self, field: &mut Field) -> Result<Figure, BenchError> {
        const MEDIAN: f64 = 4.0;
        const TAIL: f64 = 10.0;
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            rounds.push(steady(field, 500, self.steady, round).await?);
        }
        let fast = steady(field, 5_000, self.steady, 0).await?;
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

    /// Three nodes with every row on each, two replicas of the streamer.
    async fn cluster(&self, best: &Settings) -> Result<Figure, BenchError> {
        let mut field = Field::start(1, 3).await?;
        let backlog = Backlog::fill(&field, TOPIC, PARTITIONS, self.records, 0).await?;
        let pairs = self
            .pairs(&mut field, best, &backlog, &Streamer { replicas: 2 })
            .await?;
        Ok(Figure::measured(
            "rows/s with RF 3 on three nodes, 2 replicas, / ceiling",
            &pairs.ratios(Cost::rows_per_second),
            "ratio",
            Goal::AtLeast(0.90),
        ))
    }
}
