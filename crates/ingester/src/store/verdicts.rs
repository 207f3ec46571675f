//! Verdicts of ended runs, stored as JSON with the run.

use rusqlite::params;
use uuid::Uuid;

use crate::ledger::verdict::LedgerVerdict;
use crate::run::Run;
use crate::store::run_rows::{COLUMNS, collect};
use crate::store::{Store, StoreError};

impl Store {
    /// Returns the ended runs that can be compared with the ledger and have no final verdict, oldest first.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn runs_without_verdict(&self) -> Result<Vec<Run>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM runs WHERE coalesce(verdict ->> 'state', 'pending') = 'pending' \
                 AND EXISTS (SELECT 1 FROM numbers WHERE run = id) ORDER BY id"
            ))?;
            collect(statement.query([])?)
        })
    }

    /// Stores the verdict of a run.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn save_verdict(&self, run: Uuid, verdict: &LedgerVerdict) -> Result<(), StoreError> {
        let verdict = serde_json::to_string(verdict).expect("numbers and strings serialize to JSON");
        self.write(|transaction| {
            transaction.execute(
                "UPDATE runs SET verdict = ?2 WHERE id = ?1",
                params![run.to_string(), verdict],
            )?;
            Ok(())
        })
    }
}
