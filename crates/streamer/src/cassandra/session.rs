//! A session with one node, whose replies can be trusted.
//!
//! Every call has a timeout. After a timeout or a connection error the session is poisoned and not used any more,
//! because a later reply may belong to another request. It sends to its node alone, so other sessions are not affected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::frame::message_error::ErrorType;
use cdrs_tokio::frame::message_query::BodyReqQuery;
use cdrs_tokio::frame::message_response::ResponseBody;
use cdrs_tokio::frame::message_result::{BodyResResultPrepared, BodyResResultRows, ResResultBody, TableSpec};
use cdrs_tokio::frame::{Direction, Envelope, Flags, Opcode};
use cdrs_tokio::query::{PreparedQuery, QueryParams, QueryValues};
use cdrs_tokio::statement::StatementParams;
use cdrs_tokio::transport::{CdrsTransport as _, TransportTcp};
use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use futures::future::try_join_all;
use service::failpoint;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cassandra::connection::connector::ConnectionConfig;
use crate::cassandra::connection::stream_id_limiter::StreamIdLimiter;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::statements::{LedgerStatements, PreparedStatements};
use crate::cassandra::wire::{BatchRequest, VERSION};
use crate::config::CassandraSettings;

/// How often a statement is prepared again for one request. A node that forgets it again is not waited for.
const MAX_PREPARATIONS: usize = 3;

/// The connections to one node, with its prepared statements.
pub struct Session {
    node: Uuid,
    address: SocketAddr,
    connections: Vec<TransportTcp>,
    /// Requests use the connections in turn.
    next: AtomicUsize,
    stream_ids: StreamIdLimiter,
    poison: CancellationToken,
    request_timeout: Duration,
    consistency: Consistency,
    statements: OnceCell<PreparedStatements>,
    ledger: OnceCell<LedgerStatements>,
}

impl Session {
    /// Connects to the node at `address`.
    ///
    /// # Errors
    /// The driver's message. Also if the connections reach different nodes, as through a load balancer.
    pub(super) async fn connect(
        settings: &CassandraSettings,
        connections: &ConnectionConfig,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let connect = || async {
            let connection = connections.connect(address).await?;
            let limit = settings.request_timeout;
            let node = timeout(limit, host_id(&connection)).await;
            let node = node.map_err(|_| cdrs_tokio::Error::Timeout("host id".to_owned()))??;
            cdrs_tokio::Result::Ok((node, connection))
        };
        let connected = try_join_all((0..connections.count).map(|_| connect())).await;
        let connected = connected.map_err(|error| format!("{address}: {error}"))?;
        let node = connected[0].0;
        if connected.iter().any(|(other, _)| *other != node) {
            return Err(format!("{address}: connections reach different nodes"));
        }
        Ok(Self {
            node,
            address,
            connections: connected.into_iter().map(|(_, connection)| connection).collect(),
            next: AtomicUsize::new(0),
            stream_ids: StreamIdLimiter::default(),
            poison: CancellationToken::new(),
            request_timeout: settings.request_timeout,
            consistency: settings.consistency.into(),
            statements: OnceCell::new(),
            ledger: OnceCell::new(),
        })
    }

    /// The `host_id` of the node.
    pub fn node(&self) -> Uuid {
        self.node
    }

    /// The address of the node.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a prepared statement and waits for the reply. If the node does not know the statement, it is prepared again.
    ///
    /// # Errors
    /// The [`ErrorClass`]. After [`ErrorClass::Reconnect`] the session is poisoned.
    pub async fn execute(
        &self,
        statement: &PreparedQuery,
        parameters: &StatementParams,
    ) -> Result<Envelope, ErrorClass> {
        let metadata = statement.result_metadata_id.load();
        let envelope = Envelope::new_req_execute(
            &statement.id,
            metadata.as_deref(),
            &parameters.query_params,
            Flags::empty(),
            VERSION,
        );
        self.send_prepared(&envelope, std::slice::from_ref(statement))
            .await
    }

