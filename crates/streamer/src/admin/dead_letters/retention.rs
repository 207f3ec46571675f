//! `streamer dead-letters retention`: compares the retention of the dead-letter topic with the settings, and changes it.

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;

/// # Errors
/// When the setting is below the retention of the records, and when Kafka rejects a request or does not respond in time.
pub(super) async fn retention(clients: &Clients, apply: bool) -> Result<(), CommandError> {
    let topic = clients.settings().kafka.dead_letter_topic();
    let differences = clients.dead_letter_retention_differences().await?;
    for (name, found, expected) in &differences {
        print_line(format_args!("{name:<14} {found} -> {expected}"))?;
    }
    if differences.is_empty() {
        return print_line(format_args!("topic {topic} is as configured"));
    }
    if !apply {
        return print_line(format_args!("topic {topic} is not changed: add --apply"));
    }
    clients.alter_dead_letter_topic(&differences).await?;
    print_line(format_args!("topic {topic} is changed"))
}
