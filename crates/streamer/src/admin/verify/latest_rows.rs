//! The rows that the log of one partition expects, and their comparison with the table. Pure.

use std::collections::{BTreeMap, HashSet};

use crate::admin::row_reader::{ExpectedRow, FoundRow, RowState};
use crate::pipeline::row::{RowKey, in_partition, partition_key};

/// The latest record of each row in one partition of the topic.
///
/// A deletion removes the rows of its key, and remains under the key of the table's partition.
#[derive(Debug, Default)]
pub(super) struct LatestRows(BTreeMap<RowKey, (i64, ExpectedRow)>);

/// A row that is not as expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mismatch {
    /// The offset of the record that decides; `None` if the log has no record of the row.
    pub(super) offset: Option<i64>,
    /// What it expects.
    pub(super) expected: ExpectedRow,
}

impl LatestRows {
    /// Adds the next record: of a row, or a deletion under the key of its partition.
    pub(super) fn add(&mut self, key: RowKey, offset: i64, expected: ExpectedRow) {
        if expected.state == RowState::Absent {
            let deleted: Vec<_> = in_partition(&self.0, &key).map(|(key, _)| key.clone()).collect();
            for key in deleted {
                self.0.remove(&key);
            }
        }
        self.0.insert(key, (offset, expected));
    }

    /// Returns a key of each partition of the table, in the order of the offsets of their oldest rows.
    pub(super) fn partitions(&self) -> Vec<&RowKey> {
        let mut keys: Vec<(i64, &RowKey)> = Vec::new();
        for (key, (offset, _)) in &self.0 {
            match keys.last_mut() {
                Some((oldest, last)) if partition_key(last.wire()) == partition_key(key.wire()) => {
                    *oldest = (*oldest).min(*offset);
                }
                _ => keys.push((*offset, key)),
            }
        }
        keys.sort_unstable_by_key(|(offset, _)| *offset);
        keys.into_iter().map(|(_, key)| key).collect()
    }
}

/// Compares the table with the latest rows.
#[derive(Debug)]
pub(super) struct TableComparison<'a> {
    latest: &'a LatestRows,
    /// The lowest write timestamp of a row that is as expected. Rows with higher ones were written by a record that is
    /// in the log, or by another writer.
    log_begins: Option<i64>,
    /// The rows that are not as expected.
    pub(super) mismatches: Vec<(RowKey, Mismatch)>,
}

impl<'a> TableComparison<'a> {
    pub(super) fn new(latest: &'a LatestRows) -> Self {
        Self {
            latest,
            log_begins: None,
            mismatches: Vec::new(),
        }
    }

    /// Compares some partitions with the rows that the table has at `now`, in milliseconds since 1970. They must come in
    /// the order of [`LatestRows::partitions`].
    ///
    /// A row that the log does not have is surplus if its key was deleted in the log, if it was written after the log
    /// begins, or not by a streamer. The records of other rows may have been deleted from the topic.
    pub(super) fn compare(&mut self, partitions: &[(&RowKey, Vec<FoundRow>)], now: i64) {
        let mut unknown = Vec::new();
        for (key, found) in partitions {
            let partition = key.partition();
            let deleted_at = self.latest.0.get(&partition).map(|(offset, _)| *offset);
            for row in found {
                match self.latest.0.get(&row.key) {
                    Some((_, expected)) if expected.accepts(row.state, now) => self.matched(row),
                    Some((offset, expected)) => self.mismatch(&row.key, Some(*offset), *expected),
                    None => unknown.push((row, deleted_at)),
                }
            }
            let found: HashSet<_> = found.iter().map(|row| &row.key).collect();
            for (key, (offset, expected)) in in_partition(&self.latest.0, &partition) {
                if !found.contains(key) && !expected.accepts(RowState::Absent, now) {
                    self.mismatch(key, Some(*offset), *expected);
                }
            }
        }
        for (row, deleted_at) in unknown {
            let is_later = |written| self.log_begins.is_some_and(|begins| written >= begins);
            if deleted_at.is_some() || row.written.is_none_or(is_later) {
                self.mismatch(&row.key, deleted_at, ExpectedRow::ABSENT);
            }
        }
    }

    fn matched(&mut self, row: &FoundRow) {
        let earliest = self.log_begins.into_iter().chain(row.written).min();
        self.log_begins = earliest;
    }

    fn mismatch(&mut self, key: &RowKey, offset: Option<i64>, expected: ExpectedRow) {
        self.mismatches.push((key.clone(), Mismatch { offset, expected }));
    }
}

