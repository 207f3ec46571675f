//! Opens the driver's connections over this crate's transport, for TLS and a connect timeout.

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

use crate::cassandra::connection::error_frames::ErrorFrameDecoder;
use crate::cassandra::connection::transport::Dialer;
use crate::cassandra::wire::VERSION;

/// Requests that the driver queues for a connection; above the largest `cassandra.max_in_flight` in practice.
const DRIVER_QUEUE: usize = 1_024;

/// The driver's default. Cluster events are rare.
const EVENTS: usize = 32;

/// Provides the role and the password.
pub type Credentials = Arc<dyn SaslAuthenticatorProvider + Send + Sync>;

/// The configuration of all connections of a session.
#[derive(Clone)]
pub struct ConnectionConfig {
    /// Opens the transport.
    pub dialer: Dialer,
    /// Provides the role and the password.
    pub credentials: Credentials,
    /// Connections to each node.
    pub count: usize,
    /// The timeout of a connection attempt, including authentication.
    pub timeout: Duration,
}

impl GenericClusterConfig<TransportTcp, Connector> for ConnectionConfig {
    fn create_manager(&self, keyspace: Arc<KeyspaceHolder>) -> BoxFuture<'_, Result<Connector>> {
        let config = self.clone();
        async { Ok(Connector { config, keyspace }) }.boxed()
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
            .with_connect_timeout(Some(self.timeout))
            .build()
    }
}

/// Opens the connections of one session.
pub struct Connector {
    config: ConnectionConfig,
    keyspace: Arc<KeyspaceHolder>,
}

impl ConnectionManager<TransportTcp> for Connector {
    fn connection(
        &self,
        events: Option<Sender<Envelope>>,
        errors: Option<Sender<Error>>,
        node: SocketAddr,
    ) -> BoxFuture<'_, Result<TransportTcp>> {
        let connected = timeout(self.config.timeout, self.connect(events, errors, node));
        async move {
            match connected.await {
                Ok(connected) => connected,
                Err(_) => Err(Error::Timeout(format!("connection to {node}"))),
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
        let stream = self.config.dialer.dial(node).await?;
        let frames = ProtocolFrameEncodingFactory;
        let transport = TransportTcp::with_stream(
            stream,
            node,
            Arc::clone(&self.keyspace),
            events,
            errors,
            Compression::None,
            frames.create_encoder(VERSION, Compression::None),
            Box::new(ErrorFrameDecoder(
                frames.create_decoder(VERSION, Compression::None),
            )),
            DRIVER_QUEUE,
        )?;
        let credentials = self.config.credentials.as_ref();
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
