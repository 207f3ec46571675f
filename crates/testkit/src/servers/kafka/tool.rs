//! Kafka's own command-line tools.

use std::path::Path;
use std::time::Duration;

use crate::process::{Program, last_lines};
use crate::servers::{Node, ServerError, jvm};

/// A tool is a JVM of its own, which takes seconds on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Runs a tool to its end. `name` names its log in the node's folder.
pub(super) async fn run(
    node: &Node,
    jars: &Path,
    (name, main_class): (&str, &str),
    arguments: &[&str],
) -> Result<(), ServerError> {
    let log = node.folder().join(format!("{name}.log"));
    let tool = Program::new(jvm::executable())
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1"])
        .arg(log4j_setting(node.folder()));
    let tool = jvm::run(tool, jars, main_class)
        .args(arguments.iter().copied())
        .log_to(&log);
    let server = format!("the {name} tool of {}", node.name());
    let outcome = async { tool.spawn()?.wait(TIMEOUT).await };
    match outcome.await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ServerError::Ended {
            server,
            status: status.to_string(),
            log: last_lines(&log, 40),
        }),
        Err(source) => Err(ServerError::Process { server, source }),
    }
}

/// The option of the JVM that names the log configuration in a node's folder.
pub(super) fn log4j_setting(folder: &Path) -> String {
    format!(
        "-Dlog4j2.configurationFile=file://{}",
        folder.join("log4j2.properties").display()
    )
}
