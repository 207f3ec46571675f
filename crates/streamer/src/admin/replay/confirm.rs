//! Asks the operator to confirm a change that can't be undone.

use std::io::{self, BufRead, IsTerminal as _, Write as _};

use crate::admin::error::CommandError;

/// Asks on the terminal, unless `--yes` was given.
///
/// # Errors
/// When there is no terminal, or the operator declines.
pub(super) fn confirm(prompt: &str, yes: bool) -> Result<(), CommandError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CommandError::NoTerminal);
    }
    let mut errors = io::stderr();
    write!(errors, "{prompt} [y/N] ").map_err(CommandError::Terminal)?;
    errors.flush().map_err(CommandError::Terminal)?;
    answered(io::stdin().lock())
}

fn answered(mut terminal: impl BufRead) -> Result<(), CommandError> {
    let mut answer = String::new();
    terminal.read_line(&mut answer).map_err(CommandError::Terminal)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CommandError::Declined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_confirms() {
        for yes in ["y\n", "Yes\n", " YES \r\n"] {
            assert!(answered(yes.as_bytes()).is_ok(), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yesterday\n", "j\n"] {
            assert!(
                matches!(answered(no.as_bytes()), Err(CommandError::Declined)),
                "{no:?}"
            );
        }
    }
}
