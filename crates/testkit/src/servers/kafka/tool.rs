//! Kafka's own command-line tools.

use std::path::Path;

use super::{KafkaCluster, START_TIMEOUT, log4j_setting};
use crate::process::{Program, last_lines};
use crate::servers::{Node, ServerError, Software, jars, jvm};

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
    let outcome = async { tool.spawn()?.wait(START_TIMEOUT).await };
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

impl KafkaCluster {
    /// Changes settings of an entity while the cluster runs, such as `("brokers", "1")`, with Kafka's tool. `change` are its
    /// arguments, such as `--add-config` and `NAME=VALUE`.
    ///
    /// # Errors
    /// When the tool fails, with the end of its log.
    pub async fn alter_config(
        &self,
        (entity_type, entity): (&str, &str),
        change: &[&str],
    ) -> Result<(), ServerError> {
        let bootstrap = self.internal_bootstrap();
        let mut arguments = vec!["--bootstrap-server", &bootstrap, "--alter"];
        arguments.extend(["--entity-type", entity_type, "--entity-name", entity]);
        arguments.extend(change);
        let jars = jars(Software::KAFKA).await?;
        let name = format!("configuration-{entity}");
        run(
            self.node(0)?,
            &jars,
            (&name, "kafka.admin.ConfigCommand"),
            &arguments,
        )
        .await
    }
}
