//! The Kafka and Cassandra clients of the commands.
//!
//! A request is retried until it succeeds or times out. The error then names the server and the last reason. While no
//! connection can be established, the timeout is shorter.

mod permissions;
mod scans;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use model::Contract;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::config::TopicName;
use service::{Backoff, Health, Metrics};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use crate::admin::error::CommandError;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::{self, SchemaError, TableInfo};
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::SessionPool;
use crate::cassandra::writer::{RejectedRow, RowWrite, RowWriter};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::start_offset_resolver;
use crate::checkpoint::store::{CheckpointStore, instance};
use crate::config::{KafkaSettings, NAME, Settings};
use crate::consumer::client;
use crate::ledger::ledger_run::LedgerRun;
use crate::ledger::segment::Segment;
use crate::ledger::store::LedgerStore;
use crate::metrics::StreamerMetrics;
use crate::pipeline::consumed_record::Decoder;
use crate::pipeline::row::TableShape;
use ::kafka::ClientRejected;
use ::kafka::{Group, GroupMember, MetadataClient, TopicInfo};

/// The timeout of a request, including its retries.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The timeout of a request while connections fail. An operator sees the address and the cause within 5 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The timeout of one request to Kafka, before it is repeated.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the nodes may disagree on the schema, because a new table is not known to all nodes at once.
const SCHEMA_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Kafka, Cassandra and the group's checkpoints.
pub(super) struct Clients {
    settings: Settings,
    contract: Arc<Contract>,
    health: Health,
    sessions: Arc<SessionPool>,
    metadata: Arc<MetadataClient>,
    dead_letter_metadata: Arc<MetadataClient>,
    checkpoints: CheckpointStore,
    ledger: LedgerStore,
}

impl Clients {
    /// Creates clients that connect on the first request.
    ///
    /// # Errors
    /// When librdkafka rejects the configuration, or both topics are the same.
    pub(super) fn new(settings: Settings, contract: Arc<Contract>) -> Result<Self, CommandError> {
        let settings = settings.resolve(&contract)?;
        let health = Health::default();
        let dependency = health.dependency("cassandra");
        let sessions = Arc::new(SessionPool::new(
            settings.cassandra.clone(),
            Arc::clone(&contract),
            dependency,
        ));
        let metadata = |topic: &Option<TopicName>| {
            let topic = topic.clone();
            let settings = KafkaSettings {
                topic,
                probe_interval: KAFKA_TIMEOUT,
                ..settings.kafka.clone()
            };
            client::metadata(&settings)
                .map(Arc::new)
                .map_err(|error| ClientRejected::configuration(&settings.brokers, error))
        };
        let dead_letter_metadata = metadata(&settings.kafka.dead_letter_topic)?;
        let metadata = metadata(&settings.kafka.topic)?;
        let checkpoints = CheckpointStore::new(&settings, Arc::clone(&contract), instance());
        let ledger = LedgerStore::new(&settings, &instance());
        Ok(Self {
            settings,
            contract,
            health,
            sessions,
            metadata,
            dead_letter_metadata,
            checkpoints,
            ledger,
        })
    }

    /// The configuration.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The contract of the records.
    pub(super) fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// A decoder of the topic's records. It counts no partition mismatches: they were counted when the records were
    /// consumed.
    pub(super) fn decoder(&self, shape: TableShape) -> Decoder {
        Decoder {
            contract: Arc::clone(&self.contract),
            shape,
            tombstones: self.settings.tombstones,
            partitions: 1,
        }
    }

