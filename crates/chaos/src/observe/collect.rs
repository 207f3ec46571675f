//! Reads topics and tables at the end of a round.

use super::run_ledger;
use crate::cluster::Cluster;
use crate::evidence::incident::Incident;
use crate::evidence::records::IngesterRun;
use crate::evidence::topic_history::{PreviousLog, TopicHistory};
use crate::evidence::{Evidence, RoundContract};
use crate::service_id::ServiceId;
use crate::services::Services;
use crate::services::config::RoundConfig;
use crate::workload::AckLog;
use anyhow::Result;

/// What was observed during the round.
pub(crate) struct Observations {
    pub(crate) incidents: Vec<Incident>,
    pub(crate) recovery_seconds: Option<f64>,
    pub(crate) runs: Vec<IngesterRun>,
    pub(crate) proxy_bypasses: Vec<String>,
    pub(crate) proxy_connections: usize,
}

/// Joins the stored data with the log of what was acknowledged and the observations.
pub(crate) async fn collect(
    cluster: &Cluster,
    config: &RoundConfig,
    services: &Services,
    ack_log: AckLog,
    observations: Observations,
    history: &TopicHistory,
) -> Result<Evidence> {
    let lost = history.lost();
    let mut streamers = services.admin_urls().await;
    streamers.retain(|id, _| matches!(id, ServiceId::Streamer(_)));
    let streamers: Vec<_> = streamers.into_values().collect();
    let kafka = cluster.kafka_client()?;
    let session = config.cassandra_client(cluster).await?.by_quorum();
    let ends = kafka.end_offsets(&config.name).await?;
    let checkpoints = session.checkpoints(&config.name, &config.name).await?;
    let previous = lost.previous.as_ref().and_then(PreviousLog::topic_id);
    let ids = checkpoints.values().map(|checkpoint| checkpoint.topic_id);
    let log = lost.with_present(kafka.read(&config.name).await?);
    Ok(Evidence {
        contract: RoundContract(config.record.contract().clone()),
        row_ttl: config.row_ttl,
        is_mixed: config.previous.is_some(),
        tombstones_redriven: config.tombstones_to_dead_letters,
        acked: ack_log.acked,
        sent_keys: ack_log.sent_keys,
        sent_fingerprints: ack_log.sent_fingerprints,
        runs: observations.runs,
        wrong_responses: ack_log.wrong_responses,
        topic: config.name.clone(),
        topic_id: ids.into_iter().find(|id| Some(*id) != previous),
        run_ledgers: run_ledger::read(&streamers, &log).await?,
        log,
        dead_letters: kafka.read(&config.dead_letter_topic()).await?,
        rows: session.stamped_rows().await?,
        ends: ends.into_iter().map(|end| lost.continued(None, end)).collect(),
        lost,
        proxy_connections: observations.proxy_connections,
        incidents: observations.incidents,
        proxy_bypasses: observations.proxy_bypasses,
        recovery_seconds: observations.recovery_seconds,
        ..Evidence::default()
    })
}
