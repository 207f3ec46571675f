//! `streamer verify`: reads the topic up to the checkpoints and compares the latest record of each row with the table.
//!
//! It changes nothing and may run next to a streamer. It compares the bytes of all columns except `ingested_at`, by
//! 64-bit fingerprints, so that a partition of millions of rows fits into memory. It reads all rows of the keys in the
//! topic, also those that the topic does not have. Keys whose records are deleted from the topic are not compared.

mod latest_rows;
mod recheck;

use std::collections::HashSet;

use uuid::Uuid;

use crate::admin::clients::Clients;
use crate::admin::cluster_snapshot::ClusterSnapshot;
use crate::admin::dead_letters;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::admin::row_reader::RowReader;
use crate::admin::verify::latest_rows::{LatestRows, TableComparison};
use crate::admin::verify::recheck::{Different, Mismatches, recheck};
use crate::cassandra::schema::TableInfo;
use crate::checkpoint::PartitionInfo;
use crate::dead_letters::dead_letter::PartitionOffset;
use crate::pipeline::write_timestamp::wall_millis;
use ::kafka::same_topic;

/// # Errors
/// When a server rejects a request or does not respond in time, or when rows differ.
pub(super) async fn verify(clients: &Clients) -> Result<(), CommandError> {
    let Some(table) = clients.table().await? else {
        return Err(clients.no_table());
    };
    let reader = RowReader::new(clients, table.shape).await?;
    let snapshot = ClusterSnapshot::fetch(clients).await?;
    let letters = letters(clients, snapshot.topic.id).await?;
    let mut summary = VerifySummary::default();
    let mut mismatches = Mismatches::new();
    for info in &snapshot.partitions {
        let latest = latest_rows(clients, &reader, info, &letters, &mut summary).await?;
        let keys = latest.partitions();
        summary.keys += keys.len();
        let mut comparison = TableComparison::new(&latest);
        reader
            .read_table(clients, &keys, |partitions| {
                comparison.compare(partitions, wall_millis());
            })
            .await?;
        mismatches.extend(comparison.mismatches.into_iter().map(|(key, mismatch)| {
            let partition = info.partition;
            let position = mismatch
                .offset
                .map(|offset| PartitionOffset { partition, offset });
            (key, (position, mismatch.expected))
        }));
    }
    let different = if mismatches.is_empty() {
        Vec::new()
    } else {
        recheck(clients, &reader, &snapshot, &letters, &mismatches).await?
    };
    for different in &different {
        show(clients, &table, different)?;
    }
    print_line(format_args!(
        "records: {}, keys: {}, dead letters: {}, different: {}",
        summary.records,
        summary.keys,
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
    keys: usize,
}

fn show(
    clients: &Clients,
    table: &TableInfo,
    (key, position, expected): &Different,
) -> Result<(), CommandError> {
    let how = if position.is_none() {
        "is in the table although no record in the topic has it"
    } else if expected.is_absent(wall_millis()) {
        "is in the table although it was deleted or has expired"
    } else {
        "is missing in the table or has other values"
    };
    let position = position.map_or("-".to_owned(), |position| position.to_string());
    let key = key.text(clients.contract(), &table.shape);
    print_line(format_args!("{position:<16} {key} {how}"))
}

/// Returns the records of the present topic that are dead letters and need no row.
async fn letters(clients: &Clients, topic_id: Uuid) -> Result<HashSet<PartitionOffset>, CommandError> {
    let mut letters = HashSet::new();
    dead_letters::read(clients, async |letter| {
        if same_topic(letter.origin.topic_id, topic_id) {
            letters.insert(letter.origin.position);
        }
        Ok(())
    })
    .await?;
    Ok(letters)
}

/// Returns the latest record of each row in the durable range of a partition.
async fn latest_rows(
    clients: &Clients,
    reader: &RowReader,
    info: &PartitionInfo,
    letters: &HashSet<PartitionOffset>,
    summary: &mut VerifySummary,
) -> Result<LatestRows, CommandError> {
    let mut latest = LatestRows::default();
    let mut scan = clients.scan([(info.partition, info.durable_range())])?;
    while let Some(records) = clients.next(&mut scan).await? {
        summary.records += records.len();
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            if letters.contains(&PartitionOffset { partition, offset }) {
                continue;
            }
            if let Some((key, expected)) = reader.read(&record) {
                latest.add(key, offset, expected);
            }
        }
    }
    Ok(latest)
}
