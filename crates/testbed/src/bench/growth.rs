//! `scripts/bench growth`: how the streamer's drain changes with the size of the backlog and of its records, with
//! partitions, members of its group, and nodes of the servers. One thing grows at a time, the others stay where they
//! usually are.

use super::drain::{Backlog, Drains, told};
use super::field::Field;
use super::report::{GrowthPoint, MemoryLine, Report};
use super::sink::Streamer;
use super::warmup::Warmup;
use crate::error::TestbedError;

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

/// One point of one axis.
struct Point {
    axis: &'static str,
    at: f64,
    partitions: i32,
    records: u64,
    bytes: usize,
    replicas: usize,
}

impl GrowthBench {
    /// Measures; prints what it does on the way.
    ///
    /// # Errors
    /// [`TestbedError`]
    pub async fn run(&self) -> Result<Report, TestbedError> {
        let mut report = Report::new("growth")
            .set("records", &self.records)
            .set("backlogs", &format!("{:?}", self.backlogs))
            .set("rounds", &self.rounds)
            .set("partitions", &PARTITIONS);
        let mut field = Field::start(1, 1).await?;
        self.warm(&mut field).await?;
        for point in self.points() {
            let (grown, memory) = self.measure(&mut field, &point).await?;
            report.growth.push(grown);
            report.memory.extend(memory);
        }
        drop(field);
        if self.cluster {
            report.growth.extend(self.nodes().await?);
        }
        Ok(report)
    }

    async fn warm(&self, field: &mut Field) -> Result<(), TestbedError> {
        let backlog = Backlog::fill(field, "warmup", PARTITIONS, self.records, 0).await?;
        let mut warmup = Warmup::default();
        while warmup.goes_on() {
            let drain = backlog.drain(field, &Streamer::default()).await?;
            println!("warming up: {}", told(&drain));
            warmup.note(drain.cost.rows_per_second());
        }
        Ok(())
    }

    fn points(&self) -> Vec<Point> {
        let usual = |axis, at| Point {
            axis,
            at,
            partitions: PARTITIONS,
            records: self.records,
            bytes: 0,
            replicas: 1,
        };
        let mut points = Vec::new();
        for records in &self.backlogs {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 records")]
            let at = *records as f64;
            points.push(Point {
                records: *records,
                ..usual("records in the backlog", at)
            });
        }
        points.extend([1, 3, 6, 12].map(|partitions| Point {
            partitions,
            ..usual("partitions", f64::from(partitions))
        }));
        points.extend([1_u8, 2, 3].map(|replicas| Point {
            replicas: replicas.into(),
            ..usual("replicas of the streamer", f64::from(replicas))
        }));
        points.extend([400_u16, 1_024, 4_096].map(|bytes| Point {
            bytes: bytes.into(),
            ..usual("bytes in a record", f64::from(bytes))
        }));
        points
    }

    /// Everything on three nodes, with a replica on each, against one.
    async fn nodes(&self) -> Result<Vec<GrowthPoint>, TestbedError> {
        let mut points = Vec::new();
        for nodes in [1_u8, 3] {
            let mut field = Field::start(nodes.into(), nodes.into()).await?;
            self.warm(&mut field).await?;
            let point = Point {
                axis: "nodes of Kafka and of Cassandra",
                at: f64::from(nodes),
                partitions: PARTITIONS,
                records: self.records,
                bytes: 0,
                replicas: 1,
            };
            points.push(self.measure(&mut field, &point).await?.0);
        }
        Ok(points)
    }

    async fn measure(
        &self,
        field: &mut Field,
        point: &Point,
    ) -> Result<(GrowthPoint, Option<MemoryLine>), TestbedError> {
        let Point { axis, at, .. } = point;
        let topic = format!("{axis}_{at}").replace(' ', "_");
        let backlog = Backlog::fill(field, &topic, point.partitions, point.records, point.bytes).await?;
        let streamer = Streamer {
            replicas: point.replicas,
        };
        let mut drains = Drains::default();
        for _ in 0..self.rounds {
            let drain = backlog.drain(field, &streamer).await?;
            println!("{axis}: {at}: {}", told(&drain));
            drains.0.push(drain);
        }
        let line = drains
            .line("affluent", point.records)
            .ok_or_else(|| TestbedError::Incomplete("no rounds".to_owned()))?;
        let grown = GrowthPoint {
            axis: (*axis).to_owned(),
            at: *at,
            drain: line,
        };
        let memory = axis
            .starts_with("records")
            .then(|| drains.memory(&format!("backlog of {}", point.records)));
        Ok((grown, memory.flatten()))
    }
}
