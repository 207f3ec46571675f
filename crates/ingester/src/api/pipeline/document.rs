//! The status document of another service: fetches it from its admin port. No cache, no retry.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};

use crate::http;

/// Time for connecting and for the whole response.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// A document has a few kilobytes.
const MAX_SIZE: ByteSize = ByteSize::mib(1);

/// What is known about another service.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The setting of its admin port is not set.
    NotConfigured(&'static str),
    /// It does not respond with its document: address and cause.
    Unavailable(String),
    /// Its document.
    Document(Box<Document>),
}

/// The part of a status document that the view uses. A section may be absent: a service adds it once it has what it needs.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) service: String,
    pub(super) ready: bool,
    pub(super) stopping: bool,
    pub(super) dependencies: Vec<DependencyReport>,
    pub(super) rates: Option<RatesSection>,
    pub(super) lag: Option<LagSection>,
    pub(super) end_to_end: Option<QuantilesSection>,
    pub(super) dead_letters: Option<DeadLettersSection>,
}

/// A dependency of a service.
#[derive(Debug, Deserialize)]
pub(super) struct DependencyReport {
    pub(super) name: String,
    pub(super) ready: bool,
    reason: Option<String>,
}

impl DependencyReport {
    /// Why the dependency is not available.
    pub(super) fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or("not ready")
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct RatesSection {
    pub(super) records_per_second: f64,
    pub(super) rows_per_second: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct QuantilesSection {
    pub(super) p99_ms: Option<f64>,
}

/// The lag of a streamer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct LagSection {
    pub(super) total: Option<i64>,
    pub(super) partitions: Vec<PartitionLag>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PartitionLag {
    partition: i32,
    lag: Option<i64>,
    halted: Option<String>,
}

/// The dead letters of a streamer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct DeadLettersSection {
    pub(super) last_24h: BTreeMap<String, u64>,
    newest: Vec<DeadLetter>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct DeadLetter {
    partition: i32,
    offset: i64,
    reason: String,
    at: Timestamp,
}

/// Fetches the document of `service` from its admin port, or says why that fails.
pub(super) async fn fetch(client: &Client, admin: &Url, service: &str) -> Fetched {
    let mut url = admin.clone();
    url.set_path(&format!("{}/status", admin.path().trim_end_matches('/')));
    match request(client, &url).await {
        Ok(document) if document.service == service => Fetched::Document(Box::new(document)),
        Ok(document) => Fetched::Unavailable(format!(
            "{url}: this is the {}, not the {service}",
            document.service
        )),
        Err(cause) => Fetched::Unavailable(format!("{url}: {cause}")),
    }
}

async fn request(client: &Client, url: &Url) -> Result<Document, String> {
    let response = client
        .get(url.clone())
        .send()
        .await
        .map_err(|error| cause(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("it responded with {}", status.as_u16()));
    }
    let body = http::body(response, MAX_SIZE)
        .await
        .map_err(|error| match error {
            http::ReadBodyError::Read(error) => cause(&error),
            error => service::process::chain(&error),
        })?;
    serde_json::from_slice(&body).map_err(|error| format!("the response is no status document: {error}"))
}

/// The innermost cause. The errors around it repeat the address.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no response within {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
