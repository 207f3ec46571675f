//! Standard output of the commands.

use std::fmt::Display;

use crate::admin::error::CommandError;

/// Writes a line to standard output.
pub(super) fn print_line(line: impl Display) -> Result<(), CommandError> {
    Ok(service::output::print_line(line)?)
}
