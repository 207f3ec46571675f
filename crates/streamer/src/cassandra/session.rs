//! A session whose replies can be trusted.
//!
//! Every call has a timeout. After a timeout or a connection error the session is poisoned and not used any more,
//! because a later reply may belong to another request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cdrs_tokio::cluster::NodeInfo;
use cdrs_tokio::cluster::connect_generic;
use cdrs_tokio::cluster::send_envelope::send_envelope;
use cdrs_tokio::cluster::session::{
    NodeDistanceEvaluatorWrapper, ReconnectionPolicyWrapper, RetryPolicyWrapper, Session as DriverSession,
};
use cdrs_tokio::cluster::topology::{Node, NodeDistance};
use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::frame::message_error::ErrorType;
use cdrs_tokio::frame::message_response::ResponseBody;
use cdrs_tokio::frame::message_result::{BodyResResultRows, ResResultBody};
use cdrs_tokio::frame::{Direction, Envelope, Flags, Opcode};
use cdrs_tokio::load_balancing::node_distance_evaluator::NodeDistanceEvaluator;
use cdrs_tokio::load_balancing::{Request, TopologyAwareLoadBalancingStrategy};
use cdrs_tokio::query::{PreparedQuery, QueryValues};
use cdrs_tokio::retry::{ConstantReconnectionPolicy, FallthroughRetryPolicy};
use cdrs_tokio::statement::{StatementParams, StatementParamsBuilder};
use cdrs_tokio::transport::TransportTcp;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use service::failpoint;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cassandra::connection::connector::{ConnectionConfig, Connector};
use crate::cassandra::connection::stream_id_limiter::StreamIdLimiter;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::statements::{LedgerStatements, PreparedStatements};
use crate::cassandra::wire::{BatchRequest, VERSION};
use crate::config::CassandraSettings;

type DriverNode = Node<TransportTcp, Connector>;

type Driver =
    DriverSession<TransportTcp, Connector, TopologyAwareLoadBalancingStrategy<TransportTcp, Connector>>;

/// How often the driver reconnects to a lost node while others are reachable.
const RECONNECT: Duration = Duration::from_secs(1);

/// Ignores the nodes of other data centres. The driver would send to them when the local ones are down, and a `local_quorum`
/// of theirs is none of ours.
struct LocalNodes(String);

impl NodeDistanceEvaluator for LocalNodes {
    fn compute_distance(&self, node: &NodeInfo) -> Option<NodeDistance> {
        (node.datacenter == self.0).then_some(NodeDistance::Local)
    }
}

/// A session with its prepared statements.
pub struct Session {
    driver: Driver,
    stream_ids: StreamIdLimiter,
    poison: CancellationToken,
    request_timeout: Duration,
    consistency: Consistency,
    statements: OnceCell<PreparedStatements>,
    ledger: OnceCell<LedgerStatements>,
}

impl Session {
    /// Builds a session that starts at this node. The driver retries without limit, so the caller sets the timeout.
    ///
    /// # Errors
    /// The driver's message.
    pub(super) async fn build(
        settings: &CassandraSettings,
        connections: &ConnectionConfig,
        node: SocketAddr,
    ) -> Result<Self, String> {
        let datacenter = settings.local_datacenter.clone();
        let driver = connect_generic(
            connections,
            [node],
            TopologyAwareLoadBalancingStrategy::new(None, false),
            RetryPolicyWrapper(Box::new(FallthroughRetryPolicy)),
            ReconnectionPolicyWrapper(Arc::new(ConstantReconnectionPolicy::new(RECONNECT))),
            NodeDistanceEvaluatorWrapper(Box::new(LocalNodes(datacenter))),
            None,
        );
        Ok(Self {
            driver: driver.await.map_err(|error| error.to_string())?,
            stream_ids: StreamIdLimiter::default(),
            poison: CancellationToken::new(),
            request_timeout: settings.request_timeout,
            consistency: settings.consistency.into(),
            statements: OnceCell::new(),
            ledger: OnceCell::new(),
        })
    }

