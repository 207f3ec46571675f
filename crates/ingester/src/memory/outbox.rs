//! The pages of the run under way: kept as they come in, and until each of their records is accounted for. What a page
//! changes in the counts is written with it, so that a killed process counts nothing twice.

use model::UserId;
use rusqlite::{OptionalExtension as _, params};
use uuid::Uuid;

use super::runs::note;
use super::{Memory, MemoryError, from_db, to_db};
use crate::records::Records;
use crate::tally::Counts;

/// A page that came in.
#[derive(Debug)]
pub struct Fetched<'p> {
    /// Its place in the run, from 0.
    pub page: u64,
    /// The run's number of its first record.
    pub first: u64,
    /// Its records, without those that the run had already.
    pub records: &'p Records,
    /// Their ids.
    pub ids: &'p [UserId],
}

/// A page with records that nothing is known about.
#[derive(Debug)]
pub struct Waiting {
    /// Its place in the run, from 0.
    pub page: u64,
    /// The run's number of its first record.
    pub first: u64,
    /// How many of its records are accounted for, from the first one on.
    pub accounted: usize,
    /// All its records.
    pub records: Records,
}

/// A record that the publisher refused, without anything personal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// The run's number of the record.
    pub record: u64,
    /// The user's id.
    pub id: String,
    /// Field and rule.
    pub reason: String,
}

impl Memory {
    /// Keeps a page that came in.
    ///
    /// # Errors
    /// [`MemoryError::Use`].
    pub fn fetched(
        &self,
        run: Uuid,
        page: &Fetched<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Result<(), MemoryError> {
        let id = run.to_string();
        let (number, records) = (to_db(page.page), to_db(page.records.len() as u64));
        let ids: Vec<u8> = page.ids.iter().flat_map(|id| bytes_of(*id)).collect();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO pages (run, page, first, records) VALUES (?1, ?2, ?3, ?4)",
                params![id, number, to_db(page.first), records],
            )?;
            transaction.execute(
                "INSERT INTO ids (run, page, ids) VALUES (?1, ?2, ?3)",
                params![id, number, ids],
            )?;
            if !page.records.is_empty() {
                transaction.execute(
                    "INSERT INTO bodies (run, page, lines) VALUES (?1, ?2, ?3)",
                    params![id, number, page.records.lines()],
                )?;
            }
            transaction.execute(
                "UPDATE runs SET pages_fetched = ?2, next_record = ?3 WHERE id = ?1",
                params![id, number + 1, to_db(page.first) + records],
            )?;
            note(transaction, run, &counts())
        })
    }

    /// The first page of the run that waits, if any does.
    ///
    /// # Errors
    /// [`MemoryError`] of reading.
    pub fn waiting(&self, run: Uuid) -> Result<Option<Waiting>, MemoryError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT page, first, accounted, lines FROM pages JOIN bodies USING (run, page) \
                 WHERE run = ?1 ORDER BY page LIMIT 1",
            )?;
            let found = statement
                .query_row([run.to_string()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let waiting = |(page, first, accounted, lines)| {
                let accounted = usize::try_from(from_db(accounted)?);
                Ok(Waiting {
                    page: from_db(page)?,
                    first: from_db(first)?,
                    accounted: accounted.map_err(|_| MemoryError::Damaged("number"))?,
                    records: Records::from_lines(lines),
                })
            };
            found.map(waiting).transpose()
        })
    }

    /// How many pages of the run wait.
    ///
    /// # Errors
    /// [`MemoryError`] of reading.
    pub fn waiting_pages(&self, run: Uuid) -> Result<usize, MemoryError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached("SELECT count(*) FROM bodies WHERE run = ?1")?;
            let pages = statement.query_row([run.to_string()], |row| row.get(0))?;
            usize::try_from(from_db(pages)?).map_err(|_| MemoryError::Damaged("number"))
        })
    }

    /// The publisher has said what became of the first `accounted` records of `page`, refusing some. The page is let
    /// go with its last record.
    ///
    /// # Errors
    /// [`MemoryError::Use`].
    pub fn accounted(
        &self,
        run: Uuid,
        page: u64,
        accounted: u64,
        refused: &[Refused],
        counts: impl FnOnce() -> Counts,
    ) -> Result<(), MemoryError> {
        let id = run.to_string();
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE pages SET accounted = ?3 WHERE run = ?1 AND page = ?2")?
                .execute(params![id, to_db(page), to_db(accounted)])?;
            transaction
                .prepare_cached(
                    "DELETE FROM bodies WHERE run = ?1 AND page = ?2 AND \
                     (SELECT accounted >= records FROM pages WHERE run = ?1 AND page = ?2)",
                )?
                .execute(params![id, to_db(page)])?;
            for one in refused {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO refused (run, record, id, reason) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![id, to_db(one.record), one.id, one.reason])?;
            }
            note(transaction, run, &counts())
        })
    }

    /// The records that the publisher refused, as far as they were kept, `limit` at most.
    ///
    /// # Errors
    /// [`MemoryError`] of reading.
    pub fn refused(&self, run: Uuid, limit: u32) -> Result<Vec<Refused>, MemoryError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT record, id, reason FROM refused WHERE run = ?1 ORDER BY record LIMIT ?2",
            )?;
            let mut rows = statement.query(params![run.to_string(), limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(Refused {
                    record: from_db(row.get(0)?)?,
                    id: row.get(1)?,
                    reason: row.get(2)?,
                });
            }
            Ok(found)
        })
    }

    /// The ids of the run's records so far, in their order.
    ///
    /// # Errors
    /// [`MemoryError`] of reading.
    pub fn ids(&self, run: Uuid) -> Result<Vec<UserId>, MemoryError> {
        self.ask(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT ids FROM ids WHERE run = ?1 ORDER BY page")?;
            let mut rows = statement.query([run.to_string()])?;
            let mut ids = Vec::new();
            while let Some(row) = rows.next()? {
                let blob: Vec<u8> = row.get(0)?;
                for bytes in blob.chunks(16) {
                    let id = Uuid::from_slice(bytes)
                        .ok()
                        .and_then(|id| UserId::try_from(id).ok());
                    ids.push(id.ok_or(MemoryError::Damaged("user id"))?);
                }
            }
            Ok(ids)
        })
    }
}

fn bytes_of(id: UserId) -> [u8; 16] {
    let uuid = Uuid::try_parse(id.text().as_str());
    uuid.expect("a user's id is a uuid").into_bytes()
}
