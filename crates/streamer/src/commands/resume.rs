//! `streamer resume`: clears the counts of dead letters, in a row and as a share.
//!
//! A running member has the counts in memory and writes its checkpoints under the epoch that it found. Under a renewed
//! one its checkpoints would lose to ours without its noticing, and under the same one ours would lose to its next; so
//! it is done only while the group has no members.

use crate::checkpoint::deliberate;
use crate::clock::wall_micros;
use crate::commands::error::CommandError;
use crate::commands::say;
use crate::commands::servers::Servers;

/// # Errors
/// When there is a member, or no table.
pub(super) async fn resume(servers: &Servers) -> Result<(), CommandError> {
    servers.refuse_members().await?;
    let now = wall_micros();
    let cleared: Vec<_> = servers
        .checkpoints()
        .await?
        .iter()
        .filter_map(|checkpoint| deliberate::resume(checkpoint, now))
        .collect();
    if cleared.is_empty() {
        return say("nothing to resume: no checkpoint counts dead letters");
    }
    if servers.table().await?.is_none() {
        return Err(servers.no_table());
    }
    servers.store(&cleared).await?;
    say(format_args!(
        "{} partitions go on at the next start: their counts of dead letters are 0",
        cleared.len()
    ))
}
