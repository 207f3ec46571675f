//! The publisher alone, and the ingester between the offline API and that publisher.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde_json::Value;

use super::format::Responses;
use crate::cleanup;
use crate::error::BenchError;
use crate::usage::{cpu_seconds, peak_mib, resident_mib};
use testkit::process::Child;
use testkit::randomuser::RandomUserApi;
use testkit::servers::KafkaCluster;
use testkit::service::{Service, ServiceOptions};

const BATCH: usize = 1_000;
/// Requests in flight to the publisher alone; the fastest counts.
const CALLERS: [usize; 2] = [1, 4];
const READY: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(600);
const SAMPLE: Duration = Duration::from_millis(50);

/// A publisher over real Kafka and the batches it receives.
pub(super) struct Delivery {
    publisher: Service,
    api: String,
    batches: Arc<Vec<String>>,
    folder: PathBuf,
}

/// Results of a run.
pub(super) struct Run {
    /// Accepted users.
    pub(super) users: f64,
    /// Accepted users a second, from the run's start to its end.
    pub(super) users_per_second: f64,
    /// CPU seconds of the ingester.
    pub(super) cpu_seconds: f64,
    /// Peak memory of the ingester.
    pub(super) peak_mib: f64,
    /// Samples of the resident memory.
    resident: Vec<f64>,
}

impl Run {
    /// The peaks of the first and of the last third.
    pub(super) fn thirds(&self) -> (f64, f64) {
        let third = self.resident.len().div_ceil(3).max(1);
        let most = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
        let last = self.resident.len().saturating_sub(third);
        (
            most(&self.resident[..third.min(self.resident.len())]),
            most(&self.resident[last..]),
        )
    }
}

impl Delivery {
    pub(super) async fn start(
        api: &RandomUserApi,
        kafka: &KafkaCluster,
        responses: &Responses,
        folder: &Path,
    ) -> Result<Self, BenchError> {
        let options = ServiceOptions::new("publisher", folder).set("kafka.brokers", kafka.bootstrap());
        let publisher = Service::start(&options)?;
        publisher.wait_until_ready(READY).await?;
        let records = responses.records()?;
        let batches = records
            .chunks(BATCH)
            .map(|batch| format!("[{}]", batch.join(",")));
        Ok(Self {
            publisher,
            api: format!("{}/api/1.4/", api.url()),
            batches: Arc::new(batches.collect()),
            folder: folder.to_owned(),
        })
    }

    /// Options of an ingester that sends to this publisher.
    pub(super) fn ingester(&self) -> ServiceOptions {
        ServiceOptions::new("ingester", &self.folder)
            .set("source.url", &self.api)
            .set("source.rate_limit.users", "1000000000")
            .set("publisher.url", self.publisher.api())
    }

    /// Users/s that the publisher acknowledges from prepared, uncompressed batches.
    pub(super) async fn publisher_alone(&self, length: Duration) -> Result<f64, BenchError> {
        let mut best = 0.0_f64;
        for callers in CALLERS {
            best = best.max(self.acknowledged(callers, length).await?);
        }
        Ok(best)
    }

    async fn acknowledged(&self, callers: usize, length: Duration) -> Result<f64, BenchError> {
        let client = reqwest::Client::builder().no_proxy().timeout(READY).build()?;
        let (next, started) = (AtomicUsize::new(0), Instant::now());
        let url = format!("{}/v1/users", self.publisher.api());
        let caller = async || {
            let mut accepted = 0;
            while started.elapsed() < length {
                let batch = next.fetch_add(1, Ordering::Relaxed) % self.batches.len();
                let post = client
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(self.batches[batch].clone());
                let answer = post.send().await?.error_for_status()?.json::<Value>().await?;
                accepted += answer["accepted"].as_u64().unwrap_or(0);
            }
            Ok::<u64, reqwest::Error>(accepted)
        };
        let accepted: u64 = try_join_all((0..callers).map(|_| caller()))
            .await?
            .into_iter()
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 users")]
        Ok(accepted as f64 / started.elapsed().as_secs_f64())
    }

    /// Runs the ingester for `users`, with its state in a file.
    pub(super) async fn run(&self, users: u64, compression: &str) -> Result<Run, BenchError> {
        let state = self.folder.join("state.db");
        remove_state(&state)?;
        let options = self
            .ingester()
            .arg("once")
            .arg("--users")
            .arg(users.to_string())
            .arg("--seed")
            .arg("bench")
            .set("publisher.compression", compression)
            .set("state.path", state.display().to_string());
        let ingester = Service::start(&options)?;
        let pid = ingester.child().map_or(0, Child::pid);
        let (mut resident, mut cpu, mut peak) = (Vec::new(), 0.0, 0.0);
        let until = Instant::now() + TIMEOUT;
        while ingester.child().is_some_and(Child::is_running) && Instant::now() < until {
            resident.extend(resident_mib(pid));
            cpu = cpu_seconds(pid).unwrap_or(cpu);
            peak = peak_mib(pid).unwrap_or(peak);
            tokio::time::sleep(SAMPLE).await;
        }
        ingester.wait(READY).await?;
        let log = ingester.last_lines(20);
        let summary = log
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        let figure = |name: &str| summary.as_ref().and_then(|summary| summary[name].as_f64());
        let complete = summary
            .as_ref()
            .is_some_and(|summary| summary["outcome"] == "complete");
        match (figure("accepted"), figure("seconds")) {
            (Some(accepted), Some(seconds)) if complete => Ok(Run {
                users: accepted,
                users_per_second: accepted / seconds,
                cpu_seconds: cpu,
                peak_mib: peak,
                resident,
            }),
            _ => Err(BenchError::Incomplete(log)),
        }
    }
}

/// Removes the previous run's state, so that its pages are not freed during the measurement.
fn remove_state(state: &Path) -> Result<(), BenchError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = state.as_os_str().to_owned();
        path.push(suffix);
        let path = PathBuf::from(path);
        cleanup::remove_file(&path).map_err(BenchError::file(path))?;
    }
    Ok(())
}
