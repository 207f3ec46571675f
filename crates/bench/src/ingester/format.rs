//! Parses and formats API responses on one core, with the ingester's code and with Python.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::error::BenchError;
use testkit::randomuser::RandomUserApi;
use testkit::workspace;

const PAGES: u32 = 2;
const PYTHON: &str = include_str!("format_page.py");

/// Responses as files, and the program that formats them.
pub(super) struct Responses {
    files: Vec<PathBuf>,
    program: PathBuf,
}

impl Responses {
    /// Fetches pages of 5,000 users in version 1.4.
    pub(super) async fn fetch(api: &RandomUserApi, folder: &Path) -> Result<Self, BenchError> {
        let program = build()?;
        let mut files = Vec::new();
        for page in 1..=PAGES {
            let url = format!("{}/api/1.4/?results=5000&page={page}&seed=bench", api.url());
            let body = reqwest::get(url).await?.bytes().await?;
            let path = folder.join(format!("page-{page}.json"));
            std::fs::write(&path, &body).map_err(|source| BenchError::File {
                path: path.clone(),
                source,
            })?;
            files.push(path);
        }
        Ok(Self { files, program })
    }

    /// Measures the ingester's code, in users/s.
    pub(super) fn formatted(&self, length: Duration) -> Result<f64, BenchError> {
        self.time(&self.files, length)
    }

    fn time(&self, files: &[PathBuf], length: Duration) -> Result<f64, BenchError> {
        let mut command = Command::new(&self.program);
        command
            .arg("time")
            .arg(length.as_secs_f64().to_string())
            .args(files);
        speed(&output(command)?)
    }

    /// Measures responses of the real API, if the samples exist.
    pub(super) fn samples(&self, length: Duration) -> Result<Option<f64>, BenchError> {
        let folder = workspace::root()?.join("../shared/samples");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Ok(None);
        };
        let whole = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("v1.4_results"))
        };
        let files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(whole)
            .collect();
        if files.is_empty() {
            return Ok(None);
        }
        self.time(&files, length).map(Some)
    }

    /// Measures Python with the same files.
    pub(super) fn by_python(&self, length: Duration) -> Result<f64, BenchError> {
        let mut command = Command::new("python3");
        command
            .arg("-c")
            .arg(PYTHON)
            .arg(length.as_secs_f64().to_string())
            .args(&self.files);
        speed(&output(command)?)
    }

    /// The formatted records of all files.
    pub(super) fn records(&self) -> Result<Vec<String>, BenchError> {
        let mut command = Command::new(&self.program);
        command.arg("lines").args(&self.files);
        Ok(output(command)?.lines().map(str::to_owned).collect())
    }
}

/// Builds the example with the artifacts of the crate's tests.
fn build() -> Result<PathBuf, BenchError> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--workspace"])
        .args(["--example", "format_pages"])
        .arg("--manifest-path")
        .arg(workspace::root()?.join("Cargo.toml"));
    output(cargo)?;
    Ok(workspace::profile_dir()?.join("examples").join("format_pages"))
}

fn speed(output: &str) -> Result<f64, BenchError> {
    let result: Option<Value> = output
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok());
    let speed = result.and_then(|result| result["users_per_second"].as_f64());
    speed.ok_or_else(|| BenchError::Failed {
        command: "a measurement".to_owned(),
        output: output.to_owned(),
    })
}

fn output(mut command: Command) -> Result<String, BenchError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .output()
        .map_err(|source| BenchError::Command(name.clone(), source))?;
    if !done.status.success() {
        return Err(BenchError::Failed {
            command: name,
            output: String::from_utf8_lossy(&done.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
