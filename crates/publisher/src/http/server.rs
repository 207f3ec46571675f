//! The HTTP server: accepts connections up to a limit and stops gracefully.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus::IntGauge;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Api, Connection, OpenConnection};
use super::timeouts::ConnectionTimeouts;
use super::tls::Tls;
use crate::config::HttpSettings;

/// The pause after a failed accept, most often caused by a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The largest header section of a request, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The maximum number of concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// The flow-control window of an HTTP/2 connection and of each of its streams, in bytes. Received data is in memory
/// before any other limit counts it. Enough for 100 MB/s at 2 ms.
const FLOW_CONTROL_WINDOW: u32 = 256 * 1024;

/// The send buffer of an HTTP/2 stream, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// The API's address can't be bound.
#[derive(Debug, Error)]
#[error("failed to listen on {address} (http.listen)")]
pub struct ListenError {
    /// The configured address.
    pub address: SocketAddr,
    /// The operating system's error.
    #[source]
    pub source: std::io::Error,
}

/// A bound server that does not accept connections yet.
pub struct Server {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    builder: Builder<TokioExecutor>,
    timeouts: ConnectionTimeouts,
    tls: Option<Arc<Tls>>,
    gauge: IntGauge,
}

impl Server {
    /// Binds the address of `settings` and logs it; port 0 selects a free port.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(
        settings: &HttpSettings,
        tls: Option<Arc<Tls>>,
        gauge: IntGauge,
    ) -> Result<Self, ListenError> {
        let address = settings.listen;
        let failed = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, tls = tls.is_some(), "listening");
        Ok(Self {
            listener,
            permits: Arc::new(Semaphore::new(settings.max_connections)),
            builder: builder(settings),
            timeouts: ConnectionTimeouts::from_settings(settings),
            tls,
            gauge,
        })
    }

    /// Serves `api` until `shutdown`. Then accepts no more connections and returns once all responses are sent.
    pub async fn serve<A: Api>(self, api: A, shutdown: CancellationToken) {
        let tracker = TaskTracker::new();
        while let Some((stream, permit)) = self.accept(&shutdown).await {
            let connection = Connection {
                builder: self.builder.clone(),
                timeouts: self.timeouts,
                tls: self.tls.clone(),
                shutdown: shutdown.clone(),
                _open: OpenConnection::new(&self.gauge, permit),
            };
            tracker.spawn(connection.serve(stream, api.clone()));
        }
        tracker.close();
        drop(self.listener);
        tracker.wait().await;
    }

    /// Waits for a permit, then for a connection; returns none after `shutdown`.
    async fn accept(&self, shutdown: &CancellationToken) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let accepted = async {
            let permit = Arc::clone(&self.permits)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => return (stream, permit),
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection");
                        sleep(ACCEPT_RETRY_DELAY).await;
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => None,
            accepted = accepted => Some(accepted),
        }
    }
}

/// Configures hyper. Without a timer it silently ignores the header timeout.
fn builder(settings: &HttpSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.header_timeout)
        .keep_alive_timeout(settings.header_timeout)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_connection_window_size(FLOW_CONTROL_WINDOW)
        .initial_stream_window_size(FLOW_CONTROL_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX));
    builder
}
