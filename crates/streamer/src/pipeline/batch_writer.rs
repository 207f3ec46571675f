//! Writes a micro-batch: rows to Cassandra, rejected records to the dead-letter topic.

use std::sync::Arc;
use std::time::Instant;

use service::Tracer;
use thiserror::Error;
use uuid::Uuid;

use crate::cassandra::writer::{RowWriteError, RowWriter};
use crate::dead_letters::dead_letter::reasons;
use crate::dead_letters::producer::{DeadLetterError, DeadLetterProducer};
use crate::ledger::latencies::{Bucket, Latencies};
use crate::ledger::recent_latencies::RecentLatencies;
use crate::metrics::StreamerMetrics;
use crate::pipeline::batch_builder::{MicroBatch, Operation};
use crate::pipeline::batch_trace::BatchTraces;
use crate::pipeline::consumed_record::{Change, Rejection};
use crate::pipeline::write_timestamp::{wall_micros, wall_millis};

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

/// A micro-batch whose records are all durable.
#[derive(Debug)]
pub struct WrittenBatch {
    /// Its id.
    pub batch: u64,
    /// When its records were durable, in microseconds since 1970.
    pub at: i64,
    /// The partitions of its records, each with the indices of the records that Cassandra rejected, among the
    /// partition's records.
    pub partitions: Vec<(i32, Vec<usize>)>,
}

impl BatchWriter {
    /// Returns once every record of `batch` is durable, without a time limit.
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
        let mut times = Vec::with_capacity(operations.len());
        let mut fetched = Vec::new();
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
                    times.push((operation.timestamp, row.ingested_at()));
                    fetched.extend(operation.fetched_at);
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
        let (rejected_rows, ()) =
            futures::try_join!(rows, self.send_to_dead_letters(&operations, rejections))?;
        let written = writes.len() - rejected_rows.len();
        let dead: Vec<_> = rejected_rows.iter().map(|row| indices[row.index]).collect();
        let rejections = rejected_rows
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
        self.send_to_dead_letters(&operations, rejections).await?;
        let at = wall_micros();
        let now = at / 1_000;
        let expired = writes.iter().filter(|write| write.is_expired(now)).count();
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
        self.observe_latencies(&times);
        self.observe_end_to_end(&fetched, at);
        self.metrics
            .write_duration
            .observe(started.elapsed().as_secs_f64());
        self.trace(&operations, received.unwrap_or(started), started, at);
        Ok(WrittenBatch {
            batch: id,
            at,
            partitions: partitions
                .into_iter()
                .map(|partition| {
                    (
                        partition.partition,
                        indices_in_partition(&operations, partition.partition, &dead),
                    )
                })
                .collect(),
        })
    }

    async fn send_to_dead_letters(
        &self,
        operations: &[Operation],
        rejections: Vec<(usize, Rejection)>,
    ) -> Result<(), BatchWriteError> {
        let letters: Vec<_> = rejections
            .into_iter()
            .map(|(index, rejection)| (&operations[index], rejection))
            .collect();
        Ok(self.dead_letters.write(&letters, self.topic_id).await?)
    }

    /// Exports the spans of a durable micro-batch, and names one of its traces in the histograms. `now` in microseconds since
    /// 1970.
    fn trace(&self, operations: &[Operation], received: Instant, started: Instant, now: i64) {
        let Some(traces) = BatchTraces::of(&self.tracer, operations) else {
            return;
        };
        traces.export(&self.tracer, received, started);
        let duration = started.elapsed().as_secs_f64();
        self.metrics.write_duration.set_exemplar(duration, traces.any());
        if let Some((fetched_at, trace)) = traces.fetched_first {
            let latency = seconds((now - fetched_at) / 1_000);
            self.metrics.end_to_end.set_exemplar(latency, trace);
        }
    }

    fn observe_latencies(&self, times: &[(i64, i64)]) {
        let now = wall_millis();
        let kafka_to_row = self.metrics.kafka_to_row.local();
        let accepted_to_row = self.metrics.accepted_to_row.local();
        for (kafka, accepted) in times {
            if *kafka >= 0 {
                kafka_to_row.observe(seconds(now - kafka));
            }
            accepted_to_row.observe(seconds(now - accepted));
        }
        kafka_to_row.flush();
        accepted_to_row.flush();
    }

    /// Observes the time from fetching until `now`. All times in microseconds since 1970.
    fn observe_end_to_end(&self, fetched: &[i64], now: i64) {
        if fetched.is_empty() {
            return;
        }
        let histogram = self.metrics.end_to_end.local();
        let mut latencies = Latencies::default();
        for fetched_at in fetched {
            let micros = now - fetched_at;
            histogram.observe(seconds(micros / 1_000));
            latencies.add(Bucket::of(micros));
        }
        histogram.flush();
        self.end_to_end.add(&latencies, Instant::now());
    }
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
