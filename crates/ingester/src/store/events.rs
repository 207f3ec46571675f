//! Events that the webhook has not received yet: the failure of a run, and the recovery after it. They are stored with the end
//! of the run, so that a killed process loses none.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction};
use uuid::Uuid;

use crate::run::{Run, RunState};
use crate::store::run_rows::{COLUMNS, from_row};
use crate::store::{AccessError, Store, StoreError};

/// What happened to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The run failed.
    RunFailed,
    /// The run is complete, after one that failed.
    RunRecovered,
}

impl Event {
    /// Returns the name in the state file and in requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunFailed => "run.failed",
            Self::RunRecovered => "run.recovered",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::RunFailed, Self::RunRecovered]
            .into_iter()
            .find(|event| event.name() == name)
    }
}

/// An event that the webhook has not received yet.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingEvent {
    /// What happened.
    pub event: Event,
    /// When.
    pub at: Timestamp,
    /// The run.
    pub run: Run,
}

impl Store {
    /// Returns the events that the webhook has not received yet, oldest first.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn pending_events(&self) -> Result<Vec<PendingEvent>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS}, event FROM runs WHERE event IS NOT NULL ORDER BY ended, id"
            ))?;
            let mut rows = statement.query([])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                let run = from_row(row)?;
                events.push(PendingEvent {
                    event: Event::parse(&row.get::<_, String>("event")?)
                        .ok_or(AccessError::Corrupt("event"))?,
                    at: run.ended.ok_or(AccessError::Corrupt("end of a run"))?,
                    run,
                });
            }
            Ok(events)
        })
    }

    /// Removes the event of a run, because the webhook has received it or it is too old.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn remove_event(&self, run: Uuid) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("UPDATE runs SET event = NULL WHERE id = ?1", [run.to_string()])?;
            Ok(())
        })
    }

    /// Removes each event.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn drop_events(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("UPDATE runs SET event = NULL WHERE event IS NOT NULL", [])?;
            Ok(())
        })
    }
}

/// Returns the event of a run that ends with `state`.
pub(super) fn of(
    transaction: &Transaction<'_>,
    run: &str,
    state: RunState,
) -> Result<Option<Event>, AccessError> {
    match state {
        RunState::Failed => Ok(Some(Event::RunFailed)),
        RunState::Complete => {
            let mut statement = transaction.prepare_cached(
                "SELECT state FROM runs WHERE id < ?1 AND started IS NOT NULL AND ended IS NOT NULL \
                 ORDER BY id DESC LIMIT 1",
            )?;
            let previous: Option<String> = statement.query_row([run], |row| row.get(0)).optional()?;
            let has_failed = previous.is_some_and(|state| state == RunState::Failed.name());
            Ok(has_failed.then_some(Event::RunRecovered))
        }
        _ => Ok(None),
    }
}
