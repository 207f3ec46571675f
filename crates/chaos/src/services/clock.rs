//! Shifts a service's wall clock with a preloaded C library, which is compiled on demand.
//!
//! libfaketime deadlocks with jemalloc: the allocator reads the time during its setup, and libfaketime then allocates.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use testkit::workspace::{self, WorkspaceError};

/// The environment variable with the shift in seconds.
pub(crate) const CLOCK_SHIFT_ENV: &str = "AFFLUENT_CLOCK_SHIFT";
const SOURCE: &str = include_str!("clock_shift.c");

/// The library could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClockError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("failed to build the clock library")]
    Build(#[source] std::io::Error),
    #[error("failed to compile the clock library: {0}")]
    Compiler(String),
}

/// Builds the library and returns its path. Needs a C compiler.
pub(crate) fn build_library() -> Result<PathBuf, ClockError> {
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
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(ClockError::Compiler(log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preloaded_library_shifts_the_wall_clock() {
        let library = build_library().unwrap();
        let now = |shift: &str| {
            let mut date = Command::new("date");
            date.arg("+%s")
                .env("LD_PRELOAD", &library)
                .env(CLOCK_SHIFT_ENV, shift);
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
