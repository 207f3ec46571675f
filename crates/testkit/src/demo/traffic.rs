//! The traffic of the demo: a run of the ingester, or generated records that are posted to the publisher.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::headers::http as names;
use reqwest::{Client, StatusCode, header};
use serde::Deserialize;
use uuid::Uuid;

use super::conservation::RunVerdict;
use super::progress::ProgressBars;
use crate::error::TestkitError;
use crate::generator::Generator;
use crate::record_type::RecordType;
use crate::service::Service;

/// What was sent to the publisher.
#[derive(Debug, Deserialize)]
pub(super) struct TrafficSummary {
    pub(super) run: String,
    pub(super) outcome: String,
    pub(super) fetched: u64,
    pub(super) invalid: u64,
    pub(super) accepted: u64,
    pub(super) duplicate: u64,
    /// The ingester's comparison with the streamer's ledger.
    pub(super) verdict: Option<RunVerdict>,
}

/// Records in a request.
const BATCH_SIZE: u64 = 100;
const MAX_IN_FLIGHT: usize = 4;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const RUN_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Each demo has new servers, so the records may be the same.
const SEED: u64 = 1;

/// Waits for the end of a run. Returns its exit code and its summary, the last line of its output.
pub(super) async fn finish_run(ingester: &Service) -> Result<(Option<i32>, TrafficSummary), TestkitError> {
    let exit = ingester.wait(RUN_TIMEOUT).await?;
    let log = ingester.last_lines(40);
    let summary = log.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    Ok((exit, summary.ok_or(TestkitError::Incomplete(log))?))
}

/// Posts generated records, each of another row.
pub(super) async fn post_records(
    record: &RecordType,
    publisher: &Service,
    records: u64,
    bars: &ProgressBars,
) -> Result<TrafficSummary, TestkitError> {
    let generator = Generator::new(record.contract().clone(), SEED);
    let client = Client::builder().timeout(REQUEST_TIMEOUT).build()?;
    let url = format!("{}{}", publisher.api(), record.route());
    let run = Uuid::now_v7().to_string();
    let starts = (0..records).step_by(usize::try_from(BATCH_SIZE).unwrap_or(usize::MAX));
    let batches = starts.map(|first| first..records.min(first + BATCH_SIZE));
    let accepted = stream::iter(batches)
        .map(async |numbers| {
            let first = numbers.start;
            let lines = numbers.map(|number| generator.record(number, 0).json);
            let body = lines.collect::<Vec<_>>().join(&b'\n');
            let request = client
                .post(&url)
                .header(header::CONTENT_TYPE, model::headers::NDJSON)
                .header(names::RUN_ID, &run)
                .header(names::RUN_SEQ, first)
                .header(names::FETCHED_AT_US, micros_since_epoch());
            accepted(request.body(body).send().await?).await
        })
        .buffer_unordered(MAX_IN_FLIGHT)
        .inspect_ok(|accepted| bars.add_posted(*accepted))
        .try_fold(0, async |sum, accepted| Ok(sum + accepted))
        .await?;
    Ok(TrafficSummary {
        run: run.clone(),
        outcome: "complete".to_owned(),
        fetched: records,
        invalid: 0,
        accepted,
        duplicate: 0,
        verdict: None,
    })
}

/// Generated records exist from the moment at which they are posted.
fn micros_since_epoch() -> String {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.unwrap_or_default().as_micros().to_string()
}

/// The number of records that a response acknowledges. Generated records are valid, so any other response is an error.
async fn accepted(response: reqwest::Response) -> Result<u64, TestkitError> {
    #[derive(Deserialize)]
    struct PublishBody {
        accepted: u64,
    }

    let (status, body) = (response.status(), response.text().await?);
    match serde_json::from_str::<PublishBody>(&body) {
        Ok(acknowledged) if status == StatusCode::OK => Ok(acknowledged.accepted),
        _ => Err(TestkitError::NotAccepted { status, body }),
    }
}
