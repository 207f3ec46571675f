//! `streamer verify`: reads the topic up to the checkpoints and holds each user's newest record against the table.
//!
//! It changes nothing and may run beside a streamer. It compares every column but `ingested_at`, by a fingerprint of 64
//! bits, so that a partition of millions of users fits into memory. Rows whose records are gone from the topic can't be
//! judged.

mod suspects;
mod version;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use uuid::Uuid;

use crate::checkpoint::Known;
use crate::clock::wall_micros;
use crate::commands::dead_letters;
use crate::commands::error::CommandError;
use crate::commands::letter::Place;
use crate::commands::say;
use crate::commands::servers::Servers;
use crate::commands::situation::Situation;
use crate::commands::verify::version::{Reader, Wanted};

/// # Errors
/// When a server refuses, or has not answered in time; when a user's row is not its newest record.
pub(super) async fn verify(servers: &Servers) -> Result<(), CommandError> {
    let Some(verified) = servers.table().await? else {
        return Err(servers.no_table());
    };
    let reader = Reader::new(servers, verified.shape);
    let situation = Situation::ask(servers).await?;
    let letters = letters(servers, situation.topic.id).await?;
    let mut counts = Counts::default();
    let mut suspects = HashMap::new();
    for known in &situation.partitions {
        let newest = newest(servers, &reader, known, &letters, &mut counts).await?;
        let ids: Vec<_> = newest.keys().copied().collect();
        reader
            .read_table(servers, &ids, |id, version| {
                let (offset, wanted) = newest[&id];
                if !wanted.explains(version, now()) {
                    let partition = known.partition;
                    suspects.insert(id, (Place { partition, offset }, wanted));
                }
            })
            .await?;
        counts.users += newest.len();
    }
    let different = if suspects.is_empty() {
        Vec::new()
    } else {
        suspects::convict(servers, &reader, &situation, &letters, &suspects).await?
    };
    for (id, place, wanted) in &different {
        let how = if wanted.is_gone(now()) {
            "is in the table although it was deleted, or its time is over"
        } else {
            "is not in the table, or with other values"
        };
        say(format_args!("{:<16} {id} {how}", place))?;
    }
    say(format_args!(
        "records: {}, users: {}, dead letters: {}, not as the log says: {}",
        counts.records,
        counts.users,
        letters.len(),
        different.len()
    ))?;
    match different.len() {
        0 => Ok(()),
        count => Err(CommandError::Different(count)),
    }
}

/// In milliseconds since 1970.
fn now() -> i64 {
    wall_micros() / 1_000
}

#[derive(Debug, Default)]
struct Counts {
    records: usize,
    users: usize,
}

/// The records of this very topic that are dead letters, and so need not be rows.
async fn letters(servers: &Servers, topic_id: Uuid) -> Result<HashSet<Place>, CommandError> {
    let mut letters = HashSet::new();
    dead_letters::read(servers, async |letter| {
        if letter.origin.topic_id == topic_id {
            letters.insert(letter.origin.place);
        }
        Ok(())
    })
    .await?;
    Ok(letters)
}

/// What is durable according to the checkpoint.
fn durable(known: &Known) -> Range<i64> {
    let checkpoint = known.checkpoint.filter(|it| it.topic_id == known.topic_id);
    known.beginning..checkpoint.map_or(known.beginning, |it| it.position.next_offset.min(known.end))
}

/// Each user's newest record in what is durable of a partition, and its offset.
async fn newest(
    servers: &Servers,
    reader: &Reader,
    known: &Known,
    letters: &HashSet<Place>,
    counts: &mut Counts,
) -> Result<HashMap<Uuid, (i64, Wanted)>, CommandError> {
    let mut newest = HashMap::new();
    let mut scan = servers.scan([(known.partition, durable(known))])?;
    while let Some(records) = servers.next(&mut scan).await? {
        counts.records += records.len();
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            if letters.contains(&Place { partition, offset }) {
                continue;
            }
            if let Some((id, wanted)) = reader.read(&record) {
                newest.insert(id, (offset, wanted));
            }
        }
    }
    Ok(newest)
}
