//! The admin server: `/healthz`, `/readyz` and `/metrics` on a port of their own.

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

/// The admin server could not do its work.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The address is taken, or is not this machine's.
    #[error("listen for the admin server on {address}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Accepting connections failed.
    #[error("serve the admin port")]
    Serve(#[source] std::io::Error),
}

/// What the routes answer from.
#[derive(Clone)]
struct Sources {
    health: Health,
    metrics: Metrics,
}

/// A bound admin port that does not answer yet.
pub struct AdminServer {
    listener: TcpListener,
    router: Router,
}

impl AdminServer {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(address: SocketAddr, health: Health, metrics: Metrics) -> Result<Self, AdminError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| AdminError::Listen { address, source })?;
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(render))
            .with_state(Sources { health, metrics });
        Ok(Self { listener, router })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the process ends: health and metrics are asked for while it stops, too.
    ///
    /// # Errors
    /// When accepting fails for good.
    pub async fn serve(self) -> Result<(), AdminError> {
        axum::serve(self.listener, self.router)
            .await
            .map_err(AdminError::Serve)
    }
}

async fn healthz(State(sources): State<Sources>) -> Response {
    let liveness = sources.health.liveness();
    (status(liveness.live), Json(liveness)).into_response()
}

async fn readyz(State(sources): State<Sources>) -> Response {
    let readiness = sources.health.readiness();
    (status(readiness.ready), Json(readiness)).into_response()
}

async fn render(State(sources): State<Sources>) -> Response {
    (
        [(header::CONTENT_TYPE, Metrics::content_type())],
        sources.metrics.render(),
    )
        .into_response()
}

fn status(good: bool) -> StatusCode {
    if good {
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
    async fn readyz_tells_in_json_which_dependency_is_missing() {
        let health = Health::default();
        let kafka = health.dependency("kafka");
        let url = serve(&health).await;
        let answer = reqwest::get(format!("{url}/readyz")).await.unwrap();
        assert_eq!(answer.status(), 503);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["dependencies"][0]["name"], "kafka");
        assert_eq!(body["dependencies"][0]["reason"], "not yet reached");
        kafka.ready();
        assert_eq!(reqwest::get(format!("{url}/readyz")).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn healthz_and_metrics_answer() {
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
    async fn a_taken_port_is_an_error_that_names_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let Err(error) = AdminServer::bind(address, Health::default(), Metrics::new("test")).await else {
            panic!("the port is taken")
        };
        assert!(error.to_string().contains(&address.to_string()));
    }
}
