//! Standard output and standard error of commands. A reader that has gone, or a full disk, is an error and not a panic.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use crate::process::exit::{ExitStatus, chain};

/// Writing to standard output failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to standard output")]
pub struct OutputError(#[source] WriteFailure);

/// The cause as a type of its own, so that it can be told from other errors in the chain of a transparent error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct WriteFailure(io::Error);

impl ExitStatus for OutputError {}

impl OutputError {
    /// Whether the reader has gone, as in `command | head`.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        self.0.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// [`OutputError`], for example a full disk, or a reader that has gone.
pub fn print_line(line: impl Display) -> Result<(), OutputError> {
    writeln!(io::stdout(), "{line}").map_err(|error| OutputError(WriteFailure(error)))
}

/// Writes the line `name: error: cause` to standard error, except if the cause is a reader of standard output that has
/// gone: `command | head` ends quietly. An error that can't be written is lost.
pub fn print_error(name: &str, error: &(dyn Error + 'static)) {
    if !is_broken_pipe(error) {
        let _ = writeln!(io::stderr(), "{name}: {}", chain(error));
    }
}

/// Prints in one line why a process can't start, and returns the exit code.
pub fn exit_with_error(
    name: &str,
    error: &(dyn std::error::Error + 'static),
    code: u8,
) -> std::process::ExitCode {
    print_error(name, error);
    std::process::ExitCode::from(code)
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<WriteFailure>() {
        Some(WriteFailure(error)) => error.kind() == ErrorKind::BrokenPipe,
        None => error.source().is_some_and(is_broken_pipe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Outer(#[from] OutputError);

    #[test]
    fn only_a_broken_pipe_of_standard_output_is_quiet() {
        let of = |kind| OutputError(WriteFailure(io::Error::from(kind)));
        assert!(is_broken_pipe(&of(ErrorKind::BrokenPipe)));
        assert!(is_broken_pipe(&Outer(of(ErrorKind::BrokenPipe))));
        assert!(!is_broken_pipe(&Outer(of(ErrorKind::StorageFull))));
        assert!(
            !is_broken_pipe(&io::Error::from(ErrorKind::BrokenPipe)),
            "of a connection"
        );
    }
}
