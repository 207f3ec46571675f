//! `streamer accept-table`: assigns the checkpoints to the present table. Writes no rows.

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::checkpoint::admin;
use crate::pipeline::write_timestamp::wall_micros;

/// # Errors
/// When the group has members, or the table is missing or can't be written.
pub(super) async fn accept_table(clients: &Clients) -> Result<(), CommandError> {
    clients.require_no_members().await?;
    let Some(table) = clients.table().await? else {
        return Err(clients.no_table());
    };
    let (name, now) = (clients.table_name(), wall_micros());
    let found = clients.checkpoints().await?;
    let accepted: Vec<_> = found
        .iter()
        .filter_map(|checkpoint| admin::accept_table(checkpoint, table.table_id, now))
        .collect();
    if accepted.is_empty() {
        return print_line(format_args!(
            "nothing to accept: all {} checkpoints of the group belong to the present table {name}",
            found.len()
        ));
    }
    clients.store(&accepted).await?;
    print_line(format_args!(
        "{} checkpoints now belong to the present table {name} ({}); the streamer continues at them",
        accepted.len(),
        table.table_id
    ))
}
