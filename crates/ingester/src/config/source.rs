//! Settings of the requests to the random-user API.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use service::Backoff;
use service::config::Violations;

use crate::http::endpoint::Endpoint;

/// Requests to the random-user API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceSettings {
    /// The API's URL, with the version in its path.
    pub url: Endpoint,
    /// The version that each response must have. A uuid belongs to different people in different versions.
    pub version: String,
    /// Users per page, 1 to 5000. The API silently replaces any other number by 1.
    pub page_size: u32,
    /// The timeout of connecting.
    #[serde(with = "service::duration")]
    pub connect_timeout: Duration,
    /// The timeout of a request, from connecting to the last byte of the response.
    #[serde(with = "service::duration")]
    pub request_timeout: Duration,
    /// The largest response that is read; 5,000 users take about 5.5 MB.
    pub max_response_size: ByteSize,
    /// The number of attempts for a page before the run fails, at least 1.
    pub attempts: u32,
    /// The delays between attempts.
    pub backoff: Backoff,
    /// The maximum number of concurrent requests, at least 1.
    pub max_in_flight: usize,
    /// When requests to a failing API stop.
    pub circuit_breaker: CircuitBreakerSettings,
    /// The limit of the API.
    pub rate_limit: RateLimitSettings,
}

/// When requests to a failing API stop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CircuitBreakerSettings {
    /// The number of consecutive failures that open the circuit breaker, at least 1.
    pub failures: u32,
    /// How long it stays open. Then one request decides whether it closes.
    #[serde(with = "service::duration")]
    pub open_duration: Duration,
}

/// The number of users that the API returns to one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitSettings {
    /// Users per window.
    pub users: u64,
    /// The length of the window.
    #[serde(with = "service::duration")]
    pub window: Duration,
}

impl RateLimitSettings {
    /// Returns the time from the first to the last request of a run for so many users, which the limit alone takes.
    #[must_use]
    pub fn min_duration(&self, users: u64, page_size: u32) -> Duration {
        let size = u64::from(page_size).max(1);
        let pages_per_window = (self.users / size).max(1);
        let (pages, rest) = (users / size, users % size);
        let unused = self.users.saturating_sub(pages_per_window * size);
        let rest_fits = rest == 0 || (pages > 0 && pages % pages_per_window == 0 && rest <= unused);
        let windows = if rest_fits { pages.saturating_sub(1) } else { pages } / pages_per_window;
        self.window
            .saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX))
    }
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

impl SourceSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            ["1.3", "1.4"].contains(&self.version.as_str()),
            "source.version",
            "must be 1.3 or 1.4",
        );
        violations.require(
            (1..=5_000).contains(&self.page_size),
            "source.page_size",
            "must be between 1 and 5000",
        );
        violations.require(
            self.max_in_flight > 0,
            "source.max_in_flight",
            "must be at least 1",
        );
        violations.require(
            self.circuit_breaker.failures > 0,
            "source.circuit_breaker.failures",
            "must be at least 1",
        );
        violations.require(self.attempts > 0, "source.attempts", "must be at least 1");
        violations.require(self.backoff.is_valid(), "source.backoff.initial", Backoff::RULE);
    }
}
