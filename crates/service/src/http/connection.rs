//! Serves one connection: TLS handshake, HTTP/1.1 or HTTP/2, timeouts and graceful shutdown.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use prometheus::IntGauge;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::activity::{Activity, ReadTimeout};
use super::peer::PeerName;

/// The largest number of header fields in a request. It is hyper's limit for HTTP/1; HTTP/2 has none.
const MAX_HEADERS: usize = 100;

/// How often the timeouts of a connection are checked, as a part of the shortest of them.
const CHECKS_PER_TIMEOUT: u32 = 4;

/// The limits of a server's connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The maximum number of open connections; further ones wait in the operating system's queue.
    pub max_connections: usize,
    /// The timeout of a TLS handshake, of a request's header, and of a connection without a request in flight.
    pub header_timeout: Duration,
    /// How long a caller may stop reading a response.
    pub write_timeout: Duration,
    /// The minimum rate at which a response is read, in bytes a second, after `write_timeout`; zero disables it.
    pub min_response_rate: u64,
    /// The age after which a connection accepts no more requests. Up to a tenth is added at random, so that not all
    /// callers reconnect at once.
    pub max_age: Duration,
    /// For the last responses after the maximum age.
    pub drain_timeout: Duration,
}

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
    pub(super) limits: ConnectionLimits,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) shutdown: CancellationToken,
    pub(super) _open: OpenConnection,
}

impl Connection {
    /// Returns a boxed future, and its parts are boxed: an async function would reserve memory for the largest of them.
    pub(super) fn serve<A: Api>(self, stream: TcpStream, api: A) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // Responses are small and written at once, so Nagle's algorithm would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.write_timeout));
        let stream = Box::pin(stream);
        match self.tls.clone() {
            None => Box::pin(self.serve_http(stream, api, None)),
            Some(tls) => Box::pin(async move {
                if let Some(stream) = Box::pin(self.handshake(tls, stream)).await {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let certificate = certificates.and_then(<[_]>::first);
                    let peer = certificate.and_then(PeerName::of_certificate);
                    Box::pin(self.serve_http(stream, api, peer)).await;
                }
            }),
        }
    }

    /// Returns the encrypted stream; `None` if there is none in time.
    async fn handshake<S>(&self, tls: Arc<ServerConfig>, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(tls).accept(stream);
        let accepted = tokio::select! {
            accepted = timeout(self.limits.header_timeout, handshake) => accepted,
            () = self.shutdown.cancelled() => return None,
        };
        match accepted {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake timed out"),
        }
        None
    }

    async fn serve_http<S, A: Api>(self, stream: S, api: A, peer: Option<PeerName>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let service = service_fn(|request: Request<Incoming>| {
            let (guard, api) = (activity.begin(), api.clone());
            let mut request = request.map(Body::new);
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            async move {
                if request.headers().len() > MAX_HEADERS {
                    return Ok(guard.watch(too_many_headers()));
                }
                let response = api.oneshot(request).await?;
                Ok::<_, Infallible>(guard.watch(response))
            }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut watchdog = ConnectionWatchdog::new(self.limits, activity.clone());
        let mut checks = interval(watchdog.period());
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // In this order: a flood of bytes may use up the task's budget in every poll of the connection, and a timer
            // that is polled after it would never fire.
            let verdict = tokio::select! {
                biased;
                _ = checks.tick() => watchdog.check(),
                () = self.shutdown.cancelled(), if !watchdog.is_stopping() => watchdog.stop(),
                ended = connection.as_mut() => return log(ended),
            };
            match verdict {
                ConnectionAction::Continue => {}
                ConnectionAction::Drain => connection.as_mut().graceful_shutdown(),
                ConnectionAction::Close(reason) => {
                    tracing::debug!(reason, "connection closed");
                    return;
                }
            }
        }
    }
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionAction {
    Continue,
    /// Accept no more requests.
    Drain,
    /// Close it at once, because its caller makes no progress.
    Close(&'static str),
}

/// Applies the timeouts of a connection.
struct ConnectionWatchdog {
    limits: ConnectionLimits,
    activity: Activity,
    drain_at: Instant,
    draining_since: Option<Instant>,
    stopping_since: Option<Instant>,
}

impl ConnectionWatchdog {
    fn new(limits: ConnectionLimits, activity: Activity) -> Self {
        Self {
            drain_at: Instant::now() + jittered(limits.max_age),
            limits,
            activity,
            draining_since: None,
            stopping_since: None,
        }
    }

    /// How often to call [`check`](Self::check).
    fn period(&self) -> Duration {
        let ConnectionLimits {
            header_timeout,
            write_timeout,
            max_age,
            ..
        } = self.limits;
        let shortest = header_timeout.min(write_timeout).min(max_age);
        (shortest / CHECKS_PER_TIMEOUT).max(Duration::from_millis(1))
    }

    fn is_stopping(&self) -> bool {
        self.stopping_since.is_some()
    }

    /// Begins the shutdown.
    fn stop(&mut self) -> ConnectionAction {
        self.stopping_since = Some(Instant::now());
        self.drain()
    }

    fn drain(&mut self) -> ConnectionAction {
        self.draining_since.get_or_insert_with(Instant::now);
        ConnectionAction::Drain
    }

    fn check(&mut self) -> ConnectionAction {
        let now = Instant::now();
        let idle_limit = now.checked_sub(self.limits.header_timeout);
        let is_idle = idle_limit.is_some_and(|since| self.activity.is_idle_since(since));
        if self.has_unread_response() {
            return ConnectionAction::Close("a response was not read in time");
        }
        match self.draining_since {
            None if is_idle || now >= self.drain_at => self.drain(),
            None => ConnectionAction::Continue,
            Some(since) if is_idle && since.elapsed() >= self.limits.header_timeout => {
                ConnectionAction::Close("idle, and not closed by its caller")
            }
            Some(since) if since.elapsed() >= self.limits.drain_timeout => {
                ConnectionAction::Close("the last response was not read in time")
            }
            Some(_) => ConnectionAction::Continue,
        }
    }

    fn has_unread_response(&self) -> bool {
        let ConnectionLimits {
            write_timeout,
            min_response_rate,
            ..
        } = self.limits;
        let read_timeout = ReadTimeout {
            base: write_timeout,
            min_rate: min_response_rate,
        };
        let stopping = self.stopping_since;
        self.activity.has_unread_response(read_timeout)
            || stopping.is_some_and(|since| self.activity.has_response_older_than(write_timeout, since))
    }
}

/// Adds up to a tenth at random.
fn jittered(duration: Duration) -> Duration {
    duration.saturating_add(duration.mul_f64(0.1 * rand::random::<f64>()))
}

fn too_many_headers() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

/// An error of a connection is the caller's and not ours, so it is logged at debug level.
fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "connection failed");
    }
}

