//! Records encoded one behind the other, a line each: what waits in the outbox. Canonical JSON holds no line break, so
//! the lines are the records. Knows neither pages of the API nor batches.

use std::ops::Range;

/// Records, in the order of their numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Records {
    lines: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Records {
    /// Adds one record.
    pub fn push(&mut self, json: &[u8]) {
        let start = self.lines.len();
        self.lines.extend_from_slice(json);
        self.places.push(start..self.lines.len());
        self.lines.push(b'\n');
    }

    /// The records that [`Records::lines`] gave.
    #[must_use]
    pub fn from_lines(lines: Vec<u8>) -> Self {
        let mut places = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &lines) {
            places.push(start..end);
            start = end + 1;
        }
        Self { lines, places }
    }

    /// All of them, each with a line break behind it.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The canonical JSON of the record at `index`, which must be one.
    #[must_use]
    pub fn record(&self, index: usize) -> &[u8] {
        &self.lines[self.places[index].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::record_batch::tests::page_of;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let records = page_of(3).records(&[0, 2]);
        assert_eq!(records.len(), 2);
        let again = Records::from_lines(records.lines().to_vec());
        assert_eq!(again, records);
        assert!(again.record(1).starts_with(b"{") && again.record(1).ends_with(b"}"));
        assert!(Records::from_lines(vec![]).is_empty());
    }
}
