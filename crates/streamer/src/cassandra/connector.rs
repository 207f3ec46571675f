//! How the driver gets its connections: over our own line, so that they may be encrypted, each within a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cassandra_protocol::authenticators::SaslAuthenticatorProvider;
use cassandra_protocol::compression::Compression;
use cdrs_tokio::cluster::connection_pool::{ConnectionPoolConfig, ConnectionPoolConfigBuilder};
use cdrs_tokio::cluster::{ConnectionManager, GenericClusterConfig, KeyspaceHolder, startup};
use cdrs_tokio::error::{Error, Result};
use cdrs_tokio::frame::{Envelope, Version};
use cdrs_tokio::frame_encoding::{FrameEncodingFactory as _, ProtocolFrameEncodingFactory};
use cdrs_tokio::future::BoxFuture;
use cdrs_tokio::transport::TransportTcp;
use futures::FutureExt as _;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use super::line::Dialer;
use super::wire::VERSION;

/// Requests that wait inside the driver for a connection to write them; more than the window is never there.
const DRIVER_QUEUE: usize = 1_024;

/// The driver's own default. Events of the cluster are few.
const EVENTS: usize = 32;

/// Who logs in.
pub type Credentials = Arc<dyn SaslAuthenticatorProvider + Send + Sync>;

/// What all connections of a session have in common.
#[derive(Clone)]
pub struct Connections {
    /// The line they go over.
    pub dialer: Dialer,
    /// Who logs in.
    pub credentials: Credentials,
    /// To each node.
    pub count: usize,
    /// How long one may take, log-in included.
    pub deadline: Duration,
}

impl GenericClusterConfig<TransportTcp, Connector> for Connections {
    fn create_manager(&self, keyspace: Arc<KeyspaceHolder>) -> BoxFuture<'_, Result<Connector>> {
        let connections = self.clone();
        async {
            Ok(Connector {
                connections,
                keyspace,
            })
        }
        .boxed()
    }

    fn event_channel_capacity(&self) -> usize {
        EVENTS
    }

    fn version(&self) -> Version {
        VERSION
    }

    fn connection_pool_config(&self) -> ConnectionPoolConfig {
        ConnectionPoolConfigBuilder::new()
            .with_local_size(self.count)
            .with_connect_timeout(Some(self.deadline))
            .build()
    }
}

/// Makes connections for one session.
pub struct Connector {
    connections: Connections,
    keyspace: Arc<KeyspaceHolder>,
}

impl ConnectionManager<TransportTcp> for Connector {
    fn connection(
        &self,
        events: Option<Sender<Envelope>>,
        errors: Option<Sender<Error>>,
        node: SocketAddr,
    ) -> BoxFuture<'_, Result<TransportTcp>> {
        let connected = timeout(self.connections.deadline, self.connect(events, errors, node));
        async move {
            match connected.await {
                Ok(connected) => connected,
                Err(_) => Err(Error::Timeout(format!("connect to {node}"))),
            }
        }
        .boxed()
    }
}

impl Connector {
    async fn connect(
        &self,
        events: Option<Sender<Envelope>>,
        errors: Option<Sender<Error>>,
        node: SocketAddr,
    ) -> Result<TransportTcp> {
        let line = self.connections.dialer.dial(node).await?;
        let frames = ProtocolFrameEncodingFactory;
        let transport = TransportTcp::with_stream(
            line,
            node,
            Arc::clone(&self.keyspace),
            events,
            errors,
            Compression::None,
            frames.create_encoder(VERSION, Compression::None),
            frames.create_decoder(VERSION, Compression::None),
            DRIVER_QUEUE,
        )?;
        let credentials = self.connections.credentials.as_ref();
        startup(
            &transport,
            credentials,
            &self.keyspace,
            Compression::None,
            VERSION,
        )
        .await?;
        Ok(transport)
    }
}
