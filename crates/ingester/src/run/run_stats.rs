//! Statistics of a run: the only place that changes its counts and the metrics. Shared by the fetch and delivery stages.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::delivery::response::BatchOutcome;
use crate::metrics::{IngesterMetrics, Upstream};
use crate::transform::page::Page;

/// Maximum number of distinct reasons; the publisher may send any number.
const MAX_REASONS: usize = 64;

/// Counts of one run. Always `fetched` equals `invalid + duplicate + rejected + accepted + undelivered`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunCounts {
    /// Users requested.
    pub requested: u64,
    /// Users in valid replies.
    pub fetched: u64,
    /// Fetched users that can't be mapped to a record.
    pub invalid: u64,
    /// Fetched users with a text that was probably decoded in a wrong character set. They are valid and are sent.
    pub suspicious: u64,
    /// Users fetched again within the run; not sent.
    pub duplicate: u64,
    /// Records that the publisher accepted.
    pub accepted: u64,
    /// Records that the publisher rejected.
    pub rejected: u64,
    /// Fetched users without an outcome when the run ended.
    pub undelivered: u64,
    /// Requests retried, to both upstreams.
    pub retried: u64,
    /// Time spent waiting for the API's rate limit, in seconds.
    pub rate_limited_seconds: f64,
    /// `field: rule` → number of users.
    pub invalid_reasons: BTreeMap<String, u64>,
    /// `field: reason` of the first error → number of records.
    pub rejected_reasons: BTreeMap<String, u64>,
}

impl RunCounts {
    /// Returns the share of users that are invalid, or that the publisher rejected, 0 to 1. A user counts once.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    pub fn invalid_share(&self) -> f64 {
        (self.invalid + self.rejected) as f64 / (self.fetched - self.duplicate).max(1) as f64
    }
}

/// Why the next request to the API waits, and until when at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchWait {
    /// Why.
    pub cause: WaitCause,
    /// When the request is sent at the latest.
    pub until: Timestamp,
}

/// The cause of a [`FetchWait`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitCause {
    /// `source.rate_limit`, or `Retry-After` of the API.
    RateLimit,
    /// Consecutive requests failed.
    CircuitBreaker,
    /// A request failed with this error.
    Retry(String),
}

/// Statistics of one run.
pub struct RunStats {
    counts: Mutex<RunCounts>,
    fetch_wait: Mutex<Option<FetchWait>>,
    metrics: IngesterMetrics,
}

impl RunStats {
    /// Continues from `counts` of an earlier process. The metrics start at zero.
    #[must_use]
    pub fn from_counts(counts: RunCounts, metrics: IngesterMetrics) -> Self {
        Self {
            counts: Mutex::new(counts),
            fetch_wait: Mutex::default(),
            metrics,
        }
    }

    /// Returns a snapshot of the counts.
    #[must_use]
    pub fn counts(&self) -> RunCounts {
        self.lock().clone()
    }

    /// Returns why the next request to the API waits, if it does.
    #[must_use]
    pub fn fetch_wait(&self) -> Option<FetchWait> {
        let wait = self.wait().clone();
        wait.filter(|wait| wait.until > Timestamp::now())
    }