    /// Executes a prepared query and returns one page of its rows.
    ///
    /// # Errors
    /// As [`execute`](Self::execute); [`ErrorClass::Invalid`] if the reply has no rows.
    pub async fn execute_for_rows(
        &self,
        query: &PreparedQuery,
        parameters: &StatementParams,
    ) -> Result<BodyResResultRows, ErrorClass> {
        let reply = self.execute(query, parameters).await?;
        let body = reply
            .response_body()
            .map_err(|error| ErrorClass::classify(&error))?;
        match body {
            ResponseBody::Result(ResResultBody::Rows(rows)) => Ok(rows),
            _ => Err(ErrorClass::Invalid("the reply has no rows".to_owned())),
        }
    }

    /// Sends a batch of these statements and waits for the reply. If the node does not know one, it is prepared again.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn batch(&self, batch: BatchRequest, statements: &[PreparedQuery]) -> Result<(), ErrorClass> {
        let body = batch.finish(self.consistency);
        let (request, no_flags) = (Direction::Request, Flags::empty());
        let envelope = Envelope::new(
            VERSION,
            request,
            no_flags,
            Opcode::Batch,
            0,
            body,
            None,
            Vec::new(),
        );
        self.send_prepared(&envelope, statements).await.map(drop)
    }

    /// Sends a request that uses these statements.
    async fn send_prepared(
        &self,
        envelope: &Envelope,
        statements: &[PreparedQuery],
    ) -> Result<Envelope, ErrorClass> {
        self.call(async {
            let mut result = self.send(envelope).await;
            for _ in 0..MAX_PREPARATIONS {
                let Some(statement) = unprepared(&result, statements) else {
                    break;
                };
                self.send_prepare(&statement.query).await?;
                result = self.send(envelope).await;
            }
            result
        })
        .await
    }

    async fn send(&self, envelope: &Envelope) -> cdrs_tokio::Result<Envelope> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        self.connections[next].write_envelope(envelope, false).await
    }

    async fn send_prepare(&self, cql: &str) -> cdrs_tokio::Result<BodyResResultPrepared> {
        let envelope = Envelope::new_req_prepare(cql.to_owned(), None, Flags::empty(), VERSION);
        let reply = self.send(&envelope).await?.response_body()?;
        let prepared = reply.into_prepared();
        prepared.ok_or_else(|| cdrs_tokio::Error::from("the reply has no prepared statement"))
    }

    /// Runs a statement with positional values.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn query(&self, cql: &str, values: Vec<Value>) -> Result<Vec<Row>, ErrorClass> {
        self.query_at(self.consistency, cql, values).await
    }

    /// Queries a table that only the node itself holds, as those of the keyspace `system`.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub(super) async fn query_node(&self, cql: &str, values: Vec<Value>) -> Result<Vec<Row>, ErrorClass> {
        self.query_at(Consistency::One, cql, values).await
    }

    async fn query_at(
        &self,
        consistency: Consistency,
        cql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, ErrorClass> {
        let query = BodyReqQuery {
            query: cql.to_owned(),
            query_params: QueryParams {
                consistency,
                values: (!values.is_empty()).then_some(QueryValues::SimpleValues(values)),
                ..QueryParams::default()
            },
        };
        let envelope = Envelope::new_query(query, Flags::empty(), VERSION);
        let reply = self.call(self.send(&envelope)).await?;
        let body = reply
            .response_body()
            .map_err(|error| ErrorClass::classify(&error))?;
        Ok(body.into_rows().unwrap_or_default())
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn prepare(&self, cql: &str) -> Result<PreparedQuery, ErrorClass> {
        let prepared = self.call(self.send_prepare(cql)).await?;
        let table = prepared.metadata.global_table_spec;
        Ok(PreparedQuery {
            id: prepared.id,
            query: cql.to_owned(),
            keyspace: table.map(|TableSpec { ks_name, .. }| ks_name),
            pk_indexes: prepared.metadata.pk_indexes,
            result_metadata_id: prepared.result_metadata_id.map(Arc::new).into(),
        })
    }

    /// The cell that [`prepare`](crate::cassandra::prepare) fills with the prepared statements.
    pub(super) fn statements(&self) -> &OnceCell<PreparedStatements> {
        &self.statements
    }

    /// The cell that the ledger's [`store`](crate::ledger::store) fills with its statements.
    pub(crate) fn ledger(&self) -> &OnceCell<LedgerStatements> {
        &self.ledger
    }

    /// The consistency level of every statement.
    pub fn consistency(&self) -> Consistency {
        self.consistency
    }

    /// Resolves once the session is poisoned and its replies can't be trusted any more.
    pub async fn poisoned(&self) {
        self.poison.cancelled().await;
    }

    /// Whether the session is poisoned, or has lost a connection.
    pub fn is_poisoned(&self) -> bool {
        if self.connections.iter().any(|connection| connection.is_broken()) {
            self.poison.cancel();
        }
        self.poison.is_cancelled()
    }

    async fn call<T>(&self, call: impl Future<Output = cdrs_tokio::Result<T>>) -> Result<T, ErrorClass> {
        let result = timeout(self.request_timeout, async {
            let slot = self.stream_ids.acquire().await;
            (slot, call.await)
        })
        .await;
        let error = match result {
            Ok((slot, Ok(reply))) => {
                self.stream_ids.release(slot);
                return Ok(reply);
            }
            Ok((slot, Err(error))) => {
                let error = ErrorClass::classify(&error);
                if !matches!(error, ErrorClass::Reconnect { .. }) {
                    self.stream_ids.release(slot);
                }
                error
            }
            Err(_) => {
                let error = format!(
                    "no reply within cassandra.request_timeout ({} ms)",
                    self.request_timeout.as_millis()
                );
                ErrorClass::Reconnect {
                    label: "request_timeout",
                    error,
                }
            }
        };
        if matches!(error, ErrorClass::Reconnect { .. }) && !failpoint::inject("session_kept") {
            self.poison.cancel();
        }
        Err(error)
    }
}

#[cfg(test)]
impl Session {
    /// A session for tests of what keeps sessions. It can't send.
    pub(crate) fn without_connections() -> Arc<Self> {
        Arc::new(Self {
            node: Uuid::nil(),
            address: SocketAddr::from(([127, 0, 0, 1], 9042)),
            connections: Vec::new(),
            next: AtomicUsize::new(0),
            stream_ids: StreamIdLimiter::default(),
            poison: CancellationToken::new(),
            request_timeout: Duration::from_secs(1),
            consistency: Consistency::LocalQuorum,
            statements: OnceCell::new(),
            ledger: OnceCell::new(),
        })
    }

    pub(crate) fn poison(&self) {
        self.poison.cancel();
    }
}

/// Returns the id of the node at the other end of a connection.
async fn host_id(connection: &TransportTcp) -> cdrs_tokio::Result<Uuid> {
    let query = BodyReqQuery {
        query: "SELECT host_id FROM system.local".to_owned(),
        query_params: QueryParams::default(),
    };
    let envelope = Envelope::new_query(query, Flags::empty(), VERSION);
    let reply = connection.write_envelope(&envelope, false).await?;
    let rows = reply.response_body()?.into_rows().unwrap_or_default();
    let id = rows.first().and_then(|row| row.by_name("host_id").ok().flatten());
    id.ok_or_else(|| cdrs_tokio::Error::from("the node does not report its host id"))
}

/// Returns the statement that the node does not know, if that is the error.
fn unprepared<'a>(
    result: &cdrs_tokio::Result<Envelope>,
    statements: &'a [PreparedQuery],
) -> Option<&'a PreparedQuery> {
    let Err(cdrs_tokio::Error::Server { body, .. }) = result else {
        return None;
    };
    let ErrorType::Unprepared(unprepared) = &body.ty else {
        return None;
    };
    statements.iter().find(|statement| statement.id == unprepared.id)
}
