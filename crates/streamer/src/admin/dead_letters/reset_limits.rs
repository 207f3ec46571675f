//! `streamer dead-letters reset-limits`: resets the dead-letter statistics, so that halted partitions continue.
//!
//! Requires a group without members. A running member keeps the statistics in memory and writes checkpoints under the epoch
//! that it has read. If the command raised the epoch, that member's checkpoints would be lost silently. If it kept the
//! epoch, the member's next checkpoint would overwrite the reset.

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::checkpoint::admin;
use crate::pipeline::write_timestamp::wall_micros;

/// # Errors
/// When the group has members, or the table is missing.
pub(super) async fn reset_limits(clients: &Clients) -> Result<(), CommandError> {
    clients.require_no_members().await?;
    let now = wall_micros();
    let reset: Vec<_> = clients
        .checkpoints()
        .await?
        .iter()
        .filter_map(|checkpoint| admin::reset_limits(checkpoint, now))
        .collect();
    if reset.is_empty() {
        return print_line("nothing to reset: no checkpoint counts dead letters");
    }
    if clients.table().await?.is_none() {
        return Err(clients.no_table());
    }
    clients.store(&reset).await?;
    print_line(format_args!(
        "dead-letter limits of {} partitions reset; the partitions continue at the next start",
        reset.len()
    ))
}
