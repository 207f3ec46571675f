//! Provides sessions: builds one within a timeout, reports why it can't, and replaces a poisoned one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cassandra_protocol::authenticators::{NoneAuthenticatorProvider, StaticPasswordAuthenticatorProvider};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::Contract;
use service::Dependency;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::cassandra::connection::connector::{ConnectionConfig, Credentials};
use crate::cassandra::connection::probe::{ProbeError, probe};
use crate::cassandra::connection::transport::{Dialer, TlsError};
use crate::cassandra::session::Session;
use crate::config::CassandraSettings;

/// An error that only the operator can fix.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The node rejected the role or its password.
    #[error("cassandra rejected cassandra.username and cassandra.password")]
    Credentials(#[source] ProbeError),
    /// The configured TLS files can't be used.
    #[error("failed to configure cassandra.tls")]
    Tls(#[source] TlsError),
    /// No contact point is in the configured data centre, so no node would be written to.
    #[error("cassandra.local_datacenter is `{configured}`, but the reachable nodes are in `{actual}`")]
    Datacenter {
        /// The configured data centre.
        configured: String,
        /// The data centre of a contact point.
        actual: String,
    },
}

/// Provides the current session and builds the next one once it is poisoned.
pub struct SessionPool {
    settings: CassandraSettings,
    contract: Arc<Contract>,
    credentials: Credentials,
    dependency: Dependency,
    rows_blocked: AtomicBool,
    checkpoints_refused: AtomicBool,
    current: Mutex<Option<Arc<Session>>>,
}

impl SessionPool {
    /// Creates a pool without a connection.
    pub fn new(settings: CassandraSettings, contract: Arc<Contract>, dependency: Dependency) -> Self {
        let credentials: Credentials = match (&settings.username, &settings.password) {
            (Some(user), Some(password)) => Arc::new(StaticPasswordAuthenticatorProvider::new(
                user.as_str(),
                password.expose(),
            )),
            _ => Arc::new(NoneAuthenticatorProvider),
        };
        Self {
            settings,
            contract,
            credentials,
            dependency,
            rows_blocked: AtomicBool::new(false),
            checkpoints_refused: AtomicBool::new(false),
            current: Mutex::new(None),
        }
    }

    /// The settings of the sessions.
    pub fn settings(&self) -> &CassandraSettings {
        &self.settings
    }

    /// The contract of the rows.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The dependency that reports Cassandra in `/readyz`. A session alone is not readiness: the tables must be
    /// readable, too.
    pub fn dependency(&self) -> &Dependency {
        &self.dependency
    }

    /// Reports that rows are not acknowledged. Cassandra stays unready until they are.
    pub fn rows_unacknowledged(&self, reason: impl Into<String>) {
        self.rows_blocked.store(true, Ordering::Relaxed);
        self.dependency.unready(reason);
    }

    /// Reports that rows are acknowledged, or that none are pending.
    pub fn rows_acknowledged(&self) {
        self.rows_blocked.store(false, Ordering::Relaxed);
        self.table_verified();
    }

    /// Reports that the server refuses checkpoints. Cassandra stays unready until it takes them.
    pub fn checkpoints_refused(&self, error: &str) {
        self.checkpoints_refused.store(true, Ordering::Relaxed);
        self.dependency
            .unready(format!("cassandra refuses checkpoints: {error}"));
    }

    /// Reports that checkpoints are written.
    pub fn checkpoints_written(&self) {
        if self.checkpoints_refused.swap(false, Ordering::Relaxed) {
            self.table_verified();
        }
    }

    /// Reports that the table was read. Cassandra is ready unless rows are pending or checkpoints refused, because a read
    /// of one replica proves no quorum.
    pub fn table_verified(&self) {
        let blocked = [&self.rows_blocked, &self.checkpoints_refused];
        if !blocked.iter().any(|blocked| blocked.load(Ordering::Relaxed)) {
            self.dependency.ready();
        }
    }

    /// Returns a session that is not poisoned. Waits without limit while no node is reachable.
    ///
    /// # Errors
    /// [`SessionError`], when a retry would not help.
    pub async fn get(&self) -> Result<Arc<Session>, SessionError> {
        let mut current = self.current.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.is_poisoned()) {
            return Ok(Arc::clone(session));
        }
        *current = None;
        let mut delays = self.settings.backoff.delays();
        loop {
            match self.build().await {
                Ok(session) => {
                    let session = Arc::new(session);
                    *current = Some(Arc::clone(&session));
                    return Ok(session);
                }
                Err(ConnectError::Fatal(fatal)) => {
                    self.dependency.unready(service::process::chain(&fatal));
                    return Err(fatal);
                }
                Err(ConnectError::Transient(reason)) => {
                    self.dependency
                        .unready(format!("failed to connect to cassandra.contact_points: {reason}"));
                }
            }
            if let Some(delay) = delays.next() {
                sleep(delay).await;
            }
        }
    }

    async fn build(&self) -> Result<Session, ConnectError> {
        let connect_timeout = self.settings.connect_timeout;
        let fatal = |error| ConnectError::Fatal(SessionError::Tls(error));
        let config = ConnectionConfig {
            dialer: Dialer::new(&self.settings.tls).map_err(fatal)?,
            credentials: Arc::clone(&self.credentials),
            count: self.settings.connections,
            timeout: connect_timeout,
        };
        let node = self.find_local_node(&config).await?;
        let within = 2 * connect_timeout;
        timeout(within, Session::build(&self.settings, &config, node))
            .await
            .unwrap_or_else(|_| Err(format!("no session within {} ms", within.as_millis())))
            .map_err(|reason| ConnectError::Transient(format!("{node}: {reason}")))
    }

    /// Resolves the contact points and returns the first node of the local data centre that completes a handshake.
    ///
    /// With a wrong `cassandra.local_datacenter` the driver has no node to send to and reports "no nodes available".
    /// This function detects it: every contact point has responded, and none is local.
    async fn find_local_node(&self, config: &ConnectionConfig) -> Result<SocketAddr, ConnectError> {
        let configured = &self.settings.local_datacenter;
        let mut other_datacenter = None;
        let connect_timeout = self.settings.connect_timeout;
        let mut reasons = Vec::new();
        let mut probes = FuturesUnordered::new();
        for point in self.settings.contact_points.iter() {
            match timeout(connect_timeout, lookup_host(point.as_str())).await {
                Ok(Ok(nodes)) => probes.extend(nodes.map(|node| async move {
                    probe(node, config).await.map(|datacenter| (node, datacenter))
                })),
                Ok(Err(error)) => reasons.push(format!("{point}: {error}")),
                Err(_) => reasons.push(format!(
                    "{point}: name not resolved within cassandra.connect_timeout"
                )),
            }
        }
        while let Some(result) = probes.next().await {
            match result {
                Ok((node, datacenter)) if datacenter == *configured => return Ok(node),
                Ok((_, datacenter)) => other_datacenter = Some(datacenter),
                Err(error @ ProbeError::Credentials { .. }) => {
                    return Err(ConnectError::Fatal(SessionError::Credentials(error)));
                }
                Err(error) => reasons.push(error.to_string()),
            }
        }
        match other_datacenter {
            Some(actual) if reasons.is_empty() => Err(ConnectError::Fatal(SessionError::Datacenter {
                configured: configured.clone(),
                actual,
            })),
            _ => Err(ConnectError::Transient(reasons.join("; "))),
        }
    }
}

enum ConnectError {
    /// Retry later.
    Transient(String),
    /// Do not retry.
    Fatal(SessionError),
}
