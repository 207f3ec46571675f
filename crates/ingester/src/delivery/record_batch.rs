//! The records of one request. Borrows them from a chunk of the outbox; no HTTP.

use std::ops::Range;

use bytes::Bytes;

use crate::delivery::batching;
use crate::transform::encoded_records::EncodedRecords;

/// Consecutive records of a run.
#[derive(Clone, Debug)]
pub struct RecordBatch<'p> {
    page: &'p EncodedRecords,
    range: Range<usize>,
    first: u64,
}

impl<'p> RecordBatch<'p> {
    /// Selects `range` of `page`. `first` is the sequence number of its first record in the run, counted from 0.
    #[must_use]
    pub fn new(page: &'p EncodedRecords, range: Range<usize>, first: u64) -> Self {
        Self { page, range, first }
    }

    /// Returns the number of records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.range.len()
    }

    /// Returns the sequence number of the first record.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns the canonical JSON of the record at `index` in the batch.
    #[must_use]
    pub fn record(&self, index: u64) -> Option<&'p [u8]> {
        let index = self.range.clone().nth(usize::try_from(index).ok()?)?;
        Some(self.page.record(index))
    }

    /// Returns the records as a JSON array.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let records = self.range.clone().map(|index| self.page.record(index));
        let mut body = Vec::with_capacity(records.clone().map(|record| record.len() + 1).sum::<usize>() + 2);
        for record in records {
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(record);
        }
        if body.is_empty() {
            body.push(b'[');
        }
        body.push(b']');
        body.into()
    }

    /// Returns the halves in order, or `None` for a single record.
    #[must_use]
    pub fn halves(&self) -> Option<[Self; 2]> {
        let [front, back] = batching::halves(&self.range)?;
        let middle = self.first + u64::try_from(front.len()).expect("a batch has at most 1,000 records");
        Some([
            Self::new(self.page, front, self.first),
            Self::new(self.page, back, middle),
        ])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use model::Contract;
    use serde_json::Value;
    use testkit::people::Person;
    use uuid::Uuid;

    use super::*;
    use crate::transform::page::Page;

    /// Returns a page of `count` records with different ids.
    pub(crate) fn page_of(count: u128) -> Page {
        page_from(1, count)
    }

    /// Returns a page of `count` records whose ids count from `first`.
    pub(crate) fn page_from(first: u128, count: u128) -> Page {
        let (contract, mut page) = (Contract::user(), Page::default());
        for number in first..first + count {
            let mut person = Person::new(0, 0);
            person.id = Uuid::from_u128(number);
            "Zoë".clone_into(&mut person.texts[0]);
            person.instants[0] = -265_344_890_877; // 1961-08-04
            page.push(Ok(contract.parse_strict(&person.json()).unwrap()));
        }
        page
    }

    /// Returns the records of such a page.
    pub(crate) fn records_of(count: usize) -> EncodedRecords {
        let indices: Vec<_> = (0..count).collect();
        page_of(count as u128).records(&indices)
    }

    fn ids(batch: &RecordBatch<'_>) -> Vec<u128> {
        let records: Vec<Value> = serde_json::from_slice(&batch.body()).unwrap();
        let id = |record: &Value| record["id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128();
        records.iter().map(id).collect()
    }

    #[test]
    fn body_is_a_json_array_of_the_records() {
        let page = page_of(5).records(&[0, 2, 4]);
        assert_eq!(ids(&RecordBatch::new(&page, 0..3, 7)), [1, 3, 5]);
        assert_eq!(ids(&RecordBatch::new(&page, 1..2, 7)), [3]);
        assert!(ids(&RecordBatch::new(&page, 0..0, 0)).is_empty());
    }

    #[test]
    fn halves_keep_every_record_and_its_number() {
        let page = records_of(5);
        let [front, back] = RecordBatch::new(&page, 0..5, 10).halves().unwrap();
        assert_eq!((ids(&front), front.first()), (vec![1, 2], 10));
        assert_eq!((ids(&back), back.first()), (vec![3, 4, 5], 12));
        let [front, back] = back.halves().unwrap();
        assert_eq!((ids(&front), front.first()), (vec![3], 12));
        assert_eq!((ids(&back), back.first()), (vec![4, 5], 13));
        assert!(RecordBatch::new(&page, 3..4, 0).halves().is_none());
    }
}
