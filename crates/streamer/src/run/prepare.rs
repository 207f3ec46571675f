//! Prepares topics and tables, and waits until both servers are reachable.

use std::time::{Duration, Instant};

use service::Backoff;
use tokio::time::sleep;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::prepare;
use crate::cassandra::schema::{self, SchemaError, TableInfo};
use crate::cassandra::session::Session;
use crate::cassandra::statements::PreparedStatements;
use crate::cassandra::writer::probe;
use crate::consumer::topics::{self, RequestError, TopicsError};
use crate::pipeline::remaining_ttl::RowTtl;
use crate::run::{RunError, Streamer};
use ::kafka::ClientRejected;
use ::kafka::{MetadataClient, TopicInfo};

/// How long the nodes may disagree on the schema. A difference that lasts longer is an error.
const SCHEMA_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// A time to live that every server can store.
const SHORT_TTL: Duration = Duration::from_secs(60);

/// Why the tables are not prepared.
enum TablesError {
    /// The server refuses reads, or the tables can't be judged, because nodes disagree on the schema.
    Outage(String),
    /// The tables can't be used, or a request failed.
    Schema(SchemaError),
}

impl From<SchemaError> for TablesError {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}

impl Streamer {
    /// Prepares topics and tables. Returns `None` if the process shuts down before both servers are reachable.
    pub(super) async fn prepare(&self) -> Result<Option<(TopicInfo, TableInfo)>, RunError> {
        tokio::select! {
            () = self.context.shutdown.cancelled() => Ok(None),
            prepared = async { futures::try_join!(self.prepare_topics(), self.prepare_tables()) } => prepared.map(Some),
        }
    }

    async fn prepare_topics(&self) -> Result<TopicInfo, RunError> {
        let mut delays = Backoff::default().delays();
        loop {
            match self.ensure_topics().await {
                Ok(topic) => {
                    self.kafka.ready();
                    return Ok(topic);
                }
                Err(TopicsError::Retention(error)) => return Err(error.into()),
                Err(TopicsError::Kafka(RequestError { operation, source }))
                    if ::kafka::is_rejected(&source) =>
                {
                    return Err(ClientRejected::new(&operation, &self.settings.kafka.brokers, source).into());
                }
                Err(TopicsError::Kafka(error)) => self.kafka.unready(self.metadata.describe(&error.source)),
            }
            wait(&mut delays).await;
        }
    }

    /// Looks up the coordinator first: it has the address that its broker advertises, which may be unreachable although
    /// the bootstrap servers respond. Without it no partition is assigned, and administrative requests may wait for the
    /// same broker for a long time.
    async fn ensure_topics(&self) -> Result<TopicInfo, TopicsError> {
        let settings = &self.settings.kafka;
        let failed = |operation| move |source| RequestError { operation, source };
        let coordinator = self.metadata.request(MetadataClient::coordinator).await;
        coordinator.map_err(failed(format!(
            "find the coordinator of group {}",
            settings.group
        )))?;
        topics::ensure(&self.settings, &self.metadata).await?;
        let topic = self.metadata.request(MetadataClient::topic).await;
        let topic = topic.map_err(failed(format!("read the metadata of topic {}", settings.topic())));
        Ok(topic?)
    }

    async fn prepare_tables(&self) -> Result<TableInfo, RunError> {
        let mut disagreement = None;
        let mut delays = Backoff::default().delays();
        loop {
            let session = self.sessions.get().await?;
            let reason = match self.tables(&session).await {
                Ok(table) => {
                    self.sessions.readiness().table_verified();
                    return Ok(table);
                }
                Err(TablesError::Outage(reason)) => {
                    disagreement = None;
                    reason
                }
                Err(TablesError::Schema(error)) => {
                    let may_pass = match &error {
                        // A node may not know a table yet that another replica of this service has just created.
                        SchemaError::Failed {
                            error: ErrorClass::Invalid(_),
                            ..
                        } => {
                            disagreement.get_or_insert_with(Instant::now).elapsed() < SCHEMA_AGREEMENT_TIMEOUT
                        }
                        SchemaError::Failed {
                            error: ErrorClass::Retry { .. } | ErrorClass::Reconnect { .. },
                            ..
                        } => {
                            disagreement = None;
                            true
                        }
                        _ => false,
                    };
                    if !may_pass {
                        return Err(RunError::Schema(error));
                    }
                    error.to_string()
                }
            };
            self.sessions.readiness().dependency().unready(reason);
            wait(&mut delays).await;
        }
    }

    async fn tables(&self, session: &Session) -> Result<TableInfo, TablesError> {
        // A table that another replica of this service has just created must not be created again.
        let agree = schema::wait_for_agreement(session).await?;
        match self.ensure_tables(session).await {
            // Another node may know the tables as they should be.
            Err(TablesError::Schema(
                error @ (SchemaError::Different { .. } | SchemaError::Missing { .. }),
            )) if !agree => Err(TablesError::Outage(format!(
                "nodes disagree on the schema: {error}"
            ))),
            tables => tables,
        }
    }

    async fn ensure_tables(&self, session: &Session) -> Result<TableInfo, TablesError> {
        schema::ensure_checkpoints(session, &self.settings.cassandra).await?;
        schema::ensure_ledger(session, &self.settings.cassandra).await?;
        let failed = |operation| move |error| SchemaError::Failed { operation, error };
        // The keyspace may be new.
        let placed = self.sessions.refresh(session).await;
        placed.map_err(failed("read the nodes"))?;
        if let Some(reason) = self.sessions.unusable_consistency() {
            return Err(SchemaError::Consistency(reason).into());
        }
        let checkpoints = match self.checkpoints.load(session).await {
            // Their table has just been verified.
            Err(ErrorClass::Invalid(refusal)) => {
                let reason = format!("cassandra refuses checkpoints: {refusal}");
                return Err(TablesError::Outage(reason));
            }
            found => found.map_err(failed("read the checkpoints"))?,
        };
        let (settings, contract) = (&self.settings.cassandra, &self.contract);
        let table = schema::ensure_table(session, settings, contract, !checkpoints.is_empty()).await?;
        // Prepared here, so that the first record does not wait for it.
        let statements = prepare::statements(session, settings, contract)
            .await
            .map_err(failed("prepare the statements"))?;
        if let Some(row_ttl) = settings.row_ttl {
            self.try_row_ttl(session, statements, row_ttl).await?;
        }
        Ok(table)
    }

    /// Fails if the server can't store the instant at which a row written now expires.
    async fn try_row_ttl(
        &self,
        session: &Session,
        statements: &PreparedStatements,
        row_ttl: Duration,
    ) -> Result<(), SchemaError> {
        let key = probe::unused_key(&self.contract);
        let probe = async |row_ttl| {
            let row_ttl = RowTtl::new(Some(row_ttl));
            probe::probe(session, statements, &self.contract, key.wire(), row_ttl).await
        };
        let failed = |error| SchemaError::Failed {
            operation: "write with cassandra.row_ttl",
            error,
        };
        let refusal = match probe(row_ttl).await {
            Ok(()) => return Ok(()),
            Err(ErrorClass::Invalid(refusal)) => refusal,
            Err(error) => return Err(failed(error)),
        };
        match probe(SHORT_TTL).await {
            Ok(()) => Err(SchemaError::RowTtl(refusal)),
            // The server refuses every row now. The writer waits until it accepts rows again.
            Err(ErrorClass::Invalid(_)) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

async fn wait(delays: &mut (impl Iterator<Item = Duration> + Send)) {
    if let Some(delay) = delays.next() {
        sleep(delay).await;
    }
}
