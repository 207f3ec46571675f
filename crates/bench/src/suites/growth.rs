//! `scripts/bench growth`: how the streamer's drain changes with the backlog, the partitions, and the servers' nodes.
//! One parameter varies at a time. Each round measures every point once, so that slow phases of the machine affect all.
//! Then how late a row may be: near the streamer's capacity, and while the nodes restart one after the other.
//!
//! Clusters of several sizes run at the same time, and take turns.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use testkit::process::Program;
use testkit::servers::Node;
use testkit::service::Service;
use tokio::time::sleep;

use crate::compare::backlog::{Backlog, Backlogs};
use crate::compare::comparison::ratios;
use crate::compare::drain::{DRAIN_COLUMNS, Drains};
use crate::env::{BenchEnv, PARTITIONS, child};
use crate::load::steady::{capacity, steady};
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
const PROBES: u64 = 5;
const MAX_DELAY: Duration = Duration::from_millis(50);
/// After this time a row counts as missing.
const ROW_TIMEOUT: Duration = Duration::from_secs(60);
/// Long enough for three restarts.
const RESTART_SECONDS: u64 = 150;
/// Records per second, more than the streamer writes beside their sender.
const OVERLOAD: u64 = 30_000;
/// How many seconds the last partition may be behind the median one.
const MAX_GAP: f64 = 2.0;
/// The share of the capacity that a stream uses.
const LOAD: f64 = 0.9;
/// A warmup needs no more records.
const MAX_WARMUP: u64 = 300_000;
/// The sizes of the clusters.
const NODE_COUNTS: [u8; 3] = [1, 3, 6];
/// Between two looks for a process.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Between two restarts of nodes.
const RESTART_PAUSE: Duration = Duration::from_secs(10);
/// A label and the quantity of a cost.
type Quantity = (&'static str, fn(&Cost) -> f64);
const QUANTITIES: [Quantity; 3] = [
    ("rows/s", Cost::rows_per_second),
    ("CPU s per million", Cost::cpu_per_million),
    ("peak MiB", |cost| cost.peak_mib),
];

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GrowthPart {
    /// Backlogs of several sizes and numbers of partitions
    Drains,
    /// The latest row near the capacity
    Lateness,
    /// Clusters of one, three and six nodes
    Nodes,
    /// Late rows while each of three nodes restarts
    Restarts,
}

/// The size of the bench.
#[derive(Debug, Clone, Args)]
pub struct GrowthBench {
    /// Parts to measure
    #[arg(long, value_delimiter = ',', default_value = "drains,lateness,nodes,restarts")]
    parts: Vec<GrowthPart>,
    /// Records, unless their number varies
    #[arg(long, default_value_t = 300_000)]
    records: u64,
    /// Records in the backlogs
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    backlogs: Vec<u64>,
    /// Numbers of partitions of the backlogs, and of the streams if 6 and 48 are among them
    #[arg(long, value_delimiter = ',', default_value = "1,6,12,48,96")]
    partitions: Vec<i32>,
    /// The producer's compression; the publisher's default is lz4
    #[arg(long, default_value = "none")]
    compression: String,
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Records per second while nodes restart
    #[arg(long, default_value_t = 5_000)]
    restart_rate: u64,
    /// Seconds of each stream
    #[arg(long, default_value_t = 60)]
    steady: u64,
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
            .set("compression", &self.compression)
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS);
        let mut points = Vec::new();
        if self.measures(GrowthPart::Drains) || self.measures(GrowthPart::Lateness) {
            let mut env = self.start(1).await?;
            self.warm_up(&mut env).await?;
            if self.measures(GrowthPart::Drains) {
                points.extend(self.drains(&mut env).await?);
            }
            if self.measures(GrowthPart::Lateness) {
                report.figures.extend(self.lateness(&mut env).await?);
            }
        }
        if self.measures(GrowthPart::Nodes) {
            let clusters = self.nodes().await?;
            report.figures.push(node_costs(&clusters));
            points.extend(clusters);
        }
        if self.measures(GrowthPart::Restarts) {
            report.figures.extend(self.rolling_restart().await?);
        }
        if !points.is_empty() {
            let mut table = Table::new("varied parameter", &DRAIN_COLUMNS);
            for point in &points {
                let label = format!("{}: {}", point.parameter, point.value);
                table.push(label, point.drains.cells());
            }
            report.tables.push(table);
            report.add_plot("drain", "Draining a backlog with the streamer", chart(&points));
        }
        Ok(report)
    }

    fn measures(&self, part: GrowthPart) -> bool {
        self.parts.contains(&part)
    }

    async fn start(&self, nodes: u8) -> Result<BenchEnv> {
        let mut env = BenchEnv::start(1, nodes.into()).await?;
        env.compress(&self.compression)?;
        Ok(env)
    }

    async fn warm_up(&self, env: &mut BenchEnv) -> Result<()> {
        let mut backlogs = Backlogs::default();
        let warmup = backlogs
            .get(env, PARTITIONS, self.records.min(MAX_WARMUP))
            .await?;
        warmup.warm_up(env, &Streamer::default()).await?;
        backlogs.delete(env).await
    }

    /// The rows that come more than two seconds after their records at [`LOAD`] of the capacity, with few and with many
    /// partitions. The streamer's histogram has all rows; queries from outside wait for a busy server themselves.
    async fn lateness(&self, env: &mut BenchEnv) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let few_and_many = [PARTITIONS, MANY_PARTITIONS].into_iter();
        for partitions in few_and_many.filter(|partitions| self.partitions.contains(partitions)) {
            let (mut gaps, mut late, mut rates) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                // As long as the stream: a shorter one ends before Cassandra flushes and compacts what it wrote.
                let overload = self.stream(OVERLOAD, self.steady);
                let rate = share_of(capacity(env, partitions, overload).await?, LOAD);
                let stream = self.stream(rate, self.steady);
                let (steady, ()) = steady(env, partitions, stream, async |_, _| Ok(())).await?;
                let latencies = &steady.kafka_to_row;
                let above = [1.0, 2.0, 4.0, 8.0].map(|seconds| latencies.count_above(seconds));
                println!(
                    "{partitions} partitions, {rate}/s: {:.1} s between the median partition and the last; median {:.0} ms, \
                     p99 {:.0} ms; later than 1, 2, 4 and 8 s: {above:?} of {}; observed, ms: {:?}",
                    steady.partition_gap,
                    latencies.quantile(0.5) * 1_000.0,
                    latencies.quantile(0.99) * 1_000.0,
                    latencies.count(),
                    steady.observed
                );
                gaps.push(steady.partition_gap);
                late.push(latencies.count_above(2.0));
                rates.push(as_f64(rate));
            }
            let rates = Spread::of(rates).map_or_else(String::new, |rates| rates.to_string());
            let when = format!("at {rates} records/s, {partitions} partitions");
            figures.push(Figure::measured(
                format!("median partition before the last {when}"),
                gaps,
                "s",
                Goal::AtMost(MAX_GAP),
            ));
            let name = format!("rows later than 2 s {when}");
            figures.push(Figure::measured(name, late, "", Goal::AtMost(0.0)));
        }
        Ok(figures)
    }

    /// While each of three nodes restarts: the share of the rows that come more than a second after their records, and the
    /// micro-batches that were sent more than twice.
    async fn rolling_restart(&self) -> Result<[Figure; 2]> {
        let mut env = self.start(3).await?;
        self.warm_up(&mut env).await?;
        let stream = self.stream(self.restart_rate, self.steady.max(RESTART_SECONDS));
        let (mut late, mut repeated) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let (steady, ()) = steady(&mut env, PARTITIONS, stream, restart_nodes).await?;
            let share = steady.kafka_to_row.share_above(1.0) * 100.0;
            let [again, repeatedly] = [1.0, 2.0].map(|times| steady.write_attempts.count_above(times));
            println!(
                "rolling restart: {share:.3} % later than 1 s; of {} micro-batches {again} were sent again, {repeatedly} \
                 more than twice; observed in ms: {:?}",
                steady.write_attempts.count(),
                steady.observed
            );
            late.push(share);
            repeated.push(repeatedly);
        }
        let when = format!("during a rolling restart at {}/s", self.restart_rate);
        Ok([
            Figure::measured(
                format!("rows later than 1 s {when}"),
                late,
                "%",
                Goal::AtMost(0.1),
            ),
            Figure::measured(
                format!("micro-batches sent more than twice {when}"),
                repeated,
                "",
                Goal::AtMost(0.0),
            ),
        ])
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

    async fn drains(&self, env: &mut BenchEnv) -> Result<Vec<Point>> {
        let mut points = self.points();
        let mut backlogs = Backlogs::default();
        for round in 0..self.rounds {
            for place in rotation(round, points.len()) {
                let point = &mut points[place];
                let backlog = backlogs.get(env, point.partitions, point.records).await?;
                point.drain(env, &backlog).await?;
            }
        }
        backlogs.delete(env).await?;
        Ok(points)
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
        let partitions = self.partitions.iter().map(|partitions| Point {
            partitions: *partitions,
            ..self.point(PARTITION_COUNT, f64::from(*partitions))
        });
        backlogs.chain(partitions).collect()
    }

    /// Clusters of several sizes. All count rows by checkpoints.
    async fn nodes(&self) -> Result<Vec<Point>> {
        let (mut clusters, mut points) = (Vec::new(), Vec::new());
        for nodes in NODE_COUNTS {
            let mut env = self.start(nodes).await?.counting_checkpoints();
            let backlog = Backlog::create(&env, PARTITIONS, self.records).await?;
            backlog.warm_up(&mut env, &Streamer::default()).await?;
            clusters.push((env, backlog));
            points.push(self.point(NODES, f64::from(nodes)));
        }
        for round in 0..self.rounds {
            for place in rotation(round, points.len()) {
                let (env, backlog) = &mut clusters[place];
                points[place].drain(env, backlog).await?;
            }
        }
        Ok(points)
    }
}

