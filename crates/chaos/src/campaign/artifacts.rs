//! Keeps the logs and the evidence of a failed round, and removes its data from the servers.

use anyhow::Result;
use std::path::Path;

use crate::cluster::{Cluster, kafka_admin};
use crate::evidence::Evidence;
use crate::evidence::json::to_json;
use crate::services::config::RoundConfig;

/// Copies the logs of the servers to those of the services.
pub(super) fn keep_server_logs(cluster: &Cluster, folder: &Path) {
    let brokers = cluster.stack.kafka.nodes().iter();
    for node in brokers.chain(cluster.stack.cassandra.nodes()) {
        let copy = folder.join(format!("{}.log", node.name()));
        if let Err(error) = std::fs::copy(node.log(), &copy) {
            tracing::warn!(%error, copy = %copy.display(), "failed to keep a server's log");
        }
    }
}

pub(super) fn keep_evidence(evidence: &Evidence, folder: &Path) {
    let path = folder.join("evidence.json");
    if let Err(error) = std::fs::write(&path, to_json(evidence).to_string()) {
        tracing::warn!(%error, path = %path.display(), "failed to keep the evidence");
    }
}

/// Drops the round's keyspace and topics, so that a long campaign does not fill the servers.
pub(super) async fn remove_data(cluster: &Cluster, config: &RoundConfig) {
    if let Err(error) = drop_keyspace(cluster, config).await {
        tracing::warn!(%error, keyspace = config.name, "failed to drop the keyspace of a round");
    }
    if let Err(error) = delete_topics(cluster, config).await {
        tracing::warn!(%error, topic = config.name, "failed to delete the topics of a round");
    }
}

async fn drop_keyspace(cluster: &Cluster, config: &RoundConfig) -> Result<()> {
    let session = config.cassandra_client(cluster).await?;
    session.run("DROP KEYSPACE {ks}").await?;
    Ok(())
}

async fn delete_topics(cluster: &Cluster, config: &RoundConfig) -> Result<()> {
    let topics = [config.name.as_str(), &config.dead_letter_topic()];
    let admin = cluster.kafka_admin()?;
    let deleted = admin.delete_topics(&topics, &kafka_admin::options()).await?;
    Ok(kafka_admin::check(deleted)?)
}
