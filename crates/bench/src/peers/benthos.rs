//! Benthos from Kafka to Cassandra, with the configuration in `peers/benthos/cassandra.yaml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use testkit::process::Program;
use testkit::workspace;

use crate::env::child;
use crate::sinks::Sink;
use crate::sinks::running::RunningSink;
use crate::sinks::target::Target;

/// Records of a partition in an unlogged batch.
const BATCH: u32 = 32;
/// Batches in flight.
const IN_FLIGHT: u32 = 64;
/// Records of a partition that may be in flight before the oldest is acknowledged.
const CHECKPOINT_LIMIT: u32 = 4_096;
/// Benthos has hundreds of dependencies.
const BUILD_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The installed program.
#[derive(Debug, Clone)]
pub struct Benthos {
    program: PathBuf,
    config: PathBuf,
}

impl Benthos {
    /// Builds it unless it is built.
    pub async fn install() -> Result<Self> {
        let source = source_folder()?;
        let folder = workspace::target_dir()?.join("peers");
        Ok(Self {
            program: build(&source, &folder).await?,
            config: source.join("cassandra.yaml"),
        })
    }
}

impl Sink for Benthos {
    fn name(&self) -> &str {
        "Benthos"
    }

    fn describe(&self) -> String {
        format!("batches of {BATCH}, {IN_FLIGHT} in flight, checkpoint limit {CHECKPOINT_LIMIT}")
    }

    fn start(&self, target: &Target) -> Result<RunningSink> {
        let program = Program::new(&self.program).arg("-c").arg(&self.config);
        let child = target
            .to_environment(program)
            .env("BATCH", BATCH.to_string())
            .env("IN_FLIGHT", IN_FLIGHT.to_string())
            .env("CHECKPOINT_LIMIT", CHECKPOINT_LIMIT.to_string())
            .log_to(target.folder.join("benthos.log"))
            .spawn()?;
        Ok(RunningSink::new(vec![child]))
    }
}

/// The folder of the Go module and its configurations.
pub fn source_folder() -> Result<PathBuf> {
    Ok(workspace::root()?.join("crates/bench/peers/benthos"))
}

/// Builds the Go module into the target folder. `go install` skips the work if it is done.
pub async fn build(source: &Path, log_folder: &Path) -> Result<PathBuf> {
    let target = workspace::target_dir()?.join("peers");
    let go = Program::new("go")
        .args(["install", "-mod=readonly", "."])
        .env("GOBIN", &target)
        .in_folder(source)
        .log_to(log_folder.join("benthos-build.log"));
    child::run("build Benthos", go, BUILD_TIMEOUT).await?;
    Ok(target.join("benthos"))
}
