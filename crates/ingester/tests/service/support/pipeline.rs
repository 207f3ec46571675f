//! A pipeline with short backoffs between an API and a publisher, and the invariants of its counts.

use std::time::Duration;

use ingester::Pipeline;
use ingester::config::IngesterSettings;
use ingester::http::endpoint::Endpoint;
use ingester::run::Trigger;
use ingester::run::report::{Report, RunOutcome};
use ingester::run::run_stats::RunCounts;
use ingester::scheduler::run_queue::RunRequest;
use ingester::store::Store;
use service::{Backoff, Context};
use testkit::randomuser::RandomUserApi;

/// Returns settings for ten users in two pages of five, with three attempts each.
pub(crate) fn settings(api: &RandomUserApi, publisher: &str) -> IngesterSettings {
    settings_of(&api.url(), publisher)
}

/// Returns the same settings for any API.
pub(crate) fn settings_of(api: &str, publisher: &str) -> IngesterSettings {
    let backoff = Backoff {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(5),
    };
    let mut settings = IngesterSettings::default();
    settings.source.url = Endpoint::parse(&format!("{api}/api/1.4/")).unwrap();
    settings.source.max_in_flight = 1;
    settings.source.circuit_breaker.open_duration = Duration::from_millis(50);
    settings.source.attempts = 3;
    settings.source.page_size = 5;
    settings.source.backoff = backoff;
    // So that a script applies to the batches in order.
    settings.publisher.max_in_flight = 1;
    settings.publisher.url = Endpoint::parse(publisher).unwrap();
    settings.publisher.backoff = backoff;
    settings.run.users = 10;
    settings.run.timeout = Duration::from_secs(30);
    settings
}

pub(crate) fn context() -> Context {
    Context::new("ingester")
}

/// Executes one run and asserts that its counts are consistent.
pub(crate) async fn run(settings: &IngesterSettings) -> Report {
    run_in(settings, &context()).await
}

pub(crate) async fn run_in(settings: &IngesterSettings, context: &Context) -> Report {
    let store = Store::from_settings(&settings.state).unwrap();
    let (mut pipeline, _probe) = Pipeline::new(settings, store, context).unwrap();
    let spec = RunRequest::default().spec(Trigger::Manual, settings);
    let report = pipeline.run(&spec, &context.shutdown).await.unwrap();
    let counts = &report.counts;
    let accounted = counts.invalid + counts.duplicate + counts.accepted + counts.rejected;
    assert_eq!(counts.fetched, accounted + counts.undelivered, "{counts:?}");
    if matches!(report.outcome, RunOutcome::Complete | RunOutcome::Rejected) {
        assert_eq!(
            (counts.requested, counts.undelivered),
            (counts.fetched, 0),
            "{counts:?}"
        );
    }
    assert_eq!(counts.invalid, counts.invalid_reasons.values().sum::<u64>());
    assert_eq!(counts.rejected, counts.rejected_reasons.values().sum::<u64>());
    report
}

/// Returns the counts of fetched and accepted users and of retries.
pub(crate) fn fetched_accepted_retried(counts: &RunCounts) -> (u64, u64, u64) {
    (counts.fetched, counts.accepted, counts.retried)
}
