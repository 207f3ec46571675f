//! Metadata requests: topic, partitions, watermarks, committed offsets and group members.
//!
//! Every call blocks for at most its timeout, so async code calls it through [`MetadataClient::request`].

pub mod group;
pub mod leaders;
pub mod list_offsets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use self::group::{Group, GroupMember};
use self::leaders::leader_address;
use self::list_offsets::{ListedOffset, OffsetSpec, list_offsets};
use crate::client::Connection;
use crate::error::is_rejection;
use crate::events::ClientEvents;
use crate::rebootstrap::RebootstrapMonitor;
use crate::topic::alter_topic::alter_topic;
use crate::topic::topic_id;

/// A consumer without an assignment that only sends metadata requests.
pub struct MetadataClient {
    consumer: BaseConsumer<ClientEvents>,
    rebootstrap: RebootstrapMonitor,
    topic: String,
    group: String,
    /// The client id of every process of this kind, unless the operator has set one.
    client_id: Option<String>,
    brokers: String,
    timeout: Duration,
}

/// The current topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id. Nil: unknown, see [`same_topic`](crate::same_topic).
    pub id: Uuid,
    /// Its number of partitions.
    pub partitions: i32,
}

/// The offsets of a topic's partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// The first and the end offset of each partition whose leader has responded.
    pub offsets: BTreeMap<i32, (i64, i64)>,
    /// Why each other partition has none.
    pub missing: BTreeMap<i32, String>,
}

/// Whether a partition of the only topic in `metadata` has a leader.
fn has_leader(metadata: &Metadata, partition: i32) -> bool {
    let mut partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    partitions.any(|found| found.id() == partition && found.leader() >= 0)
}

fn is_timeout(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::OperationTimedOut | Code::RequestTimedOut | Code::NoEnt)
    )
}

/// Events that are searched for a rejection. Each failed connection adds one.
const MAX_EVENTS: usize = 100;

impl MetadataClient {
    /// Creates a client of the group and topic that connects on the first request.
    ///
    /// # Errors
    /// When librdkafka rejects the configuration.
    pub fn new(
        connection: &Connection,
        group: &str,
        topic: &str,
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let consumer = connection
            .config()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create_with_context(ClientEvents::new(connection))?;
        let brokers = connection.brokers().to_owned();
        Ok(Self {
            consumer,
            rebootstrap: RebootstrapMonitor::new(&brokers),
            topic: topic.to_owned(),
            group: group.to_owned(),
            client_id: connection.default_client_id().map(str::to_owned),
            brokers,
            timeout,
        })
    }

    /// Describes a failed request with the setting and the addresses of the brokers, and with the last error of a
    /// connection.
    pub fn describe(&self, error: &KafkaError) -> String {
        let Self { topic, brokers, .. } = self;
        let failed = format!("failed to access topic `{topic}` at kafka.brokers {brokers}: {error}");
        match self.connection_error() {
            Some(cause) => format!("{failed}; {cause}"),
            None => failed,
        }
    }

    /// The last error of a connection since the last successful request, with address and cause.
    pub fn connection_error(&self) -> Option<String> {
        self.consumer.context().connection_error()
    }

