//! The spent budget and the schedule's place.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::store::{Store, StoreError, from_db, timestamp, to_db};

/// Something that was taken off the budget, to be confirmed or given back.
#[derive(Clone, Copy, Debug)]
pub struct RateReservation(i64);

impl Store {
    /// Takes `users` off the budget before they are asked for: who is killed meanwhile may have been served. Forgets
    /// what is older than `window`.
    ///
    /// # Errors
    /// [`StoreError::Use`].
    pub fn reserve_users(
        &self,
        users: u64,
        window: Duration,
        now: Timestamp,
    ) -> Result<RateReservation, StoreError> {
        let oldest = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        self.write(|transaction| {
            transaction.execute("DELETE FROM spent WHERE at < ?1", [oldest.as_millisecond()])?;
            transaction.execute(
                "INSERT INTO spent (at, users) VALUES (?1, ?2)",
                params![now.as_millisecond(), to_db(users)],
            )?;
            Ok(RateReservation(transaction.last_insert_rowid()))
        })
    }

    /// They were served at the latest at `now`, or not at all.
    ///
    /// # Errors
    /// [`StoreError::Use`].
    pub fn complete_reservation(
        &self,
        reservation: RateReservation,
        served: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            if served {
                transaction.execute(
                    "UPDATE spent SET at = ?2 WHERE id = ?1",
                    params![reservation.0, now.as_millisecond()],
                )?;
            } else {
                transaction.execute("DELETE FROM spent WHERE id = ?1", [reservation.0])?;
            }
            Ok(())
        })
    }

    /// What was spent within `window` before `now`: how long ago, oldest first, and how much. What lies ahead of a clock
    /// that was set back counts as spent now.
    ///
    /// # Errors
    /// [`StoreError`] of reading.
    pub fn recent_usage(&self, window: Duration, now: Timestamp) -> Result<Vec<(Duration, u64)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT at, users FROM spent ORDER BY at")?;
            let mut rows = statement.query([])?;
            let mut spent = Vec::new();
            while let Some(row) = rows.next()? {
                let age = now.duration_since(timestamp(row.get(0)?)?);
                let age = Duration::try_from(age).unwrap_or(Duration::ZERO);
                if age < window {
                    spent.push((age, from_db(row.get(1)?)?));
                }
            }
            Ok(spent)
        })
    }

    /// The latest start that the schedule has dealt with.
    ///
    /// # Errors
    /// [`StoreError`] of reading.
    pub fn schedule_cursor(&self) -> Result<Option<Timestamp>, StoreError> {
        let found = self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT at FROM marks WHERE name = 'scheduled_up_to'")?;
            Ok(statement.query_row([], |row| row.get(0)).optional()?)
        })?;
        found.map(timestamp).transpose()
    }

    /// Keeps that start.
    ///
    /// # Errors
    /// [`StoreError::Use`].
    pub fn set_schedule_cursor(&self, at: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| write_schedule_cursor(transaction, at))
    }
}

pub(super) fn write_schedule_cursor(transaction: &Transaction<'_>, at: Timestamp) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO marks (name, at) VALUES ('scheduled_up_to', ?1) \
         ON CONFLICT (name) DO UPDATE SET at = excluded.at",
        [at.as_millisecond()],
    )?;
    Ok(())
}
