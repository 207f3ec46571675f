//! Finds a leader of a topic's partitions that does not respond. Leaders may be unreachable although the bootstrap
//! servers respond: a broker reports addresses that it was configured to advertise, and a client may not reach those.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::metadata::Metadata;

use crate::rebootstrap::has_no_response;

/// Requests the offsets of one partition from each leader of `topic`. Returns the address of one that does not respond,
/// with the cause. Blocks for up to `timeout`.
pub fn unresponsive_leader<C: ClientContext>(
    client: &Client<C>,
    metadata: &Metadata,
    topic: &str,
    timeout: Duration,
) -> Option<String> {
    let until = Instant::now() + timeout;
    let topic = metadata.topics().iter().find(|found| found.name() == topic)?;
    let mut requested = BTreeSet::new();
    topic.partitions().iter().find_map(|partition| {
        if partition.leader() < 0 || !requested.insert(partition.leader()) {
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        let response = client.fetch_watermarks(topic.name(), partition.id(), left);
        let leader = leader_address(metadata, topic.name(), partition.id())?;
        let error = has_no_response(&response).then(|| response.err())??;
        Some(format!(
            "{leader}, the leader of partition {}, does not respond: {error}",
            partition.id()
        ))
    })
}

/// Returns the address that the leader of a partition advertises.
pub(crate) fn leader_address(metadata: &Metadata, topic: &str, partition: i32) -> Option<String> {
    let topic = metadata.topics().iter().find(|found| found.name() == topic)?;
    let partition = topic.partitions().iter().find(|found| found.id() == partition)?;
    let leader = partition.leader();
    let broker = metadata.brokers().iter().find(|broker| broker.id() == leader)?;
    Some(format!("{}:{}", broker.host(), broker.port()))
}