    /// Runs `request` on a blocking thread.
    ///
    /// # Errors
    /// The error of the request. A broker that rejects the client responds to no request, so a pending rejection takes
    /// precedence.
    pub async fn request<T: Send + 'static>(
        self: &Arc<Self>,
        request: impl FnOnce(&Self) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let client = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let earlier = client.rejection();
            let response = request(&client);
            client.rebootstrap.observe(client.consumer.client(), &response);
            if response.is_ok() {
                client.consumer.context().clear();
            }
            response.map_err(|error| client.rejection().or(earlier).unwrap_or(error))
        })
        .await
        .unwrap_or(Err(KafkaError::Canceled))
    }

    /// Returns the rejection among librdkafka's events, which are the only report of rejected credentials. A poll returns
    /// nothing for an event that the context handles, such as a log line, although others may follow.
    fn rejection(&self) -> Option<KafkaError> {
        (0..MAX_EVENTS)
            .filter_map(|_| self.consumer.poll(Duration::ZERO)?.err())
            .find(|error| self.consumer.context().is_rejected(error))
    }

    /// The number of partitions of a topic, or `None` if it does not exist. A topic that this client may not describe does
    /// not exist for it.
    ///
    /// # Errors
    /// When the cluster does not respond in time.
    pub fn partitions_of(&self, name: &str) -> Result<Option<usize>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(name), self.timeout)?;
        Ok(metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| topic.partitions().len())
            .find(|partitions| *partitions > 0))
    }

    /// Returns the topic's id and number of partitions.
    ///
    /// # Errors
    /// When the cluster does not respond in time, or the topic does not exist or may not be described.
    pub fn topic(&self) -> Result<TopicInfo, KafkaError> {
        // In this order: the id request needs a connection, and does not reconnect by itself.
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), self.timeout)?;
        let found = metadata.topics().first();
        let error = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
        if let Some(rejected) = error.filter(|code| is_rejection(*code)) {
            return Err(KafkaError::MetadataFetch(rejected));
        }
        let found = found.map_or(0, |topic| topic.partitions().len());
        let partitions = i32::try_from(found).unwrap_or(i32::MAX);
        if partitions == 0 {
            return Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::UnknownTopicOrPartition,
            ));
        }
        let id = topic_id::topic_id(self.consumer.client(), &self.topic, self.timeout)?;
        Ok(TopicInfo { id, partitions })
    }

    /// Returns the first and the end offset of each partition whose leader responds. The end is that of the committed
    /// records.
    ///
    /// # Errors
    /// When the cluster does not respond in time.
    pub fn watermarks(&self, partitions: &[i32]) -> Result<Watermarks, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), self.timeout)?;
        let (led, leaderless): (Vec<_>, Vec<_>) = partitions
            .iter()
            .partition(|partition| has_leader(&metadata, **partition));
        let beginnings = self.list_offsets(&led, OffsetSpec::Beginning)?;
        let ends = self.list_offsets(&led, OffsetSpec::CommittedEnd)?;
        let mut found = Watermarks::default();
        for partition in led {
            match (beginnings.get(&partition), ends.get(&partition)) {
                (Some(beginning), Some(end)) => {
                    found.offsets.insert(partition, (beginning.offset, end.offset));
                }
                _ => {
                    let leader = leader_address(&metadata, &self.topic, partition).unwrap_or_default();
                    let reason = format!("{leader}, the leader of partition {partition}, does not respond");
                    found.missing.insert(partition, reason);
                }
            }
        }
        let leaderless = leaderless
            .into_iter()
            .map(|partition| (partition, format!("partition {partition} has no leader")));
        found.missing.extend(leaderless);
        Ok(found)
    }

    /// Returns the first and the end offset of each partition, as [`watermarks`](Self::watermarks).
    ///
    /// # Errors
    /// When the cluster, or the leader of a partition, does not respond in time.
    pub fn all_watermarks(&self, partitions: &[i32]) -> Result<Vec<(i64, i64)>, KafkaError> {
        let Watermarks { offsets, missing } = self.watermarks(partitions)?;
        if let Some(reason) = missing.into_values().next() {
            self.consumer.context().request_failed(reason);
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
        }
        Ok(partitions
            .iter()
            .filter_map(|partition| offsets.get(partition).copied())
            .collect())
    }

    /// Returns the end offset of each partition whose leader responds, open transactions included. Those of
    /// [`watermarks`](Self::watermarks) end before the first open transaction.
    ///
    /// # Errors
    /// When the cluster does not respond in time.
    pub fn high_watermarks(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let ends = self.log_ends(partitions)?.into_iter();
        Ok(ends.map(|(partition, end)| (partition, end.offset)).collect())
    }

    /// As [`high_watermarks`](Self::high_watermarks), with the epoch of the leader that responds.
    ///
    /// # Errors
    /// When the cluster does not respond in time.
    pub fn log_ends(&self, partitions: &[i32]) -> Result<BTreeMap<i32, ListedOffset>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), self.timeout)?;
        let led: Vec<_> = partitions
            .iter()
            .copied()
            .filter(|partition| has_leader(&metadata, *partition))
            .collect();
        self.list_offsets(&led, OffsetSpec::End)
    }

    fn list_offsets(
        &self,
        partitions: &[i32],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<i32, ListedOffset>, KafkaError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let offsets = list_offsets(
            self.consumer.client(),
            &self.topic,
            partitions,
            spec,
            self.timeout,
        );
        match offsets {
            // No leader was found, or none has responded.
            Err(error) if is_timeout(&error) => Ok(BTreeMap::new()),
            offsets => offsets,
        }
    }

    /// Returns the group's committed offset of each partition.
    ///
    /// # Errors
    /// When the cluster does not respond in time.
    pub fn committed(&self, partitions: &[i32]) -> Result<Vec<Option<i64>>, KafkaError> {
        let mut requested = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            requested.add_partition(&self.topic, *partition);
        }
        let found = self.consumer.committed_offsets(requested, self.timeout)?;
        Ok(partitions
            .iter()
            .map(
                |partition| match found.find_partition(&self.topic, *partition)?.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                },
            )
            .collect())
    }

    /// Checks that the group coordinator responds.
    ///
    /// Without it no partition is assigned, although brokers may still return cached metadata of the topic.
    ///
    /// # Errors
    /// When it does not respond in time.
    pub fn coordinator(&self) -> Result<(), KafkaError> {
        self.committed(&[0]).map(drop)
    }

    /// Returns the first offset of each partition whose record has a timestamp of at least `millis` since 1970, or
    /// the end if there is none.
    ///
    /// # Errors
    /// When the cluster does not respond in time.
    pub fn offsets_at(&self, partitions: &[i32], millis: i64) -> Result<Vec<i64>, KafkaError> {
        let mut requested = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            requested.add_partition_offset(&self.topic, *partition, Offset::Offset(millis))?;
        }
        let found = self.consumer.offsets_for_times(requested, self.timeout)?;
        let ends = self.all_watermarks(partitions)?;
        Ok(partitions
            .iter()
            .zip(ends)
            .map(|(partition, (_, end))| {
                match found
                    .find_partition(&self.topic, *partition)
                    .map(|it| it.offset())
                {
                    Some(Offset::Offset(offset)) => offset,
                    _ => end,
                }
            })
            .collect())
    }

    /// Sets these settings of the topic. The others keep their values.
    ///
    /// # Errors
    /// When the cluster does not respond in time, or rejects the change.
    pub fn alter_topic(&self, settings: &[(&str, String)]) -> Result<(), KafkaError> {
        alter_topic(self.consumer.client(), &self.topic, settings, self.timeout)
    }

    /// Returns the members of this client's group.
    ///
    /// # Errors
    /// When the cluster does not respond in time.
    pub fn group(&self) -> Result<Group, KafkaError> {
        let groups = self.consumer.fetch_group_list(Some(&self.group), self.timeout)?;
        Ok(Group::read(groups.groups().first(), &self.topic))
    }

    /// Whether a member of the group is an application of another kind, by its client id. No member is if the operator
    /// has set the id, because each process may have its own then.
    pub fn is_foreign(&self, member: &GroupMember) -> bool {
        self.client_id
            .as_ref()
            .is_some_and(|own| *own != member.client_id)
    }
}
