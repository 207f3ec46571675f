//! Makes rows durable: sends each until the cluster acknowledges it, the server refuses its values, or only the
//! operator can help. It moves no offset and writes no dead letter.

use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::UserId;
use service::failpoint;
use thiserror::Error;
use tokio::time::sleep;

use crate::cassandra::fault::Fault;
use crate::cassandra::pace::Pace;
use crate::cassandra::schema::{self, SchemaError, Verified};
use crate::cassandra::session::Live;
use crate::cassandra::sessions::{Sessions, Unusable};
use crate::cassandra::statements::Statements;
use crate::cassandra::window::Window;
use crate::cassandra::wire::{Batch, push_value};
use crate::clock::wall_micros;
use crate::metrics::StreamerMetrics;
use crate::retention::{Life, Retention};
use crate::row::{COLUMNS, Row};

/// A row to be written or deleted, under its write timestamp.
#[derive(Debug)]
pub struct Write {
    change: WriteChange,
    stamp: i64,
    retention: Retention,
}

#[derive(Debug)]
enum WriteChange {
    Upsert(Row),
    Delete(UserId),
}

impl Write {
    /// A row whose time is over, and which is deleted therefore. `now` in milliseconds since 1970.
    pub fn is_over(&self, now: i64) -> bool {
        matches!(self.change, WriteChange::Upsert(_)) && self.life(now) == Life::Over
    }

    /// Adds what it is now to a request.
    fn add_to(&self, batch: &mut Batch, prepared: &Statements, now: i64) {
        let stamp = self.stamp.to_be_bytes();
        match (&self.change, self.life(now)) {
            (WriteChange::Upsert(row), Life::Endless) => batch.add(&prepared.upsert, |wire| {
                wire.extend_from_slice(row.wire());
                push_value(wire, &stamp);
            }),
            (WriteChange::Upsert(row), Life::Seconds(seconds)) => batch.add(&prepared.upsert, |wire| {
                wire.extend_from_slice(row.wire());
                push_value(wire, &seconds.to_be_bytes());
                push_value(wire, &stamp);
            }),
            (WriteChange::Upsert(_), Life::Over) | (WriteChange::Delete(_), _) => {
                batch.add(&prepared.delete, |wire| {
                    push_value(wire, &stamp);
                    push_value(wire, self.key());
                });
            }
        }
    }

    fn life(&self, now: i64) -> Life {
        match &self.change {
            WriteChange::Upsert(row) => self.retention.left(row.ingested_at(), now),
            WriteChange::Delete(_) => Life::Over,
        }
    }

    /// The id, which is the partition key.
    fn key(&self) -> &[u8] {
        match &self.change {
            WriteChange::Upsert(row) => row.key(),
            WriteChange::Delete(id) => id.as_uuid().as_bytes(),
        }
    }

    /// What it counts for in a batch, no less than the server reckons: its values, for each cell a timestamp, a
    /// time to live and the time of its deletion (8, 4 and 8 bytes), and the same for the row.
    fn weight(&self) -> usize {
        const CELL: usize = 20;
        match &self.change {
            WriteChange::Upsert(row) => row.wire().len() + (COLUMNS.len() + 1) * CELL,
            WriteChange::Delete(_) => 48,
        }
    }
}

/// Rows that go in one statement: a stretch of those given.
type Group = Range<usize>;

/// Cuts the rows into groups of at most `bytes`, each of at least one row.
fn groups(writes: &[Write], bytes: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    let (mut start, mut weight) = (0, 0);
    for (index, write) in writes.iter().enumerate() {
        if index > start && weight + write.weight() > bytes {
            groups.push(start..index);
            (start, weight) = (index, 0);
        }
        weight += write.weight();
    }
    if start < writes.len() {
        groups.push(start..writes.len());
    }
    groups
}

/// A row whose values the server refuses: `index` among those given.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one.
    pub index: usize,
    /// The server's words.
    pub error: String,
}

/// What is to be sent again.
struct Sorted {
    /// These; none: everything, since nothing is certain.
    again: Option<Vec<Group>>,
    /// There is nothing to wait for.
    at_once: bool,
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
        "table {0} was replaced by another one of the same name: run `streamer replay` or `streamer accept-table`"
    )]
    OtherTable(String),
    /// The server refuses for a reason that only the operator can mend.
    #[error("cassandra refuses to write: {0}")]
    Refused(String),
}

