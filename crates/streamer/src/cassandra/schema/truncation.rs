//! Notices that somebody truncates the table. Its rows are lost then, and the checkpoints cover them.
//!
//! The table keeps its id, so this is not a dropped table.

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::blob::Blob;
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;

/// Each node notes the time of a truncation itself, so the times of two nodes differ by some milliseconds.
const TOLERANCE: i64 = 5_000;

/// The last truncation that is known.
#[derive(Debug, Default)]
pub struct TruncationWatch {
    /// In milliseconds since 1970, 0 if there was none. `None` before the first result.
    known: Option<i64>,
}

impl TruncationWatch {
    /// Queries a node, and returns the time of a truncation that happened since the first call, once for each. In
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// The [`ErrorClass`] of the query.
    pub async fn check(&mut self, session: &Session, table_id: Uuid) -> Result<Option<i64>, ErrorClass> {
        let cql = format!("SELECT truncated_at[{table_id}] AS truncated_at FROM system.local");
        let rows = session.query_node(&cql, Vec::new()).await?;
        let entry = rows
            .first()
            .and_then(|row| row.by_name::<Blob>("truncated_at").ok().flatten());
        Ok(self.observe(entry.and_then(|entry| time(&entry.into_vec()))))
    }

    fn observe(&mut self, found: Option<i64>) -> Option<i64> {
        let found = found.unwrap_or(0);
        let known = self.known.get_or_insert(found);
        let is_new = found > known.saturating_add(TOLERANCE);
        *known = found.max(*known);
        is_new.then_some(found)
    }
}

/// Parses an entry: the position in the commit log, and the time in the last eight bytes.
fn time(entry: &[u8]) -> Option<i64> {
    entry.last_chunk().map(|bytes| i64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_is_reported_once_and_earlier_ones_never() {
        let mut watch = TruncationWatch::default();
        for (found, reported) in [
            (Some(1_000_000), None),
            (None, None),
            (Some(1_000_000), None),
            (Some(1_000_000 + TOLERANCE), None),
            (Some(2_000_000), Some(2_000_000)),
            (Some(2_000_003), None),
            (Some(1_000_000), None),
        ] {
            assert_eq!(watch.observe(found), reported, "{found:?}");
        }
    }

    #[test]
    fn time_is_at_the_end_of_an_entry() {
        let entry = [&[7; 12][..], &1_800_000_000_000_i64.to_be_bytes()].concat();
        assert_eq!(time(&entry), Some(1_800_000_000_000));
        assert_eq!(time(&[0; 7]), None);
    }
}
