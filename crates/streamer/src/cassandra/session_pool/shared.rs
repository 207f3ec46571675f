//! What the pool and its task share: the settings and the cluster.

use std::sync::Arc;

use model::Contract;
use tokio::sync::{Mutex, Notify, watch};

use crate::cassandra::cluster::Cluster;
use crate::cassandra::connection::connector::{ConnectionConfig, Credentials};
use crate::cassandra::connection::transport::{Dialer, TlsError};
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::readiness::CassandraReadiness;
use crate::cassandra::session::Session;
use crate::cassandra::topology;
use crate::config::CassandraSettings;

/// What the pool shares with its task.
pub(super) struct SharedSessions {
    pub(super) settings: CassandraSettings,
    pub(super) contract: Arc<Contract>,
    pub(super) credentials: Credentials,
    pub(super) readiness: CassandraReadiness,
    pub(super) cluster: watch::Sender<Option<Arc<Cluster>>>,
    /// The turn to replace the cluster.
    pub(super) refreshing: Mutex<()>,
    /// A node was connected.
    pub(super) connected: Notify,
}

impl SharedSessions {
    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.borrow().clone()
    }

    /// The configuration of the connections. The files are read again for every session.
    pub(super) fn connection_config(&self) -> Result<ConnectionConfig, TlsError> {
        Ok(ConnectionConfig {
            dialer: Dialer::new(&self.settings.tls)?,
            credentials: Arc::clone(&self.credentials),
            count: self.settings.connections,
            timeout: self.settings.connect_timeout,
        })
    }

    /// Reads the topology, and builds the cluster again if it has changed.
    pub(super) async fn refresh(&self, session: &Session) -> Result<(), ErrorClass> {
        let _turn = self.refreshing.lock().await;
        let topology = topology::read(session, &self.settings.keyspace).await?;
        let previous = self.cluster();
        if previous
            .as_ref()
            .is_some_and(|cluster| *cluster.topology() == topology)
        {
            return Ok(());
        }
        let CassandraSettings {
            local_datacenter,
            max_in_flight,
            ..
        } = &self.settings;
        let cluster = Cluster::new(topology, local_datacenter, *max_in_flight, previous.as_deref());
        tracing::info!(
            nodes = cluster.nodes().len(),
            placed = cluster.placement().is_some(),
            "cassandra topology read"
        );
        self.cluster.send_replace(Some(Arc::new(cluster)));
        Ok(())
    }
}
