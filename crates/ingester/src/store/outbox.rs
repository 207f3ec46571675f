//! Outbox of the active run: stores fetched pages until each of their records has an outcome. Writes counts in the same
//! transaction, so that a killed process counts nothing twice.

use std::ops::Range;
use std::str::FromStr;

use jiff::Timestamp;
use model::Key;
use rusqlite::params;
use uuid::Uuid;

use crate::run::range_set::RangeSet;
use crate::run::run_stats::RunCounts;
use crate::store::run_rows::write_counts;
use crate::store::{AccessError, Store, StoreError, from_db, length, to_db};
use crate::transform::encoded_records::EncodedRecords;
use crate::transform::page::Page;

/// Maximum number of rejected records stored per run; further ones are only counted.
pub const MAX_REJECTED_RECORDS: u32 = 1_000;

/// A fetched page to store.
#[derive(Debug)]
pub struct FetchedPage<'p> {
    /// Index of the page in the run, from 0.
    pub page: u64,
    /// Sequence number of its first record in the run.
    pub first: u64,
    /// The users of the page.
    pub content: &'p Page,
    /// Indices of its records that are no duplicates.
    pub new_records: &'p [usize],
    /// Number of records stored, and deleted, together.
    pub chunk_size: usize,
}

/// A part of a page with records that have no outcome yet.
#[derive(Debug)]
pub struct OutboxChunk {
    /// Index of the page in the run, from 0.
    pub page: u64,
    /// Sequence number of the page's first record in the run.
    pub first: u64,
    /// Index of the chunk's first record in the page.
    pub start: usize,
    /// Records of the page that have an outcome.
    pub acknowledged: RangeSet,
    /// When the reply with the page arrived. Unknown for a page that an earlier version has stored.
    pub fetched_at: Option<Timestamp>,
    /// The records of the chunk.
    pub records: EncodedRecords,
}

impl OutboxChunk {
    /// Returns the indices of its records in the page.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.records.len()
    }
}

/// Records that have an outcome.
#[derive(Debug)]
pub struct Ack<'h> {
    /// The chunk that contains them.
    pub chunk: &'h OutboxChunk,
    /// Their indices in the page.
    pub range: Range<usize>,
    /// Indices in the page of the rejected ones.
    pub rejected: RangeSet,
    /// Details of rejected ones.
    pub rejected_records: &'h [RejectedRecord],
}

/// A rejected record, without personal data.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RejectedRecord {
    /// Sequence number of the record in the run.
    pub record: u64,
    /// Id of the user.
    pub id: String,
    /// Field and rule of each error, separated by semicolons.
    pub reason: String,
}

