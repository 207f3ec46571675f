//! Connects to a contact point, and reports why it can't.

use std::net::SocketAddr;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::cassandra::connection::connector::ConnectionConfig;
use crate::cassandra::connection::probe::{ProbeError, probe};
use crate::cassandra::connection::transport::TlsError;
use crate::cassandra::session::Session;
use crate::cassandra::session_pool::shared::SharedSessions;

/// An error that only the operator can fix.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The node rejected the role or its password.
    #[error("cassandra rejected cassandra.username and cassandra.password")]
    Credentials(#[source] ProbeError),
    /// No contact point speaks the protocol version of the sessions.
    #[error("cassandra is too old")]
    Version(#[source] ProbeError),
    /// The configured TLS files can't be used at the start.
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

pub(super) enum ConnectError {
    /// Retry later.
    Transient(String),
    /// Do not retry.
    Fatal(SessionError),
}

impl SharedSessions {
    pub(super) async fn connect_to_contact_point(&self) -> Result<Session, ConnectError> {
        let config = self.connection_config().map_err(|error| match self.cluster() {
            None => ConnectError::Fatal(SessionError::Tls(error)),
            // The files were valid before, so they are being replaced.
            Some(_) => ConnectError::Transient(service::process::chain(&error)),
        })?;
        let node = self.find_local_node(&config).await?;
        let within = 2 * self.settings.connect_timeout;
        timeout(within, Session::connect(&self.settings, &config, node))
            .await
            .unwrap_or_else(|_| Err(format!("{node}: no session within {} ms", within.as_millis())))
            .map_err(ConnectError::Transient)
    }

    /// Resolves the contact points and returns the first node of the local data centre that completes a handshake.
    ///
    /// With a wrong `cassandra.local_datacenter` there would be no node to send to. This function detects it: every contact
    /// point has responded, and none is local.
    async fn find_local_node(&self, config: &ConnectionConfig) -> Result<SocketAddr, ConnectError> {
        let configured = &self.settings.local_datacenter;
        let (mut other_datacenter, mut other_version) = (None, None);
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
                Err(error @ ProbeError::Version { .. }) => other_version = Some(error),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        match (other_version, other_datacenter) {
            // In a rolling upgrade another node has the version already.
            (Some(error), None) if reasons.is_empty() => {
                Err(ConnectError::Fatal(SessionError::Version(error)))
            }
            (_, Some(actual)) if reasons.is_empty() => Err(ConnectError::Fatal(SessionError::Datacenter {
                configured: configured.clone(),
                actual,
            })),
            (other_version, _) => {
                reasons.extend(other_version.map(|error| error.to_string()));
                Err(ConnectError::Transient(reasons.join("; ")))
            }
        }
    }
}
