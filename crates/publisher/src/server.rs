//! Connections: accepted up to a bound, each with deadlines that really work, and ended in good order. Knows HTTP
//! and nothing of what is served.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus::IntGauge;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use crate::settings::HttpSettings;
use crate::tls::Tls;

/// How long accepting rests after a failure, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most a request's head may take, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// The most that may be on its way to us on one HTTP/2 connection, in bytes, and in one of its requests. What has come
/// waits in memory until it is read, before any other bound counts it. Enough for 100 MB/s at 2 ms.
const WINDOW: u32 = 256 * 1024;

/// The most of one answer that waits in memory as frames, in bytes.
const MAX_SEND: usize = 64 * 1024;

/// The API's address can't be had.
#[derive(Debug, Error)]
#[error("listen on {address}")]
pub struct ListenError {
    /// The configured address.
    pub address: SocketAddr,
    /// The operating system's answer.
    #[source]
    pub source: std::io::Error,
}

/// What answers the requests of all connections.
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

/// A bound address that does not answer yet.
pub struct Server {
    listener: TcpListener,
    connections: Arc<Semaphore>,
    builder: Builder<TokioExecutor>,
    patience: Patience,
    tls: Option<Arc<Tls>>,
    gauge: IntGauge,
}

/// How long a connection may take for what.
#[derive(Clone, Copy)]
struct Patience {
    /// To be spoken to.
    first_request: Duration,
    /// To read what is written to it.
    unread: Duration,
    /// To live.
    age: Duration,
    /// To be answered what it has asked before it was to end, and to read that.
    last_answers: Duration,
}

impl Patience {
    fn of(settings: &HttpSettings) -> Self {
        Self {
            first_request: settings.header_timeout,
            unread: settings.write_timeout,
            age: settings.max_connection_age,
            last_answers: settings.request_timeout + settings.write_timeout,
        }
    }
}

impl Server {
    /// Binds the address of `settings`; port 0 takes a free one. The log names it.
    ///
    /// # Errors
    /// When it can't be bound.
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
            connections: Arc::new(Semaphore::new(settings.max_connections)),
            builder: builder(settings),
            patience: Patience::of(settings),
            tls,
            gauge,
        })
    }

    /// Serves `api` until `stop`; then takes no more connections and returns when all requests are answered.
    pub async fn serve<A: Api>(self, api: A, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        while let Some((stream, permit)) = self.next_connection(&stop).await {
            let connection = Connection {
                builder: self.builder.clone(),
                patience: self.patience,
                tls: self.tls.clone(),
                stop: stop.clone(),
                _open: Open::count(&self.gauge, permit),
            };
            tracker.spawn(connection.serve(stream, api.clone()));
        }
        tracker.close();
        drop(self.listener);
        tracker.wait().await;
    }

    /// The next connection, once there is room for it; none any more after `stop`.
    async fn next_connection(&self, stop: &CancellationToken) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let accepted = async {
            let permit = Arc::clone(&self.connections)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => return (stream, permit),
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => None,
            accepted = accepted => Some(accepted),
        }
    }
}

/// A header deadline needs a timer; without one it is silently none.
fn builder(settings: &HttpSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.header_timeout)
        .keep_alive_timeout(settings.header_timeout)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_send_buf_size(MAX_SEND)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    builder
}

struct Connection {
    builder: Builder<TokioExecutor>,
    patience: Patience,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
    _open: Open,
}

impl Connection {
    async fn serve<A: Api>(self, stream: TcpStream, api: A) {
        // Answers are small and whole; waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.patience.unread));
        let stream = Box::pin(stream);
        let Some(tls) = &self.tls else {
            return self.speak(stream, api).await;
        };
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let shaken = tokio::select! {
            shaken = timeout(self.patience.first_request, handshake) => shaken,
            () = self.stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.speak(stream, api).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
            Err(_) => tracing::debug!("no TLS handshake in time"),
        }
    }

    async fn speak<S, A: Api>(self, stream: S, api: A)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let spoken = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            spoken.store(true, Ordering::Relaxed);
            api.clone().oneshot(request.map(Body::new))
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let silent = async {
            sleep(self.patience.first_request).await;
            if spoken.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = &mut connection => return note(ended),
            // hyper waits without end for the bytes that tell HTTP/1 from HTTP/2.
            () = silent => return,
            () = self.stop.cancelled() => {}
            () = sleep(self.patience.age) => {}
        }
        connection.as_mut().graceful_shutdown();
        match timeout(self.patience.last_answers, connection).await {
            Ok(ended) => note(ended),
            Err(_) => tracing::debug!("connection cut off"),
        }
    }
}

/// Callers come and go as they please.
fn note(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended by an error");
    }
}

/// Counts a connection for as long as it is open.
struct Open {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn count(gauge: &IntGauge, permit: OwnedSemaphorePermit) -> Self {
        gauge.inc();
        Self {
            gauge: gauge.clone(),
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
