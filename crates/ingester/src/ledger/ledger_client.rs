//! Client of the streamer's ledger: one request for one run. No retries; `verdict_loop` handles errors.

use std::future::Future;
use std::time::Duration;

use bytesize::ByteSize;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use thiserror::Error;
use uuid::Uuid;

use crate::http::endpoint::Endpoint;
use crate::http::{self, ReadBodyError};
use crate::ledger::ledger_ranges::{EndToEnd, LedgerRanges};
use crate::run::range_set::RangeSet;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Reading the ledger of a large run takes the streamer a while.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A million numbers without two in a row are about 16 MB.
const MAX_RESPONSE_SIZE: ByteSize = ByteSize::mib(64);

/// Reads the ledger of runs.
pub trait RunLedger {
    /// Sends one request for one run.
    fn run(&self, run: Uuid) -> impl Future<Output = Result<LedgerRanges, LedgerError>> + Send;
}

/// Error of one request to the streamer.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// No connection or no response in time.
    #[error("failed to reach the streamer")]
    Unreachable(#[source] reqwest::Error),
    /// Another status than 200, such as 503 while Cassandra is down.
    #[error("the streamer responded with {0}")]
    Status(StatusCode),
    /// The response was incomplete or too large.
    #[error("failed to read the streamer's response")]
    Body(#[source] ReadBodyError),
    /// The response is not JSON of the expected form.
    #[error("failed to parse the streamer's response")]
    Json(#[source] serde_json::Error),
    /// The response has a range that ends before it begins, or is of another run.
    #[error("the streamer's response is invalid: {0}")]
    Invalid(&'static str),
}

#[derive(Deserialize)]
struct ResponseBody {
    run_id: String,
    stored: Vec<(u64, u64)>,
    dead_lettered: Vec<(u64, u64)>,
    lost: Vec<(u64, u64)>,
    end_to_end: Option<EndToEnd>,
}

/// Client of the streamer's admin port.
pub struct StreamerLedger {
    client: Client,
    url: Url,
}

impl StreamerLedger {
    /// Creates a client. Does not connect yet.
    ///
    /// # Errors
    /// Returns an error when TLS can't be set up.
    pub fn new(streamer: &Endpoint) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: http::direct_client(CONNECT_TIMEOUT, REQUEST_TIMEOUT)?,
            url: streamer.url().clone(),
        })
    }
}

impl RunLedger for StreamerLedger {
    async fn run(&self, run: Uuid) -> Result<LedgerRanges, LedgerError> {
        let sent = self.client.get(run_url(self.url.clone(), run)).send().await;
        let response = sent.map_err(LedgerError::Unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(LedgerError::Status(response.status()));
        }
        let body = http::body(response, MAX_RESPONSE_SIZE)
            .await
            .map_err(LedgerError::Body)?;
        parse(&body, run)
    }
}

/// Appends `v1/runs/{run}` to the path of the streamer's URL.
fn run_url(mut url: Url, run: Uuid) -> Url {
    let path = format!("{}/v1/runs/{run}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

fn parse(body: &[u8], run: Uuid) -> Result<LedgerRanges, LedgerError> {
    let body: ResponseBody = serde_json::from_slice(body).map_err(LedgerError::Json)?;
    if body.run_id != run.to_string() {
        return Err(LedgerError::Invalid("it is of another run"));
    }
    Ok(LedgerRanges {
        stored: set_of(&body.stored)?,
        dead_lettered: set_of(&body.dead_lettered)?,
        lost: set_of(&body.lost)?,
        end_to_end: body.end_to_end,
    })
}

/// Returns the set of ranges that include both ends.
fn set_of(ranges: &[(u64, u64)]) -> Result<RangeSet<u64>, LedgerError> {
    let mut set = RangeSet::default();
    for (first, last) in ranges {
        let end = last.checked_add(1).filter(|end| first < end);
        set.insert(*first..end.ok_or(LedgerError::Invalid("a range ends before it begins"))?);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";

    fn parsed(body: &str) -> Result<LedgerRanges, LedgerError> {
        parse(body.as_bytes(), RUN.parse().unwrap())
    }

    #[test]
    fn response_has_ranges_with_both_ends() {
        let body = format!(
            r#"{{"run_id": "{RUN}", "rows": 5, "dead_letters": 1, "lost_table": 0, "stored": [[0, 3], [7, 7]],
            "dead_lettered": [[4, 4]], "lost": [], "end_to_end": {{"count": 6, "p50_ms": 12.5, "p99_ms": 40.0}}}}"#
        );
        let ledger = parsed(&body).unwrap();
        assert_eq!(
            (ledger.stored.to_string(), ledger.dead_lettered.to_string()),
            ("0-4,7-8".to_owned(), "4-5".to_owned())
        );
        assert_eq!((ledger.lost.count(), ledger.end_to_end.unwrap().count), (0, 6));
        let empty = format!(
            r#"{{"run_id": "{RUN}", "stored": [], "dead_lettered": [], "lost": [], "end_to_end": null}}"#
        );
        assert_eq!(parsed(&empty).unwrap(), LedgerRanges::default());
    }

    #[test]
    fn response_of_another_form_is_an_error() {
        let other = Uuid::nil();
        for (stored, run) in [
            ("[[3, 2]]", RUN),
            ("[[0, 18446744073709551615]]", RUN),
            ("[[0, -1]]", RUN),
            ("[3]", RUN),
            ("[]", &other.to_string()),
        ] {
            let body = format!(
                r#"{{"run_id": "{run}", "stored": {stored}, "dead_lettered": [], "lost": [], "end_to_end": null}}"#
            );
            assert!(parsed(&body).is_err(), "{body}");
        }
        assert!(parsed("<html>").is_err());
    }

    #[test]
    fn route_is_appended_to_the_configured_path() {
        for (address, expected) in [
            ("http://a:1", "http://a:1/v1/runs/"),
            ("http://a/streamer/", "http://a/streamer/v1/runs/"),
        ] {
            let url = run_url(address.parse().unwrap(), RUN.parse().unwrap());
            assert_eq!(url.as_str(), format!("{expected}{RUN}"));
        }
    }
}
