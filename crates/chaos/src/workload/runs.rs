//! Reads the ingester's run history.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::{REQUEST_INTERVAL, Workload};
use crate::evidence::records::IngesterRun;

impl Workload {
    /// The run history once no run is queued or running, or after the timeout.
    pub(crate) async fn finished_runs(&self, timeout: Duration) -> Vec<IngesterRun> {
        self.runs_without(timeout, |run| matches!(run.state.as_str(), "running" | "queued"))
            .await
    }

    /// The run history once each run has a verdict, or after the timeout.
    pub(crate) async fn judged_runs(&self, timeout: Duration) -> Vec<IngesterRun> {
        let is_pending = |run: &IngesterRun| matches!(run.verdict.as_deref(), None | Some("pending"));
        self.runs_without(timeout, is_pending).await
    }

    async fn runs_without(
        &self,
        timeout: Duration,
        is_open: impl Fn(&IngesterRun) -> bool,
    ) -> Vec<IngesterRun> {
        if !self.record.is_users() {
            return Vec::new();
        }
        let until = Instant::now() + timeout;
        loop {
            let runs = self.run_history().await.unwrap_or_default();
            let open = runs.iter().any(&is_open);
            if (!runs.is_empty() && !open) || Instant::now() >= until {
                return runs;
            }
            sleep(REQUEST_INTERVAL * 5).await;
        }
    }

    async fn run_history(&self) -> Result<Vec<IngesterRun>, reqwest::Error> {
        let response: Value = self.client.get(&self.ingester).send().await?.json().await?;
        let runs = response["runs"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let runs = runs.iter().map(|run| IngesterRun {
            id: text(&run["id"]),
            state: text(&run["state"]),
            accepted: run["counts"]["accepted"].as_u64().unwrap_or_default(),
            verdict: run["verdict"]["state"].as_str().map(str::to_owned),
        });
        Ok(runs.collect())
    }
}