#[cfg(test)]
mod tests {
    use model::Key;

    use super::*;

    /// A row of a table with a key and a clustering column.
    fn row(key: i64, cluster: u8) -> RowKey {
        RowKey::of_values([key.to_be_bytes().as_slice(), &[cluster]])
    }

    fn partition(key: i64) -> RowKey {
        RowKey::of_partition(&Key::Bigint(key))
    }

    fn expected(fingerprint: u64) -> ExpectedRow {
        ExpectedRow::row(fingerprint)
    }

    fn found(key: RowKey, fingerprint: u64, written: Option<i64>) -> FoundRow {
        FoundRow {
            key,
            state: RowState::Row(fingerprint),
            written,
        }
    }

    fn latest(records: impl IntoIterator<Item = (RowKey, ExpectedRow)>) -> LatestRows {
        let mut latest = LatestRows::default();
        for (offset, (key, expected)) in (0..).zip(records) {
            latest.add(key, offset, expected);
        }
        latest
    }

    /// Compares the table with the latest rows. Returns key and offset of each mismatch.
    fn mismatches(latest: &LatestRows, table: &[FoundRow]) -> Vec<(RowKey, Option<i64>)> {
        let keys = latest.partitions();
        let partitions: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let partition = key.partition();
                let rows = table.iter().filter(|row| row.key.is_in(&partition));
                (key, rows.cloned().collect())
            })
            .collect();
        let mut comparison = TableComparison::new(latest);
        comparison.compare(&partitions, 0);
        let found = comparison.mismatches.into_iter();
        found.map(|(key, mismatch)| (key, mismatch.offset)).collect()
    }

    #[test]
    fn changed_and_missing_rows_are_found() {
        let latest = latest([
            (row(1, 1), expected(1)),
            (row(1, 2), expected(2)),
            (row(2, 1), expected(3)),
            (row(1, 1), expected(4)),
        ]);
        let table = [
            found(row(1, 1), 4, Some(40)),
            found(row(1, 2), 2, Some(20)),
            found(row(2, 1), 3, Some(30)),
        ];
        assert_eq!(mismatches(&latest, &table), []);
        let changed = [found(row(1, 1), 1, Some(40)), table[2].clone()];
        assert_eq!(
            mismatches(&latest, &changed),
            [(row(1, 1), Some(3)), (row(1, 2), Some(1))]
        );
    }

    #[test]
    fn deletion_removes_all_rows_of_its_key_only() {
        let latest = latest([
            (row(1, 1), expected(1)),
            (row(1, 2), expected(2)),
            (row(2, 1), expected(3)),
            (partition(1), ExpectedRow::ABSENT),
            (row(1, 2), expected(4)),
        ]);
        let table = [found(row(1, 2), 4, Some(50)), found(row(2, 1), 3, Some(30))];
        assert_eq!(mismatches(&latest, &table), []);
        // A row that survived the deletion, however old.
        let survivor = found(row(1, 1), 1, Some(10));
        assert_eq!(
            mismatches(&latest, &[survivor, table[0].clone(), table[1].clone()]),
            [(row(1, 1), Some(3))]
        );
    }

    #[test]
    fn surplus_row_is_one_that_no_deleted_record_wrote() {
        let latest = latest([(row(1, 1), expected(1)), (row(2, 1), expected(2))]);
        let table = |written| {
            [
                found(row(1, 1), 1, Some(100)),
                found(row(2, 1), 2, Some(200)),
                found(row(2, 2), 9, written),
            ]
        };
        for (written, is_surplus) in [(None, true), (Some(150), true), (Some(99), false)] {
            let expected = is_surplus.then_some((row(2, 2), None));
            assert_eq!(
                mismatches(&latest, &table(written)),
                expected.into_iter().collect::<Vec<_>>(),
                "{written:?}"
            );
        }
    }

    #[test]
    fn deleted_row_without_clustering_columns_must_be_absent() {
        let latest = latest([
            (partition(1), expected(1)),
            (partition(1), ExpectedRow::ABSENT),
            (partition(2), expected(2)),
        ]);
        assert_eq!(mismatches(&latest, &[found(partition(2), 2, Some(1))]), []);
        assert_eq!(
            mismatches(&latest, &[found(partition(1), 1, Some(1))]),
            [(partition(1), Some(1)), (partition(2), Some(2))]
        );
    }
}
