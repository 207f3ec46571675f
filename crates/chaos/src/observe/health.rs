//! Samples the health of every process periodically.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use reqwest::Client;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::evidence::health::HealthSample;
use crate::service_id::ServiceId;
use crate::services::probe::probe;

const INTERVAL: Duration = Duration::from_millis(300);
/// A frozen process does not respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_000);

pub(crate) struct HealthSampler {
    /// The admin URL of each process.
    pub(crate) admin_urls: BTreeMap<ServiceId, String>,
    /// Start of the round.
    pub(crate) started: Instant,
    pub(crate) stop: CancellationToken,
}

impl HealthSampler {
    /// Runs until stopped, and returns the samples of each process.
    pub(crate) async fn run(&self) -> Result<BTreeMap<ServiceId, Vec<HealthSample>>> {
        let client = Client::builder()
            .timeout(RESPONSE_TIMEOUT)
            .build()
            .context("failed to build an HTTP client")?;
        let each = self.admin_urls.iter().map(|(id, url)| {
            let client = client.clone();
            async move {
                let mut samples = Vec::new();
                while !self.stop.is_cancelled() {
                    samples.push(probe(&client, url, self.started).await);
                    sleep(INTERVAL).await;
                }
                (*id, samples)
            }
        });
        Ok(join_all(each).await.into_iter().collect())
    }
}
