//! `streamer accept-table`: the checkpoints name the present table from now on. No row is written again.

use crate::checkpoint::deliberate;
use crate::clock::wall_micros;
use crate::commands::error::CommandError;
use crate::commands::say;
use crate::commands::servers::Servers;

/// # Errors
/// When there is no table, one that can't be written, or a member.
pub(super) async fn accept_table(servers: &Servers) -> Result<(), CommandError> {
    servers.refuse_members().await?;
    let Some(verified) = servers.table().await? else {
        return Err(servers.no_table());
    };
    let (table, now) = (servers.table_name(), wall_micros());
    let found = servers.checkpoints().await?;
    let accepted: Vec<_> = found
        .iter()
        .filter_map(|checkpoint| deliberate::accept_table(checkpoint, verified.table_id, now))
        .collect();
    if accepted.is_empty() {
        return say(format_args!(
            "nothing to accept: none of the group's {} checkpoints names another table than the present {table}",
            found.len()
        ));
    }
    servers.store(&accepted).await?;
    say(format_args!(
        "{} checkpoints name the present {table} now ({}); the streamer goes on where it was",
        accepted.len(),
        verified.table_id
    ))
}