    /// Sends a request about the topic or the group to Kafka.
    ///
    /// # Errors
    /// When Kafka rejects the client, or does not respond in time.
    pub(super) async fn kafka<T: Send + 'static>(
        &self,
        operation: impl Fn(&MetadataClient) -> Result<T, KafkaError> + Clone + Send + 'static,
    ) -> Result<T, CommandError> {
        self.request(&self.metadata, self.settings.kafka.topic(), operation)
            .await
    }

    async fn request<T: Send + 'static>(
        &self,
        metadata: &Arc<MetadataClient>,
        topic: &str,
        operation: impl Fn(&MetadataClient) -> Result<T, KafkaError> + Clone + Send + 'static,
    ) -> Result<T, CommandError> {
        let started = Instant::now();
        let mut delays = Backoff::default().delays();
        loop {
            let error = match metadata.request(operation.clone()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if ::kafka::is_rejected(&error) {
                let group = &self.settings.kafka.group;
                let operation = format!("read the metadata of topic {topic} and group {group}");
                return Err(ClientRejected::new(&operation, &self.settings.kafka.brokers, error).into());
            }
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
                return Err(CommandError::NoTopic(topic.to_owned()));
            }
            let is_unreachable = metadata.connection_error().is_some();
            let timeout = if is_unreachable { CONNECT_TIMEOUT } else { TIMEOUT };
            if started.elapsed() >= timeout {
                return Err(timed_out("kafka", timeout, metadata.describe(&error)));
            }
            sleep(delays.next().unwrap_or(TIMEOUT)).await;
        }
    }

    /// Sends a request to Cassandra.
    ///
    /// # Errors
    /// When Cassandra rejects the request, or does not respond in time.
    pub(super) async fn cassandra<T>(
        &self,
        request: impl AsyncFn(&Session) -> Result<T, SchemaError>,
    ) -> Result<T, CommandError> {
        let until = Instant::now() + TIMEOUT;
        let mut disagreement = None;
        let mut delays = self.settings.cassandra.backoff.delays();
        loop {
            let session = self.session(until).await?;
            let reason = match request(&session).await {
                Err(SchemaError::Failed {
                    operation,
                    error: error @ (ErrorClass::Retry { .. } | ErrorClass::Reconnect { .. }),
                }) => format!("failed to {operation}: {error}"),
                Err(SchemaError::Failed {
                    operation,
                    error: ErrorClass::Invalid(error),
                }) if disagreement.get_or_insert_with(Instant::now).elapsed() < SCHEMA_AGREEMENT_TIMEOUT => {
                    format!("failed to {operation}: {error}")
                }
                response => return response.map_err(CommandError::Schema),
            };
            if Instant::now() >= until {
                return Err(timed_out("cassandra", TIMEOUT, reason));
            }
            sleep(delays.next().unwrap_or(TIMEOUT)).await;
        }
    }

    /// Returns a session. Fails after [`CONNECT_TIMEOUT`] if an attempt has failed by then, otherwise at `until`.
    async fn session(&self, until: Instant) -> Result<Arc<Session>, CommandError> {
        let mut session = std::pin::pin!(self.sessions.get());
        if let Ok(session) = timeout(CONNECT_TIMEOUT, &mut session).await {
            return Ok(session?);
        }
        if self.has_failed_to_connect() {
            return Err(timed_out("cassandra", CONNECT_TIMEOUT, self.last_reason()));
        }
        let session = timeout_at(until, session).await;
        Ok(session.map_err(|_| timed_out("cassandra", TIMEOUT, self.last_reason()))??)
    }

    /// Whether the session pool has reported a failed attempt.
    fn has_failed_to_connect(&self) -> bool {
        self.failure()
            .is_some_and(|reason| reason != Health::NOT_YET_REACHED)
    }

    fn failure(&self) -> Option<String> {
        let dependencies = self.health.readiness().dependencies;
        dependencies.into_iter().find_map(|it| it.reason)
    }

    fn last_reason(&self) -> String {
        let points = self.settings.cassandra.contact_points.join(",");
        let reason = self.failure().unwrap_or_default();
        format!("cassandra.contact_points {points}: {reason}")
    }

    /// Returns the members of the group.
    ///
    /// # Errors
    /// As [`kafka`](Self::kafka).
    pub(super) async fn group(&self) -> Result<Group, CommandError> {
        self.kafka(MetadataClient::group).await
    }

    /// Whether a member is an application of another kind.
    pub(super) fn is_foreign(&self, member: &GroupMember) -> bool {
        self.metadata.is_foreign(member)
    }

    /// Returns the number of members of the group.
    ///
    /// # Errors
    /// [`CommandError::UncountableMembers`], and as [`kafka`](Self::kafka).
    async fn count_members(&self) -> Result<usize, CommandError> {
        match self.group().await? {
            Group::Members(members) => Ok(members.len()),
            Group::Unknown { state } => Err(CommandError::UncountableMembers {
                group: self.settings.kafka.group.clone(),
                state,
            }),
        }
    }

    /// Fails unless the group certainly has no members, because they would overwrite checkpoints.
    ///
    /// # Errors
    /// [`CommandError::Members`] or [`CommandError::UncountableMembers`], and as [`kafka`](Self::kafka).
    pub(super) async fn require_no_members(&self) -> Result<(), CommandError> {
        match self.count_members().await? {
            0 => Ok(()),
            members => Err(CommandError::Members {
                group: self.settings.kafka.group.clone(),
                members,
                session: self.settings.kafka.session_timeout,
            }),
        }
    }

    /// Returns the group's checkpoints; none if the group never ran.
    ///
    /// # Errors
    /// As [`cassandra`](Self::cassandra).
    pub(super) async fn checkpoints(&self) -> Result<Vec<Checkpoint>, CommandError> {
        self.cassandra(async |session| {
            if !schema::has_checkpoint_table(session, &self.settings.cassandra).await? {
                return Ok(Vec::new());
            }
            let read = self.checkpoints.load(session).await;
            read.map_err(|error| SchemaError::Failed {
                operation: "read the checkpoints",
                error,
            })
        })
        .await
    }

    /// Returns what became of a run's records.
    ///
    /// # Errors
    /// As [`cassandra`](Self::cassandra).
    pub(super) async fn run(&self, run: Uuid) -> Result<LedgerRun, CommandError> {
        let settings = &self.settings.cassandra;
        self.cassandra(async |session| {
            let table_id = schema::table_id(session, settings).await?;
            let read = self.ledger.load(session, run, table_id).await;
            read.map_err(|error| SchemaError::Failed {
                operation: "read the run ledger",
                error,
            })
        })
        .await
    }

    /// Writes segments of the run ledger. A group whose streamers never had one gets none.
    ///
    /// # Errors
    /// As [`cassandra`](Self::cassandra).
    pub(super) async fn store_segments(&self, segments: &[Segment]) -> Result<(), CommandError> {
        let settings = &self.settings.cassandra;
        self.cassandra(async |session| {
            if segments.is_empty() || !schema::has_ledger(session, settings).await? {
                return Ok(());
            }
            let write = self.ledger.save(session, segments).await;
            write.map_err(|error| SchemaError::Failed {
                operation: "write the run ledger",
                error,
            })
        })
        .await
    }

    /// Returns the table if it exists.
    ///
    /// # Errors
    /// When the table does not fit, and as [`cassandra`](Self::cassandra).
    pub(super) async fn table(&self) -> Result<Option<TableInfo>, CommandError> {
        let settings = &self.settings.cassandra;
        self.cassandra(async |session| match schema::table_id(session, settings).await? {
            Some(_) => schema::verify(session, settings, &self.contract).await.map(Some),
            None => Ok(None),
        })
        .await
    }

    /// Fails if this role reads masks instead of values.
    ///
    /// # Errors
    /// [`CommandError::Masked`], and as [`cassandra`](Self::cassandra).
    pub(super) async fn require_unmasked_values(&self) -> Result<(), CommandError> {
        let settings = &self.settings.cassandra;
        let columns = self
            .cassandra(async |session| schema::masked_columns(session, settings).await)
            .await?;
        // Without a login every client reads the values.
        let (false, Some(role)) = (columns.is_empty(), &settings.username) else {
            return Ok(());
        };
        let is_unmasked = self
            .cassandra(async |session| permissions::may_unmask(session, settings, role).await)
            .await?;
        if is_unmasked {
            return Ok(());
        }
        Err(CommandError::Masked {
            role: role.clone(),
            table: self.table_name(),
            columns: columns.join(", "),
        })
    }

    /// Returns the `gc_grace_seconds` of the table.
    ///
    /// # Errors
    /// As [`cassandra`](Self::cassandra).
    pub(super) async fn gc_grace_seconds(&self) -> Result<i32, CommandError> {
        let settings = &self.settings.cassandra;
        self.cassandra(async |session| schema::gc_grace_seconds(session, settings).await)
            .await
    }

    /// Returns the id of the table if it exists, whether it fits or not.
    ///
    /// # Errors
    /// As [`cassandra`](Self::cassandra).
    pub(super) async fn table_id(&self) -> Result<Option<Uuid>, CommandError> {
        let settings = &self.settings.cassandra;
        self.cassandra(async |session| schema::table_id(session, settings).await)
            .await
    }

    /// Returns the error of a command that needs the missing table.
    pub(super) fn no_table(&self) -> CommandError {
        CommandError::NoTable {
            table: self.table_name(),
            create: schema::create_table(&self.settings.cassandra, &self.contract),
        }
    }

    /// Keyspace and table.
    pub(super) fn table_name(&self) -> String {
        self.settings.cassandra.qualified_table()
    }

    /// Creates a writer for the verified table.
    pub(super) fn writer(&self, table: TableInfo) -> RowWriter {
        let metrics = StreamerMetrics::new(&Metrics::new(NAME));
        RowWriter::new(Arc::clone(&self.sessions), table, Arc::new(metrics))
    }

    /// Writes rows. Returns those whose values Cassandra rejects.
    ///
    /// # Errors
    /// When Cassandra rejects the statement, or does not acknowledge it in time. Some rows may be written.
    pub(super) async fn write(
        &self,
        writer: &RowWriter,
        writes: &[RowWrite],
    ) -> Result<Vec<RejectedRow>, CommandError> {
        let written = timeout(TIMEOUT, writer.write(writes)).await;
        let written = written.map_err(|_| timed_out("cassandra", TIMEOUT, self.last_reason()))?;
        Ok(written.map_err(CommandError::Write)?.rejected)
    }

    /// Writes checkpoints and reads them back.
    ///
    /// # Errors
    /// When the checkpoints are not read back, or a streamer has joined in the meantime.
    pub(super) async fn store(&self, checkpoints: &[Checkpoint]) -> Result<(), CommandError> {
        self.cassandra(async |session| {
            let write = self.checkpoints.save(session, &self.settings, checkpoints).await;
            write.map_err(|error| SchemaError::Failed {
                operation: "write the checkpoints",
                error,
            })
        })
        .await?;
        start_offset_resolver::verify_read_back(checkpoints, &self.checkpoints().await?)?;
        match self.count_members().await? {
            0 => Ok(()),
            _ => Err(CommandError::Joined {
                group: self.settings.kafka.group.clone(),
            }),
        }
    }
}

/// Requests the topic, and first and end offset of each of its partitions.
///
/// # Errors
/// When the cluster does not respond in time, or the topic does not exist.
pub(super) fn watermarks(metadata: &MetadataClient) -> Result<(TopicInfo, Vec<(i64, i64)>), KafkaError> {
    let topic = metadata.topic()?;
    let partitions: Vec<_> = (0..topic.partitions).collect();
    Ok((topic, metadata.all_watermarks(&partitions)?))
}

fn timed_out(server: &'static str, timeout: Duration, reason: String) -> CommandError {
    CommandError::Timeout {
        server,
        timeout,
        reason,
    }
}
