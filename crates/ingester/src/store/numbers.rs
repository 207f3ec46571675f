//! Sequence numbers of an ended run's records by their outcome, as ranges. Each number that is neither rejected nor
//! undelivered was accepted.

use std::ops::Range;

use rusqlite::{OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use crate::run::range_set::RangeSet;
use crate::run::run_numbers::RunNumbers;
use crate::store::outbox::parse_range_set;
use crate::store::{AccessError, Store, StoreError, from_db, length};

impl Store {
    /// Returns the numbers of an ended run; `None` if it has not ended, never started, or fetched a page with an earlier
    /// version, which did not store them.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn numbers(&self, run: Uuid) -> Result<Option<RunNumbers>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT next_record, numbers.rejected, undelivered FROM runs JOIN numbers ON run = id WHERE id = ?1",
            )?;
            let row = statement.query_row([run.to_string()], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            });
            let numbers = |(assigned, rejected, undelivered): (i64, String, String)| {
                Ok(RunNumbers {
                    assigned: from_db(assigned)?,
                    rejected: parse_range_set(&rejected)?,
                    undelivered: parse_range_set(&undelivered)?,
                })
            };
            row.optional()?.map(numbers).transpose()
        })
    }
}

/// Stores the numbers of a run from its pages, which are deleted afterwards.
pub(super) fn store(transaction: &Transaction<'_>, run: &str) -> Result<(), AccessError> {
    let mut statement = transaction.prepare_cached(
        "SELECT first, records, acknowledged, rejected FROM pages WHERE run = ?1 ORDER BY page",
    )?;
    let mut rows = statement.query([run])?;
    let (mut rejected, mut undelivered) = (RangeSet::default(), RangeSet::default());
    while let Some(row) = rows.next()? {
        let (first, records) = (from_db(row.get(0)?)?, length(row.get(1)?)?);
        let acknowledged: RangeSet = parse_range_set(&row.get::<_, String>(2)?)?;
        let Some(rejected_on_page) = row.get::<_, Option<String>>(3)? else {
            return Ok(());
        };
        let rejected_on_page: RangeSet = parse_range_set(&rejected_on_page)?;
        let pending = RangeSet::from(0..records).difference(&acknowledged);
        rejected_on_page
            .ranges()
            .for_each(|range| rejected.insert(numbers_of(first, range)));
        pending
            .ranges()
            .for_each(|range| undelivered.insert(numbers_of(first, range)));
    }
    transaction.execute(
        "INSERT OR REPLACE INTO numbers (run, rejected, undelivered) VALUES (?1, ?2, ?3)",
        params![run, rejected.to_string(), undelivered.to_string()],
    )?;
    Ok(())
}

/// Returns the sequence numbers of positions in a page whose first record has the number `first`.
fn numbers_of(first: u64, positions: &Range<usize>) -> Range<u64> {
    let number = |position| first + u64::try_from(position).expect("a page has at most 5,000 records");
    number(positions.start)..number(positions.end)
}
