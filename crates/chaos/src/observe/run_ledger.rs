//! Requests from the streamers the ledger of each run in the topic.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::headers::kafka;
use reqwest::Client;
use testkit::kafka_client::TopicRecord;
use uuid::Uuid;

use crate::evidence::run_ledger::LedgerRanges;

/// Longer than a streamer may take to respond.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The ledgers of the runs in the log. Any streamer has them all. A run is left out if no streamer returns its ledger.
pub(super) async fn read(streamers: &[String], log: &[TopicRecord]) -> Result<BTreeMap<Uuid, LedgerRanges>> {
    let client = Client::builder().timeout(TIMEOUT).build();
    let client = client.context("failed to build an HTTP client")?;
    let mut runs = BTreeMap::new();
    for record in log {
        let run = record.header(kafka::RUN_ID).and_then(|run| run.parse().ok());
        let Some(run) = run.filter(|run| !runs.contains_key(run)) else {
            continue;
        };
        let mut ledger = None;
        for streamer in streamers {
            ledger = request(&client, streamer, run).await;
            if ledger.is_some() {
                break;
            }
        }
        runs.insert(run, ledger);
    }
    let ledgers = runs.into_iter().filter_map(|(run, ledger)| Some((run, ledger?)));
    Ok(ledgers.collect())
}

async fn request(client: &Client, streamer: &str, run: Uuid) -> Option<LedgerRanges> {
    let response = client.get(format!("{streamer}/v1/runs/{run}")).send().await;
    response.ok()?.error_for_status().ok()?.json().await.ok()
}
