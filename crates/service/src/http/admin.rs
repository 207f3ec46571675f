//! The admin server: `/healthz`, `/readyz`, `/metrics`, `/status` and a service's own routes, on a separate port.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::connection::ConnectionLimits;
use super::server::{ListenError, Server};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::status::Status;

/// The limits of the admin port. Its callers are probes and Prometheus, each with a connection or two.
const LIMITS: ConnectionLimits = ConnectionLimits {
    max_connections: 64,
    header_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    min_response_rate: 16 * 1024,
    max_age: Duration::from_secs(3600),
    drain_timeout: Duration::from_secs(20),
};

/// What the admin port serves.
#[derive(Clone)]
pub struct Content {
    /// `/healthz` and `/readyz`.
    pub health: Health,
    /// `/metrics`.
    pub metrics: Metrics,
    /// `/status`.
    pub status: Status,
    /// The service's own routes.
    pub routes: Routes,
}

/// A service's own routes of the admin port, which it adds when it has what they need.
#[derive(Clone, Default)]
pub struct Routes {
    router: Arc<RwLock<Router>>,
}

impl Routes {
    /// Adds `router`. Its paths are served from now on.
    ///
    /// # Panics
    /// If a path was added before.
    pub fn add(&self, router: Router) {
        let mut current = self.router.write().unwrap_or_else(PoisonError::into_inner);
        *current = std::mem::take(&mut *current).merge(router);
    }

    async fn respond(&self, request: Request) -> Response {
        let router = self.router.read().unwrap_or_else(PoisonError::into_inner).clone();
        match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// A bound admin port that does not serve requests yet.
pub struct AdminServer {
    server: Server,
    router: Router,
}

impl AdminServer {
    /// Binds `address`; port 0 selects a free port.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: SocketAddr, content: Content) -> Result<Self, ListenError> {
        Self::bind_with(LIMITS, address, content).await
    }

    async fn bind_with(
        limits: ConnectionLimits,
        address: SocketAddr,
        content: Content,
    ) -> Result<Self, ListenError> {
        let server = Server::bind("process.admin_listen", address, limits).await?;
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(render))
            .route("/status", get(document))
            .fallback(own_route)
            .with_state(content);
        Ok(Self { server, router })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.server.address()
    }

    /// Serves requests until the process ends, also during a shutdown.
    pub async fn serve(self) {
        let never = CancellationToken::new();
        self.server.serve(self.router, never).await;
    }
}

async fn healthz(State(content): State<Content>) -> Response {
    let liveness = content.health.liveness();
    (status(liveness.live), Json(liveness)).into_response()
}

async fn readyz(State(content): State<Content>) -> Response {
    let readiness = content.health.readiness();
    (status(readiness.ready), Json(readiness)).into_response()
}

async fn render(State(content): State<Content>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (media_type, text) = content.metrics.negotiate(accept.unwrap_or_default());
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}

async fn document(State(content): State<Content>) -> Response {
    Json(content.status.document(&content.health).await).into_response()
}

async fn own_route(State(content): State<Content>, request: Request) -> Response {
    content.routes.respond(request).await
}

fn status(is_ok: bool) -> StatusCode {
    if is_ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
impl Content {
    /// `health` beside an empty rest.
    pub(super) fn for_test(health: Health) -> Self {
        Self {
            health,
            metrics: Metrics::new("test"),
            status: Status::new("test"),
            routes: Routes::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, timeout};

    use super::*;

    async fn serve(health: &Health) -> String {
        format!(
            "http://{}",
            serve_with(LIMITS, Content::for_test(health.clone())).await
        )
    }

    async fn serve_with(limits: ConnectionLimits, content: Content) -> SocketAddr {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = AdminServer::bind_with(limits, address, content).await.unwrap();
        let address = server.address().unwrap();
        tokio::spawn(server.serve());
        address
    }

    /// Connections that send nothing or a part of a request take neither all descriptors nor the port for long.
    #[tokio::test]
    async fn silent_connections_are_limited_and_closed() {
        let limits = ConnectionLimits {
            max_connections: 3,
            header_timeout: Duration::from_millis(400),
            ..LIMITS
        };
        let address = serve_with(limits, Content::for_test(Health::default())).await;
        let started = Instant::now();
        let mut silent = Vec::new();
        for number in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number > 0 {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost").await.unwrap();
            }
            silent.push(stream);
        }
        let response = reqwest::get(format!("http://{address}/healthz")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(
            started.elapsed() >= Duration::from_millis(300),
            "{:?}",
            started.elapsed()
        );
        for mut stream in silent {
            let mut rest = Vec::new();
            let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
            drop(closed.await.expect("the connection is closed"));
        }
    }

    #[tokio::test]
    async fn readyz_names_the_missing_dependency_in_json() {
        let health = Health::default();
        let kafka = health.dependency("kafka");
        let url = serve(&health).await;
        let response = reqwest::get(format!("{url}/readyz")).await.unwrap();
        assert_eq!(response.status(), 503);
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["dependencies"][0]["name"], "kafka");
        assert_eq!(body["dependencies"][0]["reason"], "not yet reached");
        kafka.ready();
        assert_eq!(reqwest::get(format!("{url}/readyz")).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn healthz_and_metrics_respond() {
        let health = Health::default();
        let url = serve(&health).await;
        assert_eq!(
            reqwest::get(format!("{url}/healthz")).await.unwrap().status(),
            200
        );
        health.watch("poll", || Err("stuck".to_owned()));
        assert_eq!(
            reqwest::get(format!("{url}/healthz")).await.unwrap().status(),
            503
        );
        let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap();
        assert!(
            metrics.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/plain")
        );
        assert!(metrics.text().await.unwrap().contains("test_build_info"));
        let request = reqwest::Client::new().get(format!("{url}/metrics"));
        let metrics = request.header("accept", "application/openmetrics-text;version=1.0.0");
        let metrics = metrics.send().await.unwrap();
        assert_eq!(
            metrics.headers()["content-type"],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        assert!(metrics.text().await.unwrap().ends_with("\n# EOF\n"));
    }

    #[tokio::test]
    async fn own_routes_are_served_once_they_are_added() {
        let content = Content::for_test(Health::default());
        let routes = content.routes.clone();
        let address = serve_with(LIMITS, content).await;
        let get = |path: &str| reqwest::get(format!("http://{address}{path}"));
        assert_eq!(get("/v1/runs").await.unwrap().status(), 404);
        routes.add(Router::new().route("/v1/runs", axum::routing::get(|| async { "none" })));
        assert_eq!(get("/v1/runs").await.unwrap().text().await.unwrap(), "none");
        let status: serde_json::Value = get("/status").await.unwrap().json().await.unwrap();
        assert_eq!(status["service"], "test");
    }

    #[tokio::test]
    async fn port_in_use_is_named_in_the_error() {
        let in_use = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = in_use.local_addr().unwrap();
        let Err(error) = AdminServer::bind(address, Content::for_test(Health::default())).await else {
            panic!("the port is in use")
        };
        assert!(error.to_string().contains(&address.to_string()));
    }
}
