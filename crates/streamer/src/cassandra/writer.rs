//! Writes rows until the cluster acknowledges them, the server rejects their values, or only the operator can help.
//!
//! Moves no offset and writes no dead letter.

pub mod adaptive_concurrency;
pub mod probe;
pub mod rate_limiter;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::Key;
use service::failpoint;
use thiserror::Error;
use tokio::time::sleep;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::prepare;
use crate::cassandra::schema::{self, SchemaError, TableInfo, agreement};
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::{SessionError, SessionPool};
use crate::cassandra::statements::PreparedStatements;
use crate::cassandra::wire::{BatchRequest, push_value};
use crate::cassandra::writer::adaptive_concurrency::AdaptiveConcurrency;
use crate::cassandra::writer::rate_limiter::RowRateLimiter;
use crate::metrics::StreamerMetrics;
use crate::pipeline::remaining_ttl::{RemainingTtl, RowTtl};
use crate::pipeline::row::{Row, RowKey, partition_key};
use crate::pipeline::write_timestamp::wall_millis;

/// A row to write, or rows to delete, with the write timestamp.
#[derive(Debug)]
pub struct RowWrite {
    change: RowChange,
    write_timestamp: i64,
    row_ttl: RowTtl,
}

#[derive(Debug)]
enum RowChange {
    Upsert(Row),
    DeleteRow(RowKey),
    DeletePartition(RowKey),
}

impl RowWrite {
    /// Whether the row has expired and is written as a deletion. `now` in milliseconds since 1970.
    pub fn is_expired(&self, now: i64) -> bool {
        matches!(self.change, RowChange::Upsert(_)) && self.remaining_ttl(now) == RemainingTtl::Expired
    }

    /// Adds the write to a request, as an upsert or a deletion.
    fn add_to(&self, batch: &mut BatchRequest, prepared: &PreparedStatements, now: i64) {
        let write_timestamp = self.write_timestamp.to_be_bytes();
        match (&self.change, self.remaining_ttl(now)) {
            (RowChange::Upsert(row), RemainingTtl::Unlimited) => batch.add(&prepared.upsert, |wire| {
                wire.extend_from_slice(row.wire());
                push_value(wire, &write_timestamp);
            }),
            (RowChange::Upsert(row), RemainingTtl::Seconds(seconds)) => batch.add(&prepared.upsert, |wire| {
                wire.extend_from_slice(row.wire());
                push_value(wire, &seconds.to_be_bytes());
                push_value(wire, &write_timestamp);
            }),
            // The other rows of the partition may live on.
            (RowChange::Upsert(row), RemainingTtl::Expired) => {
                batch.add(&prepared.delete_row, |wire| {
                    push_value(wire, &write_timestamp);
                    wire.extend_from_slice(row.key_wire());
                });
            }
            (RowChange::DeleteRow(key), _) => batch.add(&prepared.delete_row, |wire| {
                push_value(wire, &write_timestamp);
                wire.extend_from_slice(key.wire());
            }),
            (RowChange::DeletePartition(key), _) => batch.add(&prepared.delete_partition, |wire| {
                push_value(wire, &write_timestamp);
                wire.extend_from_slice(key.wire());
            }),
        }
    }

    fn remaining_ttl(&self, now: i64) -> RemainingTtl {
        match &self.change {
            RowChange::Upsert(row) => self.row_ttl.remaining(row.ingested_at(), now),
            RowChange::DeleteRow(_) | RowChange::DeletePartition(_) => RemainingTtl::Expired,
        }
    }

    /// The primary key of an upsert. Nothing but values can be a row's fault, so a deletion has none.
    fn row_key(&self) -> Option<&[u8]> {
        match &self.change {
            RowChange::Upsert(row) => Some(row.key_wire()),
            RowChange::DeleteRow(_) | RowChange::DeletePartition(_) => None,
        }
    }

    /// The partition key.
    fn partition_key(&self) -> &[u8] {
        match &self.change {
            RowChange::Upsert(row) => partition_key(row.wire()),
            RowChange::DeleteRow(key) | RowChange::DeletePartition(key) => partition_key(key.wire()),
        }
    }

    /// The estimated size in a batch, never less than the server's own estimate.
    ///
    /// It counts the values, and for each cell and the row a timestamp, a time to live and a deletion time (8, 4 and
    /// 8 bytes).
    fn estimated_size(&self) -> usize {
        const CELL: usize = 20;
        match &self.change {
            RowChange::Upsert(row) => row.wire().len() + (row.columns() + 1) * CELL,
            RowChange::DeleteRow(key) | RowChange::DeletePartition(key) => key.wire().len() + 2 * CELL,
        }
    }
}