impl Point {
    async fn drain(&mut self, env: &mut BenchEnv, backlog: &Backlog) -> Result<()> {
        let drain = backlog.drain(env, &Streamer::default()).await?;
        println!("{} {}: {drain}", self.parameter, self.value);
        self.drains.0.push(drain);
        Ok(())
    }
}

/// The CPU time of a row with six nodes, in shares of that with three, by round.
fn node_costs(clusters: &[Point]) -> Figure {
    let costs = |nodes: f64| {
        let cluster = clusters
            .iter()
            .find(|point| point.value.total_cmp(&nodes).is_eq());
        cluster.map_or_else(Vec::new, |point| point.drains.each(Cost::cpu_per_million))
    };
    let ratios = ratios(&costs(6.0), &costs(3.0));
    Figure::measured(
        "CPU per row, six nodes / three",
        ratios,
        "ratio",
        Goal::AtMost(1.3),
    )
}

/// A share of a rate, at least 1.
fn share_of(rate: f64, share: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
    let rate = (rate * share) as u64;
    rate.max(1)
}

/// Stops and starts the nodes of Cassandra one after the other. All share this machine, so a node that starts has the lowest
/// priority: on a machine of its own it would take no time of the others.
async fn restart_nodes(env: &BenchEnv, _: &Service) -> Result<()> {
    for node in env.stack.cassandra.nodes() {
        sleep(RESTART_PAUSE).await;
        node.stop().await?;
        tokio::try_join!(async { Ok(node.start().await?) }, lower_priority(node))?;
    }
    Ok(())
}

async fn lower_priority(node: &Node) -> Result<()> {
    let pid = loop {
        match node.pid() {
            Some(pid) => break pid,
            None => sleep(POLL_INTERVAL).await,
        }
    };
    let program = Program::new("renice")
        .args(["-n", "19", "-p"])
        .arg(pid.to_string());
    child::run("lower the priority of a node", program, ROW_TIMEOUT).await?;
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
            parts: vec![GrowthPart::Drains],
            records: 300_000,
            backlogs: vec![100_000, 1_000_000],
            partitions: vec![1, PARTITIONS, 96],
            compression: "zstd".to_owned(),
            rounds: 3,
            restart_rate: 5_000,
            steady: 60,
        };
        for point in bench.points() {
            let varied = [point.records != bench.records, point.partitions != PARTITIONS];
            assert!(varied.iter().filter(|it| **it).count() <= 1, "{point:?}");
            assert!(point.drains.0.is_empty());
        }
    }
}
