//! Which rows of a micro-batch are pending, acknowledged or rejected, and by which session.

use std::collections::HashSet;
use std::sync::Arc;

use crate::cassandra::session::Session;
use crate::cassandra::writer::groups::RowIndices;

/// A row whose values the server rejects.
#[derive(Debug, PartialEq, Eq)]
pub struct RejectedRow {
    /// The index among the rows to write.
    pub index: usize,
    /// The server's message.
    pub error: String,
}

/// What became of the rows to write.
#[derive(Debug, PartialEq, Eq)]
pub struct WrittenRows {
    /// When each row was acknowledged, in microseconds since 1970; 0 for a rejected one.
    pub acknowledged: Vec<i64>,
    /// The rejected rows.
    pub rejected: Vec<RejectedRow>,
}

/// The state of the rows of one micro-batch.
#[derive(Default)]
pub(super) struct WriteProgress {
    /// The rows to send.
    pub pending: RowIndices,
    /// The rows to send apart from others, because the server refuses one of each.
    pub apart: Vec<RowIndices>,
    acknowledged: Vec<(Arc<Session>, RowIndices, i64)>,
    /// The table accepts another row, so these are at fault if they are refused once more.
    pub suspected: HashSet<usize>,
    rejected: Vec<(Arc<Session>, RejectedRow)>,
}

impl WriteProgress {
    /// All of `rows` rows are pending.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            pending: (0..).take(rows).collect(),
            ..Self::default()
        }
    }

    /// Whether nothing is to be sent.
    pub(super) fn is_finished(&self) -> bool {
        self.pending.is_empty() && self.apart.is_empty()
    }

    /// `now` in microseconds since 1970.
    pub(super) fn acknowledge(&mut self, session: Arc<Session>, rows: RowIndices, now: i64) {
        self.acknowledged.push((session, rows, now));
    }

    pub(super) fn reject(&mut self, session: Arc<Session>, row: RejectedRow) {
        self.rejected.push((session, row));
    }

    /// Makes the rows pending to which a poisoned session has replied: the reply may belong to another row. Returns whether
    /// there is such a session.
    pub(super) fn distrust_poisoned(&mut self) -> bool {
        let mut found = false;
        let pending = &mut self.pending;
        self.acknowledged.retain_mut(|(session, rows, _)| {
            let is_poisoned = session.is_poisoned();
            if is_poisoned {
                pending.append(rows);
            }
            found |= is_poisoned;
            !is_poisoned
        });
        self.rejected.retain(|(session, row)| {
            let is_poisoned = session.is_poisoned();
            if is_poisoned {
                pending.push(u32::try_from(row.index).expect("the index was a u32"));
            }
            found |= is_poisoned;
            !is_poisoned
        });
        if found {
            self.suspected.clear();
        }
        found
    }

    /// What became of the rows. `rows`: how many there were.
    pub(super) fn into_written(self, rows: usize) -> WrittenRows {
        let mut acknowledged = vec![0; rows];
        for (_, group, at) in self.acknowledged {
            for row in group {
                acknowledged[row as usize] = at;
            }
        }
        WrittenRows {
            acknowledged,
            rejected: self.rejected.into_iter().map(|(_, row)| row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(index: usize) -> RejectedRow {
        let error = "invalid".to_owned();
        RejectedRow { index, error }
    }

    #[test]
    fn replies_of_a_poisoned_session_do_not_count() {
        let (whole, lost) = (Session::without_connections(), Session::without_connections());
        let mut progress = WriteProgress::new(6);
        assert_eq!(std::mem::take(&mut progress.pending), [0, 1, 2, 3, 4, 5]);
        progress.acknowledge(Arc::clone(&whole), vec![0, 1], 10);
        progress.acknowledge(Arc::clone(&lost), vec![2, 3], 20);
        progress.reject(Arc::clone(&whole), rejected(4));
        progress.reject(Arc::clone(&lost), rejected(5));
        progress.suspected.insert(5);
        assert!(!progress.distrust_poisoned());
        assert!(progress.is_finished());

        lost.poison();
        assert!(progress.distrust_poisoned());
        assert_eq!(progress.pending, [2, 3, 5]);
        assert!(progress.suspected.is_empty());
        // Only once.
        assert!(!progress.distrust_poisoned());
        progress.acknowledge(whole, vec![2, 3, 5], 30);
        let expected = WrittenRows {
            acknowledged: vec![10, 10, 30, 30, 0, 30],
            rejected: vec![rejected(4)],
        };
        assert_eq!(progress.into_written(6), expected);
    }
}
