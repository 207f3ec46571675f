//! What the services of a round share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use testkit::cassandra_client::{CassandraClient, CassandraClientError};
use testkit::record_type::RecordType;

use crate::cluster::Cluster;
use crate::cluster::small_disk::SmallDisk;
use crate::scenario::fault::Release;
use crate::service_id::ServiceId;

/// The password of [`RoundConfig::role`].
pub(crate) const ROLE_PASSWORD: &str = "campaign";

/// Names, folders and settings of a round.
#[derive(Clone, Debug)]
pub(crate) struct RoundConfig {
    /// The records of the round.
    pub(crate) record: RecordType,
    /// The time to live of rows; none if they do not expire. Longer than a round, with any shifted clock.
    pub(crate) row_ttl: Option<Duration>,
    /// Name of the topic, the keyspace and the consumer group.
    pub(crate) name: String,
    /// For logs and the ingester's state.
    pub(crate) folder: PathBuf,
    /// The services' binaries; by default those next to this one.
    pub(crate) binaries: Option<PathBuf>,
    /// The binaries of the previous release, if the round needs them.
    pub(crate) previous: Option<PathBuf>,
    /// The release of all services at the start.
    pub(crate) starts_as: Release,
    /// The failpoint that is active in every service.
    pub(crate) failpoint: Option<&'static str>,
    /// Seconds by which the clock of a service is shifted.
    pub(crate) clock_shifts: BTreeMap<ServiceId, i64>,
    /// The library that shifts clocks, if one is shifted.
    pub(crate) clock_library: Option<PathBuf>,
    /// For the ingester's state, if it needs a disk of its own.
    pub(crate) disk: Option<Arc<SmallDisk>>,
    /// Whether streamers send tombstones to the dead-letter topic.
    pub(crate) tombstones_to_dead_letters: bool,
    /// The streamers' role, where they must log in.
    pub(crate) role: Option<String>,
    /// Whether streamers have an instance id.
    pub(crate) static_members: bool,
}

impl RoundConfig {
    /// The oracle's client of the round's table, which uses no proxy.
    pub(crate) async fn cassandra_client(
        &self,
        cluster: &Cluster,
    ) -> Result<CassandraClient, CassandraClientError> {
        let points = cluster.stack.cassandra.contact_points();
        let client = CassandraClient::connect(&points, self.name.as_str()).await?;
        Ok(client.for_record(self.record.contract().clone(), self.record.table()))
    }

    pub(crate) fn dead_letter_topic(&self) -> String {
        format!("{}.dead_letter", self.name)
    }

    /// The folder in which a service finds its requested crashes.
    pub(crate) fn crash_requests(&self, id: ServiceId) -> PathBuf {
        self.folder.join(format!("{id}.crash_points"))
    }
}
