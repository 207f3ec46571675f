//! What the ingester says of its runs.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::{BREATH, Workload};
use crate::evidence::Run;

impl Workload {
    /// The ingester's history, once no run is under way, or as it is after `deadline`.
    pub async fn runs(&self, deadline: Duration) -> Vec<Run> {
        let until = Instant::now() + deadline;
        loop {
            let runs = self.history().await.unwrap_or_default();
            let open = runs
                .iter()
                .any(|run| matches!(run.state.as_str(), "running" | "queued"));
            if (!runs.is_empty() && !open) || Instant::now() >= until {
                return runs;
            }
            sleep(BREATH * 5).await;
        }
    }

    async fn history(&self) -> Result<Vec<Run>, reqwest::Error> {
        let told: Value = self.client.get(&self.ingester).send().await?.json().await?;
        let runs = told["runs"].as_array().cloned().unwrap_or_default();
        Ok(runs
            .iter()
            .map(|run| Run {
                id: run["id"].as_str().unwrap_or_default().to_owned(),
                state: run["state"].as_str().unwrap_or_default().to_owned(),
                accepted: run["counts"]["accepted"].as_u64().unwrap_or_default(),
            })
            .collect())
    }
}