/// Writes rows over the session of the moment.
pub struct Writer {
    sessions: Arc<Sessions>,
    verified: Verified,
    retention: Retention,
    window: Window,
    pace: Pace,
    metrics: Arc<StreamerMetrics>,
}

impl Writer {
    /// A writer for the table as it was verified.
    pub fn new(sessions: Arc<Sessions>, verified: Verified, metrics: Arc<StreamerMetrics>) -> Self {
        let window = Window::new(sessions.settings().max_in_flight);
        let pace = Pace::new(sessions.settings().max_rows_per_second);
        let retention = Retention::new(sessions.settings().row_ttl);
        Self {
            sessions,
            verified,
            retention,
            window,
            pace,
            metrics,
        }
    }

    /// Writes a row.
    pub fn upsert(&self, row: Row, stamp: i64) -> Write {
        Write {
            change: WriteChange::Upsert(row),
            stamp,
            retention: self.retention,
        }
    }

    /// Deletes a row.
    pub fn delete(&self, id: UserId, stamp: i64) -> Write {
        Write {
            change: WriteChange::Delete(id),
            stamp,
            retention: self.retention,
        }
    }

    /// Writes them all, for as long as it takes. Returns those that the server refuses for their values; all others
    /// are acknowledged.
    ///
    /// # Errors
    /// [`WriteError`]; what was acknowledged before is not told.
    pub async fn write(&self, writes: &[Write]) -> Result<Vec<Refused>, WriteError> {
        let mut pending = None;
        let mut refused = Vec::new();
        let mut delays = self.sessions.settings().backoff.delays();
        while pending
            .as_ref()
            .is_none_or(|groups: &Vec<Group>| !groups.is_empty())
            && !writes.is_empty()
        {
            let live = self.sessions.live().await?;
            let failed = tokio::select! {
                biased;
                () = live.doubted() => Vec::new(),
                failed = self.attempt(&live, writes, pending.take()) => failed,
            };
            if failpoint::inject("retry_swallowed") {
                break;
            }
            let sorted = if live.is_doubted() {
                // A reply of a doubted session may belong to another row: all are written again.
                refused.clear();
                self.metrics.retries.with_label_values(&["doubt"]).inc();
                self.sessions
                    .rows_wait("a call got no answer; a new session is being built");
                Sorted {
                    again: None,
                    at_once: false,
                }
            } else {
                self.sort(&live, failed, &mut refused).await?
            };
            pending = sorted.again;
            let finished = pending.as_ref().is_some_and(Vec::is_empty);
            if !finished
                && !sorted.at_once
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

    /// Sends every pending group once, all rows if none are named; returns those that failed.
    async fn attempt(
        &self,
        live: &Live,
        writes: &[Write],
        pending: Option<Vec<Group>>,
    ) -> Vec<(Group, Fault)> {
        let settings = self.sessions.settings();
        let prepared = match live.statements(settings).await {
            Ok(prepared) => prepared,
            Err(fault) => return vec![(0..writes.len(), fault)],
        };
        let bytes = usize::try_from(settings.statement_bytes.as_u64()).unwrap_or(usize::MAX);
        let pending =
            pending.unwrap_or_else(|| groups(writes, if prepared.one_replica_set { bytes } else { 0 }));
        let mut calls: FuturesUnordered<_> = pending
            .into_iter()
            .map(|group| async {
                self.pace.rows(group.len()).await;
                let _permit = self.window.enter().await;
                let result = self.send(live, prepared, &writes[group.clone()]).await;
                if result.is_ok() {
                    self.window.answered();
                    failpoint::crash("in_mid_batch");
                }
                result.err().map(|fault| (group, fault))
            })
            .collect();
        let mut failed = Vec::new();
        while let Some(result) = calls.next().await {
            failed.extend(result);
        }
        failed
    }

    async fn send(&self, live: &Live, prepared: &Statements, writes: &[Write]) -> Result<(), Fault> {
        let bytes = writes.iter().map(Write::weight).sum();
        let now = wall_micros() / 1_000;
        let mut batch = Batch::with_capacity(writes.len(), bytes);
        for write in writes {
            write.add_to(&mut batch, prepared, now);
        }
        // Where nodes have different replicas a row goes alone, to one of its own.
        let key = writes.first().filter(|_| !prepared.one_replica_set);
        live.batch(batch, key.map(Write::key), prepared).await
    }

    /// Decides what becomes of the groups that failed.
    async fn sort(
        &self,
        live: &Live,
        failed: Vec<(Group, Fault)>,
        refused: &mut Vec<Refused>,
    ) -> Result<Sorted, WriteError> {
        let mut again = Vec::new();
        let mut suspects = Vec::new();
        let mut passing = None;
        let mut overloaded = false;
        for (group, fault) in failed {
            self.metrics.retries.with_label_values(&[fault.kind()]).inc();
            match fault {
                Fault::Fatal(error) => return Err(WriteError::Refused(error)),
                // One of its rows, or its size, is refused: each half by itself.
                Fault::Invalid(_) if group.len() > 1 => {
                    let middle = group.start + group.len() / 2;
                    again.extend([group.start..middle, middle..group.end]);
                }
                Fault::Invalid(error) => suspects.push(Refused {
                    index: group.start,
                    error,
                }),
                Fault::Retry { kind, overload } => {
                    overloaded |= overload;
                    passing = Some(kind);
                    again.push(group);
                }
                Fault::Reconnect { kind, .. } => {
                    passing = Some(kind);
                    again.push(group);
                }
            }
        }
        if overloaded {
            self.window.overloaded();
        }
        match passing {
            Some(kind) => self
                .sessions
                .rows_wait(format!("rows are not acknowledged: {kind}")),
            None => self.sessions.rows_flow(),
        }
        let mut unsure = false;
        if !suspects.is_empty() {
            if self.table_is_unchanged(live).await? {
                refused.append(&mut suspects);
            } else {
                unsure = true;
                again.extend(suspects.iter().map(|refused| refused.index..refused.index + 1));
            }
        }
        Ok(Sorted {
            again: Some(again),
            at_once: passing.is_none() && !unsure,
        })
    }

    /// Refused rows are at fault only while the table is what is needed. False: it can't be asked for now.
    async fn table_is_unchanged(&self, live: &Live) -> Result<bool, WriteError> {
        match schema::verify(live, self.sessions.settings()).await {
            Ok(verified) if verified == self.verified => Ok(true),
            Ok(_) => Err(WriteError::OtherTable(self.sessions.settings().qualified_table())),
            Err(SchemaError::Failed {
                fault: Fault::Fatal(error),
                ..
            }) => Err(WriteError::Refused(error)),
            Err(SchemaError::Failed { .. }) => Ok(false),
            Err(error) => Err(WriteError::Schema(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::Shape;

    fn write(text: usize) -> Write {
        let name = "x".repeat(text.max(1));
        let record = format!(
            r#"{{"id":"0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071","first_name":"{name}","last_name":"L","gender":"f","address":"a","post_code":"1","email":"a@b","username":"u","dob":"1970-01-01T00:00:00.000Z","phone":"1","picture":"p"}}"#
        );
        let user = model::User::parse_lenient(record.as_bytes()).unwrap();
        Write {
            change: WriteChange::Upsert(Row::bind(&user, 0, Shape::default())),
            stamp: 1,
            retention: Retention::default(),
        }
    }

    #[test]
    fn without_a_shared_replica_set_every_row_goes_alone() {
        assert_eq!(groups(&[write(1), write(1)], 0), [0..1, 1..2]);
        assert!(groups(&[], 0).is_empty());
    }

    proptest! {
        #[test]
        fn groups_cover_all_rows_in_order_and_keep_to_the_size(
            texts in proptest::collection::vec(1_usize..500, 0..60),
            bytes in 0_usize..5_000,
        ) {
            let writes: Vec<_> = texts.into_iter().map(write).collect();
            let groups = groups(&writes, bytes);
            prop_assert_eq!(groups.iter().cloned().flatten().collect::<Vec<_>>(), (0..writes.len()).collect::<Vec<_>>());
            for group in groups {
                let weight: usize = writes[group.clone()].iter().map(Write::weight).sum();
                prop_assert!(group.len() == 1 || weight <= bytes);
            }
        }
    }
}
