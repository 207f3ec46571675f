//! `scripts/bench streamer`: draining a topic and following a steady stream, against the ceiling of the same run.

mod rig;

use std::time::Duration;

use rig::Bench;
use thiserror::Error;

use super::figures::{Figure, Goal, median, spread};
use super::usage::Cost;
use crate::process::ProcessError;
use crate::servers::ServerError;
use crate::service::ServiceError;
use crate::table::TableError;
use crate::tap::TapError;
use crate::workspace::WorkspaceError;

/// The topic that is drained.
const TOPIC: &str = "backlog";

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

/// The bench could not measure.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each is the error of the part it names")]
pub enum BenchError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Tap(#[from] TapError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("the ceiling's process failed: {0}")]
    Ceiling(String),
    #[error("{stored} of {expected} rows after {} s:\n{log}", waited.as_secs())]
    Stuck {
        stored: u64,
        expected: u64,
        waited: Duration,
        log: String,
    },
}

impl StreamerBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`BenchError`]; a goal that is missed is none.
    pub async fn run(&self) -> Result<Vec<Figure>, BenchError> {
        let mut bench = Bench::start(1).await?;
        println!("filling a topic of 6 partitions with {} records", self.records);
        bench.fill(TOPIC, self.records).await?;
        let best = self.sweep(&mut bench).await?;
        let mut figures = self.drains(&mut bench, &best).await?;
        figures.push(self.latency(&mut bench).await?);
        figures.push(Figure::new(
            "ready after start with the servers up",
            Some(bench.start_to_ready().await?),
            "ms",
            Goal::AtMost(300.0),
        ));
        drop(bench);
        figures.push(self.cluster(&best).await?);
        // A profiler tells, not this bench.
        figures.push(Figure::new(
            "metrics and checkpoints, share of the streamer's CPU",
            None,
            "%",
            Goal::AtMost(2.0),
        ));
        Ok(figures)
    }

    /// Ceiling and streamer in turn; the first round warms up and does not count.
    async fn drains(&self, bench: &mut Bench, best: &Settings) -> Result<Vec<Figure>, BenchError> {
        let (mut ceilings, mut drains) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let ceiling = bench.ceiling(best, self.records).await?;
            let drain = bench.drain(TOPIC, self.records).await?;
            let warming = if round == 0 {
                "  (warming up, not counted)"
            } else {
                ""
            };
            println!(
                "round {round}: ceiling {}, streamer {}{warming}",
                told(&ceiling),
                told(&drain)
            );
            if round > 0 {
                ceilings.push(ceiling);
                drains.push(drain);
            }
        }
        let ratio = |of: fn(&Cost) -> f64| -> Vec<f64> {
            let pairs = drains.iter().zip(&ceilings);
            pairs.map(|(drain, ceiling)| of(drain) / of(ceiling)).collect()
        };
        let (cpu, speed) = (ratio(Cost::cpu_per_million), ratio(Cost::rows_per_second));
        let rss: Vec<f64> = drains.iter().map(|drain| drain.peak_mib).collect();
        println!(
            "CPU per row, streamer to ceiling: {}; rows/s: {}; peak MiB: {}",
            spread(&cpu),
            spread(&speed),
            spread(&rss)
        );
        Ok(vec![
            Figure::new(
                "CPU per million rows, streamer / ceiling",
                Some(median(&cpu)),
                "ratio",
                Goal::AtMost(1.5),
            ),
            Figure::new(
                "rows/s, streamer / ceiling",
                Some(median(&speed)),
                "ratio",
                Goal::AtLeast(0.90),
            ),
            self.memory(bench, median(&rss)).await?,
        ])
    }

    /// The same topic, filled up: what is held must not grow with what waits.
    async fn memory(&self, bench: &mut Bench, small: f64) -> Result<Figure, BenchError> {
        const MOST: f64 = 48.0;
        const GROWTH: f64 = 1.10;
        let goal = format!("<= {MOST}, the same within 10 %");
        let (few, many) = (self.records, self.large);
        if many <= few {
            let name = format!("peak RSS draining {few} (more not measured)");
            let missed = (small > MOST).then_some(false);
            return Ok(Figure::judged(name, Some(small), "MiB", goal, missed));
        }
        println!("filling the topic up to {many} records");
        bench.fill_up(TOPIC, few..many).await?;
        let large = bench.drain(TOPIC, many).await?;
        println!("{many}: streamer {}", told(&large));
        Ok(Figure::judged(
            format!("peak RSS draining {many} ({few}: {small:.1})"),
            Some(large.peak_mib),
            "MiB",
            goal,
            Some(small.max(large.peak_mib) <= MOST && large.peak_mib <= small * GROWTH),
        ))
    }

    async fn latency(&self, bench: &mut Bench) -> Result<Figure, BenchError> {
        const MEDIAN: f64 = 4.0;
        const TAIL: f64 = 10.0;
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            rounds.push(bench.steady(500, self.steady, round).await?);
        }
        let fast = bench.steady(5_000, self.steady, 0).await?;
        println!("at 5,000/s: p50 {:.1} ms, p99 {:.1} ms", fast.0, fast.1);
        let (middles, tails): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        println!("at 500/s: p50 {} ms, p99 {} ms", spread(&middles), spread(&tails));
        let (middle, tail) = (median(&middles), median(&tails));
        Ok(Figure::judged(
            format!("latency at 500/s, p99 (p50: {middle:.1})"),
            Some(tail),
            "ms",
            format!("<= {TAIL} (p50: <= {MEDIAN})"),
            Some(middle <= MEDIAN && tail <= TAIL),
        ))
    }

    /// Three nodes with every row on each, two replicas of the streamer.
    async fn cluster(&self, best: &Settings) -> Result<Figure, BenchError> {
        let mut bench = Bench::start(3).await?;
        bench.fill(TOPIC, self.records).await?;
        let mut ratios = Vec::new();
        for round in 0..=self.rounds {
            let ceiling = bench.ceiling(best, self.records).await?;
            let speed = bench.drain_by_two(TOPIC, self.records).await?;
            println!(
                "three nodes, round {round}: ceiling {}, two streamers {speed:.0} rows/s",
                told(&ceiling)
            );
            if round > 0 {
                ratios.push(speed / ceiling.rows_per_second());
            }
        }
        println!("rows/s at RF 3, streamers to ceiling: {}", spread(&ratios));
        Ok(Figure::new(
            "rows/s with RF 3 on three nodes, 2 replicas, / ceiling",
            Some(median(&ratios)),
            "ratio",
            Goal::AtLeast(0.90),
        ))
    }

    /// The driver's best settings on this machine, by a small sweep.
    async fn sweep(&self, bench: &mut Bench) -> Result<Settings, BenchError> {
        let rows = (self.records / 5).max(10_000);
        let mut best: Option<(f64, Settings)> = None;
        let warm = Settings {
            window: 512,
            connections: 2,
            batch: 1,
        };
        bench.ceiling(&warm, rows).await?;
        for settings in SWEEP {
            let cost = bench.ceiling(&settings, rows).await?;
            println!("sweep {settings:?}: {}", told(&cost));
            if best
                .as_ref()
                .is_none_or(|(speed, _)| cost.rows_per_second() > *speed)
            {
                best = Some((cost.rows_per_second(), settings));
            }
        }
        Ok(best.map_or(warm, |(_, settings)| settings))
    }
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    window: usize,
    connections: usize,
    batch: usize,
}

/// Batches of more than ten such rows pass the 5 KiB at which a server warns of each.
const SWEEP: [Settings; 6] = [
    Settings {
        window: 256,
        connections: 1,
        batch: 1,
    },
    Settings {
        window: 512,
        connections: 2,
        batch: 1,
    },
    Settings {
        window: 1024,
        connections: 2,
        batch: 1,
    },
    Settings {
        window: 64,
        connections: 2,
        batch: 8,
    },
    Settings {
        window: 128,
        connections: 2,
        batch: 8,
    },
    Settings {
        window: 128,
        connections: 2,
        batch: 10,
    },
];

fn told(cost: &Cost) -> String {
    format!(
        "{:.0} rows/s, {:.1} CPU s per million, {:.0} MiB",
        cost.rows_per_second(),
        cost.cpu_per_million(),
        cost.peak_mib
    )
}
