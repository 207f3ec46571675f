//! `bench growth`: the streamer's drain as the backlog, the partitions and the servers' nodes grow.
//!
//! One dimension grows at a time. Each round measures every point once, so a slow hour of the machine affects all points.

use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::report::spread::order;
use crate::report::{GrowthPoint, MemoryLine, Report};
use crate::sink::Streamer;
use crate::sink::drain::{Backlogs, DrainRounds, summary};
use crate::usage::warmup::Warmup;

/// Options of the benchmark.
#[derive(Debug, Clone)]
pub struct GrowthBench {
    /// Records where another dimension grows.
    pub records: u64,
    /// Sizes of the backlogs.
    pub backlogs: Vec<u64>,
    /// Measured rounds.
    pub rounds: usize,
    /// Whether clusters of three nodes are measured.
    pub cluster: bool,
}

/// Partitions where another dimension grows.
const PARTITIONS: i32 = 6;
const BACKLOG: &str = "records in the backlog";

/// One point of one dimension.
#[derive(Debug)]
struct Point {
    axis: &'static str,
    at: f64,
    partitions: i32,
    records: u64,
    rounds: DrainRounds,
}

impl Point {
    fn new(axis: &'static str, at: f64, records: u64) -> Self {
        Self {
            axis,
            at,
            partitions: PARTITIONS,
            records,
            rounds: DrainRounds::default(),
        }
    }

    async fn measure(&mut self, env: &mut BenchEnv, backlogs: &mut Backlogs) -> Result<(), BenchError> {
        let backlog = backlogs.of(env, self.partitions, self.records).await?;
        let drain = backlog.drain(env, &Streamer::default()).await?;
        println!("{}: {}: {}", self.axis, self.at, summary(&drain));
        self.rounds.0.push(drain);
        Ok(())
    }

    fn grown(&self) -> Option<GrowthPoint> {
        Some(GrowthPoint {
            axis: self.axis.to_owned(),
            at: self.at,
            drain: self.rounds.line("affluent", self.records)?,
        })
    }

    fn memory(&self) -> Option<MemoryLine> {
        (self.axis == BACKLOG)
            .then(|| self.rounds.memory(&format!("backlog of {}", self.records)))
            .flatten()
    }
}

impl GrowthBench {
    /// Measures and prints its progress.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn run(&self) -> Result<Report, BenchError> {
        let mut report = Report::new("growth")
            .set("records", &self.records)
            .set("backlogs", &format!("{:?}", self.backlogs))
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS);
        let mut points = self.points();
        let mut env = BenchEnv::start(1, 1).await?;
        self.rounds_of(&mut env, &mut points).await?;
        drop(env);
        if self.cluster {
            points.extend(self.nodes().await?);
        }
        report.growth = points.iter().filter_map(Point::grown).collect();
        report.memory = points.iter().filter_map(Point::memory).collect();
        Ok(report)
    }

    /// Measures every point once in each round. The first point rotates.
    async fn rounds_of(&self, env: &mut BenchEnv, points: &mut [Point]) -> Result<(), BenchError> {
        let mut backlogs = Backlogs::default();
        self.warm(env, &mut backlogs).await?;
        for round in 0..self.rounds {
            for place in order(round, points.len()) {
                points[place].measure(env, &mut backlogs).await?;
            }
        }
        backlogs.delete(env).await
    }

    async fn warm(&self, env: &mut BenchEnv, backlogs: &mut Backlogs) -> Result<(), BenchError> {
        let backlog = backlogs.of(env, PARTITIONS, self.records).await?;
        let mut warmup = Warmup::default();
        while warmup.needs_another_round() {
            let drain = backlog.drain(env, &Streamer::default()).await?;
            println!("warming up: {}", summary(&drain));
            warmup.record(drain.cost.rows_per_second());
        }
        Ok(())
    }

    fn points(&self) -> Vec<Point> {
        let mut points = Vec::new();
        for records in &self.backlogs {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
            let at = *records as f64;
            points.push(Point::new(BACKLOG, at, *records));
        }
        points.extend([1, 3, 6, 12].map(|partitions| Point {
            partitions,
            ..Point::new("partitions", f64::from(partitions), self.records)
        }));
        points
    }

    /// Compares three nodes, with a replica on each, with one. Both count rows by checkpoints, because no single node of
    /// several has every row. Two clusters at once would share the machine, so the rounds of a cluster are consecutive.
    async fn nodes(&self) -> Result<Vec<Point>, BenchError> {
        let mut points = Vec::new();
        for nodes in [1_u8, 3] {
            let mut env = BenchEnv::start(nodes.into(), nodes.into())
                .await?
                .by_checkpoints();
            let at = f64::from(nodes);
            let mut point = [Point::new("nodes of Kafka and of Cassandra", at, self.records)];
            self.rounds_of(&mut env, &mut point).await?;
            points.extend(point);
        }
        Ok(points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dimension_grows_at_a_time() {
        let bench = GrowthBench {
            records: 300_000,
            backlogs: vec![100_000, 1_000_000],
            rounds: 3,
            cluster: false,
        };
        for point in bench.points() {
            let unusual = [point.records != bench.records, point.partitions != PARTITIONS];
            assert!(unusual.iter().filter(|it| **it).count() <= 1, "{point:?}");
            assert!(point.grown().is_none() && point.memory().is_none());
        }
    }
}
