//! A session that can be trusted: every call has a deadline, and after any doubt it is used no more, since a reply may
//! then belong to another request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cdrs_tokio::cluster::connect_generic;
use cdrs_tokio::cluster::send_envelope::send_envelope;
use cdrs_tokio::cluster::session::{
    NodeDistanceEvaluatorWrapper, ReconnectionPolicyWrapper, RetryPolicyWrapper, Session,
};
use cdrs_tokio::cluster::topology::Node;
use cdrs_tokio::consistency::Consistency;
use cdrs_tokio::frame::message_error::ErrorType;
use cdrs_tokio::frame::{Direction, Envelope, Flags, Opcode};
use cdrs_tokio::load_balancing::node_distance_evaluator::TopologyAwareNodeDistanceEvaluator;
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

use crate::cassandra::connector::{Connections, Connector};
use crate::cassandra::fault::Fault;
use crate::cassandra::gate::Gate;
use crate::cassandra::statements::Statements;
use crate::cassandra::wire::{Batch, VERSION};
use crate::settings::CassandraSettings;

type DriverNode = Node<TransportTcp, Connector>;

type Driver = Session<TransportTcp, Connector, TopologyAwareLoadBalancingStrategy<TransportTcp, Connector>>;

/// How often the driver tries to get back to a node that it has lost while others are there.
const RECONNECT: Duration = Duration::from_secs(1);

/// One session and everything that is known of it.
pub struct Live {
    driver: Driver,
    gate: Gate,
    doubt: CancellationToken,
    deadline: Duration,
    consistency: Consistency,
    statements: OnceCell<Statements>,
}

impl Live {
    /// Builds a session from this node on. The driver goes on trying for ever; the caller has the deadline.
    ///
    /// # Errors
    /// The driver's words.
    pub(super) async fn build(
        settings: &CassandraSettings,
        connections: &Connections,
        node: SocketAddr,
    ) -> Result<Self, String> {
        let datacenter = settings.local_datacenter.clone();
        let driver = connect_generic(
            connections,
            [node],
            TopologyAwareLoadBalancingStrategy::new(None, false),
            RetryPolicyWrapper(Box::new(FallthroughRetryPolicy)),
            ReconnectionPolicyWrapper(Arc::new(ConstantReconnectionPolicy::new(RECONNECT))),
            NodeDistanceEvaluatorWrapper(Box::new(TopologyAwareNodeDistanceEvaluator::new(datacenter))),
            None,
        );
        Ok(Self {
            driver: driver.await.map_err(|error| error.to_string())?,
            gate: Gate::default(),
            doubt: CancellationToken::new(),
            deadline: settings.request_timeout,
            consistency: settings.consistency.into(),
            statements: OnceCell::new(),
        })
    }

    /// Sends a prepared statement, and waits for its reply or the deadline.
    ///
    /// # Errors
    /// The [`Fault`]; after [`Fault::Reconnect`] the session is in doubt.
    pub async fn execute(
        &self,
        statement: &PreparedQuery,
        parameters: &StatementParams,
    ) -> Result<Envelope, Fault> {
        self.call(self.driver.exec_with_params(statement, parameters))
            .await
    }

    /// Sends rows as one batch, to a replica of `key` where one is given, and waits for its reply or the deadline. A
    /// node that does not know a statement is told it.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn batch(&self, rows: Batch, key: Option<&[u8]>, statements: &Statements) -> Result<(), Fault> {
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
            for statement in &statements.of_rows {
                let Some(node) = unprepared(&result, statement) else {
                    continue;
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
        statements: &Statements,
    ) -> cdrs_tokio::Result<Envelope> {
        let keyspace = statements.of_rows[0].keyspace.as_deref();
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

    /// Prepares a statement on the one node that has forgotten it, or never knew it.
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
    pub async fn query(&self, cql: &str, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        let mut parameters = StatementParamsBuilder::new().with_consistency(self.consistency);
        if !values.is_empty() {
            parameters = parameters.with_values(QueryValues::SimpleValues(values));
        }
        let reply = self
            .call(self.driver.query_with_params(cql, parameters.build()))
            .await?;
        let body = reply.response_body().map_err(|error| Fault::of(&error))?;
        Ok(body.into_rows().unwrap_or_default())
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn prepare(&self, cql: &str) -> Result<PreparedQuery, Fault> {
        self.call(self.driver.prepare(cql)).await
    }

    /// The prepared statements of this session, prepared when first asked for: the tables may not be there before.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn statements(&self, settings: &CassandraSettings) -> Result<&Statements, Fault> {
        self.statements
            .get_or_try_init(|| Statements::prepare(self, settings))
            .await
    }

    /// The consistency level of every statement.
    pub fn consistency(&self) -> Consistency {
        self.consistency
    }

    /// Resolves once the session is in doubt: no reply of it counts any more.
    pub async fn doubted(&self) {
        self.doubt.cancelled().await;
    }

    /// Whether the session is in doubt.
    pub fn is_doubted(&self) -> bool {
        self.doubt.is_cancelled()
    }

    async fn call<T>(&self, call: impl Future<Output = cdrs_tokio::Result<T>>) -> Result<T, Fault> {
        let result = timeout(self.deadline, async {
            let ticket = self.gate.enter().await;
            (ticket, call.await)
        })
        .await;
        let fault = match result {
            Ok((ticket, Ok(reply))) => {
                self.gate.finish(ticket);
                return Ok(reply);
            }
            Ok((ticket, Err(error))) => {
                let fault = Fault::of(&error);
                if !matches!(fault, Fault::Reconnect { .. }) {
                    self.gate.finish(ticket);
                }
                fault
            }
            Err(_) => {
                let error = format!("no reply within {} ms", self.deadline.as_millis());
                Fault::Reconnect {
                    kind: "deadline",
                    error,
                }
            }
        };
        if matches!(fault, Fault::Reconnect { .. }) && !failpoint::inject("session_kept") {
            self.doubt.cancel();
        }
        Err(fault)
    }
}

/// The node that does not know this statement, if that is what the reply says.
fn unprepared(result: &cdrs_tokio::Result<Envelope>, statement: &PreparedQuery) -> Option<SocketAddr> {
    match result {
        Err(cdrs_tokio::Error::Server { body, addr }) => match &body.ty {
            ErrorType::Unprepared(unprepared) if unprepared.id == statement.id => Some(*addr),
            _ => None,
        },
        _ => None,
    }
}
