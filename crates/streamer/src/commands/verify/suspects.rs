//! A second look at users whose row was not the newest record before the checkpoint: most of them have an even newer
//! one, which a streamer wrote meanwhile.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::commands::error::CommandError;
use crate::commands::letter::Place;
use crate::commands::servers::{self, Servers};
use crate::commands::situation::Situation;
use crate::commands::verify::version::{Reader, Wanted};
use crate::commands::verify::{durable, now};

/// Users, each with its newest record before the checkpoint and what that asks for.
pub(super) type Suspects = HashMap<Uuid, (Place, Wanted)>;

/// Those of `suspects` whose row no record explains, in the order of the log.
///
/// A row may be any record after the checkpoint, since a streamer may be at work there; the newest of any partition,
/// since no order is promised between partitions; and a dead letter that was redriven.
///
/// # Errors
/// When a server refuses, or has not answered in time.
pub(super) async fn convict(
    servers: &Servers,
    reader: &Reader,
    situation: &Situation,
    letters: &HashSet<Place>,
    suspects: &Suspects,
) -> Result<Vec<(Uuid, Place, Wanted)>, CommandError> {
    let ids: Vec<_> = suspects.keys().copied().collect();
    let mut found = HashMap::new();
    reader
        .read_table(servers, &ids, |id, version| {
            found.insert(id, version);
        })
        .await?;
    // Asked after the rows were read: whatever was written by then lies before these ends.
    let (_, ends) = servers.kafka(servers::watermarks).await?;
    let ranges = (0..).zip(ends.into_iter().map(|(beginning, end)| beginning..end));
    let mut explained = HashSet::new();
    let mut newest = HashMap::new();
    let mut scan = servers.scan(ranges)?;
    while let Some(records) = servers.next(&mut scan).await? {
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            let Some((id, wanted)) = reader.read(&record).filter(|it| found.contains_key(&it.0)) else {
                continue;
            };
            let unsettled = situation
                .partitions
                .iter()
                .find(|known| known.partition == partition)
                .is_none_or(|known| offset >= durable(known).end);
            if !unsettled && !letters.contains(&Place { partition, offset }) {
                newest.insert((id, partition), wanted);
            } else if wanted.explains(found[&id], now()) {
                explained.insert(id);
            }
        }
    }
    explained.extend(
        newest
            .into_iter()
            .filter(|((id, _), wanted)| wanted.explains(found[id], now()))
            .map(|((id, _), _)| id),
    );
    let mut different: Vec<_> = suspects
        .iter()
        .filter(|(id, _)| !explained.contains(*id))
        .map(|(id, (place, expected))| (*id, *place, *expected))
        .collect();
    different.sort_by_key(|(_, place, _)| *place);
    Ok(different)
}
