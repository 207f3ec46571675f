//! Sequence numbers of an ended run's records by their outcome.

use crate::run::range_set::RangeSet;

/// Sequence numbers of a run's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunNumbers {
    /// How many were assigned, from 0.
    pub assigned: u64,
    /// Those of records that the publisher rejected.
    pub rejected: RangeSet<u64>,
    /// Those of records without an outcome. Such a record may be in the topic.
    pub undelivered: RangeSet<u64>,
}

impl RunNumbers {
    /// Returns the numbers of the records that the publisher accepted.
    #[must_use]
    pub fn accepted(&self) -> RangeSet<u64> {
        self.possible().difference(&self.undelivered)
    }

    /// Returns the numbers of the records that may be in the topic: those accepted or undelivered.
    #[must_use]
    pub fn possible(&self) -> RangeSet<u64> {
        RangeSet::from(0..self.assigned).difference(&self.rejected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_one_outcome() {
        let numbers = RunNumbers {
            assigned: 10,
            rejected: "2-4".parse().unwrap(),
            undelivered: "8-10".parse().unwrap(),
        };
        assert_eq!(numbers.accepted().to_string(), "0-2,4-8");
        assert_eq!(numbers.possible().to_string(), "0-2,4-10");
        assert_eq!(RunNumbers::default().accepted(), RangeSet::default());
    }
}
