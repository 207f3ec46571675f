//! Stored runs: insert, update, query and prune.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use crate::run::run_stats::RunCounts;
use crate::run::{DeliverySpec, Run, RunFilter, RunSpec, RunState};
use crate::store::cursors::write_schedule_cursor;
use crate::store::events::Event;
use crate::store::run_rows::{COLUMNS, collect, counts_json, find, from_row, write_counts};
use crate::store::{AccessError, Store, StoreError, events, numbers, timestamp, to_db};

/// The states that are not final.
const UNFINISHED: &str = "'queued', 'running', 'cancelling'";

impl Store {
    /// Inserts a run: `queued`, or `missed` or `skipped` for `reason`.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn insert_run(
        &self,
        spec: &RunSpec,
        state: RunState,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<Uuid, StoreError> {
        self.write(|transaction| insert_run(transaction, spec, state, reason, now))
    }

    /// Inserts the due starts up to `up_to` and moves the schedule cursor there.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn insert_due_runs(
        &self,
        specs: &[(RunSpec, RunState, Option<&str>)],
        up_to: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            for (spec, state, reason) in specs {
                insert_run(transaction, spec, *state, *reason, now)?;
            }
            write_schedule_cursor(transaction, up_to)
        })
    }

    /// Starts a queued run that delivers as in `delivery`, or resumes a started one, which delivers as before. A cancelled run
    /// keeps its state.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn start_run(&self, run: Uuid, delivery: &DeliverySpec, now: Timestamp) -> Result<Run, StoreError> {
        self.write(|transaction| {
            let changed = transaction.execute(
                &format!(
                    "UPDATE runs SET resumed = resumed + (started IS NOT NULL), \
                     state = CASE state WHEN 'queued' THEN 'running' ELSE state END, \
                     started = coalesce(started, ?2), batch_size = coalesce(batch_size, ?3), \
                     max_in_flight = coalesce(max_in_flight, ?4), \
                     duplicate_window = coalesce(duplicate_window, ?5) WHERE id = ?1 AND state IN ({UNFINISHED})"
                ),
                params![
                    run.to_string(),
                    now.as_millisecond(),
                    to_db(delivery.batch_size as u64),
                    to_db(delivery.max_in_flight as u64),
                    to_db(delivery.duplicate_window as u64),
                ],
            )?;
            match find(transaction, run)? {
                Some(started) if changed == 1 => Ok(started),
                _ => Err(AccessError::Corrupt("run to start")),
            }
        })
    }

    /// Cancels an unfinished run for the caller `by`: it delivers what it has fetched, or drops it with `drop_pending`. The
    /// next process knows. Returns whether the run is unfinished.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn cancel_run(&self, run: Uuid, drop_pending: bool, by: &str) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let changed = transaction.execute(
                &format!(
                    "UPDATE runs SET state = 'cancelling', drop_pending = max(drop_pending, ?2), \
                     cancelled_by = coalesce(cancelled_by, ?3) WHERE id = ?1 AND state IN ({UNFINISHED})"
                ),
                params![run.to_string(), drop_pending, by],
            )?;
            Ok(changed == 1)
        })
    }

    /// Ends a run and deletes its pages. Returns its state: `cancelled` instead of `state` if it was cancelled meanwhile.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when the store can't be written.
    pub fn finish_run(
        &self,
        run: Uuid,
        state: RunState,
        reason: Option<&str>,
        counts: &RunCounts,
        now: Timestamp,
    ) -> Result<RunState, StoreError> {
        let run = run.to_string();
        self.write(|transaction| {
            let (current, started): (String, bool) = transaction.query_row(
                "SELECT state, started IS NOT NULL FROM runs WHERE id = ?1",
                [&run],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let state = if current == RunState::Cancelling.name() {
                RunState::Cancelled
            } else {
                state
            };
            transaction.execute(
                "UPDATE runs SET state = ?2, reason = ?3, counts = ?4, ended = ?5, delivered_pages = \
                 coalesce((SELECT min(page) FROM batches WHERE run = ?1), pages_fetched), event = ?6 WHERE id = ?1",
                params![
                    run,
                    state.name(),
                    reason,
                    counts_json(counts),
                    now.as_millisecond(),
                    events::of(transaction, &run, state)?.map(Event::name),
                ],
            )?;
            if started {
                numbers::store(transaction, &run)?;
            }
            for table in ["pages", "batches", "ids"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE run = ?1"), [&run])?;
            }
            Ok(state)
        })
    }

    /// Saves the counts of the active run without any other change.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn save_counts(&self, run: Uuid, counts: &RunCounts) -> Result<(), StoreError> {
        self.write(|transaction| write_counts(transaction, run, counts))
    }

    /// Returns the runs that have not ended, oldest first; those that have started precede the others.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn unfinished_runs(&self) -> Result<Vec<Run>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM runs WHERE state IN ({UNFINISHED}) ORDER BY started IS NULL, id"
            ))?;
            collect(statement.query([])?)
        })
    }

    /// Returns the run with this id.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn run(&self, run: Uuid) -> Result<Option<Run>, StoreError> {
        self.read(|connection| find(connection, run))
    }

    /// Returns the last run that started and ended. Runs start and end in the order of their ids.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn last_finished_run(&self) -> Result<Option<Run>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM runs WHERE started IS NOT NULL AND ended IS NOT NULL ORDER BY id DESC LIMIT 1"
            ))?;
            statement
                .query_row([], |row| Ok(from_row(row)))
                .optional()?
                .transpose()
        })
    }

    /// Returns when the last complete run ended.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn last_success(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT max(ended) FROM runs WHERE state = 'complete'")?;
            let found: Option<i64> = statement.query_row([], |row| row.get(0))?;
            found.map(timestamp).transpose()
        })
    }

    /// Returns the runs that match the filter, newest first.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM runs WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR trigger = ?2) \
                 AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4"
            ))?;
            collect(statement.query(params![
                filter.state.map(RunState::name),
                filter.trigger.map(|trigger| trigger.name()),
                filter.before.map(|id| id.to_string()),
                filter.limit,
            ])?)
        })
    }

    /// Deletes ended runs that are older than `age` or not among the newest `number`. Keeps the run that ended last, because
    /// it may need a retry.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn prune_runs(&self, age: Duration, number: u32, now: Timestamp) -> Result<usize, StoreError> {
        let oldest = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        self.write(|transaction| {
            let pruned = transaction.execute(
                &format!(
                    "DELETE FROM runs WHERE state NOT IN ({UNFINISHED}) AND (ended < ?1 OR id NOT IN \
                     (SELECT id FROM runs WHERE state NOT IN ({UNFINISHED}) ORDER BY id DESC LIMIT ?2)) \
                     AND id NOT IN (SELECT id FROM runs WHERE started IS NOT NULL AND ended IS NOT NULL \
                     ORDER BY id DESC LIMIT 1)"
                ),
                params![oldest.as_millisecond(), number],
            )?;
            if pruned > 0 {
                for table in ["rejected_records", "numbers"] {
                    transaction.execute(
                        &format!("DELETE FROM {table} WHERE run NOT IN (SELECT id FROM runs)"),
                        [],
                    )?;
                }
            }
            Ok(pruned)
        })
    }
}