/// Rows of one statement: a range of the rows to write.
type RowRange = Range<usize>;

/// Splits the rows into ranges of at most `bytes`, each of at least one row.
fn ranges(writes: &[RowWrite], bytes: usize) -> Vec<RowRange> {
    let mut ranges = Vec::new();
    let (mut start, mut estimated_size) = (0, 0);
    for (index, write) in writes.iter().enumerate() {
        if index > start && estimated_size + write.estimated_size() > bytes {
            ranges.push(start..index);
            (start, estimated_size) = (index, 0);
        }
        estimated_size += write.estimated_size();
    }
    if start < writes.len() {
        ranges.push(start..writes.len());
    }
    ranges
}

/// A row whose values the server rejects.
#[derive(Debug, PartialEq, Eq)]
pub struct RejectedRow {
    /// The index among the rows to write.
    pub index: usize,
    /// The server's message.
    pub error: String,
}

/// The rows that the server has refused.
#[derive(Default)]
struct Refusals {
    /// The table accepts another row, so these are at fault if they are refused once more.
    suspected: HashSet<usize>,
    rejected: Vec<RejectedRow>,
}

/// The rows to send again.
struct RetryPlan {
    /// The ranges to send again. `None`: all rows, because no acknowledgement can be trusted.
    pending: Option<Vec<RowRange>>,
    /// Send them without a delay.
    immediate: bool,
}

/// Why the server refuses rows.
enum RefusalCause {
    /// Their values.
    Values,
    /// It refuses every row now, with its message.
    Server(String),
}

/// Why some rows could not be written.
#[derive(Debug, Error)]
pub enum RowWriteError {
    /// No session can be built.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The table has changed.
    #[error("cassandra rejected rows")]
    Schema(#[source] SchemaError),
    /// The table was dropped and recreated while rows were written.
    #[error(
        "table {0} was dropped and recreated: run `streamer replay` to write its rows again, or `streamer accept-table` to \
         continue without them"
    )]
    OtherTable(String),
    /// The server rejects the statement for a reason that only the operator can fix.
    #[error("cassandra rejected a write: {0}")]
    Fatal(String),
}

/// Writes rows through the current session.
pub struct RowWriter {
    sessions: Arc<SessionPool>,
    table: TableInfo,
    row_ttl: RowTtl,
    concurrency: AdaptiveConcurrency,
    rate_limiter: RowRateLimiter,
    metrics: Arc<StreamerMetrics>,
}

impl RowWriter {
    /// Creates a writer for the verified table.
    pub fn new(sessions: Arc<SessionPool>, table: TableInfo, metrics: Arc<StreamerMetrics>) -> Self {
        let concurrency = AdaptiveConcurrency::new(sessions.settings().max_in_flight);
        let rate_limiter = RowRateLimiter::new(sessions.settings().max_rows_per_second);
        let row_ttl = RowTtl::new(sessions.settings().row_ttl);
        Self {
            sessions,
            table,
            row_ttl,
            concurrency,
            rate_limiter,
            metrics,
        }
    }

    /// Creates the write of a row.
    pub fn upsert(&self, row: Row, write_timestamp: i64) -> RowWrite {
        RowWrite {
            change: RowChange::Upsert(row),
            write_timestamp,
            row_ttl: self.row_ttl,
        }
    }

    /// Creates the deletion of one row.
    pub fn delete_row(&self, key: RowKey, write_timestamp: i64) -> RowWrite {
        RowWrite {
            change: RowChange::DeleteRow(key),
            write_timestamp,
            row_ttl: self.row_ttl,
        }
    }

    /// Creates the deletion of all rows of a key.
    pub fn delete_partition(&self, key: &Key, write_timestamp: i64) -> RowWrite {
        RowWrite {
            change: RowChange::DeletePartition(RowKey::of_partition(key)),
            write_timestamp,
            row_ttl: self.row_ttl,
        }
    }

