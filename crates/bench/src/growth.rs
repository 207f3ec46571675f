//! `scripts/bench growth`: how the streamer's drain changes with the size of the backlog and of its records, with
//! partitions, members of its group, and nodes of the servers. One thing grows at a time, the others stay where they
//! usually are. Each round measures every point once, so that a good or a bad hour of the machine is in all of them.

mod shared;

use self::shared::drain_by_group;
use super::drain::{Backlogs, Drain, Drains, told};
use super::field::Field;
use super::report::{GrowthPoint, MemoryLine, Report};
use super::sink::Streamer;
use super::spread::order;
use super::warmup::Warmup;
use crate::error::BenchError;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct GrowthBench {
    /// Records where something else than their number grows.
    pub records: u64,
    /// The backlogs.
    pub backlogs: Vec<u64>,
    /// Rounds that count.
    pub rounds: usize,
    /// Whether three nodes of each server are measured, too.
    pub cluster: bool,
}

/// What is usual.
const PARTITIONS: i32 = 6;
const BACKLOG: &str = "records in the backlog";

/// How the records come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supply {
    /// They wait in the topic.
    Waiting,
    /// They are poured into an empty topic once so many members share its partitions: of a backlog the first member would
    /// have drained a good part before the last one has joined.
    Poured { replicas: usize },
}

/// One point of one axis.
#[derive(Debug)]
struct Point {
    axis: &'static str,
    at: f64,
    partitions: i32,
    records: u64,
    bytes: usize,
    supply: Supply,
    drains: Drains,
}

impl Point {
    fn usual(axis: &'static str, at: f64, records: u64) -> Self {
        Self {
            axis,
            at,
            partitions: PARTITIONS,
            records,
            bytes: 0,
            supply: Supply::Waiting,
            drains: Drains::default(),
        }
    }

    async fn measure(&mut self, field: &mut Field, backlogs: &mut Backlogs) -> Result<(), BenchError> {
        let drain = self.drain(field, backlogs).await?;
        println!("{}: {}: {}", self.axis, self.at, told(&drain));
        self.drains.0.push(drain);
        Ok(())
    }

    async fn drain(&self, field: &mut Field, backlogs: &mut Backlogs) -> Result<Drain, BenchError> {
        match self.supply {
            Supply::Waiting => {
                let backlog = backlogs
                    .of(field, self.partitions, self.records, self.bytes)
                    .await?;
                backlog.drain(field, &Streamer::default()).await
            }
            Supply::Poured { replicas } => {
                let topic = format!("poured_{replicas}_{}", self.drains.0.len());
                field.stack.kafka.create_topic(&topic, self.partitions).await?;
                let drain = drain_by_group(field, &topic, replicas, self.records).await;
                field.delete_topic(&topic).await?;
                drain
            }
        }
    }

    fn grown(&self) -> Option<GrowthPoint> {
        Some(GrowthPoint {
            axis: self.axis.to_owned(),
            at: self.at,
            drain: self.drains.line("affluent", self.records)?,
        })
    }

    fn memory(&self) -> Option<MemoryLine> {
        (self.axis == BACKLOG)
            .then(|| self.drains.memory(&format!("backlog of {}", self.records)))
            .flatten()
    }
}

impl GrowthBench {
    /// Measures; prints what it does on the way.
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
        let mut field = Field::start(1, 1).await?;
        self.rounds_of(&mut field, &mut points).await?;
        drop(field);
        if self.cluster {
            points.extend(self.nodes().await?);
        }
        report.growth = points.iter().filter_map(Point::grown).collect();
        report.memory = points.iter().filter_map(Point::memory).collect();
        Ok(report)
    }

    /// Every point once in each round, each round beginning with another one.
    async fn rounds_of(&self, field: &mut Field, points: &mut [Point]) -> Result<(), BenchError> {
        let mut backlogs = Backlogs::default();
        self.warm(field, &mut backlogs).await?;
        for round in 0..self.rounds {
            for place in order(round, points.len()) {
                points[place].measure(field, &mut backlogs).await?;
            }
        }
        backlogs.delete(field).await
    }

    async fn warm(&self, field: &mut Field, backlogs: &mut Backlogs) -> Result<(), BenchError> {
        let backlog = backlogs.of(field, PARTITIONS, self.records, 0).await?;
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let drain = backlog.drain(field, &Streamer::default()).await?;
            println!("warming up: {}", told(&drain));
            warmup.note(drain.cost.rows_per_second());
        }
        Ok(())
    }

    fn points(&self) -> Vec<Point> {
        let usual = |axis, at| Point::usual(axis, at, self.records);
        let mut points = Vec::new();
        for records in &self.backlogs {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
            let at = *records as f64;
            points.push(Point::usual(BACKLOG, at, *records));
        }
        points.extend([1, 3, 6, 12].map(|partitions| Point {
            partitions,
            ..usual("partitions", f64::from(partitions))
        }));
        points.extend([1_u8, 2, 3].map(|replicas| Point {
            supply: Supply::Poured {
                replicas: replicas.into(),
            },
            ..usual("replicas of the streamer", f64::from(replicas))
        }));
        points.extend([400_u16, 1_024, 4_096].map(|bytes| Point {
            bytes: bytes.into(),
            ..usual("bytes in a record", f64::from(bytes))
        }));
        points
    }

    /// Everything on three nodes, with a replica on each, against one: rows are counted by checkpoints on both, since of
    /// several nodes none needs to have every row. Two sets of servers at once would measure each other, so here the
    /// rounds of a set are together.
    async fn nodes(&self) -> Result<Vec<Point>, BenchError> {
        let mut points = Vec::new();
        for nodes in [1_u8, 3] {
            let mut field = Field::start(nodes.into(), nodes.into()).await?.by_checkpoints();
            let at = f64::from(nodes);
            let mut point = [Point::usual("nodes of Kafka and of Cassandra", at, self.records)];
            self.rounds_of(&mut field, &mut point).await?;
            points.extend(point);
        }
        Ok(points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_grows_at_a_time() {
        let bench = GrowthBench {
            records: 300_000,
            backlogs: vec![100_000, 1_000_000],
            rounds: 3,
            cluster: false,
        };
        for point in bench.points() {
            let unusual = [
                point.records != bench.records,
                point.partitions != PARTITIONS,
                point.bytes != 0,
                point.supply != Supply::Waiting,
            ];
            assert!(unusual.iter().filter(|it| **it).count() <= 1, "{point:?}");
            assert!(point.grown().is_none() && point.memory().is_none());
        }
    }
}
