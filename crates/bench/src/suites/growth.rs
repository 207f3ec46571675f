//! `scripts/bench growth`: how the streamer's drain changes with the backlog, the partitions, and the servers' nodes.
//! One parameter varies at a time. Each round measures every point once, so that slow phases of the machine affect all.

use anyhow::Result;
use clap::Args;

use crate::compare::backlog::Backlogs;
use crate::compare::drain::{DRAIN_COLUMNS, Drains};
use crate::env::{BenchEnv, PARTITIONS};
use crate::measure::cost::{Cost, as_f64};
use crate::measure::spread::{Spread, rotation};
use crate::plot::data::{Chart, Grid, GridRow};
use crate::report::Report;
use crate::report::table::Table;
use crate::sinks::Sink as _;
use crate::sinks::streamer::Streamer;

const BACKLOG: &str = "records in the backlog";
const PARTITION_COUNT: &str = "partitions";
const NODES: &str = "nodes of Cassandra, at most three replicas";
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
        drop(env);
        if !self.single {
            points.extend(self.nodes().await?);
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
        let partitions = [1, PARTITIONS, 12, 48, 96].map(|partitions| Point {
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
            single: true,
        };
        for point in bench.points() {
            let varied = [point.records != bench.records, point.partitions != PARTITIONS];
            assert!(varied.iter().filter(|it| **it).count() <= 1, "{point:?}");
            assert!(point.drains.0.is_empty());
        }
    }
}
