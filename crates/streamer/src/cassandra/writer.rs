//! Writes rows until the cluster acknowledges them, the server rejects their values, or only the operator can help.
//!
//! Moves no offset and writes no dead letter.

pub mod adaptive_concurrency;
mod groups;
pub mod probe;
mod progress;
pub mod rate_limiter;
mod row_write;

use std::fmt;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::Key;
use service::failpoint;
use service::process::chain;
use thiserror::Error;
use tokio::time::sleep;

use crate::cassandra::cluster::Cluster;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::prepare;
use crate::cassandra::schema::{self, SchemaError, TableInfo, agreement};
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::{SessionError, SessionPool};
use crate::cassandra::statements::PreparedStatements;
use crate::cassandra::wire::BatchRequest;
use crate::cassandra::writer::groups::{Grouper, StatementGroup};
use crate::cassandra::writer::progress::WriteProgress;
pub use crate::cassandra::writer::progress::{RejectedRow, WrittenRows};
use crate::cassandra::writer::rate_limiter::RowRateLimiter;
use crate::cassandra::writer::row_write::RowChange;
pub use crate::cassandra::writer::row_write::RowWrite;
use crate::metrics::StreamerMetrics;
use crate::pipeline::remaining_ttl::RowTtl;
use crate::pipeline::row::{Row, RowKey};
use crate::pipeline::write_timestamp::{wall_micros, wall_millis};

/// The rows that a server has refused, and on which session.
type Refused = (Arc<Session>, RejectedRow);

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

/// Writes rows through the sessions of the nodes that hold them.
pub struct RowWriter {
    sessions: Arc<SessionPool>,
    table: TableInfo,
    row_ttl: RowTtl,
    grouper: Grouper,
    rate_limiter: RowRateLimiter,
    metrics: Arc<StreamerMetrics>,
}

