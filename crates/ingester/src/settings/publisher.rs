//! How records are handed over. The rules between these values stand in `settings`.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::{Backoff, Secret};

use crate::compression::Choice;
use crate::endpoint::Endpoint;

/// How records are handed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PublisherSettings {
    /// The publisher's API; `v1/users` is put behind it.
    pub url: Endpoint,
    /// The bearer token, when the publisher asks for one.
    pub token: Option<Secret>,
    /// Records per request, 1 to 1000. A run that was begun goes on with what it was begun with.
    pub batch_size: u32,
    /// How many requests are under way at once, 1 to 16. While one is answered the next is on its way; more than a few
    /// gain nothing.
    pub max_in_flight: usize,
    /// How requests are compressed.
    pub compression: Choice,
    /// How long a connection may take to come about.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect_timeout: Duration,
    /// How long a request may take. Longer than the publisher's own deadline, whose 504 says more than a lost answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_timeout: Duration,
    /// The largest answer that is read.
    pub max_response_size: ByteSize,
    /// The waits between attempts, which go on until the run's deadline.
    pub backoff: Backoff,
    /// How many answers in a row that don't add up are tolerated for one request before the run fails.
    pub max_invalid_responses: u32,
    /// How often readiness looks whether the publisher answers at all.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub probe_interval: Duration,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            url: Endpoint::literal("http://127.0.0.1:8080/"),
            token: None,
            batch_size: 1_000,
            max_in_flight: 4,
            compression: Choice::Auto,
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
    /// How many records lie at most between the first and the last under way.
    #[must_use]
    pub fn records_in_flight(&self) -> usize {
        usize::try_from(self.batch_size).map_or(usize::MAX, |batch| batch.saturating_mul(self.max_in_flight))
    }
}
