//! Exit codes, and errors as one line.

use std::fmt::Write as _;

/// The exit code for a wrong configuration or wrong credentials: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// An error that ends a service, with its exit code.
pub trait ExitStatus: std::error::Error {
    /// [`EXIT_CONFIG`] for what only the operator can fix, 1 for everything else.
    fn exit_code(&self) -> u8 {
        1
    }
}

/// Formats an error and its sources in one line, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
