//! `scripts/bench growth`: how the streamer's drain changes with the backlog, the partitions, and the servers' nodes.
//! One parameter varies at a time. Each round measures every point once, so that slow phases of the machine affect all.
//! Then how late a row may be: near the streamer's capacity, and while the nodes restart one after the other.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time::sleep;

use crate::compare::backlog::Backlogs;
use crate::compare::drain::{DRAIN_COLUMNS, Drains};
use crate::env::{BenchEnv, PARTITIONS};
use crate::load::steady::steady;
use crate::load::stream::Stream;
use crate::measure::cost::{Cost, as_f64};
use crate::measure::spread::{Spread, rotation};
use crate::plot::data::{Chart, Grid, GridRow};
use crate::report::Report;
use crate::report::figure::{Figure, Goal};
use crate::report::table::Table;
use crate::sinks::Sink as _;
use crate::sinks::streamer::Streamer;

const BACKLOG: &str = "records in the backlog";
const PARTITION_COUNT: &str = "partitions";
const NODES: &str = "nodes of Cassandra, at most three replicas";
const MANY_PARTITIONS: i32 = 48;
/// Rows of a stream that are observed, a second.
const PROBES: u64 = 50;
const MAX_DELAY: Duration = Duration::from_millis(50);
/// After this time a row counts as missing.
const ROW_TIMEOUT: Duration = Duration::from_secs(60);
/// Long enough for three restarts.
const RESTART_SECONDS: u64 = 150;
/// Between two restarts of nodes.
const RESTART_PAUSE: Duration = Duration::from_secs(10);
/// A label and the quantity of a cost.
type Quantity = (&'static str, fn(&Cost) -> f64);
const QUANTITIES: [Quantity; 3] = [
    ("rows/s", Cost::rows_per_second),
    ("CPU s per million", Cost::cpu_per_million),
    ("peak MiB", |cost| cost.peak_mib),
];

/// The size of the bench.
#[derive(Debug, Clone, Args)]
pub struct GrowthBench {
    /// Records, unless their number varies
    #[arg(long, default_value_t = 300_000)]
    records: u64,
    /// Records in the backlogs
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    backlogs: Vec<u64>,
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Records per second of the streams whose latest rows are measured
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Records per second while nodes restart
    #[arg(long, default_value_t = 5_000)]
    restart_rate: u64,
    /// Seconds of each stream
    #[arg(long, default_value_t = 60)]
    steady: u64,
    /// Skip clusters of three and six nodes
    #[arg(long)]
    single: bool,
}

/// A value of a varied parameter.
#[derive(Debug)]
struct Point {
    parameter: &'static str,
    value: f64,
    partitions: i32,
    records: u64,
    drains: Drains,
}

impl GrowthBench {
    /// Runs the bench and prints its progress.
    pub async fn run(&self) -> Result<Report> {
        let mut report = Report::new("growth")
            .set("records", &self.records)
            .set("backlogs", &format!("{:?}", self.backlogs))
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS);
        let mut points = self.points();
        let mut env = BenchEnv::start(1, 1).await?;
        self.measure(&mut env, &mut points).await?;
        for partitions in [PARTITIONS, MANY_PARTITIONS] {
            report.figures.push(self.lateness(&mut env, partitions).await?);
        }
        drop(env);
        if !self.single {
            points.extend(self.nodes().await?);
            report.figures.push(self.rolling_restart().await?);
        }
        let mut table = Table::new("varied parameter", &DRAIN_COLUMNS);
        for point in &points {
            let label = format!("{}: {}", point.parameter, point.value);
            table.push(label, point.drains.cells());
        }
        report.tables.push(table);
        report.add_plot("drain", "Draining a backlog with the streamer", chart(&points));
        Ok(report)
    }

    /// How many seconds after the median the latest row comes.
    async fn lateness(&self, env: &mut BenchEnv, partitions: i32) -> Result<Figure> {
        let stream = self.stream(self.rate, self.steady);
        let mut late = Vec::new();
        for _ in 0..self.rounds {
            let observed = steady(env, partitions, stream, async |_| Ok(())).await?.observed;
            println!("{partitions} partitions, ms: {observed:?}");
            late.push((observed.max - observed.p50) / 1_000.0);
        }
        let name = format!(
            "latest row after the median at {}/s, {partitions} partitions",
            self.rate
        );
        Ok(Figure::measured(name, late, "s", Goal::AtMost(2.0)))
    }

    /// The share of the rows that come more than a second after their records while each of three nodes restarts.
    async fn rolling_restart(&self) -> Result<Figure> {
        let mut env = BenchEnv::start(1, 3).await?;
        let stream = self.stream(self.restart_rate, self.steady.max(RESTART_SECONDS));
        let mut shares = Vec::new();
        for _ in 0..self.rounds {
            let restarted = steady(&mut env, PARTITIONS, stream, restart_nodes).await?;
            let share = restarted.kafka_to_row.share_above(1.0) * 100.0;
            println!(
                "rolling restart: {share:.3} % later than 1 s, {} micro-batches written again, observed in ms: {:?}",
                restarted.rewritten, restarted.observed
            );
            shares.push(share);
        }
        let name = format!(
            "rows later than 1 s during a rolling restart at {}/s",
            self.restart_rate
        );
        Ok(Figure::measured(name, shares, "%", Goal::AtMost(0.1)))
    }

    fn stream(&self, rate: u64, seconds: u64) -> Stream {
        Stream {
            rate,
            length: Duration::from_secs(seconds),
            probes: PROBES,
            max_delay: MAX_DELAY,
            timeout: ROW_TIMEOUT,
            from: 0,
        }
    }

    async fn measure(&self, env: &mut BenchEnv, points: &mut [Point]) -> Result<()> {
        let mut backlogs = Backlogs::default();
        let streamer = Streamer::default();
        let warmup = backlogs.get(env, PARTITIONS, self.records).await?;
        warmup.warm_up(env, &streamer).await?;
        for round in 0..self.rounds {
            for place in rotation(round, points.len()) {
                let point = &mut points[place];
                let backlog = backlogs.get(env, point.partitions, point.records).await?;
                let drain = backlog.drain(env, &streamer).await?;
                println!(
                    "{}, {} {}: {drain}",
                    streamer.name(),
                    point.parameter,
                    point.value
                );
                point.drains.0.push(drain);
            }
        }
        backlogs.delete(env).await
    }

    fn point(&self, parameter: &'static str, value: f64) -> Point {
        Point {
            parameter,
            value,
            partitions: PARTITIONS,
            records: self.records,
            drains: Drains::default(),
        }
    }

    fn points(&self) -> Vec<Point> {
        let backlogs = self.backlogs.iter().map(|records| Point {
            records: *records,
            ..self.point(BACKLOG, as_f64(*records))
        });
        let partitions = [1, PARTITIONS, 12, MANY_PARTITIONS, 96].map(|partitions| Point {
            partitions,
            ..self.point(PARTITION_COUNT, f64::from(partitions))
        });
        backlogs.chain(partitions).collect()
    }

    /// One, three and six nodes. All count rows by checkpoints. The servers of one point run at a time, so these rounds do
    /// not alternate.
    async fn nodes(&self) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        for nodes in [1_u8, 3, 6] {
            let env = BenchEnv::start(1, nodes.into()).await?;
            let mut point = [self.point(NODES, f64::from(nodes))];
            self.measure(&mut env.counting_checkpoints(), &mut point).await?;
            points.extend(point);
        }
        Ok(points)
    }
}