/// Counts a connection while it is open, and holds its permit.
pub(super) struct OpenConnection {
    gauge: Option<IntGauge>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    pub(super) fn new(gauge: Option<IntGauge>, permit: OwnedSemaphorePermit) -> Self {
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self {
            gauge,
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        max_connections: 1,
        header_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(8),
        min_response_rate: 1_000,
        max_age: Duration::from_secs(100),
        drain_timeout: Duration::from_secs(40),
    };

    fn watchdog() -> (ConnectionWatchdog, Activity) {
        let activity = Activity::new();
        (ConnectionWatchdog::new(LIMITS, activity.clone()), activity)
    }

    fn response(length: usize) -> Response<Body> {
        Response::new(Body::from(vec![b'x'; length]))
    }

    async fn advance(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_drained_and_then_closed() {
        let (mut watchdog, activity) = watchdog();
        advance(9).await;
        let request = activity.begin();
        advance(9).await;
        assert_eq!(
            watchdog.check(),
            ConnectionAction::Continue,
            "a request is in flight"
        );
        drop(request);
        advance(9).await;
        assert_eq!(watchdog.check(), ConnectionAction::Continue);
        advance(1).await;
        assert_eq!(watchdog.check(), ConnectionAction::Drain);
        advance(9).await;
        assert_eq!(watchdog.check(), ConnectionAction::Continue);
        advance(1).await;
        assert!(matches!(watchdog.check(), ConnectionAction::Close(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn unread_response_closes_the_connection() {
        let (mut watchdog, activity) = watchdog();
        let _small = activity.begin().watch(response(1_000));
        advance(9).await;
        assert_eq!(watchdog.check(), ConnectionAction::Continue);
        advance(1).await;
        assert!(matches!(watchdog.check(), ConnectionAction::Close(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_one_write_timeout_for_a_large_response() {
        let (mut watchdog, activity) = watchdog();
        let _large = activity.begin().watch(response(50_000));
        advance(20).await;
        assert_eq!(watchdog.check(), ConnectionAction::Continue);
        assert_eq!(watchdog.stop(), ConnectionAction::Drain);
        advance(8).await;
        assert_eq!(watchdog.check(), ConnectionAction::Continue);
        advance(1).await;
        assert!(matches!(watchdog.check(), ConnectionAction::Close(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn old_connection_is_drained_within_its_timeout() {
        let (mut watchdog, activity) = watchdog();
        let _request = activity.begin();
        advance(99).await;
        assert_eq!(watchdog.check(), ConnectionAction::Continue);
        advance(11).await;
        assert_eq!(watchdog.check(), ConnectionAction::Drain);
        advance(39).await;
        assert_eq!(watchdog.check(), ConnectionAction::Continue);
        advance(1).await;
        assert!(matches!(watchdog.check(), ConnectionAction::Close(_)));
    }

    #[test]
    fn jitter_adds_up_to_a_tenth() {
        let ages: Vec<_> = (0..100).map(|_| jittered(Duration::from_secs(10))).collect();
        assert!(ages.iter().all(|age| (10..=11).contains(&age.as_secs())));
        assert!(ages.iter().min() < ages.iter().max());
    }
}