    /// Writes all rows, without a time limit. Returns the rows whose values the server rejects; all others are
    /// acknowledged.
    ///
    /// # Errors
    /// [`RowWriteError`]; some rows may be written.
    pub async fn write(&self, writes: &[RowWrite]) -> Result<Vec<RejectedRow>, RowWriteError> {
        let mut pending = None;
        let mut refusals = Refusals::default();
        let mut delays = self.sessions.settings().backoff.delays();
        while pending
            .as_ref()
            .is_none_or(|ranges: &Vec<RowRange>| !ranges.is_empty())
            && !writes.is_empty()
        {
            let session = self.sessions.get().await?;
            let failed = tokio::select! {
                biased;
                () = session.poisoned() => Vec::new(),
                failed = self.attempt(&session, writes, pending.take()) => failed,
            };
            if failpoint::inject("retry_swallowed") {
                break;
            }
            let plan = if session.is_poisoned() {
                // A reply of a poisoned session may belong to another row, so all rows are written again.
                refusals = Refusals::default();
                self.metrics
                    .retries
                    .with_label_values(&["session_poisoned"])
                    .inc();
                self.sessions.rows_unacknowledged(
                    "cassandra session lost, no reply or a broken connection: building a new session",
                );
                RetryPlan {
                    pending: None,
                    immediate: false,
                }
            } else {
                self.plan_retry(&session, writes, failed, &mut refusals).await?
            };
            pending = plan.pending;
            let finished = pending.as_ref().is_some_and(Vec::is_empty);
            if !finished
                && !plan.immediate
                && let Some(delay) = delays.next()
            {
                sleep(delay).await;
            }
        }
        self.metrics
            .in_flight_limit
            .set(i64::try_from(self.concurrency.limit()).unwrap_or(i64::MAX));
        Ok(refusals.rejected)
    }

    /// Sends every pending range once, or all rows if `pending` is `None`. Returns the ranges that failed.
    async fn attempt(
        &self,
        session: &Session,
        writes: &[RowWrite],
        pending: Option<Vec<RowRange>>,
    ) -> Vec<(RowRange, ErrorClass)> {
        let settings = self.sessions.settings();
        let prepared = match prepare::statements(session, settings, self.sessions.contract()).await {
            Ok(prepared) => prepared,
            Err(error) => return vec![(0..writes.len(), error)],
        };
        let bytes = usize::try_from(settings.statement_bytes.as_u64()).unwrap_or(usize::MAX);
        let pending =
            pending.unwrap_or_else(|| ranges(writes, if prepared.shared_replica_set { bytes } else { 0 }));
        let mut calls: FuturesUnordered<_> = pending
            .into_iter()
            .map(|range| async {
                self.rate_limiter.acquire(range.len()).await;
                let _permit = self.concurrency.acquire().await;
                let result = self.send(session, prepared, &writes[range.clone()]).await;
                if result.is_ok() {
                    self.concurrency.on_success();
                    failpoint::crash("in_mid_batch");
                }
                result.err().map(|error| (range, error))
            })
            .collect();
        let mut failed = Vec::new();
        while let Some(result) = calls.next().await {
            failed.extend(result);
        }
        failed
    }

    async fn send(
        &self,
        session: &Session,
        prepared: &PreparedStatements,
        writes: &[RowWrite],
    ) -> Result<(), ErrorClass> {
        let bytes = writes.iter().map(RowWrite::estimated_size).sum();
        let now = wall_millis();
        let mut batch = BatchRequest::with_capacity(writes.len(), bytes);
        for write in writes {
            write.add_to(&mut batch, prepared, now);
        }
        // Where nodes hold different rows, each row is sent alone to one of its replicas.
        let key = writes.first().filter(|_| !prepared.shared_replica_set);
        session
            .batch(batch, key.map(RowWrite::partition_key), prepared)
            .await
    }

