//! Parses and formats whole API pages on one core: with the ingester's code, as an example program of its crate, and with
//! Python.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::randomuser::RandomUserApi;
use testkit::workspace;

use crate::plot::write;

const PAGES: u32 = 2;
const PYTHON: &str = include_str!("../../../peers/python/format_page.py");

/// API pages as files, and the program that formats them.
pub(super) struct ApiPages {
    files: Vec<PathBuf>,
    program: PathBuf,
}

impl ApiPages {
    /// Fetches pages of 5,000 users of version 1.4.
    pub(super) async fn fetch(api: &RandomUserApi, folder: &Path) -> Result<Self> {
        let program = build()?;
        let mut files = Vec::new();
        for page in 1..=PAGES {
            let url = format!("{}/api/1.4/?results=5000&page={page}&seed=bench", api.url());
            let body = reqwest::get(url).await?.text().await?;
            let path = folder.join(format!("page-{page}.json"));
            write(&path, &body)?;
            files.push(path);
        }
        Ok(Self { files, program })
    }

    /// Users per second of the ingester's code.
    pub(super) fn format_rate(&self, length: Duration) -> Result<f64> {
        let mut command = Command::new(&self.program);
        command
            .arg("time")
            .arg(length.as_secs_f64().to_string())
            .args(&self.files);
        rate(&output(command)?)
    }

    /// Users per second of Python.
    pub(super) fn python_rate(&self, length: Duration) -> Result<f64> {
        let mut command = Command::new("python3");
        command
            .arg("-c")
            .arg(PYTHON)
            .arg(length.as_secs_f64().to_string())
            .args(&self.files);
        rate(&output(command)?)
    }

    /// All records, as sent to the publisher.
    pub(super) fn records(&self) -> Result<Vec<String>> {
        let mut command = Command::new(&self.program);
        command.arg("lines").args(&self.files);
        Ok(output(command)?.lines().map(str::to_owned).collect())
    }
}

/// Builds the example, which reuses the artifacts of its crate.
fn build() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--workspace"])
        .args(["--example", "format_pages"])
        .arg("--manifest-path")
        .arg(workspace::root()?.join("Cargo.toml"));
    output(cargo)?;
    Ok(workspace::profile_dir()?.join("examples").join("format_pages"))
}

fn rate(output: &str) -> Result<f64> {
    let last = output.lines().last().unwrap_or_default();
    let result: Option<Value> = serde_json::from_str(last).ok();
    result
        .and_then(|result| result["users_per_second"].as_f64())
        .with_context(|| format!("failed to read users_per_second from {output:?}"))
}

fn output(mut command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("failed to run {name}"))?;
    ensure!(
        output.status.success(),
        "{name} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
