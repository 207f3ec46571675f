//! Hands out sessions: builds one within a deadline, with the cause named when it can't, and the next one when it is in
//! doubt.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cassandra_protocol::authenticators::{NoneAuthenticatorProvider, StaticPasswordAuthenticatorProvider};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use service::Dependency;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::cassandra::connector::{Connections, Credentials};
use crate::cassandra::line::{Dialer, TlsError};
use crate::cassandra::probe::{ProbeError, probe};
use crate::cassandra::session::Live;
use crate::settings::CassandraSettings;

/// What only the operator can mend.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The role is refused.
    #[error("cassandra refuses the configured credentials")]
    Credentials(#[source] ProbeError),
    /// The configured files don't make a TLS client.
    #[error("cassandra.tls")]
    Tls(#[source] TlsError),
    /// No node is in the configured data centre, so none would be written to.
    #[error("cassandra.local_datacenter is `{configured}`, but the node that was reached is in `{actual}`")]
    Datacenter {
        /// As configured.
        configured: String,
        /// As the node says.
        actual: String,
    },
}

/// Hands out the session of the moment and builds the next one when it is in doubt.
pub struct Sessions {
    settings: CassandraSettings,
    credentials: Credentials,
    dependency: Dependency,
    rows_wait: AtomicBool,
    current: Mutex<Option<Arc<Live>>>,
}

impl Sessions {
    /// Nothing is connected yet.
    pub fn new(settings: CassandraSettings, dependency: Dependency) -> Self {
        let credentials: Credentials = match (&settings.username, &settings.password) {
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
        let unusable = |error| BuildError::Unusable(Unusable::Tls(error));
        let connections = Connections {
            dialer: Dialer::new(&self.settings.tls).map_err(unusable)?,
            credentials: Arc::clone(&self.credentials),
            count: self.settings.connections,
            deadline,
        };
        let node = self.reachable(&connections).await?;
        let within = 2 * deadline;
        timeout(within, Live::build(&self.settings, &connections, node))
            .await
            .unwrap_or_else(|_| Err(format!("no session within {} ms", within.as_millis())))
            .map_err(|reason| BuildError::Down(format!("{node}: {reason}")))
    }

    /// The first contact point of the local data centre, resolved anew, that shakes hands.
    ///
    /// A wrong `cassandra.local_datacenter` would leave the driver without a node to send to, which it reports as "no
    /// nodes available": it is told here, when every contact point has answered and none is local.
    async fn reachable(&self, connections: &Connections) -> Result<SocketAddr, BuildError> {
        let configured = &self.settings.local_datacenter;
        let mut elsewhere = None;
        let deadline = self.settings.connect_timeout;
        let mut reasons = Vec::new();
        let mut probes = FuturesUnordered::new();
        for point in self.settings.contact_points.iter() {
            match timeout(deadline, lookup_host(point.as_str())).await {
                Ok(Ok(nodes)) => probes.extend(nodes.map(|node| async move {
                    probe(node, connections)
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

enum BuildError {
    /// Try again later.
    Down(String),
    /// Don't.
    Unusable(Unusable),
}
