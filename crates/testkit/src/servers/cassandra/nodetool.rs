//! `nodetool`: operations on a node outside of CQL, such as snapshots.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::with_access;
use crate::servers::{ServerError, jvm, version};

/// It is a JVM of its own, which takes seconds on a busy machine. A decommission also waits twice for the delay of the ring.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The `nodetool` of one node.
#[derive(Debug)]
pub struct Nodetool {
    jars: PathBuf,
    port: u16,
    folder: PathBuf,
}

impl Nodetool {
    pub(super) fn new(jars: &Path, port: u16, folder: &Path) -> Self {
        Self {
            jars: jars.to_owned(),
            port,
            folder: folder.to_owned(),
        }
    }

    /// Runs one command to its end. Fails with its output.
    pub async fn run(&self, arguments: &[&str]) -> Result<(), ServerError> {
        let failed = |source| ServerError::Process {
            server: "nodetool".to_owned(),
            source,
        };
        let port = self.port.to_string();
        let program = with_access(jvm::with_heap(version::cassandra_java(), 64))
            // It keeps a history of its commands there.
            .arg(format!("-Duser.home={}", self.folder.display()))
            .log_to(self.folder.join("nodetool.log"));
        let child = jvm::run(program, &self.jars, "org.apache.cassandra.tools.NodeTool")
            .args(["--host", "127.0.0.1", "--port", &port])
            .args(arguments.iter().copied())
            .spawn()
            .map_err(failed)?;
        if child.wait(TIMEOUT).await.map_err(failed)?.success() {
            return Ok(());
        }
        Err(ServerError::Nodetool {
            command: arguments.join(" "),
            output: child.last_lines(20),
        })
    }
}
