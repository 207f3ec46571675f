//! Writes a micro-batch: rows to Cassandra, rejected records to the dead-letter topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use service::Tracer;
use thiserror::Error;
use uuid::Uuid;

use crate::cassandra::writer::{RowWrite, RowWriteError, RowWriter, WrittenRows};
use crate::dead_letters::dead_letter::reasons;
use crate::dead_letters::producer::{DeadLetterError, DeadLetterProducer, RefusedDeadLetter};
use crate::ledger::latencies::{Bucket, Latencies};
use crate::ledger::recent_latencies::RecentLatencies;
use crate::metrics::StreamerMetrics;
use crate::pipeline::batch_builder::{BatchPartition, MicroBatch, Operation};
use crate::pipeline::batch_trace::BatchTraces;
use crate::pipeline::consumed_record::{Change, Rejection};
use crate::pipeline::write_timestamp::wall_micros;

/// A record can be written to neither Cassandra nor the dead-letter topic, and a retry would not help.
#[derive(Debug, Error)]
pub enum BatchWriteError {
    /// Rows can't be written.
    #[error(transparent)]
    Rows(#[from] RowWriteError),
    /// A dead letter can't be written.
    #[error(transparent)]
    DeadLetter(#[from] DeadLetterError),
}

/// Writes micro-batches.
pub struct BatchWriter {
    /// Writes the rows.
    pub writer: RowWriter,
    /// Writes the dead letters.
    pub dead_letters: DeadLetterProducer,
    /// The topic id in dead letters.
    pub topic_id: Uuid,
    /// Counts the outcomes.
    pub metrics: Arc<StreamerMetrics>,
    /// The time from fetching to storing.
    pub(crate) end_to_end: Arc<RecentLatencies>,
    /// Exports the spans.
    pub(crate) tracer: Tracer,
}

/// A micro-batch whose records are all durable, except for `refused`.
#[derive(Debug)]
pub struct WrittenBatch {
    /// Its id.
    pub batch: u64,
    /// The partitions of its records.
    pub partitions: Vec<WrittenPartition>,
    /// The dead letters that are not written.
    pub refused: Vec<RefusedDeadLetter>,
}

/// The records of one partition in a [`WrittenBatch`]. Indices are those among the partition's records.
#[derive(Debug)]
pub struct WrittenPartition {
    /// The partition.
    pub partition: i32,
    /// The indices of the records that Cassandra rejected.
    pub rejected: Vec<usize>,
    /// When each record was durable, in microseconds since 1970; empty if none has a latency to measure.
    pub durable_at: Vec<i64>,
}

impl BatchWriter {
    /// Returns once every record of `batch` is durable, or its dead letter refused, without a time limit.
    ///
    /// # Errors
    /// When a retry would not help. Some records may be durable.
    pub async fn write(&self, batch: MicroBatch) -> Result<WrittenBatch, BatchWriteError> {
        let started = Instant::now();
        let MicroBatch {
            id,
            mut operations,
            partitions,
            bytes,
            received,
            ..
        } = batch;
        self.metrics.batch_rows.observe(count(operations.len()));
        self.metrics.batch_bytes.observe(count(bytes));
        let mut writes = Vec::with_capacity(operations.len());
        let mut indices = Vec::with_capacity(operations.len());
        let mut rejections = Vec::new();
        for (index, operation) in operations.iter_mut().enumerate() {
            // The change is moved out. A dead letter needs only the original bytes.
            match std::mem::replace(
                &mut operation.change,
                Change::Reject(Rejection {
                    reason: "",
                    error: String::new(),
                }),
            ) {
                Change::Upsert(row) => {
                    writes.push(self.writer.upsert(row, operation.write_timestamp));
                    indices.push(index);
                }
                Change::DeletePartition(key) => {
                    writes.push(self.writer.delete_partition(&key, operation.write_timestamp));
                    indices.push(index);
                }
                Change::Reject(rejection) => rejections.push((index, rejection)),
            }
        }
        let rows = async { self.writer.write(&writes).await.map_err(BatchWriteError::from) };
        let (
            WrittenRows {
                acknowledged,
                rejected,
            },
            mut refused,
        ) = futures::try_join!(rows, self.send_to_dead_letters(&operations, rejections))?;
        let written = writes.len() - rejected.len();
        let dead: Vec<_> = rejected.iter().map(|row| indices[row.index]).collect();
        let rejections = rejected
            .into_iter()
            .map(|row| {
                (
                    indices[row.index],
                    Rejection {
                        reason: reasons::REFUSED_BY_CASSANDRA,
                        error: row.error,
                    },
                )
            })
            .collect();
        refused.extend(self.send_to_dead_letters(&operations, rejections).await?);
        let at = wall_micros();
        let now = at / 1_000;
        let expired = writes.iter().filter(|write| write.is_expired(now)).count();
        self.metrics.expired.inc_by(expired as u64);
        let upserts = writes
            .iter()
            .filter(|write| write.accepted_at().is_some())
            .count()
            - expired;
        self.metrics
            .rows
            .with_label_values(&["upsert"])
            .inc_by(upserts.min(written) as u64);
        self.metrics
            .rows
            .with_label_values(&["delete"])
            .inc_by(written.saturating_sub(upserts) as u64);
        let rows = writes.iter().zip(indices.iter().map(|index| &operations[*index]));
        self.observe_latencies(rows.zip(&acknowledged));
        self.metrics
            .write_duration
            .observe(started.elapsed().as_secs_f64());
        let durable_at = durable_times(operations.len(), &indices, &acknowledged, at);
        self.trace(&operations, &durable_at, received.unwrap_or(started), started);
        let mut durable_at = by_partition(&operations, durable_at);
        let partitions = partitions
            .into_iter()
            .map(|BatchPartition { partition, .. }| WrittenPartition {
                partition,
                rejected: indices_in_partition(&operations, partition, &dead),
                durable_at: durable_at.remove(&partition).unwrap_or_default(),
            });
        Ok(WrittenBatch {
            batch: id,
            partitions: partitions.collect(),
            refused,
        })
    }

    async fn send_to_dead_letters(
        &self,
        operations: &[Operation],
        rejections: Vec<(usize, Rejection)>,
    ) -> Result<Vec<RefusedDeadLetter>, BatchWriteError> {
        let letters: Vec<_> = rejections
            .into_iter()
            .map(|(index, rejection)| (&operations[index], rejection))
            .collect();
        Ok(self.dead_letters.write(&letters, self.topic_id).await?)
    }

    /// Exports the spans of a durable micro-batch, and names one of its traces in the histograms. `durable_at`: see
    /// [`durable_times`].
    fn trace(&self, operations: &[Operation], durable_at: &[i64], received: Instant, started: Instant) {
        let Some(traces) = BatchTraces::of(&self.tracer, operations, durable_at) else {
            return;
        };
        traces.export(&self.tracer, received, started);
        let duration = started.elapsed().as_secs_f64();
        self.metrics.write_duration.set_exemplar(duration, traces.any());
        if let Some((latency, trace)) = traces.slowest {
            self.metrics
                .end_to_end
                .set_exemplar(seconds(latency / 1_000), trace);
        }
    }

    /// Observes the latencies of the upserts among the writes. Each comes with its operation, and with when it was
    /// acknowledged: see [`WrittenRows`].
    fn observe_latencies<'a>(&self, rows: impl Iterator<Item = ((&'a RowWrite, &'a Operation), &'a i64)>) {
        let kafka_to_row = self.metrics.kafka_to_row.local();
        let accepted_to_row = self.metrics.accepted_to_row.local();
        let end_to_end = self.metrics.end_to_end.local();
        let mut measured = Vec::new();
        for ((write, operation), at) in rows.filter(|(_, at)| **at > 0) {
            let Some(accepted_at) = write.accepted_at() else {
                continue;
            };
            let now = at / 1_000;
            if operation.timestamp >= 0 {
                kafka_to_row.observe(seconds(now - operation.timestamp));
            }
            accepted_to_row.observe(seconds(now - accepted_at));
            if let Some(fetched_at) = operation.fetched_at {
                let micros = at - fetched_at;
                end_to_end.observe(seconds(micros / 1_000));
                measured.push(Bucket::of(micros));
            }
        }
        kafka_to_row.flush();
        accepted_to_row.flush();
        end_to_end.flush();
        if !measured.is_empty() {
            let mut latencies = Latencies::default();
            latencies.extend(measured);
            self.end_to_end.add(&latencies, Instant::now());
        }
    }
}

