//! Runs child processes to their end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::process::{Child, Program};

use super::cleanup;
use crate::measure::cost::Cost;

/// Runs a program. An error says `failed to <operation>`, with the end of its log.
pub async fn run(operation: &str, program: Program, timeout: Duration) -> Result<Child> {
    let child = program.spawn()?;
    let status = child.wait(timeout).await?;
    ensure!(
        status.success(),
        "failed to {operation}:\n{}",
        child.last_lines(20)
    );
    Ok(child)
}

/// Runs a program whose last line is its cost as JSON. The log starts empty, so that an earlier run's cost is not read.
pub async fn measure(operation: &str, program: Program, log: &Path, timeout: Duration) -> Result<Cost> {
    cleanup::remove_file(log)?;
    let child = run(operation, program.log_to(log), timeout).await?;
    serde_json::from_str(&child.last_lines(1))
        .with_context(|| format!("failed to {operation}:\n{}", child.last_lines(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: &str = r#"echo '{"rows":7,"seconds":1.0,"cpu_seconds":1.0,"peak_mib":1.0}'"#;

    #[tokio::test]
    async fn only_the_cost_of_this_successful_run_counts() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("baseline.log");
        let run = async |script: &str| {
            let program = Program::new("sh").args(["-c", script]);
            measure("run a baseline", program, &log, Duration::from_secs(10)).await
        };
        assert_eq!(run(COST).await.unwrap().rows, 7);
        let error = run("exit 0").await.unwrap_err().to_string();
        assert!(error.contains("failed to run a baseline"), "{error}");
        let error = run(&format!("{COST}; exit 1")).await.unwrap_err().to_string();
        assert!(error.contains("failed to run a baseline"), "{error}");
    }
}
