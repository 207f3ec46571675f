//! Sessions that can be trusted: built within a deadline with the cause named when it fails, every call with a
//! deadline, and thrown away after any doubt, since a reply may then belong to another request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cassandra_protocol::authenticators::{
    NoneAuthenticatorProvider, SaslAuthenticatorProvider, StaticPasswordAuthenticatorProvider,
};
use cdrs_tokio::cluster::connection_pool::ConnectionPoolConfigBuilder;
use cdrs_tokio::cluster::send_envelope::send_envelope;
use cdrs_tokio::cluster::session::{Session, SessionBuilder as _, TcpSessionBuilder};
use cdrs_tokio::cluster::topology::Node;
use cdrs_tokio::cluster::{NodeAddress, NodeTcpConfigBuilder, TcpConnectionManager};
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
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use service::Dependency;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cassandra::fault::Fault;
use crate::cassandra::gate::Gate;
use crate::cassandra::probe::{ProbeError, probe};
use crate::cassandra::statements::Statements;
use crate::cassandra::wire::{Batch, VERSION};
use crate::settings::{CassandraSettings, ConsistencyLevel};

type DriverNode = Node<TransportTcp, TcpConnectionManager>;

type Driver = Session<
    TransportTcp,
    TcpConnectionManager,
    TopologyAwareLoadBalancingStrategy<TransportTcp, TcpConnectionManager>,
>;

