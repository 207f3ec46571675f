//! The `healthcheck` command of each binary: asks the admin port of the same configuration, so that an image needs
//! neither a shell nor a client for it. It asks once; how often, and what follows, is the container engine's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::process::{ProcessSettings, chain};

/// The largest answer that is read; health is told in a few hundred bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Ask the process that runs with this configuration how it is
#[derive(Clone, Debug, clap::Args)]
pub struct HealthCheck {
    /// Ask /readyz, whether it holds what it needs, in place of /healthz, whether a restart would help
    #[arg(long)]
    ready: bool,
    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    deadline: Duration,
}

/// Why a process does not count as healthy.
#[derive(Debug, Error)]
enum Unhealthy {
    #[error("connect to {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    #[error("ask {0}")]
    Ask(&'static str, #[source] hyper::Error),
    #[error("read the answer of {0}")]
    Read(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer of {path} within {deadline:?}")]
    Late { path: &'static str, deadline: Duration },
    #[error("{path} answers {status}: {body}")]
    Refused {
        path: &'static str,
        status: StatusCode,
        body: String,
    },
}

impl HealthCheck {
    /// Asks the process that was started with `settings`, prints its answer, and returns the exit code: 0 or 1.
    pub async fn perform(&self, name: &str, settings: &ProcessSettings) -> u8 {
        match self.ask(reachable(settings.admin_listen)).await {
            Ok(body) => {
                println!("{body}");
                0
            }
            Err(error) => {
                eprintln!("{name}: {}", chain(&error));
                1
            }
        }
    }

    async fn ask(&self, address: SocketAddr) -> Result<String, Unhealthy> {
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let deadline = self.deadline;
        let (status, body) = timeout(deadline, get(address, path))
            .await
            .map_err(|_| Unhealthy::Late { path, deadline })??;
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(Unhealthy::Refused { path, status, body })
        }
    }
}

async fn get(address: SocketAddr, path: &'static str) -> Result<(StatusCode, String), Unhealthy> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| Unhealthy::Connect(address, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Unhealthy::Ask(path, error))?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Body::empty())
        .expect("a fixed path and an address make a request");
    let exchange = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| Unhealthy::Ask(path, error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| Unhealthy::Read(path, error))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        done = &mut exchange => done,
        ended = &mut connection => {
            // What has arrived before the connection ended is still to be read.
            ended.map_err(|error| Unhealthy::Ask(path, error))?;
            exchange.await
        }
    }
}

/// Where a listener can be reached from its own machine: one on every address is on loopback, too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(address, listen.port())
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .map_err(|error| error.to_string())
        .and_then(|given| Duration::try_from(given).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::net::TcpListener;

    use super::*;
    use crate::admin::AdminServer;
    use crate::health::Health;
    use crate::metrics::Metrics;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        check: HealthCheck,
    }

    fn check(line: &str) -> HealthCheck {
        Line::parse_from(std::iter::once("test").chain(line.split_whitespace())).check
    }

    async fn serve(health: &Health) -> ProcessSettings {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = AdminServer::bind(bind, health.clone(), Metrics::new("test"))
            .await
            .unwrap();
        let port = server.address().unwrap().port();
        tokio::spawn(server.serve());
        ProcessSettings::on_port(port)
    }

    #[tokio::test]
    async fn a_process_that_waits_for_its_dependencies_is_healthy_but_not_ready() {
        let health = Health::default();
        let kafka = health.dependency("kafka");
        let settings = serve(&health).await;
        assert_eq!(check("").perform("test", &settings).await, 0);
        assert_eq!(check("--ready").perform("test", &settings).await, 1);
        kafka.ready();
        assert_eq!(check("--ready").perform("test", &settings).await, 0);
    }

    #[tokio::test]
    async fn a_process_that_a_restart_would_cure_is_not_healthy_and_says_why() {
        let health = Health::default();
        health.watch("poll", || Err("stuck".to_owned()));
        let settings = serve(&health).await;
        let error = check("").ask(reachable(settings.admin_listen)).await.unwrap_err();
        assert!(chain(&error).contains("503"), "{error}");
        assert!(chain(&error).contains("poll: stuck"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_accepts_and_says_nothing_is_given_up_at_the_deadline() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = ProcessSettings::on_port(silent.local_addr().unwrap().port());
        let asked = std::time::Instant::now();
        assert_eq!(check("--deadline 200ms").perform("test", &settings).await, 1);
        assert!(asked.elapsed() >= Duration::from_millis(200));
        assert!(asked.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let error = check("").ask(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()));
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9081", "127.0.0.1:9081"),
            ("[::]:9081", "[::1]:9081"),
            ("10.1.2.3:9081", "10.1.2.3:9081"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn a_negative_deadline_is_refused() {
        assert!(duration("-3s").is_err());
        assert_eq!(duration("1m 5s"), Ok(Duration::from_secs(65)));
    }
}
