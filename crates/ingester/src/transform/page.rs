//! A fetched page: its encoded records and the errors of users that can't be mapped. Keeps no part of the reply, which
//! halves the memory of a queued page.

use std::ops::Range;

use jiff::Timestamp;
use model::{Key, Record};

use crate::transform::encoded_records::EncodedRecords;
use crate::transform::mapping::MappingError;
use crate::transform::suspicion::Suspicion;

/// The users of one valid reply.
#[derive(Debug, Default)]
pub struct Page {
    json: Vec<u8>,
    records: Vec<PageRecord>,
    errors: Vec<MappingError>,
    suspicions: Vec<Suspicion>,
    fetched_at: Option<Timestamp>,
}

#[derive(Debug)]
struct PageRecord {
    id: Key,
    json: Range<usize>,
}

impl Page {
    /// Adds a mapped user, or the error of its mapping.
    pub fn push(&mut self, mapped: Result<Record<'_>, MappingError>) {
        match mapped {
            Ok(record) => {
                let start = self.json.len();
                record.write_json(&mut self.json);
                let (id, json) = (record.key(), start..self.json.len());
                self.records.push(PageRecord { id, json });
            }
            Err(error) => self.errors.push(error),
        }
    }

    /// Sets when the reply arrived.
    #[must_use]
    pub fn with_fetched_at(mut self, at: Timestamp) -> Self {
        self.fetched_at = Some(at);
        self
    }

    /// Returns when the reply arrived, if that is known.
    #[must_use]
    pub fn fetched_at(&self) -> Option<Timestamp> {
        self.fetched_at
    }

    /// Marks the record that was pushed last.
    pub fn mark_suspicious(&mut self, suspicion: Suspicion) {
        self.suspicions.push(suspicion);
    }

    /// Returns why records are suspicious, once for each of them.
    #[must_use]
    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions
    }

    /// Returns the number of users in the reply, mapped or not.
    #[must_use]
    pub fn users(&self) -> usize {
        self.records.len() + self.errors.len()
    }

    /// Returns the ids of the records, in the order of the reply.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.records.iter().map(|record| &record.id)
    }

    /// Returns the records at `indices`, which must exist.
    #[must_use]
    pub fn records(&self, indices: &[usize]) -> EncodedRecords {
        let mut records = EncodedRecords::default();
        for index in indices {
            records.push(&self.json[self.records[*index].json.clone()]);
        }
        records
    }

    /// Returns the errors of users that can't be mapped.
    #[must_use]
    pub fn mapping_errors(&self) -> &[MappingError] {
        &self.errors
    }
}
