//! The publisher alone, and the ingester between the offline API and that publisher.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use serde_json::Value;
use testkit::process::Child;
use testkit::process::usage::{cpu_seconds, peak_mib, resident_mib};
use testkit::randomuser::RandomUserApi;
use testkit::servers::KafkaCluster;
use testkit::service::{Service, ServiceOptions};

use super::format::ApiPages;
use crate::env::{cleanup, ingester};
use crate::measure::cost::as_f64;

const BATCH_SIZE: usize = 1_000;
/// Requests in flight at the publisher alone; the best of these counts.
const CALLERS: [usize; 2] = [1, 4];
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// A publisher with real Kafka, and prepared batches for it.
pub(super) struct DeliveryBench<'a> {
    publisher: Service,
    api: &'a RandomUserApi,
    batches: Vec<String>,
    folder: PathBuf,
}

/// A completed run of the ingester.
pub(super) struct IngesterRun {
    users: f64,
    /// Accepted users per second, from start to end.
    pub(super) users_per_second: f64,
    cpu_seconds: f64,
    pub(super) peak_mib: f64,
    /// Samples of resident memory, in MiB.
    resident: Vec<f64>,
}

impl IngesterRun {
    /// The peak memory of the first and of the last third.
    pub(super) fn peaks_of_thirds(&self) -> (f64, f64) {
        let samples = self.resident.len();
        let third = samples.div_ceil(3).max(1);
        let peak = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
        (
            peak(&self.resident[..third.min(samples)]),
            peak(&self.resident[samples.saturating_sub(third)..]),
        )
    }
}

impl fmt::Display for IngesterRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu_seconds * 1e6 / self.users;
        write!(
            f,
            "{:.0} users/s, {cpu:.1} CPU s per million",
            self.users_per_second
        )
    }
}

impl<'a> DeliveryBench<'a> {
    pub(super) async fn start(
        api: &'a RandomUserApi,
        kafka: &KafkaCluster,
        pages: &ApiPages,
        folder: &Path,
    ) -> Result<Self> {
        let options = ServiceOptions::new("publisher", folder).set("kafka.brokers", kafka.bootstrap());
        let publisher = Service::start(&options)?;
        publisher.wait_until_ready(READY_TIMEOUT).await?;
        let records = pages.records()?;
        let batches = records.chunks(BATCH_SIZE);
        Ok(Self {
            publisher,
            api,
            batches: batches.map(|batch| format!("[{}]", batch.join(","))).collect(),
            folder: folder.to_owned(),
        })
    }

    /// The settings of an ingester in front of this publisher.
    pub(super) fn ingester(&self, api: &RandomUserApi, state: &str) -> ServiceOptions {
        let state = self.folder.join(state);
        ingester::options(&self.folder, api, &self.publisher.api(), &state)
    }

    /// Users per second that the publisher acknowledges of the prepared, uncompressed batches.
    pub(super) async fn publisher_rate(&self, length: Duration) -> Result<f64> {
        let mut best = 0.0_f64;
        for callers in CALLERS {
            best = best.max(self.rate_of_callers(callers, length).await?);
        }
        Ok(best)
    }

    async fn rate_of_callers(&self, callers: usize, length: Duration) -> Result<f64> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(READY_TIMEOUT)
            .build()?;
        let (next, started) = (AtomicUsize::new(0), Instant::now());
        let url = format!("{}/v1/users", self.publisher.api());
        let caller = async || {
            let mut accepted = 0;
            while started.elapsed() < length {
                let batch = next.fetch_add(1, Ordering::Relaxed) % self.batches.len();
                let request = client
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(self.batches[batch].clone());
                let response = request.send().await?.error_for_status()?;
                accepted += response.json::<Value>().await?["accepted"].as_u64().unwrap_or(0);
            }
            Ok::<u64, reqwest::Error>(accepted)
        };
        let accepted = try_join_all((0..callers).map(|_| caller())).await?;
        Ok(as_f64(accepted.into_iter().sum()) / started.elapsed().as_secs_f64())
    }

    /// Runs the ingester once, with a new state file.
    pub(super) async fn run(&self, users: u64, compression: &str) -> Result<IngesterRun> {
        // Deleting an earlier run's pages would take I/O from this one.
        for file in ["state.db", "state.db-wal", "state.db-shm"] {
            cleanup::remove_file(&self.folder.join(file))?;
        }
        let options = self
            .ingester(self.api, "state.db")
            .set("publisher.compression", compression);
        let options = ingester::once(options, users, "bench");
        let ingester = Service::start(&options)?;
        let pid = ingester.child().map_or(0, Child::pid);
        let (mut resident, mut cpu, mut peak) = (Vec::new(), 0.0, 0.0);
        let until = Instant::now() + RUN_TIMEOUT;
        while ingester.child().is_some_and(Child::is_running) && Instant::now() < until {
            resident.extend(resident_mib(pid));
            cpu = cpu_seconds(pid).unwrap_or(cpu);
            peak = peak_mib(pid).unwrap_or(peak);
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
        ingester.wait(READY_TIMEOUT).await?;
        let summary = ingester::summary(&ingester)?;
        let number = |name: &str| {
            let number = summary[name].as_f64();
            number.with_context(|| format!("the summary has no {name}: {summary}"))
        };
        let (accepted, seconds) = (number("accepted")?, number("seconds")?);
        Ok(IngesterRun {
            users: accepted,
            users_per_second: accepted / seconds,
            cpu_seconds: cpu,
            peak_mib: peak,
            resident,
        })
    }
}
