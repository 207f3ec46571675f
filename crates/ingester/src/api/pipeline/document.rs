//! The status document of another service: fetches it from its admin port. No cache, no retry.
//!
//! Several instances of a service, such as the streamers of a group, may share a name. Their documents are combined to one.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use bytesize::ByteSize;
use futures::future::join_all;
use jiff::Timestamp;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use tokio::net::lookup_host;

use crate::http;

/// Time for connecting and for the whole response.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// The newest dead letters of all instances that are kept.
const NEWEST: usize = 10;
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
    pub(super) reason: Option<String>,
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
    pub(super) partition: i32,
    lag: Option<i64>,
    halted: Option<String>,
}

/// The dead letters of a streamer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct DeadLettersSection {
    pub(super) last_24h: BTreeMap<String, u64>,
    newest: Vec<DeadLetterSummary>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct DeadLetterSummary {
    partition: i32,
    offset: i64,
    reason: String,
    at: Timestamp,
}

/// Fetches the document of each instance of `service` from its admin port and combines them, or says why that fails.
pub(super) async fn fetch(client: &Client, admin: &Url, service: &str) -> Fetched {
    let mut url = admin.clone();
    url.set_path(&format!("{}/status", admin.path().trim_end_matches('/')));
    let instances = instances(&url).await;
    let responses = instances
        .into_iter()
        .map(async |url| match request(client, &url).await {
            Ok(document) if document.service == service => Ok(document),
            Ok(document) => Err(format!(
                "{url}: this is the {}, not the {service}",
                document.service
            )),
            Err(cause) => Err(format!("{url}: {cause}")),
        });
    combine(join_all(responses).await)
}

/// The URL with each address of its name. A server with TLS is known by its name only.
async fn instances(url: &Url) -> Vec<Url> {
    let name = vec![url.clone()];
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return name;
    };
    if url.scheme() != "http" {
        return name;
    }
    // An error is reported by the request.
    let Ok(Ok(addresses)) = tokio::time::timeout(TIMEOUT, lookup_host((host, port))).await else {
        return name;
    };
    let mut addresses: Vec<_> = addresses.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    // Addresses of both families belong to the same instances.
    if addresses.iter().any(std::net::IpAddr::is_ipv4) {
        addresses.retain(std::net::IpAddr::is_ipv4);
    }
    if addresses.len() < 2 {
        return name;
    }
    let with_address = |address| {
        let mut url = url.clone();
        url.set_ip_host(address).ok().map(|()| url)
    };
    addresses.into_iter().filter_map(with_address).collect()
}

/// Combines the responses of the instances of a service. One that does not respond is a dependency that is not ready.
fn combine(responses: Vec<Result<Document, String>>) -> Fetched {
    let count = responses.len();
    let (documents, missing): (Vec<_>, Vec<_>) = responses.into_iter().partition(Result::is_ok);
    let missing: Vec<_> = missing.into_iter().filter_map(Result::err).collect();
    let mut documents = documents.into_iter().filter_map(Result::ok);
    let Some(first) = documents.next() else {
        return Fetched::Unavailable(missing.join("; "));
    };
    let mut combined = documents.fold(first, Document::with);
    if !missing.is_empty() {
        combined.ready = false;
        combined.dependencies.push(DependencyReport {
            name: format!("{} of {count} instances", missing.len()),
            ready: false,
            reason: Some(missing.join("; ")),
        });
    }
    Fetched::Document(Box::new(combined))
}

impl Document {
    /// Adds another instance of the service.
    fn with(mut self, other: Self) -> Self {
        self.ready &= other.ready;
        // One that shuts down is replaced by the others.
        self.stopping &= other.stopping;
        for report in other.dependencies {
            match self
                .dependencies
                .iter_mut()
                .find(|known| known.name == report.name)
            {
                Some(known) if known.ready => *known = report,
                Some(_) => {}
                None => self.dependencies.push(report),
            }
        }
        self.rates = both(self.rates, other.rates, |one, other| RatesSection {
            records_per_second: one.records_per_second + other.records_per_second,
            rows_per_second: both(one.rows_per_second, other.rows_per_second, |one, other| {
                one + other
            }),
        });
        self.lag = both(self.lag, other.lag, |mut one, other| {
            one.total = one.total.zip(other.total).map(|(one, other)| one + other);
            one.partitions.extend(other.partitions);
            one.partitions.sort_by_key(|lag| lag.partition);
            one
        });
        self.end_to_end = both(self.end_to_end, other.end_to_end, |one, other| QuantilesSection {
            p99_ms: both(one.p99_ms, other.p99_ms, f64::max),
        });
        self.dead_letters = both(self.dead_letters, other.dead_letters, |mut one, other| {
            for (reason, count) in other.last_24h {
                *one.last_24h.entry(reason).or_default() += count;
            }
            one.newest.extend(other.newest);
            one.newest.sort_by_key(|letter| std::cmp::Reverse(letter.at));
            one.newest.truncate(NEWEST);
            one
        });
        self
    }
}

