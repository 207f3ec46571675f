//! Settings of the requests to the publisher.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::config::Violations;
use service::{Backoff, Secret};

use crate::delivery::compression::CompressionConfig;
use crate::http::endpoint::Endpoint;

/// Requests to the publisher.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PublisherSettings {
    /// The publisher's base URL; requests go to `v1/users` below it.
    pub url: Endpoint,
    /// The bearer token, if the publisher requires one.
    pub token: Option<Secret>,
    /// Records per request, 1 to 1000. A resumed run keeps the size it started with.
    pub batch_size: u32,
    /// Concurrent requests, 1 to 16. More than a few gain nothing.
    pub max_in_flight: usize,
    /// How requests are compressed.
    pub compression: CompressionConfig,
    /// The timeout of connecting.
    #[serde(with = "service::duration")]
    pub connect_timeout: Duration,
    /// The timeout of a request. Longer than the publisher's own, whose 504 has a reason.
    #[serde(with = "service::duration")]
    pub request_timeout: Duration,
    /// The largest response that is read.
    pub max_response_size: ByteSize,
    /// The delays between attempts, which continue until `run.timeout`.
    pub backoff: Backoff,
    /// Consecutive invalid responses to one request before the run fails.
    pub max_invalid_responses: u32,
    /// How often readiness checks whether the publisher is reachable.
    #[serde(with = "service::duration")]
    pub probe_interval: Duration,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            url: Endpoint::literal("http://127.0.0.1:8080/"),
            token: None,
            batch_size: 1_000,
            max_in_flight: 4,
            compression: CompressionConfig::Auto,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(40),
            max_response_size: ByteSize::mib(1),
            backoff: Backoff {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(5),
            },
            max_invalid_responses: 5,
            probe_interval: Duration::from_secs(2),
        }
    }
}

impl PublisherSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.backoff.is_valid(),
            "publisher.backoff.initial",
            Backoff::RULE,
        );
        violations.require(
            (1..=1_000).contains(&self.batch_size),
            "publisher.batch_size",
            "must be between 1 and 1000",
        );
        violations.require(
            (1..=16).contains(&self.max_in_flight),
            "publisher.max_in_flight",
            "must be between 1 and 16",
        );
        let is_valid = |token: &Secret| {
            let token = token.expose();
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        violations.require(
            self.token.as_ref().is_none_or(is_valid),
            "publisher.token",
            "must consist of visible ASCII characters",
        );
    }

    /// The maximum number of records in flight.
    #[must_use]
    pub fn records_in_flight(&self) -> usize {
        usize::try_from(self.batch_size).map_or(usize::MAX, |batch| batch.saturating_mul(self.max_in_flight))
    }
}
