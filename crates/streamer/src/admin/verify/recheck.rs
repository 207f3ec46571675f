//! Compares users with a mismatch again. Most of them have an even later record, which a streamer wrote in the
//! meantime.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::admin::clients::{self, Clients};
use crate::admin::cluster_snapshot::ClusterSnapshot;
use crate::admin::error::CommandError;
use crate::admin::verify::row_reader::{ExpectedRow, RowReader};
use crate::dead_letters::dead_letter::PartitionOffset;
use crate::pipeline::write_timestamp::wall_millis;

/// Users with their latest record before the checkpoint and its expected row.
pub(super) type Mismatches = HashMap<Uuid, (PartitionOffset, ExpectedRow)>;

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
) -> Result<Vec<(Uuid, PartitionOffset, ExpectedRow)>, CommandError> {
    let ids: Vec<_> = mismatches.keys().copied().collect();
    let mut found = HashMap::new();
    reader
        .read_table(clients, &ids, |id, state| {
            found.insert(id, state);
        })
        .await?;
    // Requested after the rows were read, so the ends include everything written until then.
    let (_, ends) = clients.kafka(clients::watermarks).await?;
    let ranges = (0..).zip(ends.into_iter().map(|(beginning, end)| beginning..end));
    let mut explained = HashSet::new();
    let mut newest = HashMap::new();
    let mut scan = clients.scan(ranges)?;
    while let Some(records) = clients.next(&mut scan).await? {
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            let Some((id, expected_row)) = reader.read(&record).filter(|it| found.contains_key(&it.0)) else {
                continue;
            };
            let uncommitted = snapshot
                .partitions
                .iter()
                .find(|info| info.partition == partition)
                .is_none_or(|info| offset >= info.durable_range().end);
            if !uncommitted && !letters.contains(&PartitionOffset { partition, offset }) {
                newest.insert((id, partition), expected_row);
            } else if expected_row.accepts(found[&id], wall_millis()) {
                explained.insert(id);
            }
        }
    }
    explained.extend(
        newest
            .into_iter()
            .filter(|((id, _), expected_row)| expected_row.accepts(found[id], wall_millis()))
            .map(|((id, _), _)| id),
    );
    let mut different: Vec<_> = mismatches
        .iter()
        .filter(|(id, _)| !explained.contains(*id))
        .map(|(id, (position, expected))| (*id, *position, *expected))
        .collect();
    different.sort_by_key(|(_, position, _)| *position);
    Ok(different)
}
