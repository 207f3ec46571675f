//! Makes rows durable: sends each until the cluster acknowledges it, the server refuses its values, or only the
//! operator can help. It moves no offset and writes no dead letter.

use cdrs_tokio::statement::StatementParams;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::UserId;
use thiserror::Error;
use tokio::time::sleep;

use std::sync::Arc;

use crate::cassandra::fault::Fault;
use crate::cassandra::schema::{self, SchemaError, Verified};
use crate::cassandra::session::{Live, Sessions, Unusable};
use crate::cassandra::statements;
use crate::cassandra::window::Window;
use crate::metrics::StreamerMetrics;
use crate::row::Row;

/// A row to be written or deleted, under its write timestamp.
pub struct Write {
    kind: WriteKind,
    parameters: StatementParams,
}

#[derive(Clone, Copy)]
enum WriteKind {
    Upsert,
    Delete,
}

/// A row whose values the server refuses: `index` among those given.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one.
    pub index: usize,
    /// The server's words.
    pub error: String,
}

/// Why writing ended without all rows being durable.
#[derive(Debug, Error)]
pub enum WriteError {
    /// No session can be had.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The table is not what it was.
    #[error("cassandra refuses rows")]
    Schema(#[source] SchemaError),
    /// The table was dropped and created anew while rows were written.
    #[error(
        "the table was replaced by another one of the same name: run `streamer replay` or `streamer accept-table`"
    )]
    OtherTable,
    /// The server refuses for a reason that only the operator can mend.
    #[error("cassandra refuses to write: {0}")]
    Refused(String),
}

/// Writes rows over the session of the moment.
pub struct Writer {
    sessions: Arc<Sessions>,
    verified: Verified,
    window: Window,
    metrics: Arc<StreamerMetrics>,
}

impl Writer {
    /// A writer for the table as it was verified.
    pub fn new(sessions: Arc<Sessions>, verified: Verified, metrics: Arc<StreamerMetrics>) -> Self {
        let window = Window::new(sessions.settings().window);
        Self {
            sessions,
            verified,
            window,
            metrics,
        }
    }

    /// Writes a row.
    pub fn upsert(&self, row: Row, stamp: i64) -> Write {
        let consistency = self.sessions.settings().consistency.into();
        Write {
            kind: WriteKind::Upsert,
            parameters: statements::upsert(row, stamp, consistency),
        }
    }

    /// Deletes a row.
    pub fn delete(&self, id: UserId, stamp: i64) -> Write {
        let consistency = self.sessions.settings().consistency.into();
        Write {
            kind: WriteKind::Delete,
            parameters: statements::delete(id, stamp, consistency),
        }
    }

    /// Writes them all, for as long as it takes. Returns those that the server refuses for their values; all others
    /// are acknowledged.
    ///
    /// # Errors
    /// [`WriteError`]; what was acknowledged before is not told.
    pub async fn write(&self, writes: &[Write]) -> Result<Vec<Refused>, WriteError> {
        let mut pending: Vec<usize> = (0..writes.len()).collect();
        let mut refused = Vec::new();
        let mut delays = self.sessions.settings().backoff.delays();
        while !pending.is_empty() {
            let live = self.sessions.live().await?;
            let failed = tokio::select! {
                biased;
                () = live.doubted() => None,
                failed = self.attempt(&live, writes, &pending) => Some(failed),
            };
            match failed {
                // A reply of a doubted session may belong to another row: all are written again.
                _ if live.is_doubted() => {
                    pending = (0..writes.len()).collect();
                    refused.clear();
                    self.sessions
                        .dependency()
                        .unready("a call got no answer; a new session is being built");
                }
                None => {}
                Some(failed) => pending = self.sort(&live, failed, &mut refused).await?,
            }
            if !pending.is_empty()
                && let Some(delay) = delays.next()
            {
                sleep(delay).await;
            }
        }
        self.metrics
            .window
            .set(i64::try_from(self.window.size()).unwrap_or(i64::MAX));
        Ok(refused)
    }

    /// Sends every pending row once; returns those that failed.
    async fn attempt(&self, live: &Live, writes: &[Write], pending: &[usize]) -> Vec<(usize, Fault)> {
        let prepared = match live.statements(self.sessions.settings()).await {
            Ok(prepared) => prepared,
            Err(fault) => return pending.iter().map(|index| (*index, fault.clone())).collect(),
        };
        let mut calls: FuturesUnordered<_> = pending
            .iter()
            .map(|index| async move {
                let write = &writes[*index];
                let statement = match write.kind {
                    WriteKind::Upsert => &prepared.upsert,
                    WriteKind::Delete => &prepared.delete,
                };
                let _permit = self.window.enter().await;
                let result = live.execute(statement, &write.parameters).await;
                if result.is_ok() {
                    self.window.answered();
                }
                result.err().map(|fault| (*index, fault))
            })
            .collect();
        let mut failed = Vec::new();
        while let Some(result) = calls.next().await {
            failed.extend(result);
        }
        failed
    }

    /// Decides what becomes of the rows that failed; returns those to send again.
    async fn sort(
        &self,
        live: &Live,
        failed: Vec<(usize, Fault)>,
        refused: &mut Vec<Refused>,
    ) -> Result<Vec<usize>, WriteError> {
        let mut again = Vec::new();
        let mut suspects = Vec::new();
        let mut overloaded = false;
        let mut reason = None;
        for (index, fault) in failed {
            self.metrics.retries.with_label_values(&[fault.kind()]).inc();
            match fault {
                Fault::Fatal(error) => return Err(WriteError::Refused(error)),
                Fault::Invalid(error) => suspects.push(Refused { index, error }),
                Fault::Retry { kind, overload } => {
                    overloaded |= overload;
                    reason = Some(kind);
                    again.push(index);
                }
                Fault::Reconnect { .. } => again.push(index),
            }
        }
        if overloaded {
            self.window.overloaded();
        }
        match reason {
            Some(kind) => self
                .sessions
                .dependency()
                .unready(format!("rows are not acknowledged: {kind}")),
            None => self.sessions.dependency().ready(),
        }
        if !suspects.is_empty() {
            if self.table_is_unchanged(live).await? {
                refused.append(&mut suspects);
            } else {
                again.extend(suspects.iter().map(|refused| refused.index));
            }
        }
        Ok(again)
    }

    /// Refused rows are at fault only while the table is what is needed. False: it can't be asked for now.
    async fn table_is_unchanged(&self, live: &Live) -> Result<bool, WriteError> {
        match schema::verify(live, self.sessions.settings()).await {
            Ok(verified) if verified == self.verified => Ok(true),
            Ok(_) => Err(WriteError::OtherTable),
            Err(SchemaError::Failed {
                fault: Fault::Fatal(error),
                ..
            }) => Err(WriteError::Refused(error)),
            Err(SchemaError::Failed { .. }) => Ok(false),
            Err(error) => Err(WriteError::Schema(error)),
        }
    }
}