    /// Decides what to send again after some ranges failed.
    async fn plan_retry(
        &self,
        session: &Session,
        writes: &[RowWrite],
        failed: Vec<(RowRange, ErrorClass)>,
        refusals: &mut Refusals,
    ) -> Result<RetryPlan, RowWriteError> {
        let mut pending = Vec::new();
        let mut refused = Vec::new();
        let mut transient = None;
        let mut overloaded = false;
        for (range, error) in failed {
            self.metrics.retries.with_label_values(&[error.label()]).inc();
            match error {
                ErrorClass::Fatal(error) => return Err(RowWriteError::Fatal(error)),
                // The server rejects one of the rows, or the size: each half is sent separately.
                ErrorClass::Invalid(_) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    pending.extend([range.start..middle, middle..range.end]);
                }
                ErrorClass::Invalid(error) => {
                    let index = range.start;
                    if refusals.suspected.contains(&index) {
                        refusals.rejected.push(RejectedRow { index, error });
                    } else {
                        pending.push(range);
                        refused.push(RejectedRow { index, error });
                    }
                }
                ErrorClass::Retry { label, overload } => {
                    overloaded |= overload;
                    transient = Some(label);
                    pending.push(range);
                }
                ErrorClass::Reconnect { label, .. } => {
                    transient = Some(label);
                    pending.push(range);
                }
            }
        }
        if overloaded {
            self.concurrency.on_overload();
        }
        let mut outage = transient.map(|label| format!("cassandra does not acknowledge rows: {label}"));
        if !refused.is_empty() {
            match self.refusal_cause(session, writes, &refused).await? {
                RefusalCause::Values => refusals.suspected.extend(refused.iter().map(|row| row.index)),
                RefusalCause::Server(reason) => outage = Some(reason),
            }
        }
        let immediate = outage.is_none();
        match outage {
            Some(reason) => self.sessions.rows_unacknowledged(reason),
            None => self.sessions.rows_acknowledged(),
        }
        Ok(RetryPlan {
            pending: Some(pending),
            immediate,
        })
    }

    /// Determines why the server refuses rows. Their values are the cause only if the table still fits and accepts another
    /// row.
    async fn refusal_cause(
        &self,
        session: &Session,
        writes: &[RowWrite],
        refused: &[RejectedRow],
    ) -> Result<RefusalCause, RowWriteError> {
        let server = |error: &dyn fmt::Display| {
            Ok(RefusalCause::Server(format!(
                "cassandra refuses every row: {error}"
            )))
        };
        // A node that lags behind the schema refuses columns that it does not know.
        if let Err(error) = agreement::wait_for_agreement(session).await {
            return server(&error);
        }
        if !self.table_is_unchanged(session).await? {
            return server(&refused[0].error);
        }
        for RejectedRow { index, error } in refused {
            let Some(key) = writes[*index].row_key() else {
                return server(error);
            };
            let (settings, contract) = (self.sessions.settings(), self.sessions.contract());
            let answer = async {
                let statements = prepare::statements(session, settings, contract).await?;
                probe::probe(session, statements, contract, key, self.row_ttl).await
            };
            match answer.await {
                Ok(()) => {}
                Err(ErrorClass::Fatal(error)) => return Err(RowWriteError::Fatal(error)),
                Err(error) => return server(&error),
            }
        }
        Ok(RefusalCause::Values)
    }

    /// Whether the table is as it was verified. Returns false if it can't be read now.
    async fn table_is_unchanged(&self, session: &Session) -> Result<bool, RowWriteError> {
        match schema::verify(session, self.sessions.settings(), self.sessions.contract()).await {
            Ok(table) if table == self.table => Ok(true),
            Ok(_) => Err(RowWriteError::OtherTable(
                self.sessions.settings().qualified_table(),
            )),
            Err(SchemaError::Failed {
                error: ErrorClass::Fatal(error),
                ..
            }) => Err(RowWriteError::Fatal(error)),
            Err(SchemaError::Failed { .. }) => Ok(false),
            Err(error) => Err(RowWriteError::Schema(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::row::TableShape;
    use crate::pipeline::row::tests::{order, orders};

    fn write(text: usize) -> RowWrite {
        let (contract, json) = (orders(), order(9, &"x".repeat(text.max(1))));
        let record = contract.parse_lenient(&json).unwrap();
        RowWrite {
            change: RowChange::Upsert(Row::bind(&record, 0, &TableShape::default())),
            write_timestamp: 1,
            row_ttl: RowTtl::default(),
        }
    }

    #[test]
    fn rows_are_sent_alone_without_a_shared_replica_set() {
        assert_eq!(ranges(&[write(1), write(1)], 0), [0..1, 1..2]);
        assert!(ranges(&[], 0).is_empty());
    }

    proptest! {
        #[test]
        fn ranges_cover_all_rows_within_the_size_limit(
            texts in proptest::collection::vec(1_usize..500, 0..60),
            bytes in 0_usize..5_000,
        ) {
            let writes: Vec<_> = texts.into_iter().map(write).collect();
            let ranges = ranges(&writes, bytes);
            prop_assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..writes.len()).collect::<Vec<_>>());
            for range in ranges {
                let estimated_size: usize = writes[range.clone()].iter().map(RowWrite::estimated_size).sum();
                prop_assert!(range.len() == 1 || estimated_size <= bytes);
            }
        }
    }
}
