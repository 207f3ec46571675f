//! The delay from the request for a run to the first request to the API.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::randomuser::{Options, RandomUserApi};
use testkit::service::Service;

use super::delivery::DeliveryBench;
use crate::env::ingester::on_request;

const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// Triggers `count` runs and returns their delays in milliseconds.
pub(super) async fn delays(delivery: &DeliveryBench<'_>, count: usize) -> Result<Vec<f64>> {
    let api = RandomUserApi::start(Options::unlimited()).await?;
    let options = delivery
        .ingester(&api, "triggered.db")
        .log_name("triggered")
        .set("run.users", "1000");
    let (options, url, _port) = on_request(options)?;
    let mut ingester = Service::start(&options)?;
    ingester.wait_until_ready(TIMEOUT).await?;
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let mut delays = Vec::new();
    for _ in 0..count {
        let before = api.requests().len();
        let started = Instant::now();
        client.post(&url).send().await?.error_for_status()?;
        while api.requests().len() == before {
            ensure!(
                started.elapsed() < TIMEOUT,
                "no request to the API within {} s:\n{}",
                TIMEOUT.as_secs(),
                ingester.last_lines(20)
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        delays.push(started.elapsed().as_secs_f64() * 1_000.0);
        wait_until_complete(&client, &url).await?;
    }
    ingester.terminate(TIMEOUT).await?;
    Ok(delays)
}

async fn wait_until_complete(client: &reqwest::Client, runs_url: &str) -> Result<()> {
    let until = Instant::now() + TIMEOUT;
    let url = format!("{runs_url}?limit=1");
    while Instant::now() < until {
        let runs: serde_json::Value = client.get(&url).send().await?.json().await?;
        if runs["runs"][0]["state"] == "complete" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
