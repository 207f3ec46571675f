//! Opens a connection to a node over this crate's transport, for TLS and a connect timeout.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cassandra_protocol::authenticators::SaslAuthenticatorProvider;
use cassandra_protocol::compression::Compression;
use cdrs_tokio::cluster::{KeyspaceHolder, startup};
use cdrs_tokio::error::{Error, Result};
use cdrs_tokio::frame_encoding::{FrameEncodingFactory as _, ProtocolFrameEncodingFactory};
use cdrs_tokio::transport::TransportTcp;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cassandra::connection::error_frames::ErrorFrameDecoder;
use crate::cassandra::connection::transport::Dialer;
use crate::cassandra::wire::VERSION;

/// Requests that the driver queues for a connection; above the largest `cassandra.max_in_flight` in practice.
const DRIVER_QUEUE: usize = 1_024;

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

impl ConnectionConfig {
    /// Connects to `node` and logs in.
    ///
    /// # Errors
    /// The error of the operating system or of the driver, or a timeout.
    pub async fn connect(&self, node: SocketAddr) -> Result<TransportTcp> {
        match timeout(self.timeout, self.connect_unlimited(node)).await {
            Ok(connected) => connected,
            Err(_) => {
                let millis = self.timeout.as_millis();
                Err(Error::Timeout(format!("no connection within {millis} ms")))
            }
        }
    }

    async fn connect_unlimited(&self, node: SocketAddr) -> Result<TransportTcp> {
        let stream = self.dialer.dial(node).await?;
        let frames = ProtocolFrameEncodingFactory;
        // Statements name their keyspace, so the connection uses none.
        let (keyspace, _) = watch::channel(None);
        let keyspace = Arc::new(KeyspaceHolder::new(keyspace));
        let transport = TransportTcp::with_stream(
            stream,
            node,
            Arc::clone(&keyspace),
            None,
            None,
            Compression::None,
            frames.create_encoder(VERSION, Compression::None),
            Box::new(ErrorFrameDecoder(
                frames.create_decoder(VERSION, Compression::None),
            )),
            DRIVER_QUEUE,
        )?;
        let credentials = self.credentials.as_ref();
        startup(&transport, credentials, &keyspace, Compression::None, VERSION).await?;
        Ok(transport)
    }
}
