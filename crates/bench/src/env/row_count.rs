//! Counts the rows of a sink's table: cheaply while it writes, exactly afterwards.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use testkit::cassandra_client::CassandraClientError;

use super::{BenchEnv, RowCounter, SLICE};
use crate::sinks::running::RunningSink;
use crate::sinks::target::Target;

/// For the slowest sink and the largest backlog.
pub const TIMEOUT: Duration = Duration::from_secs(1_800);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl BenchEnv {
    /// Counts rows by checkpoints on any number of nodes, so that one node and several compare.
    #[must_use]
    pub fn counting_checkpoints(self) -> Self {
        Self {
            row_counter: RowCounter::Checkpoints,
            ..self
        }
    }

    /// Waits until the table has this many rows. Returns the count.
    pub async fn wait_for_rows(&self, target: &Target, sink: &RunningSink, rows: u64) -> Result<u64> {
        let started = Instant::now();
        loop {
            let stored = match self.row_counter {
                RowCounter::Server => self.server_count(target).await?,
                RowCounter::Checkpoints => self.checkpoint_sum(target).await?,
            };
            if stored >= rows {
                return Ok(stored);
            }
            sink.check()?;
            if started.elapsed() > TIMEOUT {
                bail!(
                    "{stored} of {rows} rows after {} s:\n{}",
                    TIMEOUT.as_secs(),
                    sink.last_lines(20)
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Counts the rows of the table exactly. Slow: run it while no clock runs.
    pub async fn verify_row_count(&self, target: &Target, expected: u64) -> Result<()> {
        let mut stored = 0;
        for (after, until) in token_ranges(expected / SLICE + 1) {
            let query = format!(
                "SELECT COUNT(*) AS row_count FROM {} WHERE token(id) > {after} AND token(id) <= {until}",
                target.full_table()
            );
            let rows = self.cassandra.run(&query).await?;
            stored += rows.first().and_then(|row| count(row, "row_count")).unwrap_or(0);
        }
        ensure!(
            stored == expected,
            "{} has {stored} rows; its topic has {expected} records",
            target.full_table()
        );
        Ok(())
    }

    /// Reads the server's write count, without a scan. A row that is written twice counts twice.
    async fn server_count(&self, target: &Target) -> Result<u64> {
        let query = format!(
            "SELECT count FROM system_views.local_write_latency WHERE keyspace_name = '{}' AND table_name = '{}'",
            target.keyspace, target.table
        );
        let rows = self.cassandra.run(&query).await?;
        Ok(rows.iter().filter_map(|row| count(row, "count")).sum())
    }

    /// Sums the streamer's checkpoints: with several nodes, no node needs to have every row.
    async fn checkpoint_sum(&self, target: &Target) -> Result<u64> {
        let Target {
            keyspace,
            group,
            topic,
            ..
        } = target;
        let exists = format!(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}' AND table_name = \
             'stream_checkpoints'"
        );
        if self.cassandra.run(&exists).await?.is_empty() {
            return Ok(0);
        }
        let query = format!(
            "SELECT next_offset FROM {keyspace}.stream_checkpoints WHERE group_id = '{group}' AND topic = '{topic}'"
        );
        let rows = match self.cassandra.run(&query).await {
            // A node may not know the new table yet. The caller has its own timeout.
            Err(CassandraClientError::Driver { .. }) => Vec::new(),
            rows => rows?,
        };
        Ok(rows.iter().filter_map(|row| count(row, "next_offset")).sum())
    }
}

/// Splits the token ring into ranges, exclusive of their start, so that no count exceeds the server's read timeout. No
/// key has the minimum token.
fn token_ranges(count: u64) -> impl Iterator<Item = (i64, i64)> {
    let width = i128::from(u64::MAX) / i128::from(count.max(1));
    let start = move |range: u64| {
        let token = i128::from(i64::MIN) + width * i128::from(range);
        i64::try_from(token).unwrap_or(i64::MAX)
    };
    (0..count).map(move |range| {
        let last = range + 1 == count;
        (start(range), if last { i64::MAX } else { start(range + 1) })
    })
}

fn count(row: &Row, column: &str) -> Option<u64> {
    let count: Option<i64> = row.by_name(column).ok().flatten();
    u64::try_from(count?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_ranges_cover_every_token_once() {
        for count in [1, 2, 7, 500] {
            let all: Vec<_> = token_ranges(count).collect();
            assert_eq!(all.len() as u64, count);
            assert_eq!((all[0].0, all[all.len() - 1].1), (i64::MIN, i64::MAX));
            assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert!(all.iter().all(|(after, until)| after < until));
        }
    }
}
