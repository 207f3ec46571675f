//! What the ingester knows about its own work: the current run, the schedule and the rates, for `GET /status` and
//! `GET /v1/pipeline`.

use jiff::Timestamp;
use serde::Serialize;
use service::health::DependencyState;
use service::{Context, Health, LastMinute};

use crate::config::RateLimitSettings;
use crate::metrics::IngesterMetrics;
use crate::run::run_stats::{FetchWait, RunCounts, WaitCause};
use crate::run::{Run, RunState};
use crate::scheduler::run_queue::RunQueue;
use crate::store::StoreError;

/// Reads the ingester's status. Clones share it.
#[derive(Clone)]
pub struct IngesterStatus {
    queue: RunQueue,
    health: Health,
    fetched: LastMinute,
    delivered: LastMinute,
}

/// The current run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RunSection {
    id: String,
    state: RunState,
    /// The share of the requested users that have an outcome, 0 to 100.
    pub(super) percent: f64,
    /// Users that got an outcome per second, over the last minute or the time since the start.
    users_per_second: f64,
    /// The expected time to the end; `None` if nothing moves and the rate limit is not the reason.
    seconds_left: Option<u64>,
    /// Why the run waits, as a sentence.
    pub(super) waits_for: Option<String>,
    /// When the wait for the API ends at the latest.
    waits_until: Option<Timestamp>,
}

/// When runs start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ScheduleSection {
    pub(super) paused: bool,
    next: Vec<Timestamp>,
}

/// Users per second over the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Users in valid replies of the API.
    pub(super) fetched_per_second: f64,
    /// Records with an outcome of the publisher.
    pub(super) delivered_per_second: f64,
}

/// The state of the API as this ingester sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceState {
    /// The current run fetches, or the last one did.
    Ok(Option<String>),
    /// Requests wait for the rate limit.
    Waiting(String),
    /// Requests fail.
    Down(String),
    /// Not known.
    Unknown(String),
}

impl IngesterStatus {
    /// Creates the status of a service with these runs and metrics.
    #[must_use]
    pub fn new(queue: RunQueue, metrics: &IngesterMetrics, context: &Context) -> Self {
        let fetched = metrics.fetched.clone();
        let outcomes = [metrics.accepted.clone(), metrics.rejected.clone()];
        let delivered = move || outcomes.iter().map(|outcome| outcome.get()).sum::<u64>().into();
        Self {
            queue,
            health: context.health.clone(),
            fetched: context.status.last_minute(move || fetched.get().into()),
            delivered: context.status.last_minute(delivered),
        }
    }

    /// Adds the sections of `GET /status`.
    pub fn add_sections(&self, status: &service::Status) {
        let it = self.clone();
        status.section("run", move || std::future::ready(logged(it.run())));
        let it = self.clone();
        status.section("last_success_at", move || {
            std::future::ready(logged(it.last_success()))
        });
        let it = self.clone();
        status.section("schedule", move || std::future::ready(logged(it.schedule())));
        let it = self.clone();
        status.section("rates", move || std::future::ready(it.rates()));
    }

    /// Returns the current run.
    pub(super) fn run(&self) -> Result<Option<RunSection>, StoreError> {
        let Some(id) = self.queue.active_run() else {
            return Ok(None);
        };
        let wait = self.queue.fetch_wait(id);
        let limit = &self.queue.settings().source.rate_limit;
        let run = self.queue.run(id)?.filter(|run| !run.state.is_final());
        Ok(run.map(|run| {
            let rate = processed_per_second(&run, self.delivered.per_second(), Timestamp::now());
            let publisher = self.publisher_outage();
            RunSection::new(&run, rate, wait.as_ref(), publisher.as_deref(), limit)
        }))
    }

    /// Returns when the last complete run ended.
    pub(super) fn last_success(&self) -> Result<Option<Timestamp>, StoreError> {
        self.queue.store().last_success()
    }

    /// Returns when runs start.
    pub(super) fn schedule(&self) -> Result<ScheduleSection, StoreError> {
        Ok(ScheduleSection {
            paused: self.queue.store().paused()?.is_some(),
            next: self.queue.next_starts(),
        })
    }

    /// Returns the rates of the last minute.
    pub(super) fn rates(&self) -> Rates {
        Rates {
            fetched_per_second: self.fetched.per_second(),
            delivered_per_second: self.delivered.per_second(),
        }
    }