impl Store {
    /// Stores a fetched page.
    ///
    /// # Errors
    /// Returns [`StoreError::Access`].
    pub fn insert_page(
        &self,
        run: Uuid,
        page: &FetchedPage<'_>,
        counts: impl FnOnce() -> RunCounts,
    ) -> Result<(), StoreError> {
        let id = run.to_string();
        let (number, records) = (to_db(page.page), to_db(page.new_records.len() as u64));
        let fetched_at = page.content.fetched_at().map(Timestamp::as_microsecond);
        let page_ids: Vec<_> = page.content.ids().collect();
        let ids: Vec<u8> = page
            .new_records
            .iter()
            .flat_map(|index| page_ids[*index].cql().into_owned())
            .collect();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO pages (run, page, first, records, rejected, fetched_at_us) VALUES (?1, ?2, ?3, ?4, '', ?5)",
                params![id, number, to_db(page.first), records, fetched_at],
            )?;
            transaction.execute(
                "INSERT INTO ids (run, page, ids) VALUES (?1, ?2, ?3)",
                params![id, number, ids],
            )?;
            for (index, chunk) in page.new_records.chunks(page.chunk_size).enumerate() {
                let (start, records) = (index * page.chunk_size, page.content.records(chunk));
                transaction
                    .prepare_cached("INSERT INTO batches (run, page, start, lines) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![id, number, to_db(start as u64), records.lines()])?;
            }
            transaction.execute(
                "UPDATE runs SET pages_fetched = ?2, next_record = ?3 WHERE id = ?1",
                params![id, number + 1, to_db(page.first) + records],
            )?;
            write_counts(transaction, run, &counts())
        })
    }

    /// Returns the first stored chunk of the run after `after`, given as page and start.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn next_chunk(
        &self,
        run: Uuid,
        after: Option<(u64, usize)>,
    ) -> Result<Option<OutboxChunk>, StoreError> {
        let (page, start) = after.map_or((-1, 0), |(page, start)| (to_db(page), to_db(start as u64)));
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT page, first, start, acknowledged, lines, fetched_at_us FROM pages JOIN batches USING (run, page) \
                 WHERE run = ?1 AND (page, start) > (?2, ?3) ORDER BY page, start LIMIT 1",
            )?;
            let mut rows = statement.query(params![run.to_string(), page, start])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some(OutboxChunk {
                page: from_db(row.get(0)?)?,
                first: from_db(row.get(1)?)?,
                start: length(row.get(2)?)?,
                acknowledged: parse_range_set(&row.get::<_, String>(3)?)?,
                records: EncodedRecords::from_lines(row.get(4)?),
                fetched_at: row.get::<_, Option<i64>>(5)?.map(microseconds).transpose()?,
            }))
        })
    }

    /// Returns the number of pages in the outbox.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn pending_pages(&self, run: Uuid) -> Result<usize, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT count(DISTINCT page) FROM batches WHERE run = ?1")?;
            let pages = statement.query_row([run.to_string()], |row| row.get(0))?;
            length(pages)
        })
    }

    /// Stores the outcome of records. Deletes their chunk when it is complete. Returns whether the page is complete.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading or writing fails.
    pub fn acknowledge(
        &self,
        run: Uuid,
        ack: &Ack<'_>,
        counts: impl FnOnce() -> RunCounts,
    ) -> Result<bool, StoreError> {
        let id = run.to_string();
        let page = to_db(ack.chunk.page);
        self.write(|transaction| {
            let stored = transaction
                .prepare_cached("SELECT acknowledged, records, rejected FROM pages WHERE run = ?1 AND page = ?2")?
                .query_row(params![id, page], |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?))
                })?;
            let mut acknowledged: RangeSet = parse_range_set(&stored.0)?;
            acknowledged.insert(ack.range.clone());
            let rejected = stored.2.map(|stored| -> Result<_, AccessError> {
                let rejected: RangeSet = parse_range_set(&stored)?;
                Ok(rejected.union(&ack.rejected).to_string())
            });
            transaction
                .prepare_cached("UPDATE pages SET acknowledged = ?3, rejected = ?4 WHERE run = ?1 AND page = ?2")?
                .execute(params![id, page, acknowledged.to_string(), rejected.transpose()?])?;
            if acknowledged.contains(&ack.chunk.range()) {
                transaction
                    .prepare_cached("DELETE FROM batches WHERE run = ?1 AND page = ?2 AND start = ?3")?
                    .execute(params![id, page, to_db(ack.chunk.start as u64)])?;
            }
            for rejected in ack.rejected_records {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO rejected_records (run, record, id, reason) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![id, to_db(rejected.record), rejected.id, rejected.reason])?;
            }
            write_counts(transaction, run, &counts())?;
            Ok(acknowledged.contains(&(0..length(stored.1)?)))
        })
    }

    /// Returns up to `limit` stored rejected records of the run.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn rejected_records(&self, run: Uuid, limit: u32) -> Result<Vec<RejectedRecord>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT record, id, reason FROM rejected_records WHERE run = ?1 ORDER BY record LIMIT ?2",
            )?;
            let mut rows = statement.query(params![run.to_string(), limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(RejectedRecord {
                    record: from_db(row.get(0)?)?,
                    id: row.get(1)?,
                    reason: row.get(2)?,
                });
            }
            Ok(found)
        })
    }

    /// Returns the ids of the run's records so far, in order.
    ///
    /// # Errors
    /// Returns a [`StoreError`] when reading fails.
    pub fn user_ids(&self, run: Uuid) -> Result<Vec<Key>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT ids FROM ids WHERE run = ?1 ORDER BY page")?;
            let mut rows = statement.query([run.to_string()])?;
            let mut ids = Vec::new();
            while let Some(row) = rows.next()? {
                let blob: Vec<u8> = row.get(0)?;
                for bytes in blob.chunks(16) {
                    let id = Uuid::from_slice(bytes).map_err(|_| AccessError::Corrupt("user id"))?;
                    ids.push(Key::Uuid(id));
                }
            }
            Ok(ids)
        })
    }
}

pub(super) fn parse_range_set<T: Copy + Ord + FromStr>(text: &str) -> Result<RangeSet<T>, AccessError> {
    text.parse().map_err(|_| AccessError::Corrupt("record ranges"))
}

fn microseconds(at: i64) -> Result<Timestamp, AccessError> {
    Timestamp::from_microsecond(at).map_err(|_| AccessError::Corrupt("time"))
}