/// When the record of each operation was durable, in microseconds since 1970: its row was acknowledged, or at the `end` it
/// was a dead letter. `indices`: the operation of each write.
fn durable_times(operations: usize, indices: &[usize], acknowledged: &[i64], end: i64) -> Vec<i64> {
    let mut times = vec![end; operations];
    for (index, at) in indices.iter().zip(acknowledged).filter(|(_, at)| **at > 0) {
        times[*index] = *at;
    }
    times
}

/// The times of each partition's records; empty if none has a latency to measure.
fn by_partition(operations: &[Operation], times: Vec<i64>) -> BTreeMap<i32, Vec<i64>> {
    let mut partitions: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    if operations.iter().any(|operation| operation.fetched_at.is_some()) {
        for (operation, at) in operations.iter().zip(times) {
            partitions.entry(operation.partition).or_default().push(at);
        }
    }
    partitions
}

/// Maps the indices in `dead` to indices among the records of `partition`.
fn indices_in_partition(operations: &[Operation], partition: i32, dead: &[usize]) -> Vec<usize> {
    if dead.is_empty() {
        return Vec::new();
    }
    let of_partition = operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.partition == partition);
    of_partition
        .enumerate()
        .filter(|(_, (index, _))| dead.contains(index))
        .map(|(index, _)| index)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::raw_record::RawRecord;

    fn operation(partition: i32, fetched_at: Option<i64>) -> Operation {
        Operation {
            partition,
            offset: 0,
            timestamp: 0,
            write_timestamp: 0,
            change: Change::Reject(Rejection {
                reason: "",
                error: String::new(),
            }),
            run: None,
            fetched_at,
            raw: RawRecord::copy(None, None, std::iter::empty()),
        }
    }

    #[test]
    fn each_record_is_durable_when_it_was_acknowledged() {
        let operations = [(0, Some(1)), (1, None), (0, None), (1, Some(2))];
        let operations = operations.map(|(partition, fetched_at)| operation(partition, fetched_at));
        // The operation 1 became a dead letter.
        let times = durable_times(operations.len(), &[0, 2, 3], &[10, 20, 30], 99);
        assert_eq!(times, [10, 99, 20, 30]);
        let partitions = by_partition(&operations, times);
        assert_eq!(partitions, BTreeMap::from([(0, vec![10, 20]), (1, vec![99, 30])]));
        assert!(by_partition(&[operation(0, None)], vec![10]).is_empty());
        // Cassandra rejected the row.
        assert_eq!(durable_times(2, &[0, 1], &[10, 0], 99), [10, 99]);
    }
}
