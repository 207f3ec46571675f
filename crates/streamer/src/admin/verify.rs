//! `streamer verify`: reads the topic up to the checkpoints and compares each user's latest record with the table.
//!
//! It changes nothing and may run next to a streamer. It compares all columns except `ingested_at`, by 64-bit
//! fingerprints, so that a partition of millions of users fits into memory. Rows whose records are deleted from the
//! topic are not compared.

mod recheck;
mod row_reader;

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::admin::clients::Clients;
use crate::admin::cluster_snapshot::ClusterSnapshot;
use crate::admin::dead_letters;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::admin::verify::row_reader::{ExpectedRow, RowReader};
use crate::checkpoint::PartitionInfo;
use crate::dead_letters::dead_letter::PartitionOffset;
use crate::pipeline::write_timestamp::wall_millis;

/// # Errors
/// When a server rejects a request or does not respond in time, or when rows differ.
pub(super) async fn verify(clients: &Clients) -> Result<(), CommandError> {
    let Some(table) = clients.table().await? else {
        return Err(clients.no_table());
    };
    let reader = RowReader::new(clients, table.types);
    let snapshot = ClusterSnapshot::fetch(clients).await?;
    let letters = letters(clients, snapshot.topic.id).await?;
    let mut summary = VerifySummary::default();
    let mut mismatches = HashMap::new();
    for info in &snapshot.partitions {
        let newest = newest(clients, &reader, info, &letters, &mut summary).await?;
        let ids: Vec<_> = newest.keys().copied().collect();
        reader
            .read_table(clients, &ids, |id, state| {
                let (offset, expected) = newest[&id];
                if !expected.accepts(state, wall_millis()) {
                    let partition = info.partition;
                    mismatches.insert(id, (PartitionOffset { partition, offset }, expected));
                }
            })
            .await?;
        summary.users += newest.len();
    }
    let different = if mismatches.is_empty() {
        Vec::new()
    } else {
        recheck::recheck(clients, &reader, &snapshot, &letters, &mismatches).await?
    };
    for (id, position, expected) in &different {
        let how = if expected.is_absent(wall_millis()) {
            "is in the table although it was deleted or has expired"
        } else {
            "is missing in the table or has other values"
        };
        print_line(format_args!("{:<16} {id} {how}", position))?;
    }
    print_line(format_args!(
        "records: {}, users: {}, dead letters: {}, different: {}",
        summary.records,
        summary.users,
        letters.len(),
        different.len()
    ))?;
    match different.len() {
        0 => Ok(()),
        count => Err(CommandError::Different(count)),
    }
}

#[derive(Debug, Default)]
struct VerifySummary {
    records: usize,
    users: usize,
}

/// Returns the records of the present topic that are dead letters and need no row.
async fn letters(clients: &Clients, topic_id: Uuid) -> Result<HashSet<PartitionOffset>, CommandError> {
    let mut letters = HashSet::new();
    dead_letters::read(clients, async |letter| {
        if letter.origin.topic_id == topic_id {
            letters.insert(letter.origin.position);
        }
        Ok(())
    })
    .await?;
    Ok(letters)
}

/// Returns each user's latest record in the durable range of a partition, and its offset.
async fn newest(
    clients: &Clients,
    reader: &RowReader,
    info: &PartitionInfo,
    letters: &HashSet<PartitionOffset>,
    summary: &mut VerifySummary,
) -> Result<HashMap<Uuid, (i64, ExpectedRow)>, CommandError> {
    let mut newest = HashMap::new();
    let mut scan = clients.scan([(info.partition, info.durable_range())])?;
    while let Some(records) = clients.next(&mut scan).await? {
        summary.records += records.len();
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            if letters.contains(&PartitionOffset { partition, offset }) {
                continue;
            }
            if let Some((id, expected)) = reader.read(&record) {
                newest.insert(id, (offset, expected));
            }
        }
    }
    Ok(newest)
}