    /// Returns why the publisher does not accept records, as the ingester's readiness reports it.
    pub(super) fn publisher_outage(&self) -> Option<String> {
        let dependencies = self.health.readiness().dependencies.into_iter();
        let mut publisher =
            dependencies.filter(|dependency| dependency.name == "publisher" && !dependency.ready);
        let DependencyState { reason, .. } = publisher.next()?;
        Some(reason.unwrap_or_default())
    }

    /// Returns the state of the API.
    pub(super) fn source(&self) -> Result<SourceState, StoreError> {
        if let Some(run) = self.queue.active_run() {
            let wait = self.queue.fetch_wait(run);
            return Ok(wait.map_or(SourceState::Ok(None), |wait| SourceState::of(&wait)));
        }
        let last = self.queue.store().last_finished_run()?;
        Ok(match last {
            Some(run) if run.state == RunState::Failed && run.counts.fetched == 0 => {
                let reason = run.reason.unwrap_or_default();
                SourceState::Unknown(format!("the last run fetched nothing: {reason}"))
            }
            Some(run) if run.counts.fetched > 0 => {
                SourceState::Ok(Some("idle: only a run sends requests".to_owned()))
            }
            _ => SourceState::Unknown("no request was sent yet".to_owned()),
        })
    }
}

/// Logs an error, which a section of a status document can't report.
fn logged<T>(read: Result<T, StoreError>) -> Option<T> {
    let log = |error: &StoreError| {
        let error = service::process::chain(error);
        tracing::warn!(error, "failed to read the status");
    };
    read.inspect_err(log).ok()
}

/// The number of users that have an outcome.
fn processed(counts: &RunCounts) -> u64 {
    counts.fetched.saturating_sub(counts.undelivered)
}

/// The age in seconds from which the last minute holds only users of the run. Samples make that minute a little longer.
const WHOLE_MINUTE: f64 = 70.0;

/// The rate of a run: over the last minute, or since the start of a younger run.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn processed_per_second(run: &Run, in_last_minute: f64, now: Timestamp) -> f64 {
    let age = run
        .started
        .map_or(0.0, |started| now.duration_since(started).as_secs_f64());
    if age >= WHOLE_MINUTE || run.resumed > 0 {
        in_last_minute
    } else {
        processed(&run.counts) as f64 / age.max(1.0)
    }
}

impl RunSection {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    fn new(
        run: &Run,
        users_per_second: f64,
        wait: Option<&FetchWait>,
        publisher_outage: Option<&str>,
        limit: &RateLimitSettings,
    ) -> Self {
        let counts = &run.counts;
        let done = processed(counts);
        let outage = publisher_outage.filter(|_| counts.undelivered > 0);
        let waits_for = match (outage, wait) {
            (Some(reason), _) => Some(format!("The publisher does not accept records: {reason}.")),
            (None, Some(wait)) => Some(wait.sentence()),
            (None, None) => None,
        };
        Self {
            id: run.id.to_string(),
            state: run.state,
            percent: (100.0 * done as f64 / counts.requested.max(1) as f64).min(100.0),
            users_per_second,
            seconds_left: seconds_left(run, users_per_second, wait, limit),
            waits_until: wait.filter(|_| outage.is_none()).map(|wait| wait.until),
            waits_for,
        }
    }
}

/// The longer of two estimates: by the present rate, and by the waits that the rate limit of the API still takes.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate in whole seconds"
)]
fn seconds_left(run: &Run, rate: f64, wait: Option<&FetchWait>, limit: &RateLimitSettings) -> Option<u64> {
    let counts = &run.counts;
    let remaining = counts.requested.saturating_sub(processed(counts));
    let by_rate = (rate > 0.0).then(|| (remaining as f64 / rate).ceil() as u64);
    let by_limit = wait
        .filter(|wait| wait.cause == WaitCause::RateLimit)
        .map(|wait| {
            let first = wait.until.duration_since(Timestamp::now()).as_secs().max(0);
            let unfetched = counts.requested.saturating_sub(counts.fetched);
            let further = limit.min_duration(unfetched, run.page_size).as_secs();
            further.saturating_add(first.unsigned_abs())
        });
    by_rate.max(by_limit)
}