impl RowWriter {
    /// Creates a writer for the verified table.
    pub fn new(sessions: Arc<SessionPool>, table: TableInfo, metrics: Arc<StreamerMetrics>) -> Self {
        let bytes = sessions.settings().statement_bytes.as_u64();
        let grouper = Grouper::new(usize::try_from(bytes).unwrap_or(usize::MAX));
        let rate_limiter = RowRateLimiter::new(sessions.settings().max_rows_per_second);
        let row_ttl = RowTtl::new(sessions.settings().row_ttl);
        Self {
            sessions,
            table,
            row_ttl,
            grouper,
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

    /// Writes all rows, without a time limit. All are acknowledged, but for those whose values the server rejects.
    ///
    /// # Errors
    /// [`RowWriteError`]; some rows may be written.
    pub async fn write(&self, writes: &[RowWrite]) -> Result<WrittenRows, RowWriteError> {
        let readiness = self.sessions.readiness();
        let mut progress = WriteProgress::new(writes.len());
        let mut delays = self.sessions.settings().backoff.delays();
        let mut blocked = None;
        let mut lost_before = false;
        let mut attempts = 0;
        while !progress.is_finished() {
            let cluster = self.sessions.cluster().await?;
            let groups = self.group(&cluster, writes, &mut progress);
            if groups.is_empty() {
                // The last session was lost in this moment.
                continue;
            }
            attempts += 1;
            let failed = self.attempt(writes, groups, &mut progress).await;
            if failpoint::inject("retry_swallowed") {
                break;
            }
            let (failed, mut lost) = pending_if_poisoned(failed, &mut progress);
            lost |= progress.distrust_poisoned();
            let mut outage = self.plan_retry(writes, failed, &mut progress).await?;
            if lost {
                self.metrics
                    .retries
                    .with_label_values(&["session_poisoned"])
                    .inc();
                // The other nodes take over the rows of one that is lost.
                if blocked.is_some() || std::mem::replace(&mut lost_before, true) || !is_connected(&cluster) {
                    let reason =
                        "cassandra session lost, no reply or a broken connection: building a new session";
                    outage.get_or_insert_with(|| reason.to_owned());
                }
            }
            self.observe_limit(&cluster);
            let delay = if lost || outage.is_some() {
                delays.next()
            } else {
                None
            };
            match (outage, &blocked) {
                (Some(reason), None) => blocked = Some(readiness.rows_unacknowledged(reason)),
                (Some(reason), Some(blocked)) => blocked.still(reason),
                (None, _) => readiness.rows_acknowledged(blocked.take()),
            }
            if let Some(delay) = delay.filter(|_| !progress.is_finished()) {
                sleep(delay).await;
            }
        }
        self.metrics.write_attempts.observe(f64::from(attempts));
        Ok(progress.into_written(writes.len()))
    }

    /// Takes the rows to send from `progress` and chooses their nodes.
    fn group(
        &self,
        cluster: &Cluster,
        writes: &[RowWrite],
        progress: &mut WriteProgress,
    ) -> Vec<StatementGroup> {
        let mut groups = Vec::new();
        let sessions = cluster.sessions();
        if sessions.iter().any(Option::is_some) {
            let pending = std::mem::take(&mut progress.pending);
            for rows in std::iter::once(pending).chain(std::mem::take(&mut progress.apart)) {
                self.grouper.group(cluster, &sessions, writes, &rows, &mut groups);
            }
        }
        groups
    }

    /// Sends every group once. Returns the groups that failed.
    async fn attempt(
        &self,
        writes: &[RowWrite],
        groups: Vec<StatementGroup>,
        progress: &mut WriteProgress,
    ) -> Vec<(StatementGroup, ErrorClass)> {
        let mut calls: FuturesUnordered<_> = groups
            .into_iter()
            .map(|group| async {
                let result = self.send(writes, &group).await;
                (group, result)
            })
            .collect();
        let mut failed = Vec::new();
        while let Some((group, result)) = calls.next().await {
            match result {
                Ok(()) => progress.acknowledge(group.session, group.rows, wall_micros()),
                Err(error) => failed.push((group, error)),
            }
        }
        failed
    }

    /// Sends one group. Ends early when its session is poisoned.
    async fn send(&self, writes: &[RowWrite], group: &StatementGroup) -> Result<(), ErrorClass> {
        let StatementGroup {
            assigned,
            session,
            rows,
        } = group;
        self.rate_limiter.acquire(rows.len()).await;
        let concurrency = &assigned.node().concurrency;
        let sent = async {
            let (settings, contract) = (self.sessions.settings(), self.sessions.contract());
            let prepared = prepare::statements(session, settings, contract).await?;
            let _permit = concurrency.acquire().await;
            let batch = encode(writes, rows, prepared);
            session.batch(batch, &prepared.row_statements).await
        };
        tokio::select! {
            biased;
            () = session.poisoned() => Err(ErrorClass::Reconnect {
                label: "session_poisoned",
                error: "the session was lost".to_owned(),
            }),
            sent = sent => {
                if sent.is_ok() {
                    concurrency.on_success();
                    failpoint::crash("in_mid_batch");
                }
                sent
            }
        }
    }

    /// Decides what to send again after some groups failed. Returns the reason if rows can't be written now.
    async fn plan_retry(
        &self,
        writes: &[RowWrite],
        failed: Vec<(StatementGroup, ErrorClass)>,
        progress: &mut WriteProgress,
    ) -> Result<Option<String>, RowWriteError> {
        let mut refused = Vec::new();
        let mut transient = None;
        let mut overloaded = Vec::new();
        for (group, error) in failed {
            self.metrics.retries.with_label_values(&[error.label()]).inc();
            let StatementGroup {
                assigned,
                session,
                mut rows,
            } = group;
            match error {
                ErrorClass::Fatal(error) => return Err(RowWriteError::Fatal(error)),
                // The server rejects one of the rows, or the size: each half is sent separately.
                ErrorClass::Invalid(_) if rows.len() > 1 => {
                    let second = rows.split_off(rows.len() / 2);
                    progress.apart.extend([rows, second]);
                }
                ErrorClass::Invalid(error) => {
                    let index = rows[0] as usize;
                    let row = RejectedRow { index, error };
                    if progress.suspected.contains(&index) {
                        progress.reject(session, row);
                    } else {
                        progress.apart.push(rows);
                        refused.push((session, row));
                    }
                }
                ErrorClass::Retry { label, overload } => {
                    transient = Some(label);
                    progress.pending.append(&mut rows);
                    let node = assigned.node();
                    if overload && !overloaded.contains(&node.id()) {
                        overloaded.push(node.id());
                        node.concurrency.on_overload();
                    }
                }
                ErrorClass::Reconnect { label, .. } => {
                    transient = Some(label);
                    progress.pending.append(&mut rows);
                }
            }
        }
        let mut outage = transient.map(|label| format!("cassandra does not acknowledge rows: {label}"));
        if !refused.is_empty() {
            match self.refusal_cause(writes, &refused).await? {
                RefusalCause::Values => {
                    let rows = refused.iter().map(|(_, row)| row.index);
                    progress.suspected.extend(rows);
                }
                RefusalCause::Server(reason) => outage = Some(reason),
            }
        }
        Ok(outage)
    }

    /// Reports the lowest limit of any node.
    fn observe_limit(&self, cluster: &Cluster) {
        let limits = cluster.nodes().iter().map(|node| node.concurrency.limit());
        if let Some(limit) = limits.min() {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.metrics.in_flight_limit.set(limit);
        }
    }

    /// Determines why the server refuses rows. Their values are the cause only if the table still fits and accepts another
    /// row.
    async fn refusal_cause(
        &self,
        writes: &[RowWrite],
        refused: &[Refused],
    ) -> Result<RefusalCause, RowWriteError> {
        let (session, first) = &refused[0];
        let server = |error: &dyn fmt::Display| {
            Ok(RefusalCause::Server(format!(
                "cassandra refuses every row: {error}"
            )))
        };
        // A node that lags behind the schema refuses columns that it does not know.
        let agree = match agreement::wait_for_agreement(session).await {
            Ok(agree) => agree,
            Err(error) => return server(&error),
        };
        match self.table_is_unchanged(session).await {
            Ok(true) => {}
            Ok(false) => return server(&first.error),
            Err(error @ (RowWriteError::Schema(_) | RowWriteError::OtherTable(_))) if !agree => {
                return server(&format!("nodes disagree on the schema: {}", chain(&error)));
            }
            Err(error) => return Err(error),
        }
        for (session, RejectedRow { index, error }) in refused {
            let Some(key) = writes[*index].row_key() else {
                return server(error);
            };
            let (settings, contract) = (self.sessions.settings(), self.sessions.contract());
            let probed = async {
                let statements = prepare::statements(session, settings, contract).await?;
                probe::probe(session, statements, contract, key, self.row_ttl).await
            };
            match probed.await {
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

/// Makes the rows pending whose session is poisoned. Returns the other failures, and whether there is such a session.
fn pending_if_poisoned(
    failed: Vec<(StatementGroup, ErrorClass)>,
    progress: &mut WriteProgress,
) -> (Vec<(StatementGroup, ErrorClass)>, bool) {
    let (poisoned, failed): (Vec<_>, Vec<_>) = failed
        .into_iter()
        .partition(|(group, _)| group.session.is_poisoned());
    let lost = !poisoned.is_empty();
    for (group, _) in poisoned {
        progress.pending.extend(group.rows);
    }
    (failed, lost)
}

fn is_connected(cluster: &Cluster) -> bool {
    cluster.nodes().iter().any(|node| node.session().is_some())
}

fn encode(writes: &[RowWrite], rows: &[u32], prepared: &PreparedStatements) -> BatchRequest {
    let rows = rows.iter().map(|row| &writes[*row as usize]);
    let bytes = rows.clone().map(RowWrite::estimated_size).sum();
    let now = wall_millis();
    let mut batch = BatchRequest::with_capacity(rows.len(), bytes);
    for write in rows {
        write.add_to(&mut batch, prepared, now);
    }
    batch
}