    /// Sends a prepared statement and waits for the reply.
    ///
    /// # Errors
    /// The [`ErrorClass`]. After [`ErrorClass::Reconnect`] the session is poisoned.
    pub async fn execute(
        &self,
        statement: &PreparedQuery,
        parameters: &StatementParams,
    ) -> Result<Envelope, ErrorClass> {
        self.call(self.driver.exec_with_params(statement, parameters))
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

    /// Sends rows as one batch, to a replica of `key` if there is one, and waits for the reply.
    ///
    /// A statement that the node does not know is prepared again.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn batch(
        &self,
        rows: BatchRequest,
        key: Option<&[u8]>,
        statements: &PreparedStatements,
    ) -> Result<(), ErrorClass> {
        let body = rows.finish(self.consistency);
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
        self.call(async {
            let mut result = self.send(&envelope, key, statements).await;
            for _ in &statements.row_statements {
                let Some((statement, node)) = unprepared(&result, &statements.row_statements) else {
                    break;
                };
                self.prepare_again(statement, node).await?;
                result = self.send(&envelope, key, statements).await;
            }
            result
        })
        .await
        .map(drop)
    }

    async fn send(
        &self,
        envelope: &Envelope,
        key: Option<&[u8]>,
        statements: &PreparedStatements,
    ) -> cdrs_tokio::Result<Envelope> {
        let keyspace = statements.row_statements[0].keyspace.as_deref();
        let request = Request::new(keyspace, None, key, Some(self.consistency));
        let plan = self.driver.query_plan(Some(request));
        self.send_to(plan.nodes.into_iter(), envelope).await
    }

    async fn send_to(
        &self,
        nodes: impl Iterator<Item = Arc<DriverNode>>,
        envelope: &Envelope,
    ) -> cdrs_tokio::Result<Envelope> {
        let no_retry = self.driver.retry_policy().new_session();
        send_envelope(nodes, envelope, true, no_retry)
            .await
            .ok_or_else(|| cdrs_tokio::Error::from("no node to send to"))?
    }

    /// Prepares a statement again on the one node that does not know it.
    async fn prepare_again(&self, statement: &PreparedQuery, node: SocketAddr) -> cdrs_tokio::Result<()> {
        let nodes = self.driver.cluster_metadata().find_node_by_rpc_address(node);
        let envelope = Envelope::new_req_prepare(
            statement.query.clone(),
            statement.keyspace.clone(),
            Flags::empty(),
            VERSION,
        );
        self.send_to(nodes.into_iter(), &envelope).await.map(drop)
    }

    /// Runs a statement with positional values.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn query(&self, cql: &str, values: Vec<Value>) -> Result<Vec<Row>, ErrorClass> {
        let mut parameters = StatementParamsBuilder::new().with_consistency(self.consistency);
        if !values.is_empty() {
            parameters = parameters.with_values(QueryValues::SimpleValues(values));
        }
        let reply = self
            .call(self.driver.query_with_params(cql, parameters.build()))
            .await?;
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
        self.call(self.driver.prepare(cql)).await
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

    /// Whether the session is poisoned.
    pub fn is_poisoned(&self) -> bool {
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

/// Returns the statement that a node does not know, and the node, if that is the error.
fn unprepared<'a>(
    result: &cdrs_tokio::Result<Envelope>,
    statements: &'a [PreparedQuery],
) -> Option<(&'a PreparedQuery, SocketAddr)> {
    let Err(cdrs_tokio::Error::Server { body, addr }) = result else {
        return None;
    };
    let ErrorType::Unprepared(unprepared) = &body.ty else {
        return None;
    };
    let statement = statements.iter().find(|statement| statement.id == unprepared.id);
    statement.map(|statement| (statement, *addr))
}