/// What only the operator can mend.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The role is refused.
    #[error("cassandra refuses the configured credentials")]
    Credentials(#[source] ProbeError),
    /// No node is in the configured data centre, so none would be written to.
    #[error("cassandra.local_datacenter is `{configured}`, but the node that was reached is in `{actual}`")]
    Datacenter {
        /// As configured.
        configured: String,
        /// As the node says.
        actual: String,
    },
}

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
        if matches!(fault, Fault::Reconnect { .. }) {
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

/// Hands out the session of the moment and builds the next one when it is in doubt.
pub struct Sessions {
    settings: CassandraSettings,
    credentials: Arc<dyn SaslAuthenticatorProvider + Send + Sync>,
    dependency: Dependency,
    rows_wait: AtomicBool,
    current: Mutex<Option<Arc<Live>>>,
}

impl Sessions {
    /// Nothing is connected yet.
    pub fn new(settings: CassandraSettings, dependency: Dependency) -> Self {
        let credentials: Arc<dyn SaslAuthenticatorProvider + Send + Sync> =
            match (&settings.username, &settings.password) {
                (Some(user), Some(password)) => Arc::new(StaticPasswordAuthenticatorProvider::new(
                    user.as_str(),
                    password.expose(),
                )),
                _ => Arc::new(NoneAuthenticatorProvider),
            };
        Self {
            settings,
            credentials,
            dependency,
            rows_wait: AtomicBool::new(false),
            current: Mutex::new(None),
        }
    }

    /// The settings that sessions are built from.
    pub fn settings(&self) -> &CassandraSettings {
        &self.settings
    }

    /// Reports on Cassandra in `/readyz`. A session alone is not readiness: who has asked for the tables says so.
    pub fn dependency(&self) -> &Dependency {
        &self.dependency
    }

    /// Rows are not acknowledged: Cassandra is not ready, whatever else it answers.
    pub fn rows_wait(&self, reason: impl Into<String>) {
        self.rows_wait.store(true, Ordering::Relaxed);
        self.dependency.unready(reason);
    }

    /// Rows are acknowledged, or none are waited for.
    pub fn rows_flow(&self) {
        self.rows_wait.store(false, Ordering::Relaxed);
        self.dependency.ready();
    }

    /// The tables were read: Cassandra is ready unless rows wait, since what one replica can answer a quorum may not.
    pub fn tables_seen(&self) {
        if !self.rows_wait.load(Ordering::Relaxed) {
            self.dependency.ready();
        }
    }

    /// A session that is not in doubt. Waits, however long it takes, while no node can be reached.
    ///
    /// # Errors
    /// [`Unusable`], when waiting would not help.
    pub async fn live(&self) -> Result<Arc<Live>, Unusable> {
        let mut current = self.current.lock().await;
        if let Some(live) = current.as_ref().filter(|live| !live.is_doubted()) {
            return Ok(Arc::clone(live));
        }
        *current = None;
        let mut delays = self.settings.backoff.delays();
        loop {
            match self.build().await {
                Ok(live) => {
                    let live = Arc::new(live);
                    *current = Some(Arc::clone(&live));
                    return Ok(live);
                }
                Err(BuildError::Unusable(unusable)) => {
                    self.dependency.unready(service::process::chain(&unusable));
                    return Err(unusable);
                }
                Err(BuildError::Down(reason)) => self.dependency.unready(reason),
            }
            if let Some(delay) = delays.next() {
                sleep(delay).await;
            }
        }
    }

    async fn build(&self) -> Result<Live, BuildError> {
        let deadline = self.settings.connect_timeout;
        let node = self.reachable().await?;
        let config = NodeTcpConfigBuilder::new()
            .with_contact_point(NodeAddress::Direct(node))
            .with_authenticator_provider(Arc::clone(&self.credentials))
            .with_version(VERSION)
            .build();
        let config = config
            .await
            .map_err(|error| BuildError::Down(error.to_string()))?;
        let pool = ConnectionPoolConfigBuilder::new()
            .with_local_size(self.settings.connections)
            .with_connect_timeout(Some(deadline))
            .build();
        let datacenter = self.settings.local_datacenter.clone();
        let driver = TcpSessionBuilder::new(TopologyAwareLoadBalancingStrategy::new(None, false), config)
            .with_retry_policy(Box::new(FallthroughRetryPolicy))
            .with_reconnection_policy(Arc::new(ConstantReconnectionPolicy::new(Duration::from_secs(1))))
            .with_node_distance_evaluator(Box::new(TopologyAwareNodeDistanceEvaluator::new(datacenter)))
            .with_connection_pool_config(pool)
            .with_transport_buffer_size(DRIVER_QUEUE)
            .with_tcp_nodelay(true)
            .build();
        let driver = timeout(deadline * 2, driver)
            .await
            .map_err(|_| {
                BuildError::Down(format!(
                    "{node}: no session within {} ms",
                    2 * deadline.as_millis()
                ))
            })?
            .map_err(|error| BuildError::Down(format!("{node}: {error}")))?;
        Ok(Live {
            driver,
            gate: Gate::default(),
            doubt: CancellationToken::new(),
            deadline: self.settings.request_timeout,
            consistency: self.settings.consistency.into(),
            statements: OnceCell::new(),
        })
    }

    /// The first contact point of the local data centre, resolved anew, that shakes hands.
    ///
    /// A wrong `cassandra.local_datacenter` would leave the driver without a node to send to, which it reports as "no
    /// nodes available": it is told here, when every contact point has answered and none is local.
    async fn reachable(&self) -> Result<SocketAddr, BuildError> {
        let configured = &self.settings.local_datacenter;
        let mut elsewhere = None;
        let deadline = self.settings.connect_timeout;
        let mut reasons = Vec::new();
        let mut probes = FuturesUnordered::new();
        for point in self.settings.contact_points.iter() {
            match timeout(deadline, lookup_host(point.as_str())).await {
                Ok(Ok(nodes)) => probes.extend(nodes.map(|node| async move {
                    probe(node, self.credentials.as_ref(), deadline)
                        .await
                        .map(|datacenter| (node, datacenter))
                })),
                Ok(Err(error)) => reasons.push(format!("{point}: {error}")),
                Err(_) => reasons.push(format!("{point}: its name is not resolved within the deadline")),
            }
        }
        while let Some(result) = probes.next().await {
            match result {
                Ok((node, datacenter)) if datacenter == *configured => return Ok(node),
                Ok((_, datacenter)) => elsewhere = Some(datacenter),
                Err(error @ ProbeError::Credentials { .. }) => {
                    return Err(BuildError::Unusable(Unusable::Credentials(error)));
                }
                Err(error) => reasons.push(error.to_string()),
            }
        }
        match elsewhere {
            Some(actual) if reasons.is_empty() => Err(BuildError::Unusable(Unusable::Datacenter {
                configured: configured.clone(),
                actual,
            })),
            _ => Err(BuildError::Down(reasons.join("; "))),
        }
    }
}

/// Requests that wait inside the driver for a connection to write them; more than the window is never there.
const DRIVER_QUEUE: usize = 1_024;

enum BuildError {
    /// Try again later.
    Down(String),
    /// Don't.
    Unusable(Unusable),
}

impl From<ConsistencyLevel> for Consistency {
    fn from(level: ConsistencyLevel) -> Self {
        match level {
            ConsistencyLevel::One => Self::One,
            ConsistencyLevel::LocalOne => Self::LocalOne,
            ConsistencyLevel::Two => Self::Two,
            ConsistencyLevel::Three => Self::Three,
            ConsistencyLevel::LocalQuorum => Self::LocalQuorum,
            ConsistencyLevel::Quorum => Self::Quorum,
            ConsistencyLevel::EachQuorum => Self::EachQuorum,
            ConsistencyLevel::All => Self::All,
        }
    }
}
