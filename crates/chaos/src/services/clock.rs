//! Shifts a service's wall clock with a preloaded C library, which is compiled on demand.
//!
//! libfaketime deadlocks with jemalloc: the allocator reads the time during its setup, and libfaketime then allocates.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use testkit::workspace;

/// The environment variable with the shift in seconds.
pub(crate) const CLOCK_SHIFT_ENV: &str = "AFFLUENT_CLOCK_SHIFT";
const SOURCE: &str = include_str!("clock_shift.c");

/// Builds the library and returns its path. Needs a C compiler.
pub(crate) fn build_library() -> Result<PathBuf> {
    let failed = "failed to build the clock library";
    let folder = workspace::target_dir()?.join("chaos-clock");
    let (source, library) = (folder.join("shift.c"), folder.join("shift.so"));
    std::fs::create_dir_all(&folder).context(failed)?;
    std::fs::write(&source, SOURCE).context(failed)?;
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(&source);
    let output = compiler.arg("-ldl").stdin(Stdio::null()).output();
    let output = output.context(failed)?;
    ensure!(
        output.status.success(),
        "{failed}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(library)
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
