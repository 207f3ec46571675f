//! Waits until every checkpoint has reached the end of its partition.

use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::cassandra_client::CassandraClient;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::evidence::topic_history::TopicHistory;
use crate::services::config::RoundConfig;

/// After the last fault, for runs to end and checkpoints to reach the end.
pub(crate) const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for the pipeline to settle, or for the timeout. A failed read is retried.
pub(crate) async fn wait_until_settled(cluster: &Cluster, config: &RoundConfig, history: &TopicHistory) {
    let until = Instant::now() + SETTLE_TIMEOUT;
    let mut session = None;
    while Instant::now() < until {
        match is_settled(cluster, config, history, &mut session).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "failed to compare checkpoints with ends");
                session = None;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn is_settled(
    cluster: &Cluster,
    config: &RoundConfig,
    history: &TopicHistory,
    session: &mut Option<CassandraClient>,
) -> Result<bool> {
    let name = &config.name;
    let ends = cluster.kafka_client()?.end_offsets(name).await?;
    let session = match session {
        Some(session) => session,
        None => session.insert(config.cassandra_client(cluster).await?),
    };
    let checkpoints = session.checkpoints(name, name).await?;
    let reached = |(partition, end): (&i32, &i64)| {
        checkpoints.get(partition).is_some_and(|checkpoint| {
            let next = (*partition, checkpoint.next_offset);
            let end = history.continued(None, (*partition, *end));
            history.continued(Some(checkpoint.topic_id), next) == end
        })
    };
    Ok(ends.iter().all(reached))
}
