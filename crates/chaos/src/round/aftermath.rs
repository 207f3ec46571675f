//! What comes after the faults: all settles, the servers are read, and what is to be kept of the round is put aside.

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use tokio::time::sleep;

use super::{Course, RoundError, SETTLE};
use crate::chronicle::Chronicle;
use crate::crew::Plot;
use crate::dump::dump;
use crate::evidence::Evidence;
use crate::inject::Scene;
use crate::venue::Venue;
use crate::workload::Ledger;
use testkit::cassandra_client::CassandraClient;
use testkit::kafka_client::KafkaClient;

/// For an operator's tool.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until every checkpoint is the end, or for as long as that may take. A server that does not answer yet is one more
/// reason to wait.
pub(crate) async fn settle(scene: Scene<'_>) {
    let until = Instant::now() + SETTLE;
    let mut table = None;
    while Instant::now() < until {
        match is_settled(scene, &mut table).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "nobody can say yet whether all has settled");
                table = None;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn is_settled(scene: Scene<'_>, table: &mut Option<CassandraClient>) -> Result<bool, RoundError> {
    let name = &scene.plot.name;
    let ends = KafkaClient::new(scene.venue.stack.kafka.internal_bootstrap())?
        .end_offsets(name)
        .await?;
    let table = match table {
        Some(table) => table,
        None => {
            let points = scene.venue.stack.cassandra.contact_points();
            table.insert(CassandraClient::connect(&points, name).await?)
        }
    };
    let checkpoints = table.checkpoints(name, name).await?;
    let reached = |(partition, end): (&i32, &i64)| {
        checkpoints.get(partition).is_some_and(|checkpoint| {
            let next = (*partition, checkpoint.next_offset);
            let chronicle = scene.chronicle;
            chronicle.place(Some(checkpoint.topic_id), next) == chronicle.place(None, (*partition, *end))
        })
    };
    Ok(ends.iter().all(reached))
}

pub(super) async fn gather(
    venue: &Venue,
    plot: &Plot,
    ledger: Ledger,
    course: Course,
    chronicle: &Chronicle,
) -> Result<Evidence, RoundError> {
    let gone = chronicle.tell();
    let tap = KafkaClient::new(venue.stack.kafka.internal_bootstrap())?;
    let points = venue.stack.cassandra.contact_points();
    let table = CassandraClient::connect(&points, &plot.name).await?.by_quorum();
    let ends = tap.end_offsets(&plot.name).await?;
    let checkpoints = table.checkpoints(&plot.name, &plot.name).await?;
    let before = gone.before.as_ref().map(|(id, _)| *id);
    let ids = checkpoints.values().map(|checkpoint| checkpoint.topic_id);
    Ok(Evidence {
        deletions_are_redriven: plot.sets_deletions_aside,
        obligations: ledger.obligations,
        minted: ledger.minted,
        sent: ledger.sent,
        runs: course.runs,
        untrue_answers: ledger.untrue,
        topic: plot.name.clone(),
        topic_id: ids.into_iter().find(|id| Some(*id) != before),
        log: gone.and(tap.read(&plot.name).await?),
        letters: tap.read(&plot.letters()).await?,
        rows: table.stamped_users().await?,
        ends: ends.into_iter().map(|end| gone.place(None, end)).collect(),
        gone,
        connections: course.connections,
        incidents: course.incidents,
        around: course.around,
        fresh_seconds: course.fresh,
        ..Evidence::default()
    })
}

/// Takes the round's keyspace and topics away, so that the servers of a long campaign do not fill up.
pub(super) async fn forget(venue: &Venue, plot: &Plot) {
    let points = venue.stack.cassandra.contact_points();
    let dropped = match CassandraClient::connect(&points, &plot.name).await {
        Ok(table) => table.run("DROP KEYSPACE {ks}").await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = dropped {
        tracing::warn!(%error, keyspace = plot.name, "a round's keyspace was left behind");
    }
    if let Err(error) = delete_topics(venue, plot).await {
        tracing::warn!(%error, topic = plot.name, "a round's topics were left behind");
    }
}

async fn delete_topics(venue: &Venue, plot: &Plot) -> Result<(), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", venue.stack.kafka.internal_bootstrap())
        .create()?;
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    let topics = [plot.name.as_str(), &plot.letters()];
    let deleted = admin.delete_topics(&topics, &options).await?;
    let mut deleted = deleted.into_iter();
    deleted.try_for_each(|topic| topic.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
}

/// Each server's log, as it is by now, beside those of the services.
pub(super) fn keep_server_logs(venue: &Venue, folder: &Path) {
    for node in venue
        .stack
        .kafka
        .nodes()
        .iter()
        .chain(venue.stack.cassandra.nodes())
    {
        let copy = folder.join(format!("{}.log", node.name()));
        if let Err(error) = std::fs::copy(node.log(), &copy) {
            tracing::warn!(%error, copy = %copy.display(), "a server's log was not kept");
        }
    }
}

/// What the laws looked at, for people to look at it, too.
pub(super) fn keep_evidence(evidence: &Evidence, folder: &Path) {
    let path = folder.join("evidence.json");
    if let Err(error) = std::fs::write(&path, dump(evidence).to_string()) {
        tracing::warn!(%error, path = %path.display(), "the evidence was not kept");
    }
}
