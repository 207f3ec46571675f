//! Provides sessions: one with each node of the local data centre, each replaced when it is poisoned.
//!
//! The first session comes from a contact point. Its node names the others. A task connects to them, follows changes of the
//! topology and reconnects. Without any connected node the contact points are resolved again.

mod contact_points;
mod shared;
mod upkeep;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use cassandra_protocol::authenticators::{NoneAuthenticatorProvider, StaticPasswordAuthenticatorProvider};
use model::Contract;
use service::Dependency;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::cassandra::cluster::Cluster;
use crate::cassandra::connection::connector::Credentials;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::readiness::CassandraReadiness;
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::contact_points::ConnectError;
use crate::cassandra::session_pool::shared::SharedSessions;
use crate::config::CassandraSettings;

pub use self::contact_points::SessionError;

/// Provides the sessions of one process.
pub struct SessionPool {
    shared: Arc<SharedSessions>,
    /// The turn to connect to a contact point.
    connecting: Mutex<()>,
    /// Selects the next node for requests that any node serves.
    next: AtomicUsize,
    upkeep: OnceLock<AbortOnDropHandle<()>>,
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
        let shared = SharedSessions {
            settings,
            contract,
            credentials,
            readiness: CassandraReadiness::new(dependency),
            cluster: watch::Sender::new(None),
            refreshing: Mutex::new(()),
            connected: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            connecting: Mutex::new(()),
            next: AtomicUsize::new(0),
            upkeep: OnceLock::new(),
        }
    }

    /// The settings of the sessions.
    pub fn settings(&self) -> &CassandraSettings {
        &self.shared.settings
    }

    /// The contract of the rows.
    pub fn contract(&self) -> &Contract {
        &self.shared.contract
    }

    /// Cassandra in `/readyz`.
    pub fn readiness(&self) -> &CassandraReadiness {
        &self.shared.readiness
    }

    /// Returns a session that is not poisoned, of each connected node in turn. Waits without limit while no node is reachable.
    ///
    /// # Errors
    /// [`SessionError`], when a retry would not help.
    ///
    /// # Panics
    /// When the task that keeps the sessions has panicked.
    pub async fn get(&self) -> Result<Arc<Session>, SessionError> {
        if let Some(session) = self.connected() {
            return Ok(session);
        }
        let _turn = self.connecting.lock().await;
        let mut delays = self.settings().backoff.delays();
        loop {
            let connected = self.shared.connected.notified();
            if let Some(session) = self.connected() {
                return Ok(session);
            }
            match self.shared.connect_to_contact_point().await {
                Ok(session) => match self.adopt(Arc::new(session)).await {
                    Ok(session) => return Ok(session),
                    Err(reason) => self.readiness().dependency().unready(reason),
                },
                Err(ConnectError::Fatal(fatal)) => {
                    let reason = service::process::chain(&fatal);
                    self.readiness().dependency().unready(reason);
                    return Err(fatal);
                }
                Err(ConnectError::Transient(reason)) => {
                    let reason = format!("failed to connect to cassandra.contact_points: {reason}");
                    self.readiness().dependency().unready(reason);
                }
            }
            if let Some(delay) = delays.next() {
                tokio::select! {
                    () = sleep(delay) => {}
                    () = connected => {}
                }
            }
        }
    }

    /// Returns the cluster. At least one node was connected a moment ago.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Panics
    /// As [`get`](Self::get).
    pub async fn cluster(&self) -> Result<Arc<Cluster>, SessionError> {
        self.get().await?;
        Ok(self
            .shared
            .cluster()
            .expect("a session belongs to a node of the cluster"))
    }

    /// Reads the topology again, for a keyspace that was just created.
    ///
    /// # Errors
    /// The [`ErrorClass`] of a query.
    pub async fn refresh(&self, session: &Session) -> Result<(), ErrorClass> {
        self.shared.refresh(session).await
    }

    /// Returns why `cassandra.consistency` can't work with the replication of the keyspace, as far as that is known.
    pub fn unusable_consistency(&self) -> Option<String> {
        let cluster = self.shared.cluster()?;
        let settings = self.settings();
        let replication = cluster.topology().replication.as_ref()?;
        replication.unusable(settings.consistency.into(), &settings.local_datacenter)
    }

    /// Gives a new session to its node. Fails with the reason if the cluster does not have that node.
    async fn adopt(&self, session: Arc<Session>) -> Result<Arc<Session>, String> {
        let node = session.node();
        let is_known = |cluster: Arc<Cluster>| cluster.nodes().iter().any(|known| known.id() == node);
        if !self.shared.cluster().is_some_and(is_known) {
            let read = self.shared.refresh(&session).await;
            read.map_err(|error| format!("failed to read the nodes of cassandra: {error}"))?;
        }
        self.upkeep
            .get_or_init(|| AbortOnDropHandle::new(tokio::spawn(upkeep::run(Arc::clone(&self.shared)))));
        let cluster = self.shared.cluster();
        if cluster.is_some_and(|cluster| cluster.reached(&session)) {
            Ok(session)
        } else {
            Err(format!("{}: the node owns no tokens", session.address()))
        }
    }

    fn connected(&self) -> Option<Arc<Session>> {
        let upkeep = self.upkeep.get();
        assert!(
            !upkeep.is_some_and(AbortOnDropHandle::is_finished),
            "the task that keeps the sessions has panicked"
        );
        let cluster = self.shared.cluster()?;
        let nodes = cluster.nodes();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..nodes.len()).find_map(|offset| nodes[first.wrapping_add(offset) % nodes.len()].session())
    }
}
