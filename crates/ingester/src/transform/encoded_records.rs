//! Encoded records, one per line, as the outbox stores them. Canonical JSON contains no line break.

use std::ops::Range;

/// Encoded records in sequence order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EncodedRecords {
    lines: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl EncodedRecords {
    /// Adds an encoded record.
    pub fn push(&mut self, json: &[u8]) {
        let start = self.lines.len();
        self.lines.extend_from_slice(json);
        self.ranges.push(start..self.lines.len());
        self.lines.push(b'\n');
    }

    /// Splits the output of [`EncodedRecords::lines`].
    #[must_use]
    pub fn from_lines(lines: Vec<u8>) -> Self {
        let mut ranges = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &lines) {
            ranges.push(start..end);
            start = end + 1;
        }
        Self { lines, ranges }
    }

    /// Returns all records, each followed by a line break.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Returns the number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the canonical JSON of the record at `index`, which must exist.
    #[must_use]
    pub fn record(&self, index: usize) -> &[u8] {
        &self.lines[self.ranges[index].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::record_batch::tests::page_of;

    #[test]
    fn lines_round_trip() {
        let records = page_of(3).records(&[0, 2]);
        assert_eq!(records.len(), 2);
        let parsed = EncodedRecords::from_lines(records.lines().to_vec());
        assert_eq!(parsed, records);
        assert!(parsed.record(1).starts_with(b"{") && parsed.record(1).ends_with(b"}"));
        assert!(EncodedRecords::from_lines(vec![]).is_empty());
    }
}
