//! Serves one connection: TLS handshake, HTTP/1.1 or HTTP/2, timeouts and graceful shutdown.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::timeouts::ConnectionTimeouts;
use super::tls::Tls;

/// The service that responds to the requests of all connections.
pub trait Api:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Api for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// One accepted connection.
pub(super) struct Connection {
    pub(super) builder: Builder<TokioExecutor>,
    pub(super) timeouts: ConnectionTimeouts,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) shutdown: CancellationToken,
    pub(super) _open: OpenConnection,
}

impl Connection {
    pub(super) async fn serve<A: Api>(self, stream: TcpStream, api: A) {
        // Responses are small and written at once, so Nagle's algorithm would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.timeouts.write));
        let stream = Box::pin(stream);
        let Some(tls) = &self.tls else {
            return self.serve_http(stream, api).await;
        };
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let accepted = tokio::select! {
            accepted = timeout(self.timeouts.first_request, handshake) => accepted,
            () = self.shutdown.cancelled() => return,
        };
        match accepted {
            Ok(Ok(stream)) => self.serve_http(stream, api).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake timed out"),
        }
    }

    async fn serve_http<S, A: Api>(self, stream: S, api: A)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requested = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            requested.store(true, Ordering::Relaxed);
            api.clone().oneshot(request.map(Body::new))
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let no_request = async {
            sleep(self.timeouts.first_request).await;
            if requested.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = &mut connection => return log(ended),
            // hyper has no timeout for the bytes that distinguish HTTP/1 from HTTP/2.
            () = no_request => return,
            () = self.shutdown.cancelled() => {}
            () = sleep(self.timeouts.max_age) => {}
        }
        connection.as_mut().graceful_shutdown();
        match timeout(self.timeouts.drain, connection).await {
            Ok(ended) => log(ended),
            Err(_) => tracing::debug!("connection closed before its last response was read"),
        }
    }
}

/// An error of a connection is the caller's and not ours, so it is logged at debug level.
fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "connection failed");
    }
}

/// Counts a connection while it is open, and holds its permit.
pub(super) struct OpenConnection {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    pub(super) fn new(gauge: &IntGauge, permit: OwnedSemaphorePermit) -> Self {
        gauge.inc();
        Self {
            gauge: gauge.clone(),
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
