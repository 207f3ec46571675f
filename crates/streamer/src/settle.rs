//! Makes one micro-batch durable: rows to Cassandra, what can't be a row to the dead-letter topic.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use uuid::Uuid;

use crate::batch::{Batch, Operation};
use crate::cassandra::writer::{WriteError, Writer};
use crate::clock::wall_micros;
use crate::kafka::dead_letters::{DeadLetters, Undeliverable};
use crate::metrics::StreamerMetrics;
use crate::record::{Change, Refusal};

/// A record that can end in neither place; waiting would not help.
#[derive(Debug, Error)]
pub enum SettleError {
    /// Rows can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A dead letter can't be written.
    #[error(transparent)]
    DeadLetter(#[from] Undeliverable),
}

/// The two places where a record can end.
pub struct Settler {
    /// Rows.
    pub writer: Writer,
    /// Everything else.
    pub dead_letters: DeadLetters,
    /// The topic's id, for dead letters.
    pub topic_id: Uuid,
    /// Counts what became of records.
    pub metrics: Arc<StreamerMetrics>,
}

/// A micro-batch whose every record is a row or a dead letter.
#[derive(Debug)]
pub struct Settled {
    /// Its id.
    pub batch: u64,
    /// The partitions it had records of, and of each those that Cassandra refused, by their place among its records.
    pub partitions: Vec<(i32, Vec<usize>)>,
}

impl Settler {
    /// Returns once every record of `batch` is durable, however long it takes.
    ///
    /// # Errors
    /// When waiting would not help; what was durable before is not told.
    pub async fn settle(&self, batch: Batch) -> Result<Settled, SettleError> {
        let started = Instant::now();
        let Batch {
            id,
            mut operations,
            ends,
            bytes,
            ..
        } = batch;
        self.metrics.batch_rows.observe(count(operations.len()));
        self.metrics.batch_bytes.observe(count(bytes));
        let mut writes = Vec::with_capacity(operations.len());
        let mut places = Vec::with_capacity(operations.len());
        let mut times = Vec::with_capacity(operations.len());
        let mut refusals = Vec::new();
        for (place, operation) in operations.iter_mut().enumerate() {
            // The change moves out; what a dead letter needs besides is the record's own bytes.
            match std::mem::replace(
                &mut operation.change,
                Change::Refuse(Refusal {
                    reason: "",
                    error: String::new(),
                }),
            ) {
                Change::Upsert(row) => {
                    times.push((operation.timestamp, row.ingested_at()));
                    writes.push(self.writer.upsert(row, operation.stamp));
                    places.push(place);
                }
                Change::Delete(id) => {
                    writes.push(self.writer.delete(id, operation.stamp));
                    places.push(place);
                }
                Change::Refuse(refusal) => refusals.push((place, refusal)),
            }
        }
        let rows = async { self.writer.write(&writes).await.map_err(SettleError::from) };
        let (refused, ()) = futures::try_join!(rows, self.bury(&operations, refusals))?;
        let written = writes.len() - refused.len();
        let dead: Vec<_> = refused.iter().map(|refused| places[refused.index]).collect();
        let rejected = refused
            .into_iter()
            .map(|refused| {
                (
                    places[refused.index],
                    Refusal {
                        reason: "refused_by_cassandra",
                        error: refused.error,
                    },
                )
            })
            .collect();
        self.bury(&operations, rejected).await?;
        let now = wall_micros() / 1_000;
        let expired = writes.iter().filter(|write| write.is_over(now)).count();
        self.metrics.expired.inc_by(expired as u64);
        let upserts = times.len() - expired;
        self.metrics
            .rows
            .with_label_values(&["upsert"])
            .inc_by(upserts.min(written) as u64);
        self.metrics
            .rows
            .with_label_values(&["delete"])
            .inc_by(written.saturating_sub(upserts) as u64);
        self.observe(&times);
        self.metrics
            .write_seconds
            .observe(started.elapsed().as_secs_f64());
        Ok(Settled {
            batch: id,
            partitions: ends
                .into_iter()
                .map(|end| (end.partition, of_partition(&operations, end.partition, &dead)))
                .collect(),
        })
    }

    async fn bury(
        &self,
        operations: &[Operation],
        refusals: Vec<(usize, Refusal)>,
    ) -> Result<(), SettleError> {
        let letters: Vec<_> = refusals
            .into_iter()
            .map(|(place, refusal)| (&operations[place], refusal))
            .collect();
        Ok(self.dead_letters.write(&letters, self.topic_id).await?)
    }

    fn observe(&self, times: &[(i64, i64)]) {
        let now = wall_micros() / 1_000;
        let kafka_to_row = self.metrics.kafka_to_row.local();
        let event_to_row = self.metrics.event_to_row.local();
        for (kafka, event) in times {
            if *kafka >= 0 {
                kafka_to_row.observe(seconds(now - kafka));
            }
            event_to_row.observe(seconds(now - event));
        }
        kafka_to_row.flush();
        event_to_row.flush();
    }
}

/// Those of `dead` (places among all) that are of `partition`, by their place among its records.
fn of_partition(operations: &[Operation], partition: i32, dead: &[usize]) -> Vec<usize> {
    if dead.is_empty() {
        return Vec::new();
    }
    let of_it = operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.partition == partition);
    of_it
        .enumerate()
        .filter(|(_, (place, _))| dead.contains(place))
        .map(|(among_its_own, _)| among_its_own)
        .collect()
}

#[allow(clippy::cast_precision_loss, reason = "a latency of 2^52 ms is not measured")]
fn seconds(millis: i64) -> f64 {
    millis.max(0) as f64 / 1_000.0
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a batch of 2^52 rows or bytes does not exist"
)]
fn count(number: usize) -> f64 {
    number as f64
}
