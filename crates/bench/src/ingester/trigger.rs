//! Measures the time from the request for a run to the API's first request.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::delivery::Delivery;
use crate::error::BenchError;
use testkit::randomuser::{Options, RandomUserApi};
use testkit::servers::ports::PortLease;
use testkit::service::Service;

const READY: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_micros(200);

/// Returns `count` times in milliseconds.
pub(super) async fn times(delivery: &Delivery, folder: &Path, count: usize) -> Result<Vec<f64>, BenchError> {
    let api = RandomUserApi::start(Options::unlimited()).await?;
    let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
    let listen = format!("127.0.0.1:{}", port.port());
    let options = delivery
        .ingester()
        .log_name("triggered")
        .set("source.url", format!("{}/api/1.4/", api.url()))
        .set("api.listen", &listen)
        .set("schedule.cron", "0 0 29 2 *")
        .set("run.users", "1000")
        .set("state.path", folder.join("triggered.db").display().to_string());
    let mut ingester = Service::start(&options)?;
    ingester.wait_until_ready(READY).await?;
    let client = reqwest::Client::builder().no_proxy().timeout(READY).build()?;
    let url = format!("http://{listen}/v1/runs");
    let mut times = Vec::new();
    for _ in 0..count {
        let before = api.requests().len();
        let started = Instant::now();
        client.post(&url).send().await?.error_for_status()?;
        while api.requests().len() == before {
            if started.elapsed() > READY {
                let log = ingester.last_lines(20);
                return Err(BenchError::NoRequest { waited: READY, log });
            }
            tokio::time::sleep(POLL).await;
        }
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
        until_idle(&client, &listen).await?;
    }
    ingester.terminate(READY).await?;
    Ok(times)
}

async fn until_idle(client: &reqwest::Client, listen: &str) -> Result<(), BenchError> {
    let until = Instant::now() + READY;
    let url = format!("http://{listen}/v1/runs?limit=1");
    while Instant::now() < until {
        let runs: serde_json::Value = client.get(&url).send().await?.json().await?;
        if runs["runs"][0]["state"] == "complete" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