/// Stops and starts the nodes of Cassandra one after the other.
async fn restart_nodes(env: &BenchEnv) -> Result<()> {
    for node in env.stack.cassandra.nodes() {
        sleep(RESTART_PAUSE).await;
        node.stop().await?;
        node.start().await?;
    }
    Ok(())
}

fn chart(points: &[Point]) -> Chart {
    let mut columns: Vec<_> = points.iter().map(|point| point.parameter.to_owned()).collect();
    columns.dedup();
    let row = |(label, value): Quantity| {
        let panel = |column: &String| {
            let points = points.iter().filter(|point| point.parameter == column);
            let measured =
                points.filter_map(|point| Some((point.value, Spread::of(point.drains.each(value))?)));
            measured.collect()
        };
        GridRow {
            label: label.to_owned(),
            panels: columns.iter().map(panel).collect(),
        }
    };
    let rows = QUANTITIES.map(row).into();
    Chart::Grid(Grid {
        product: Streamer::default().name().to_owned(),
        columns,
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_parameter_varies_at_a_time() {
        let bench = GrowthBench {
            records: 300_000,
            backlogs: vec![100_000, 1_000_000],
            rounds: 3,
            rate: 20_000,
            restart_rate: 5_000,
            steady: 60,
            single: true,
        };
        for point in bench.points() {
            let varied = [point.records != bench.records, point.partitions != PARTITIONS];
            assert!(varied.iter().filter(|it| **it).count() <= 1, "{point:?}");
            assert!(point.drains.0.is_empty());
        }
    }
}
