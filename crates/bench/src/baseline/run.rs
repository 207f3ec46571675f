//! Runs a baseline as a child process and reads its cost from its last line.

use std::path::Path;
use std::time::Duration;

use crate::cleanup;
use crate::error::BenchError;
use crate::usage::Cost;
use testkit::process::Program;

/// Runs the process to its end. Removes the log of an earlier run first, so that its cost is not read again.
///
/// # Errors
/// When the process fails, does not end in time, or prints no cost.
pub(crate) async fn cost(program: Program, log: &Path, timeout: Duration) -> Result<Cost, BenchError> {
    cleanup::remove_file(log).map_err(BenchError::file(log))?;
    let child = program.log_to(log).spawn()?;
    let status = child.wait(timeout).await?;
    let cost = serde_json::from_str(&child.last_lines(1)).ok();
    cost.filter(|_| status.success())
        .ok_or_else(|| BenchError::Baseline(child.last_lines(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: &str = r#"echo '{"rows":7,"seconds":1.0,"cpu_seconds":1.0,"peak_mib":1.0}'"#;

    async fn run(script: &str, log: &Path) -> Result<Cost, BenchError> {
        let program = Program::new("sh").args(["-c", script]);
        cost(program, log, Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn only_a_successful_run_has_a_cost() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("baseline.log");
        assert_eq!(run(COST, &log).await.unwrap().rows, 7);
        // A silent run must not report the cost of the run before it.
        assert!(matches!(run("exit 0", &log).await, Err(BenchError::Baseline(_))));
        let failed = format!("{COST}; exit 1");
        assert!(matches!(run(&failed, &log).await, Err(BenchError::Baseline(_))));
    }
}
