//! How the random-user API is asked. The rules between these values stand in `settings`.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::Backoff;

use crate::endpoint::Endpoint;

/// How the random-user API is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceSettings {
    /// The API, with the version in its path.
    pub url: Endpoint,
    /// The version that each reply must say it is: the same uuid is another person in another version.
    pub version: String,
    /// Users per page, 1 to 5000: the API turns anything else into 1 without a word.
    pub page_size: u32,
    /// How long a connection may take to come about.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub connect_timeout: Duration,
    /// How long a request may take, from the connection to the last byte of its answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub request_timeout: Duration,
    /// The largest answer that is read; 5,000 users take about 5.5 MB.
    pub max_response_size: ByteSize,
    /// How often one page is asked for before the run fails, 1 or more.
    pub attempts: u32,
    /// The waits between those attempts.
    pub backoff: Backoff,
    /// How many pages are asked for at once, 1 or more.
    pub max_in_flight: usize,
    /// When an API that fails is left alone.
    pub circuit_breaker: CircuitBreakerSettings,
    /// What the API allows.
    pub rate_limit: RateLimitSettings,
}

/// When an API that fails is left alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CircuitBreakerSettings {
    /// After so many failures in a row, 1 or more.
    pub failures: u32,
    /// For how long; then one request decides.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub open_duration: Duration,
}

/// The users that the API hands out to one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitSettings {
    /// Users per window.
    pub users: u64,
    /// The length of the window.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub window: Duration,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            url: Endpoint::literal("https://randomuser.me/api/1.4/"),
            version: "1.4".to_owned(),
            page_size: 5_000,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            max_response_size: ByteSize::mib(16),
            attempts: 5,
            backoff: Backoff {
                initial: Duration::from_secs(1),
                max: Duration::from_secs(30),
            },
            max_in_flight: 2,
            circuit_breaker: CircuitBreakerSettings::default(),
            rate_limit: RateLimitSettings::default(),
        }
    }
}

impl Default for CircuitBreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            open_duration: Duration::from_secs(30),
        }
    }
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self {
            users: 20_000,
            window: Duration::from_secs(300),
        }
    }
}
