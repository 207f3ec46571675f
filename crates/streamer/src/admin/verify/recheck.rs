//! Compares rows with a mismatch again. Most of them have an even later record, which a streamer wrote in the meantime.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::admin::clients::{self, Clients};
use crate::admin::cluster_snapshot::ClusterSnapshot;
use crate::admin::error::CommandError;
use crate::admin::row_reader::{ExpectedRow, RowReader, RowState};
use crate::dead_letters::dead_letter::PartitionOffset;
use crate::pipeline::row::{RowKey, in_partition};
use crate::pipeline::write_timestamp::wall_millis;

/// Rows with their latest record before the checkpoint and what it expects. A surplus row has no record.
pub(super) type Mismatches = BTreeMap<RowKey, (Option<PartitionOffset>, ExpectedRow)>;

/// A mismatch that remains.
pub(super) type Different = (RowKey, Option<PartitionOffset>, ExpectedRow);

/// Returns the mismatches whose row no record explains, in the order of the log.
///
/// The row may come from any record after the checkpoint, because a streamer may be writing. It may come from the
/// latest record of any partition, because there is no order between partitions. It may come from a redriven dead
/// letter.
///
/// # Errors
/// When a server rejects a request, or does not respond in time.
pub(super) async fn recheck(
    clients: &Clients,
    reader: &RowReader,
    snapshot: &ClusterSnapshot,
    letters: &HashSet<PartitionOffset>,
    mismatches: &Mismatches,
) -> Result<Vec<Different>, CommandError> {
    let found = read_again(clients, reader, mismatches).await?;
    // Requested after the rows were read, so the ends include everything written until then.
    let (_, ends) = clients.kafka(clients::watermarks).await?;
    let ranges = (0..).zip(ends.into_iter().map(|(beginning, end)| beginning..end));
    let mut explained = HashSet::new();
    let mut newest = HashMap::new();
    let mut scan = clients.scan(ranges)?;
    while let Some(records) = clients.next(&mut scan).await? {
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            let Some((key, expected)) = reader.read(&record) else {
                continue;
            };
            let uncommitted = snapshot
                .partitions
                .iter()
                .find(|info| info.partition == partition)
                .is_none_or(|info| offset >= info.durable_range().end);
            let decides = !uncommitted && !letters.contains(&PartitionOffset { partition, offset });
            // A deletion is about all rows of its key.
            for (row, state) in in_partition(&found, &key) {
                if decides {
                    newest.insert((row, partition), expected);
                } else if expected.accepts(*state, wall_millis()) {
                    explained.insert(row);
                }
            }
        }
    }
    let accepted = |(row, expected): (&RowKey, ExpectedRow)| expected.accepts(found[row], wall_millis());
    let by_record = newest.into_iter().map(|((row, _), expected)| (row, expected));
    explained.extend(by_record.filter(|it| accepted(*it)).map(|(row, _)| row));
    // A surplus row that has expired in the meantime.
    let surplus = mismatches.iter().filter(|(_, (position, _))| position.is_none());
    let surplus = surplus.map(|(row, (_, expected))| (row, *expected));
    explained.extend(surplus.filter(|it| accepted(*it)).map(|(row, _)| row));
    let mut different: Vec<_> = mismatches
        .iter()
        .filter(|(row, _)| !explained.contains(*row))
        .map(|(row, (position, expected))| (row.clone(), *position, *expected))
        .collect();
    different.sort_by_key(|(_, position, _)| (position.is_none(), *position));
    Ok(different)
}

/// Returns the present state of the rows.
async fn read_again(
    clients: &Clients,
    reader: &RowReader,
    mismatches: &Mismatches,
) -> Result<BTreeMap<RowKey, RowState>, CommandError> {
    let rows = mismatches.keys().map(|key| (key.clone(), RowState::Absent));
    let mut found: BTreeMap<_, _> = rows.collect();
    let partitions: HashSet<_> = mismatches.keys().map(RowKey::partition).collect();
    let partitions: Vec<_> = partitions.iter().collect();
    reader
        .read_table(clients, &partitions, |partitions| {
            for row in partitions.iter().flat_map(|(_, rows)| rows) {
                if let Some(state) = found.get_mut(&row.key) {
                    *state = row.state;
                }
            }
        })
        .await?;
    Ok(found)
}
