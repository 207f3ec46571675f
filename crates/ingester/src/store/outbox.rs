//! The pages of the run under way: kept as they come in, and until each of their records is accounted for. What a page
//! changes in the counts is written with it, so that a killed process counts nothing twice.

use std::ops::Range;

use model::UserId;
use rusqlite::params;
use uuid::Uuid;

use crate::run::range_set::RangeSet;
use crate::run::run_stats::Counts;
use crate::store::runs::write_counts;
use crate::store::{Store, StoreError, from_db, to_db};
use crate::transform::page::Page;
use crate::transform::records::Records;

/// A page that came in.
#[derive(Debug)]
pub struct FetchedPage<'p> {
    /// Its place in the run, from 0.
    pub page: u64,
    /// The run's number of its first record.
    pub first: u64,
    /// What it holds.
    pub content: &'p Page,
    /// Its records without those that the run had already.
    pub new_records: &'p [usize],
    /// How many of them are kept, and let go, together.
    pub chunk: usize,
}

/// A piece of a page, with records that nothing is known about.
#[derive(Debug)]
pub struct OutboxChunk {
    /// The page's place in the run, from 0.
    pub page: u64,
    /// The run's number of the page's first record.
    pub first: u64,
    /// The piece's place in the page.
    pub start: usize,
    /// Which records of the page are accounted for.
    pub accounted: RangeSet,
    /// The piece's records.
    pub records: Records,
}

impl OutboxChunk {
    /// Its places in the page.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.records.len()
    }
}

/// Records of which the publisher has said what became of them.
#[derive(Debug)]
pub struct Ack<'h> {
    /// The piece that they are part of.
    pub chunk: &'h OutboxChunk,
    /// Their places in the page.
    pub range: Range<usize>,
    /// Those among them that were refused.
    pub refused: &'h [RejectedRecord],
}

/// A record that the publisher refused, without anything personal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RejectedRecord {
    /// The run's number of the record.
    pub record: u64,
    /// The user's id.
    pub id: String,
    /// Field and rule.
    pub reason: String,
}

impl Store {
    /// Keeps a page that came in.
    ///
    /// # Errors
    /// [`StoreError::Use`].
    pub fn insert_page(
        &self,
        run: Uuid,
        page: &FetchedPage<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Result<(), StoreError> {
        let id = run.to_string();
        let (number, records) = (to_db(page.page), to_db(page.new_records.len() as u64));
        let known: Vec<_> = page.content.ids().collect();
        let ids: Vec<u8> = page
            .new_records
            .iter()
            .flat_map(|index| id_bytes(known[*index]))
            .collect();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO pages (run, page, first, records) VALUES (?1, ?2, ?3, ?4)",
                params![id, number, to_db(page.first), records],
            )?;
            transaction.execute(
                "INSERT INTO ids (run, page, ids) VALUES (?1, ?2, ?3)",
                params![id, number, ids],
            )?;
            for (index, chunk) in page.new_records.chunks(page.chunk).enumerate() {
                let (start, records) = (index * page.chunk, page.content.records(chunk));
                transaction
                    .prepare_cached("INSERT INTO pieces (run, page, start, lines) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![id, number, to_db(start as u64), records.lines()])?;
            }
            transaction.execute(
                "UPDATE runs SET pages_fetched = ?2, next_record = ?3 WHERE id = ?1",
                params![id, number + 1, to_db(page.first) + records],
            )?;
            write_counts(transaction, run, &counts())
        })
    }

    /// The first piece of the run that waits, of those behind the piece `after`: page and place in it.
    ///
    /// # Errors
    /// [`StoreError`] of reading.
    pub fn next_chunk(
        &self,
        run: Uuid,
        after: Option<(u64, usize)>,
    ) -> Result<Option<OutboxChunk>, StoreError> {
        let (page, start) = after.map_or((-1, 0), |(page, start)| (to_db(page), to_db(start as u64)));
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT page, first, start, accounted, lines FROM pages JOIN pieces USING (run, page) \
                 WHERE run = ?1 AND (page, start) > (?2, ?3) ORDER BY page, start LIMIT 1",
            )?;
            let mut rows = statement.query(params![run.to_string(), page, start])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some(OutboxChunk {
                page: from_db(row.get(0)?)?,
                first: from_db(row.get(1)?)?,
                start: length(row.get(2)?)?,
                accounted: parse_range_set(&row.get::<_, String>(3)?)?,
                records: Records::from_lines(row.get(4)?),
            }))
        })
    }

    /// How many pages of the run wait.
    ///
    /// # Errors
    /// [`StoreError`] of reading.
    pub fn pending_pages(&self, run: Uuid) -> Result<usize, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT count(DISTINCT page) FROM pieces WHERE run = ?1")?;
            let pages = statement.query_row([run.to_string()], |row| row.get(0))?;
            length(pages)
        })
    }

    /// The publisher has said what became of some records of a piece, which is let go with the last of them. Says
    /// whether that was the last of the page, too.
    ///
    /// # Errors
    /// [`StoreError`] of reading and writing.
    pub fn acknowledge(
        &self,
        run: Uuid,
        ack: &Ack<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Result<bool, StoreError> {
        let id = run.to_string();
        let page = to_db(ack.chunk.page);
        self.write(|transaction| {
            let known = transaction
                .prepare_cached("SELECT accounted, records FROM pages WHERE run = ?1 AND page = ?2")?
                .query_row(params![id, page], |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?))
                })?;
            let mut accounted = parse_range_set(&known.0)?;
            accounted.insert(ack.range.clone());
            transaction
                .prepare_cached("UPDATE pages SET accounted = ?3 WHERE run = ?1 AND page = ?2")?
                .execute(params![id, page, accounted.to_string()])?;
            if accounted.contains(&ack.chunk.range()) {
                transaction
                    .prepare_cached("DELETE FROM pieces WHERE run = ?1 AND page = ?2 AND start = ?3")?
                    .execute(params![id, page, to_db(ack.chunk.start as u64)])?;
            }
            for one in ack.refused {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO refused (run, record, id, reason) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![id, to_db(one.record), one.id, one.reason])?;
            }
            write_counts(transaction, run, &counts())?;
            Ok(accounted.contains(&(0..length(known.1)?)))
        })
    }

    /// The records that the publisher refused, as far as they were kept, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`] of reading.
    pub fn rejected_records(&self, run: Uuid, limit: u32) -> Result<Vec<RejectedRecord>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT record, id, reason FROM refused WHERE run = ?1 ORDER BY record LIMIT ?2",
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

    /// The ids of the run's records so far, in their order.
    ///
    /// # Errors
    /// [`StoreError`] of reading.
    pub fn user_ids(&self, run: Uuid) -> Result<Vec<UserId>, StoreError> {
        self.read(|connection| {
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
                    ids.push(id.ok_or(StoreError::Corrupt("user id"))?);
                }
            }
            Ok(ids)
        })
    }
}

fn parse_range_set(accounted: &str) -> Result<RangeSet, StoreError> {
    accounted
        .parse()
        .map_err(|_| StoreError::Corrupt("list of records"))
}

fn length(number: i64) -> Result<usize, StoreError> {
    usize::try_from(number).map_err(|_| StoreError::Corrupt("number"))
}

fn id_bytes(id: UserId) -> [u8; 16] {
    let uuid = Uuid::try_parse(id.text().as_str());
    uuid.expect("a user's id is a uuid").into_bytes()
}
