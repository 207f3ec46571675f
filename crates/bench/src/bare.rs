//! A bare loop in a process of its own, which prints what it cost as its last line.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::leftovers;
use super::usage::Cost;
use crate::error::BenchError;
use testkit::process::{ProcessError, Program};

/// The loop has no figure to tell.
#[derive(Debug, Error)]
pub enum LoopError {
    /// It can't be started, or does not end in time.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The log of an earlier run can't be removed.
    #[error("use {}", path.display())]
    Log {
        /// The log.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It ended with an error, or told no cost.
    #[error("a bare loop's process failed: {0}")]
    Failed(String),
}

impl From<LoopError> for BenchError {
    fn from(error: LoopError) -> Self {
        match error {
            LoopError::Process(source) => source.into(),
            LoopError::Log { path, source } => Self::File { path, source },
            LoopError::Failed(log) => Self::Ceiling(log),
        }
    }
}

/// Runs it to its end. Its log begins anew, so that no cost of an earlier run is taken for this one's.
///
/// # Errors
/// [`LoopError`]; a figure of a run that failed would be none.
pub(super) async fn cost(program: Program, log: &Path, patience: Duration) -> Result<Cost, LoopError> {
    leftovers::remove_file(log).map_err(|source| LoopError::Log {
        path: log.to_path_buf(),
        source,
    })?;
    let child = program.log_to(log).spawn()?;
    let status = child.wait(patience).await?;
    let told = serde_json::from_str(&child.last_lines(1)).ok();
    told.filter(|_| status.success())
        .ok_or_else(|| LoopError::Failed(child.last_lines(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"echo '{"rows":7,"seconds":1.0,"cpu_seconds":1.0,"peak_mib":1.0}'"#;

    async fn run(script: &str, log: &Path) -> Result<Cost, LoopError> {
        let program = Program::new("sh").args(["-c", script]);
        cost(program, log, Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn only_this_run_and_only_its_success_counts() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("bare.log");
        assert_eq!(run(TOLD, &log).await.unwrap().rows, 7);
        // It says nothing, and the log of the one before must not speak for it.
        assert!(matches!(run("exit 0", &log).await, Err(LoopError::Failed(_))));
        let failed = format!("{TOLD}; exit 1");
        assert!(matches!(run(&failed, &log).await, Err(LoopError::Failed(_))));
    }
}