/// Combines two values, of which one may be absent.
fn both<T>(one: Option<T>, other: Option<T>, combine: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(combine(one, other)),
        (one, other) => one.or(other),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn streamer(partition: i32, sections: &Value) -> Result<Document, String> {
        let mut document = json!({
            "service": "streamer", "ready": true, "stopping": false,
            "dependencies": [{"name": "kafka", "ready": true, "reason": null}],
            "rates": {"records_per_second": 10.0, "rows_per_second": 9.0},
            "lag": {"total": 3, "partitions": [{"partition": partition, "lag": 3, "halted": null}]},
            "end_to_end": {"p50_ms": 1.0, "p99_ms": f64::from(partition)},
            "dead_letters": {"last_24h": {"malformed": 2}, "newest": [
                {"partition": partition, "offset": 5, "reason": "malformed", "at": format!("2026-11-28T03:5{partition}:00Z")}]},
        });
        let sections = sections.as_object().cloned().unwrap_or_default();
        document.as_object_mut().unwrap().extend(sections);
        Ok(serde_json::from_value(document).unwrap())
    }

    fn combined(responses: Vec<Result<Document, String>>) -> Document {
        match combine(responses) {
            Fetched::Document(document) => *document,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn streamers_of_a_group_are_one_service() {
        let document = combined((0..3).rev().map(|it| streamer(it, &Value::Null)).collect());
        assert!(document.ready && document.dependencies.len() == 1);
        let rates = document.rates.unwrap();
        assert!((rates.records_per_second - 30.0).abs() < 1e-9);
        assert!((rates.rows_per_second.unwrap() - 27.0).abs() < 1e-9);
        let lag = document.lag.unwrap();
        let partitions: Vec<_> = lag.partitions.iter().map(|it| it.partition).collect();
        assert_eq!((lag.total, partitions), (Some(9), vec![0, 1, 2]));
        assert_eq!(document.end_to_end.unwrap().p99_ms, Some(2.0));
        let letters = document.dead_letters.unwrap();
        assert_eq!(letters.last_24h["malformed"], 6);
        let newest: Vec<_> = letters.newest.iter().map(|it| it.partition).collect();
        assert_eq!(newest, [2, 1, 0]);
    }

    #[test]
    fn unready_and_missing_instances_are_reported() {
        let unready = json!({"ready": false, "lag": null,
            "dependencies": [{"name": "kafka", "ready": false, "reason": "no broker responds"}]});
        let responses = || {
            let missing = Err("http://10.0.0.3:9083/status: connection refused".to_owned());
            vec![streamer(0, &Value::Null), streamer(1, &unready), missing]
        };
        let document = combined(responses());
        assert!(!document.ready);
        let reports: Vec<_> = document
            .dependencies
            .iter()
            .map(|it| (&*it.name, it.reason()))
            .collect();
        assert_eq!(
            reports,
            [
                ("kafka", "no broker responds"),
                (
                    "1 of 3 instances",
                    "http://10.0.0.3:9083/status: connection refused"
                )
            ]
        );
        assert_eq!(document.lag.unwrap().total, Some(3), "of those that report it");
        let none = combine(responses().into_iter().filter(Result::is_err).collect());
        assert!(matches!(none, Fetched::Unavailable(reason) if reason.contains("refused")));
    }

    #[tokio::test]
    async fn one_address_and_a_name_with_tls_are_queried_as_configured() {
        for url in [
            "http://127.0.0.1:9083/status",
            "https://localhost:9083/status",
            "http://localhost:9083/status",
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(instances(&url).await, [url]);
        }
    }
}
