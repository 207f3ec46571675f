//! Drains a backlog with a sink, and measures its processes.
//!
//! The clock runs from the last row of the first third to the last row: a sink is a new process in each round, and a JVM
//! compiles its code during the first third.

use std::fmt;
use std::time::Instant;

use anyhow::Result;

use crate::env::BenchEnv;
use crate::measure::cost::Cost;
use crate::measure::monitor::{Monitor, Usage};
use crate::measure::spread::Spread;
use crate::plot::data::{ChartLine, downsample};
use crate::report::table::{Cell, cost_cells};
use crate::sinks::Sink;
use crate::sinks::running::RunningSink;
use crate::sinks::target::Target;

/// The clock does not run during one of this many parts.
const WARMUP_PART: u64 = 3;

/// Columns of [`Drains::cells`].
pub const DRAIN_COLUMNS: [&str; 4] = ["rows/s", "CPU s per million", "peak MiB", "first row, s"];

/// One drained backlog.
#[derive(Debug, Clone)]
pub struct Drain {
    /// The cost of the rows after the first third.
    pub cost: Cost,
    /// From the start of the process to the first row.
    pub first_row_seconds: f64,
    /// Resources over the whole life of the sink.
    pub usage: Usage,
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, first row after {:.2} s",
            self.cost, self.first_row_seconds
        )
    }
}

/// Drains a topic of `records` and keeps the table.
pub async fn drain(
    env: &mut BenchEnv,
    sink: &dyn Sink,
    topic: &str,
    records: u64,
) -> Result<(Drain, Target)> {
    let target = env.create_target(topic).await?;
    let measured = async {
        let started = Instant::now();
        let running = sink.start(&target)?;
        let drain = measure(env, &target, &running, started, records).await?;
        running.stop().await?;
        env.verify_row_count(&target, records).await?;
        Ok(drain)
    };
    match measured.await {
        Ok(drain) => Ok((drain, target)),
        Err(error) => {
            env.drop_keyspace(&target.keyspace).await?;
            Err(error)
        }
    }
}

async fn measure(
    env: &BenchEnv,
    target: &Target,
    sink: &RunningSink,
    process_started: Instant,
    records: u64,
) -> Result<Drain> {
    let monitor = Monitor::start(&sink.pids());
    env.wait_for_rows(target, sink, 1).await?;
    let first_row_seconds = process_started.elapsed().as_secs_f64();
    let warm = env
        .wait_for_rows(target, sink, records.div_ceil(WARMUP_PART))
        .await?;
    let (cpu, started) = (monitor.usage().cpu_seconds, Instant::now());
    let last = env.wait_for_rows(target, sink, records).await?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = monitor.usage();
    let cost = Cost {
        rows: last - warm,
        seconds,
        cpu_seconds: usage.cpu_seconds - cpu,
        peak_mib: usage.peak_mib,
    };
    Ok(Drain {
        cost,
        first_row_seconds,
        usage,
    })
}

/// The rounds of one sink with one backlog.
#[derive(Debug, Clone, Default)]
pub struct Drains(pub Vec<Drain>);

impl Drains {
    /// The costs of the rounds.
    pub fn costs(&self) -> Vec<Cost> {
        self.0.iter().map(|drain| drain.cost).collect()
    }

    /// A quantity of the costs over the rounds.
    pub fn each(&self, value: fn(&Cost) -> f64) -> Vec<f64> {
        self.0.iter().map(|drain| value(&drain.cost)).collect()
    }

    /// The cells of a table with [`DRAIN_COLUMNS`].
    pub fn cells(&self) -> Vec<Cell> {
        let first_row = Spread::of(self.0.iter().map(|drain| drain.first_row_seconds));
        let mut cells = cost_cells(&self.costs()).to_vec();
        cells.push(first_row.into());
        cells
    }

    /// Memory over the last round; `None` without rounds.
    pub fn memory(&self, product: &str) -> Option<ChartLine> {
        let last = self.0.last()?;
        Some(ChartLine::new(product, downsample(&last.usage.memory)))
    }
}