impl FetchWait {
    /// The wait as a sentence. Its time is in UTC.
    fn sentence(&self) -> String {
        let until = self.until.strftime("%H:%M:%S");
        match &self.cause {
            WaitCause::RateLimit => format!("API rate limit until {until} UTC."),
            WaitCause::CircuitBreaker => {
                format!("The API failed several times in a row; the next request is sent at {until} UTC.")
            }
            WaitCause::Retry(error) => {
                format!("The API failed: {error}; the next request is sent at {until} UTC.")
            }
        }
    }
}

impl SourceState {
    fn of(wait: &FetchWait) -> Self {
        let sentence = wait.sentence();
        match wait.cause {
            WaitCause::RateLimit => Self::Waiting(sentence),
            WaitCause::CircuitBreaker | WaitCause::Retry(_) => Self::Down(sentence),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::IngesterSettings;
    use crate::run::Trigger;
    use crate::run::active_run::ActiveRun;
    use crate::scheduler::run_queue::RunRequest;
    use crate::store::Store;

    /// A run of 40,000 users, `fetched` of which are fetched and `delivered` delivered.
    fn run(fetched: u64, delivered: u64) -> Run {
        let queue = RunQueue::new(
            Store::in_memory().unwrap(),
            ActiveRun::default(),
            IngesterSettings::default(),
        );
        let request = RunRequest {
            users: Some(40_000),
            ..RunRequest::default()
        };
        let id = queue.enqueue(&queue.spec(Trigger::Manual, &request)).unwrap();
        let mut run = queue.run(id).unwrap().unwrap();
        run.state = RunState::Running;
        run.started = Some(Timestamp::UNIX_EPOCH);
        run.counts.fetched = fetched;
        run.counts.undelivered = fetched - delivered;
        run.counts.accepted = delivered;
        run
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn rate_of_a_young_run_is_its_average() {
        let run = run(20_000, 10_000);
        for (now, expected) in [
            (0, 10_000.0),
            (20, 500.0),
            (69, 10_000.0 / 69.0),
            (70, 7.0),
            (900, 7.0),
        ] {
            let rate = processed_per_second(&run, 7.0, after(now));
            assert!((rate - expected).abs() < 1e-9, "{now} s: {rate}");
        }
    }

    #[test]
    fn section_reports_progress_and_time_left() {
        let limit = RateLimitSettings::default();
        let section = RunSection::new(&run(20_000, 10_000), 100.0, None, None, &limit);
        assert_eq!(
            (section.percent, section.seconds_left, section.waits_for),
            (25.0, Some(300), None)
        );
        let still = RunSection::new(&run(20_000, 10_000), 0.0, None, None, &limit);
        assert_eq!(still.seconds_left, None);
    }

    #[test]
    fn rate_limit_names_its_end_and_extends_the_time_left() {
        let until = Timestamp::now() + Duration::from_secs(100);
        let wait = FetchWait {
            cause: WaitCause::RateLimit,
            until,
        };
        let section = RunSection::new(
            &run(10_000, 10_000),
            1_000.0,
            Some(&wait),
            None,
            &RateLimitSettings::default(),
        );
        let expected = format!("API rate limit until {} UTC.", until.strftime("%H:%M:%S"));
        assert_eq!(section.waits_for, Some(expected));
        assert_eq!(section.waits_until, Some(until));
        // 30,000 users are two windows of 300 s, after at most 100 s for the first.
        let left = section.seconds_left.unwrap();
        assert!((300..=400).contains(&left), "{left}");
    }

    #[test]
    fn outage_of_the_publisher_is_the_reason_once_records_wait() {
        let limit = RateLimitSettings::default();
        let reason =
            |run: &Run| RunSection::new(run, 1.0, None, Some("it responded with 503"), &limit).waits_for;
        assert_eq!(reason(&run(10, 10)), None);
        assert_eq!(
            reason(&run(10, 5)).unwrap(),
            "The publisher does not accept records: it responded with 503."
        );
    }

    #[test]
    fn failing_api_is_down_and_a_limited_one_waits() {
        let state = |cause| {
            let until = after(60);
            SourceState::of(&FetchWait { cause, until })
        };
        assert_eq!(
            state(WaitCause::RateLimit),
            SourceState::Waiting("API rate limit until 00:01:00 UTC.".to_owned())
        );
        let SourceState::Down(reason) = state(WaitCause::Retry("timeout".to_owned())) else {
            panic!("a failed request is an outage")
        };
        assert!(reason.starts_with("The API failed: timeout;"), "{reason}");
        assert!(matches!(state(WaitCause::CircuitBreaker), SourceState::Down(_)));
    }
}
