//! The `healthcheck` command of each service: one request to the admin port of the same configuration.
//!
//! Container images use it as their health check, so they need no shell and no HTTP client. It does not retry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::output::{print_error, print_line};
use crate::process::ProcessSettings;

/// The largest response that is read; a health report has a few hundred bytes.
const MAX_RESPONSE: usize = 64 * 1024;

/// Check the health of the service that runs with this configuration: exit code 0 if healthy, 1 if not
///
/// Example: `--config service.toml healthcheck --ready --timeout 5s`
#[derive(Clone, Debug, clap::Args)]
pub struct HealthCheck {
    /// Request /readyz (are all dependencies available?) instead of /healthz (would a restart help?)
    #[arg(long)]
    ready: bool,
    /// Fail if there is no response within this time
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = crate::duration::parse)]
    timeout: Duration,
}

/// Why a process is not healthy.
#[derive(Debug, Error)]
enum Unhealthy {
    #[error("failed to connect to {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    #[error("failed to request {0}")]
    Request(&'static str, #[source] hyper::Error),
    #[error("failed to read the response of {0}")]
    Read(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no response of {path} within {timeout:?}")]
    Timeout { path: &'static str, timeout: Duration },
    #[error("{path} returned {status}: {body}")]
    Status {
        path: &'static str,
        status: StatusCode,
        body: String,
    },
}

impl HealthCheck {
    /// Requests the health of the process that runs with `settings`, prints it, and returns the exit code: 0 or 1.
    pub async fn perform(&self, name: &str, settings: &ProcessSettings) -> u8 {
        let error: Box<dyn std::error::Error> = match self.request(reachable(settings.admin_listen)).await {
            Ok(body) => match print_line(body) {
                Ok(()) => return 0,
                Err(error) => error.into(),
            },
            Err(error) => error.into(),
        };
        print_error(name, &*error);
        1
    }

    async fn request(&self, address: SocketAddr) -> Result<String, Unhealthy> {
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let timeout = self.timeout;
        let (status, body) = tokio::time::timeout(timeout, get(address, path))
            .await
            .map_err(|_| Unhealthy::Timeout { path, timeout })??;
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(Unhealthy::Status { path, status, body })
        }
    }
}

async fn get(address: SocketAddr, path: &'static str) -> Result<(StatusCode, String), Unhealthy> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| Unhealthy::Connect(address, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Unhealthy::Request(path, error))?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Body::empty())
        .expect("a fixed path and an address are a valid request");
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| Unhealthy::Request(path, error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_RESPONSE)
            .collect()
            .await
            .map_err(|error| Unhealthy::Read(path, error))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        done = &mut exchange => done,
        ended = &mut connection => {
            // What arrived before the connection ended is still to be read.
            ended.map_err(|error| Unhealthy::Request(path, error))?;
            exchange.await
        }
    }
}

/// The address of a listener as seen from its own machine: loopback if it listens on every address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(address, listen.port())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::net::TcpListener;

    use super::*;
    use crate::health::Health;
    use crate::http::admin::{AdminServer, Content};
    use crate::process::exit::chain;

    #[derive(Parser)]
    struct ParsedLine {
        #[command(flatten)]
        check: HealthCheck,
    }

    fn check(line: &str) -> HealthCheck {
        ParsedLine::parse_from(std::iter::once("test").chain(line.split_whitespace())).check
    }

    async fn serve(health: &Health) -> ProcessSettings {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = AdminServer::bind(bind, Content::for_test(health.clone()))
            .await
            .unwrap();
        let port = server.address().unwrap().port();
        tokio::spawn(server.serve());
        ProcessSettings::on_port(port)
    }

    #[tokio::test]
    async fn waiting_process_is_healthy_but_not_ready() {
        let health = Health::default();
        let kafka = health.dependency("kafka");
        let settings = serve(&health).await;
        assert_eq!(check("").perform("test", &settings).await, 0);
        assert_eq!(check("--ready").perform("test", &settings).await, 1);
        kafka.ready();
        assert_eq!(check("--ready").perform("test", &settings).await, 0);
    }

    #[tokio::test]
    async fn failed_liveness_check_is_reported_with_its_reason() {
        let health = Health::default();
        health.watch("poll", || Err("stuck".to_owned()));
        let settings = serve(&health).await;
        let error = check("")
            .request(reachable(settings.admin_listen))
            .await
            .unwrap_err();
        assert!(chain(&error).contains("503"), "{error}");
        assert!(chain(&error).contains("poll: stuck"), "{error}");
    }

    #[tokio::test]
    async fn silent_port_fails_after_the_timeout() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = ProcessSettings::on_port(silent.local_addr().unwrap().port());
        let started = std::time::Instant::now();
        assert_eq!(check("--timeout 200ms").perform("test", &settings).await, 1);
        assert!(started.elapsed() >= Duration::from_millis(200));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn closed_port_is_named_in_the_error() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let error = check("").request(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()));
    }

    #[test]
    fn listener_on_every_address_is_requested_on_loopback() {
        for (listen, requested) in [
            ("0.0.0.0:9081", "127.0.0.1:9081"),
            ("[::]:9081", "[::1]:9081"),
            ("10.1.2.3:9081", "10.1.2.3:9081"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), requested);
        }
    }
}