fn insert_run(
    transaction: &Transaction<'_>,
    spec: &RunSpec,
    state: RunState,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Uuid, AccessError> {
    let id = next_id(transaction)?;
    let counts = RunCounts {
        requested: if state.is_final() { 0 } else { spec.plan().users() },
        ..RunCounts::default()
    };
    let ended = state.is_final().then(|| now.as_millisecond());
    transaction.execute(
        "INSERT INTO runs (id, trigger, state, scheduled, created, ended, seed, users, page_size, first_page, \
         last_page, reason, counts, retry, requested_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
         ?14, ?15)",
        params![
            id.to_string(),
            spec.trigger.name(),
            state.name(),
            spec.scheduled.map(Timestamp::as_millisecond),
            now.as_millisecond(),
            ended,
            spec.seed.to_string(),
            to_db(spec.users),
            spec.page_size,
            spec.pages.map(|pages| to_db(pages.first())),
            spec.pages.map(|pages| to_db(pages.last())),
            reason,
            counts_json(&counts),
            spec.retry,
            spec.requested_by,
        ],
    )?;
    Ok(id)
}

/// Returns an id greater than any stored one, even after a backward clock step, so that ids order runs by time.
fn next_id(transaction: &Transaction<'_>) -> Result<Uuid, AccessError> {
    let last = transaction
        .prepare_cached("SELECT max(id) FROM runs")?
        .query_row([], |row| row.get::<_, Option<String>>(0))?;
    let last = last.map(|id| id.parse::<Uuid>()).transpose();
    let last = last.map_err(|_| AccessError::Corrupt("run id"))?;
    let after = last.map_or(0, |last| last.as_u128().saturating_add(1));
    Ok(Uuid::from_u128(Uuid::now_v7().as_u128().max(after)))
}