    /// Records that the next request to the API waits for at most `wait`, or until a page arrives.
    pub fn record_fetch_wait(&self, cause: WaitCause, wait: Duration) {
        let until = Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX);
        *self.wait() = Some(FetchWait { cause, until });
    }

    fn wait(&self) -> MutexGuard<'_, Option<FetchWait>> {
        self.fetch_wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a fetched page.
    pub fn record_page(&self, page: &Page) {
        *self.wait() = None;
        let users = count(page.users());
        self.metrics.fetched.inc_by(users);
        page.mapping_errors()
            .iter()
            .for_each(|error| self.metrics.record_mapping_error(error));
        for suspicion in page.suspicions() {
            self.metrics
                .suspicious
                .with_label_values(&[suspicion.name()])
                .inc();
        }
        let mut counts = self.lock();
        counts.fetched += users;
        counts.undelivered += count(page.ids().len());
        counts.suspicious += count(page.suspicions().len());
        for error in page.mapping_errors() {
            counts.invalid += 1;
            increment_reason(&mut counts.invalid_reasons, &error.to_string());
        }
    }

    /// Records duplicate users.
    pub fn record_duplicates(&self, records: usize) {
        let records = count(records);
        self.metrics.duplicate.inc_by(records);
        let mut counts = self.lock();
        counts.duplicate += records;
        counts.undelivered -= records;
    }

    /// Records the outcome of a batch.
    pub fn record_outcome(&self, outcome: &BatchOutcome) {
        let rejected = count(outcome.rejected.len());
        self.metrics.accepted.inc_by(outcome.accepted);
        self.metrics.rejected.inc_by(rejected);
        let mut counts = self.lock();
        counts.accepted += outcome.accepted;
        counts.rejected += rejected;
        counts.undelivered = counts.undelivered.saturating_sub(outcome.accepted + rejected);
        for rejected in &outcome.rejected {
            increment_reason(&mut counts.rejected_reasons, &rejected.reasons[0]);
        }
    }

    /// Records a request and its status label.
    pub fn record_request(&self, upstream: Upstream, status: &str, duration: Duration) {
        self.metrics.request(upstream, status, duration);
    }

    /// Records a retry.
    pub fn record_retry(&self, upstream: Upstream) {
        self.metrics.retries.with_label_values(&[upstream.name()]).inc();
        self.lock().retried += 1;
    }

    /// Records time spent waiting for the API's rate limit.
    pub fn record_rate_limit_wait(&self, waited: Duration) {
        self.metrics.rate_limited_seconds.inc_by(waited.as_secs_f64());
        self.lock().rate_limited_seconds += waited.as_secs_f64();
    }

    /// Ignores poisoning: the counts stay consistent after a panic.
    fn lock(&self) -> MutexGuard<'_, RunCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let metrics = IngesterMetrics::new(&service::Metrics::new("ingester"));
        Self::from_counts(RunCounts::default(), metrics)
    }
}

fn increment_reason(reasons: &mut BTreeMap<String, u64>, reason: &str) {
    let known = reasons.contains_key(reason) || reasons.len() < MAX_REASONS;
    *reasons
        .entry(if known { reason } else { "other" }.to_owned())
        .or_default() += 1;
}

pub(crate) fn count(number: usize) -> u64 {
    u64::try_from(number).expect("a length fits into 64 bits")
}

#[cfg(test)]
mod tests {
    use model::FieldName;

    use super::*;
    use crate::delivery::record_batch::tests::page_of;
    use crate::delivery::response::RecordRejection;
    use crate::transform::mapping::MappingError;

    #[test]
    fn fetched_equals_the_sum_of_all_outcomes() {
        let stats = RunStats::for_tests();
        let mut page = page_of(5);
        page.push(Err(MappingError {
            field: FieldName::Known("email".into()),
            rule: "blank",
        }));
        stats.record_page(&page);
        stats.record_duplicates(1);
        let rejected = vec![RecordRejection::new(0, "email: is blank")];
        stats.record_outcome(&BatchOutcome {
            accepted: 2,
            rejected,
        });
        let counts = stats.counts();
        assert_eq!(
            (
                counts.fetched,
                counts.invalid,
                counts.duplicate,
                counts.accepted,
                counts.rejected,
                counts.undelivered
            ),
            (6, 1, 1, 2, 1, 1)
        );
        assert_eq!(counts.invalid_reasons["email: blank"], 1);
        assert_eq!(counts.rejected_reasons["email: is blank"], 1);
    }

    #[test]
    fn wait_ends_with_its_time_or_with_a_page() {
        let stats = RunStats::for_tests();
        stats.record_fetch_wait(WaitCause::CircuitBreaker, Duration::ZERO);
        assert_eq!(stats.fetch_wait(), None);
        stats.record_fetch_wait(WaitCause::RateLimit, Duration::from_secs(300));
        assert_eq!(stats.fetch_wait().unwrap().cause, WaitCause::RateLimit);
        stats.record_page(&page_of(1));
        assert_eq!(stats.fetch_wait(), None);
    }

    #[test]
    fn number_of_distinct_reasons_is_bounded() {
        let stats = RunStats::for_tests();
        let rejected = (0..200)
            .map(|number| RecordRejection::new(number, format!("field: reason {number}")))
            .collect();
        stats.record_outcome(&BatchOutcome {
            accepted: 0,
            rejected,
        });
        let reasons = stats.counts().rejected_reasons;
        assert_eq!((reasons.len(), reasons["other"]), (MAX_REASONS + 1, 200 - 64));
    }
}
