//! A wall clock that is wrong: a page of C that is preloaded into a service, built when it is needed.
//!
//! Debian's libfaketime would do, were it not for jemalloc: the allocator asks for the time while it is being set up, and
//! libfaketime then allocates.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use thiserror::Error;

use testkit::workspace::{self, WorkspaceError};

/// By how many seconds the preloaded library shifts the clock.
pub const SHIFT: &str = "AFFLUENT_CLOCK_SHIFT";
const SOURCE: &str = include_str!("clock/shift.c");

/// The library can't be built.
#[derive(Debug, Error)]
pub enum ClockError {
    /// No place for it.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A file, or the compiler itself.
    #[error("build a clock that is wrong")]
    Build(#[source] std::io::Error),
    /// The compiler does not take it.
    #[error("build a clock that is wrong: {0}")]
    Refused(String),
}

/// Builds the library; returns where it is.
///
/// # Errors
/// Without a C compiler.
pub fn library() -> Result<PathBuf, ClockError> {
    let folder = workspace::target_dir()?.join("chaos-clock");
    let (source, library) = (folder.join("shift.c"), folder.join("shift.so"));
    std::fs::create_dir_all(&folder).map_err(ClockError::Build)?;
    std::fs::write(&source, SOURCE).map_err(ClockError::Build)?;
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(&source);
    let output = compiler.arg("-ldl").stdin(Stdio::null()).output();
    let output = output.map_err(ClockError::Build)?;
    if output.status.success() {
        Ok(library)
    } else {
        Err(ClockError::Refused(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_it_has_another_time_of_day() {
        let library = library().unwrap();
        let now = |shift: &str| {
            let mut date = Command::new("date");
            date.arg("+%s").env("LD_PRELOAD", &library).env(SHIFT, shift);
            let output = date.output().unwrap();
            String::from_utf8(output.stdout)
                .unwrap()
                .trim()
                .parse::<i64>()
                .unwrap()
        };
        let ahead = now("3600") - now("-3600");
        assert!((7_200..7_260).contains(&ahead), "{ahead}");
    }
}
