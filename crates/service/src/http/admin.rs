//! The admin server: `/healthz`, `/readyz` and `/metrics` on a separate port.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::metrics::Metrics;

/// The admin server failed.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The address is in use, or is not this machine's.
    #[error("failed to listen on {address} for the admin server")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// Accepting connections failed.
    #[error("failed to accept connections on the admin port")]
    Serve(#[source] std::io::Error),
}

#[derive(Clone)]
struct AppState {
    health: Health,
    metrics: Metrics,
}

/// A bound admin port that does not serve requests yet.
pub struct AdminServer {
    listener: TcpListener,
    router: Router,
}

impl AdminServer {
    /// Binds `address`; port 0 selects a free port.
    ///
    /// # Errors
    /// [`AdminError::Listen`].
    pub async fn bind(address: SocketAddr, health: Health, metrics: Metrics) -> Result<Self, AdminError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| AdminError::Listen { address, source })?;
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(render))
            .with_state(AppState { health, metrics });
        Ok(Self { listener, router })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves requests until the process ends, also during a shutdown.
    ///
    /// # Errors
    /// [`AdminError::Serve`].
    pub async fn serve(self) -> Result<(), AdminError> {
        axum::serve(self.listener, self.router)
            .await
            .map_err(AdminError::Serve)
    }
}

async fn healthz(State(state): State<AppState>) -> Response {
    let liveness = state.health.liveness();
    (status(liveness.live), Json(liveness)).into_response()
}

async fn readyz(State(state): State<AppState>) -> Response {
    let readiness = state.health.readiness();
    (status(readiness.ready), Json(readiness)).into_response()
}

async fn render(State(state): State<AppState>) -> Response {
    (
        [(header::CONTENT_TYPE, Metrics::content_type())],
        state.metrics.render(),
    )
        .into_response()
}

fn status(is_ok: bool) -> StatusCode {
    if is_ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn serve(health: &Health) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = AdminServer::bind(address, health.clone(), Metrics::new("test"))
            .await
            .unwrap();
        let url = format!("http://{}", server.address().unwrap());
        tokio::spawn(server.serve());
        url
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
    }

    #[tokio::test]
    async fn port_in_use_is_named_in_the_error() {
        let in_use = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = in_use.local_addr().unwrap();
        let Err(error) = AdminServer::bind(address, Health::default(), Metrics::new("test")).await else {
            panic!("the port is in use")
        };
        assert!(error.to_string().contains(&address.to_string()));
    }
}
