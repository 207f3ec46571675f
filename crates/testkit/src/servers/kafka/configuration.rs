//! Changes settings while a cluster runs.

use super::{KafkaCluster, tool};
use crate::servers::{ServerError, Software, jars};

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
        tool::run(
            self.node(0)?,
            &jars,
            (&name, "kafka.admin.ConfigCommand"),
            &arguments,
        )
        .await
    }
}
