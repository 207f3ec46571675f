//! Rate limit usage, the schedule cursor, the salt of the jitter and the pause of the schedule.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::store::{AccessError, Store, StoreError, from_db, timestamp, to_db};

/// Users reserved from the rate limit before a request; completed by its outcome.
#[derive(Clone, Copy, Debug)]
pub struct RateReservation(i64);

/// A pause of the schedule.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SchedulePause {
    /// When it began.
    pub since: Timestamp,
    /// Name of the caller that requested it.
    pub by: String,
}

impl Store {
    /// Reserves `users` before they are requested, because a killed process may have been served. Deletes usage older than
    /// `window`.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn reserve_users(
        &self,
        users: u64,
        window: Duration,
        now: Timestamp,
    ) -> Result<RateReservation, StoreError> {
        let oldest = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        self.write(|transaction| {
            transaction.execute(
                "DELETE FROM rate_limit_usage WHERE at < ?1",
                [oldest.as_millisecond()],
            )?;
            transaction.execute(
                "INSERT INTO rate_limit_usage (at, users) VALUES (?1, ?2)",
                params![now.as_millisecond(), to_db(users)],
            )?;
            Ok(RateReservation(transaction.last_insert_rowid()))
        })
    }

    /// Completes a reservation at `now`: the users were served, or not.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn complete_reservation(
        &self,
        reservation: RateReservation,
        served: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            if served {
                transaction.execute(
                    "UPDATE rate_limit_usage SET at = ?2 WHERE id = ?1",
                    params![reservation.0, now.as_millisecond()],
                )?;
            } else {
                transaction.execute("DELETE FROM rate_limit_usage WHERE id = ?1", [reservation.0])?;
            }
            Ok(())
        })
    }

    /// Returns the usage within `window` before `now` as age and number of users, oldest first. Usage in the future of a
    /// clock that stepped back counts as current.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn recent_usage(&self, window: Duration, now: Timestamp) -> Result<Vec<(Duration, u64)>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT at, users FROM rate_limit_usage ORDER BY at")?;
            let mut rows = statement.query([])?;
            let mut usage = Vec::new();
            while let Some(row) = rows.next()? {
                let age = now.duration_since(timestamp(row.get(0)?)?);
                let age = Duration::try_from(age).unwrap_or(Duration::ZERO);
                if age < window {
                    usage.push((age, from_db(row.get(1)?)?));
                }
            }
            Ok(usage)
        })
    }

    /// Returns the latest start that the schedule has handled.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn schedule_cursor(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT value FROM cursors WHERE name = 'scheduled_up_to'")?;
            let found = statement.query_row([], |row| row.get(0)).optional()?;
            found.map(timestamp).transpose()
        })
    }

    /// Returns the pause of the schedule, if it is paused.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn paused(&self) -> Result<Option<SchedulePause>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT at, caller FROM pause")?;
            let found = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)));
            let pause = |(at, by): (i64, String)| {
                Ok(SchedulePause {
                    since: timestamp(at)?,
                    by,
                })
            };
            found.optional()?.map(pause).transpose()
        })
    }

    /// Pauses the schedule for the caller `by`. An earlier pause remains.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn pause(&self, by: &str, now: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO pause (only, at, caller) VALUES (1, ?1, ?2)",
                params![now.as_millisecond(), by],
            )?;
            Ok(())
        })
    }

    /// Resumes the schedule.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn resume(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM pause", [])?;
            Ok(())
        })
    }

    /// Returns the stored salt of the jitter, after storing `salt` if there is none.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn jitter_salt(&self, salt: u64) -> Result<u64, StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO cursors (name, value) VALUES ('jitter_salt', ?1)",
                [salt.cast_signed()],
            )?;
            let stored: i64 = transaction.query_row(
                "SELECT value FROM cursors WHERE name = 'jitter_salt'",
                [],
                |row| row.get(0),
            )?;
            Ok(stored.cast_unsigned())
        })
    }

    /// Sets the latest start that the schedule has handled.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn set_schedule_cursor(&self, at: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| write_schedule_cursor(transaction, at))
    }

    /// Forgets the latest start that the schedule has handled.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn clear_schedule_cursor(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM cursors WHERE name = 'scheduled_up_to'", [])?;
            Ok(())
        })
    }
}

pub(super) fn write_schedule_cursor(transaction: &Transaction<'_>, at: Timestamp) -> Result<(), AccessError> {
    transaction.execute(
        "INSERT INTO cursors (name, value) VALUES ('scheduled_up_to', ?1) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [at.as_millisecond()],
    )?;
    Ok(())
}
