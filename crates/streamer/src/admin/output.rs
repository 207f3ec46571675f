//! Standard output of the commands.

use std::fmt::Display;
use std::io::Write as _;

use crate::admin::error::CommandError;

/// Writes a line to standard output. A closed pipe is an error and not a panic.
pub(super) fn print_line(line: impl Display) -> Result<(), CommandError> {
    writeln!(std::io::stdout(), "{line}").map_err(CommandError::Output)
}
