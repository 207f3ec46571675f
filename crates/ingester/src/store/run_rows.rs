//! A run as a row of the table `runs`.

use rusqlite::{Connection, OptionalExtension as _, Row, Rows, Transaction, params};
use uuid::Uuid;

use crate::ledger::verdict::LedgerVerdict;
use crate::run::plan::PageRange;
use crate::run::run_stats::RunCounts;
use crate::run::{DeliverySpec, Run};
use crate::store::{AccessError, from_db, length, timestamp};

pub(super) const COLUMNS: &str = "id, trigger, state, scheduled, created, started, ended, seed, users, page_size, first_page, \
                       last_page, resumed, reason, counts, pages_fetched, next_record, retry, batch_size, max_in_flight, \
                       duplicate_window, drop_pending, requested_by, cancelled_by, \
                       delivered_pages, verdict, EXISTS (SELECT 1 FROM numbers WHERE run = id)";

pub(super) fn write_counts(
    transaction: &Transaction<'_>,
    run: Uuid,
    counts: &RunCounts,
) -> Result<(), AccessError> {
    let mut statement = transaction.prepare_cached("UPDATE runs SET counts = ?2 WHERE id = ?1")?;
    statement.execute(params![run.to_string(), counts_json(counts)])?;
    Ok(())
}

pub(super) fn counts_json(counts: &RunCounts) -> String {
    serde_json::to_string(counts).expect("numbers and strings serialize to JSON")
}

pub(super) fn find(connection: &Connection, run: Uuid) -> Result<Option<Run>, AccessError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM runs WHERE id = ?1"))?;
    let found = statement.query_row([run.to_string()], |row| Ok(from_row(row)));
    found.optional()?.transpose()
}

/// Reads the runs of a query of [`COLUMNS`].
pub(super) fn collect(mut rows: Rows<'_>) -> Result<Vec<Run>, AccessError> {
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push(from_row(row)?);
    }
    Ok(runs)
}

pub(super) fn from_row(row: &Row<'_>) -> Result<Run, AccessError> {
    let text = |index: usize| row.get::<_, String>(index);
    let time = |index: usize| row.get::<_, Option<i64>>(index)?.map(timestamp).transpose();
    let pages = match (row.get::<_, Option<i64>>(10)?, row.get::<_, Option<i64>>(11)?) {
        (Some(first), Some(last)) => PageRange::new(from_db(first)?, from_db(last)?),
        _ => None,
    };
    Ok(Run {
        id: text(0)?.parse().map_err(|_| AccessError::Corrupt("run id"))?,
        trigger: text(1)?.parse().map_err(|_| AccessError::Corrupt("trigger"))?,
        state: text(2)?.parse().map_err(|_| AccessError::Corrupt("state"))?,
        scheduled: time(3)?,
        created: timestamp(row.get(4)?)?,
        started: time(5)?,
        ended: time(6)?,
        seed: text(7)?.parse().map_err(|_| AccessError::Corrupt("seed"))?,
        users: from_db(row.get(8)?)?,
        page_size: row.get(9)?,
        pages,
        resumed: row.get(12)?,
        reason: row.get(13)?,
        counts: serde_json::from_str(&text(14)?).map_err(|_| AccessError::Corrupt("counts"))?,
        pages_fetched: from_db(row.get(15)?)?,
        next_record: from_db(row.get(16)?)?,
        retry: row.get(17)?,
        delivery: delivery_from_row(row)?,
        drop_pending: row.get(21)?,
        requested_by: row.get(22)?,
        cancelled_by: row.get(23)?,
        delivered_pages: from_db(row.get(24)?)?,
        verdict: parse_verdict(row.get(25)?)?,
        has_numbers: row.get(26)?,
    })
}

/// Returns how a run delivers, unless it has not started.
fn delivery_from_row(row: &Row<'_>) -> Result<Option<DeliverySpec>, AccessError> {
    let number = |index: usize| {
        let number: Option<i64> = row.get(index)?;
        number.map(length).transpose()
    };
    let (Some(batch_size), Some(max_in_flight), Some(duplicate_window)) =
        (number(18)?, number(19)?, number(20)?)
    else {
        return Ok(None);
    };
    Ok(Some(DeliverySpec {
        batch_size,
        max_in_flight,
        duplicate_window,
    }))
}

fn parse_verdict(text: Option<String>) -> Result<Option<LedgerVerdict>, AccessError> {
    let verdict = text.map(|text| serde_json::from_str(&text)).transpose();
    verdict.map_err(|_| AccessError::Corrupt("verdict"))
}
