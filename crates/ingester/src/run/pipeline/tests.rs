//! Tests of whole runs: their outcomes, cancellation, resumption and backpressure.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use model::FieldName;
use reqwest::StatusCode;
use service::Backoff;

use super::*;
use crate::delivery::publisher_client::{PublishRequest, SendError};
use crate::delivery::record_batch::tests::{page_from, page_of};
use crate::delivery::response::{BatchOutcome, RecordRejection, ResponseError};
use crate::fetch::user_api::FetchError;
use crate::run::Trigger;
use crate::run::plan::PageRequest;
use crate::scheduler::run_queue::{CancelOutcome, RunQueue, RunRequest};
use crate::transform::mapping::MappingError;
use crate::transform::page::Page;

/// Serves the same users on each page, as many as requested.
#[derive(Clone, Default)]
struct FakeApi {
    requested: Arc<AtomicUsize>,
    fails_from: Option<usize>,
    /// Number of invalid users at the beginning of each page.
    invalid: usize,
    /// When each page arrived.
    fetched_at: OnceLock<Timestamp>,
}

impl UserApi for FakeApi {
    async fn fetch_page(&self, request: &PageRequest) -> Result<Page, FetchError> {
        let requested = self.requested.fetch_add(1, Ordering::SeqCst);
        if self.fails_from.is_some_and(|from| requested >= from) {
            return Err(FetchError::Status {
                status: StatusCode::FORBIDDEN,
                retry_after: None,
            });
        }
        let mut page = page_of(u128::from(request.results) - self.invalid as u128);
        for _ in 0..self.invalid {
            page.push(Err(MappingError {
                field: FieldName::Known("address".into()),
                rule: MappingError::OLD_STREET,
            }));
        }
        Ok(match self.fetched_at.get() {
            Some(at) => page.with_fetched_at(*at),
            None => page,
        })
    }
}

/// Returns the scripted responses, then accepts every record. Records the number of page requests at each request.
#[derive(Clone, Default)]
struct CountingPublisher {
    api: FakeApi,
    script: Arc<Mutex<VecDeque<Result<BatchOutcome, ResponseError>>>>,
    requested_before: Arc<Mutex<Vec<usize>>>,
    sent: Arc<Mutex<Vec<(u64, u64)>>>,
    sent_at: Arc<Mutex<Vec<Option<Timestamp>>>>,
    stop_at_first: Option<CancellationToken>,
    /// Called with each request.
    on_request: Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>,
    hangs: bool,
}

impl PublisherClient for CountingPublisher {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        // Gives the fetch stage time to run ahead.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.requested_before
            .lock()
            .unwrap()
            .push(self.api.requested.load(Ordering::SeqCst));
        self.sent.lock().unwrap().push((request.first, request.records));
        self.sent_at.lock().unwrap().push(request.fetched_at);
        if let Some(stop) = &self.stop_at_first {
            stop.cancel();
        }
        if let Some(on_request) = self.on_request.get() {
            on_request();
        }
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let scripted = self.script.lock().unwrap().pop_front();
        let result = scripted.unwrap_or(Ok(BatchOutcome {
            accepted: request.records,
            rejected: vec![],
        }));
        Ok(result?)
    }
}

async fn run(publisher: CountingPublisher, change: impl FnOnce(&mut IngesterSettings)) -> Report {
    let (mut pipeline, settings, stop) = pipeline(publisher, change);
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let report = pipeline.run(&spec, &stop).await.unwrap();
    assert_conserved(pipeline.store(), report.run);
    report
}

fn pipeline(
    publisher: CountingPublisher,
    change: impl FnOnce(&mut IngesterSettings),
) -> (
    Pipeline<FakeApi, CountingPublisher>,
    IngesterSettings,
    CancellationToken,
) {
    let fast = Backoff {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(2),
    };
    let mut settings = IngesterSettings::default();
    settings.source.backoff = fast;
    settings.publisher.backoff = fast;
    settings.source.page_size = 10;
    settings.publisher.batch_size = 4;
    settings.publisher.max_in_flight = 1; // so that the script applies to the batches in order
    settings.run.users = 25;
    change(&mut settings);
    let stop = publisher.stop_at_first.clone().unwrap_or_default();
    let context = Context {
        shutdown: stop.clone(),
        ..Context::new("ingester")
    };
    let publisher_health = PublisherHealth::new(&context.health);
    let pipeline = Pipeline::with_clients(
        (publisher.api.clone(), publisher),
        publisher_health,
        &settings,
        Store::from_settings(&settings.state).unwrap(),
        &context,
    );
    (pipeline.unwrap(), settings, stop)
}

fn adds_up(counts: &RunCounts) -> bool {
    counts.fetched
        == counts.invalid + counts.duplicate + counts.accepted + counts.rejected + counts.undelivered
}

/// Asserts the sum of an ended run, and that each of its sequence numbers has the outcome that is counted.
fn assert_conserved(store: &Store, run: Uuid) {
    let counts = store.run(run).unwrap().unwrap().counts;
    assert!(adds_up(&counts), "{counts:?}");
    let numbers = store.numbers(run).unwrap().unwrap();
    assert_eq!(
        (
            numbers.accepted().count(),
            numbers.rejected.count(),
            numbers.undelivered.count()
        ),
        (counts.accepted, counts.rejected, counts.undelivered),
        "{numbers:?}"
    );
    assert_eq!(
        numbers.assigned,
        counts.accepted + counts.rejected + counts.undelivered
    );
}

#[tokio::test]
async fn complete_run_sends_each_user_once_in_sequence() {
    let publisher = CountingPublisher::default();
    let report = run(publisher.clone(), |_| {}).await;
    let counts = &report.counts;
    assert!(matches!(report.outcome, RunOutcome::Complete));
    assert_eq!((counts.requested, counts.fetched, counts.accepted), (25, 25, 10));
    assert_eq!(
        (counts.duplicate, counts.undelivered),
        (15, 0),
        "the same ten users on each page"
    );
    assert_eq!(*publisher.sent.lock().unwrap(), [(0, 4), (4, 4), (8, 2)]);
    assert!(adds_up(counts));
}

#[tokio::test]
async fn one_page_is_fetched_during_a_delivery() {
    let publisher = CountingPublisher::default();
    run(publisher.clone(), |settings| {
        settings.run.users = 60;
        settings.run.duplicate_window = 1; // so that each page is delivered in full
        settings.publisher.batch_size = 10;
    })
    .await;
    let requested = publisher.requested_before.lock().unwrap().clone();
    assert_eq!(
        requested,
        [2, 3, 4, 5, 6, 6],
        "one more page was requested at each delivery"
    );
}

#[tokio::test]
async fn rejected_records_set_the_outcome_and_keep_reasons() {
    let rejected = vec![RecordRejection::new(0, "email: is blank")];
    let publisher = CountingPublisher::default();
    publisher.script.lock().unwrap().push_back(Ok(BatchOutcome {
        accepted: 3,
        rejected,
    }));
    let report = run(publisher, |_| {}).await;
    assert!(matches!(report.outcome, RunOutcome::Rejected));
    assert_eq!((report.counts.accepted, report.counts.rejected), (9, 1));
    assert!(adds_up(&report.counts));
}

#[tokio::test]
async fn run_with_too_many_invalid_users_fails() {
    let invalid = async |invalid, max_invalid_share| {
        let publisher = CountingPublisher {
            api: FakeApi {
                invalid,
                ..FakeApi::default()
            },
            ..CountingPublisher::default()
        };
        run(publisher, |settings| {
            settings.run.users = 10;
            settings.run.max_invalid_share = max_invalid_share;
        })
        .await
    };
    for (users, share) in [(10, 0.5), (6, 0.5), (1, 0.0)] {
        let report = invalid(users, share).await;
        assert!(matches!(report.outcome, RunOutcome::Failed(_)), "{report:?}");
        assert_eq!(
            report.reason().unwrap(),
            format!(
                "{users} of 10 users are invalid and 0 are rejected, more than run.max_invalid_share of {share}; most \
                 often address: street_as_before_1_3"
            )
        );
        assert_eq!(
            report.counts.accepted,
            10 - users as u64,
            "valid ones are delivered"
        );
    }
    for (users, share) in [(0, 0.0), (5, 0.5), (10, 1.0)] {
        let report = invalid(users, share).await;
        assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    }
}

#[tokio::test]
async fn run_with_too_many_rejected_records_fails() {
    for (rejected, fails) in [(5, false), (6, true), (10, true)] {
        let publisher = CountingPublisher::default();
        let outcome = BatchOutcome {
            accepted: 10 - rejected,
            rejected: (0..rejected)
                .map(|index| RecordRejection::new(index, "record: is too large"))
                .collect(),
        };
        publisher.script.lock().unwrap().push_back(Ok(outcome));
        let report = run(publisher, |settings| {
            // Duplicates of rejected users do not hide them.
            settings.run.users = 50;
            settings.publisher.batch_size = 10;
        })
        .await;
        assert_eq!((report.counts.rejected, report.counts.duplicate), (rejected, 40));
        if !fails {
            assert!(matches!(report.outcome, RunOutcome::Rejected), "{report:?}");
            continue;
        }
        assert_eq!(
            report.reason().unwrap(),
            format!(
                "0 of 50 users are invalid and {rejected} are rejected, more than run.max_invalid_share of 0.5; most \
                 often record: is too large"
            )
        );
    }
}

#[tokio::test]
async fn resumed_run_sends_the_stored_time_of_its_page_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let state = |settings: &mut IngesterSettings| {
        settings.state.path = Some(folder.path().join("state.db"));
        settings.run.users = 10;
    };
    let fetched_at = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
    let publisher = CountingPublisher {
        hangs: true,
        ..CountingPublisher::default()
    };
    publisher.api.fetched_at.set(fetched_at).unwrap();
    let (mut killed, settings, stop) = pipeline(publisher.clone(), state);
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let sent_before = async {
        while publisher.sent_at.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = killed.run(&spec, &stop) => panic!("the publisher hangs: {ended:?}"),
        () = sent_before => {}
    }
    drop(killed);
    let resumed = CountingPublisher::default();
    let rejected = vec![RecordRejection::new(1, "email: is blank")];
    resumed.script.lock().unwrap().push_back(Ok(BatchOutcome {
        accepted: 3,
        rejected,
    }));
    let (mut pipeline, _, stop) = pipeline(resumed.clone(), state);
    let store = pipeline.store().clone();
    let run = store.unfinished_runs().unwrap()[0].id;
    let report = pipeline.execute(run, &stop).await.unwrap();
    assert_eq!((report.counts.accepted, report.counts.rejected), (9, 1));
    assert_conserved(&store, run);
    assert_eq!(store.numbers(run).unwrap().unwrap().rejected.to_string(), "1-2");
    assert_eq!(*publisher.sent_at.lock().unwrap(), [Some(fetched_at)]);
    assert_eq!(*resumed.sent_at.lock().unwrap(), [Some(fetched_at); 3]);
}

#[tokio::test]
async fn users_fetched_before_an_error_are_delivered() {
    let publisher = CountingPublisher {
        api: FakeApi {
            fails_from: Some(1),
            ..FakeApi::default()
        },
        ..CountingPublisher::default()
    };
    let report = run(publisher, |_| {}).await;
    let reason = "failed to fetch users: failed to fetch page 2: the API responded with 403 Forbidden";
    assert_eq!(report.reason().as_deref(), Some(reason));
    assert_eq!((report.counts.fetched, report.counts.accepted), (10, 10));
}

#[tokio::test]
async fn permanent_error_ends_the_run_and_counts_undelivered() {
    let publisher = CountingPublisher::default();
    let error = ResponseError::Permanent {
        status: 415,
        detail: String::new(),
    };
    publisher.script.lock().unwrap().extend([
        Ok(BatchOutcome {
            accepted: 4,
            rejected: vec![],
        }),
        Err(error),
    ]);
    let report = run(publisher, |_| {}).await;
    assert!(matches!(
        report.outcome,
        RunOutcome::Failed(RunError::Delivery(_))
    ));
    assert_eq!(report.counts.accepted, 4);
    assert!(report.counts.undelivered >= 6 && adds_up(&report.counts));
}

#[tokio::test]
async fn rejected_credentials_are_unrecoverable() {
    let publisher = CountingPublisher::default();
    publisher
        .script
        .lock()
        .unwrap()
        .push_back(Err(ResponseError::Unauthorized { status: 401 }));
    assert!(run(publisher, |_| {}).await.is_unrecoverable());
}

#[tokio::test]
async fn run_ends_at_its_timeout() {
    let publisher = CountingPublisher {
        hangs: true,
        ..CountingPublisher::default()
    };
    let report = run(publisher, |settings| {
        settings.run.timeout = Duration::from_millis(100)
    })
    .await;
    assert!(matches!(report.outcome, RunOutcome::Failed(RunError::Timeout(_))));
    assert!(report.counts.accepted == 0 && adds_up(&report.counts));
}

/// Runs until the publisher has its first request, then cancels the run `times` times.
async fn run_cancelled(
    publisher: CountingPublisher,
    times: usize,
    change: impl FnOnce(&mut IngesterSettings),
) -> (Report, Store) {
    let on_request = Arc::clone(&publisher.on_request);
    let (mut pipeline, settings, stop) = pipeline(publisher, change);
    let (store, active) = (pipeline.store().clone(), pipeline.active_run().clone());
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let queue = RunQueue::new(store.clone(), active.clone(), settings);
    let left = AtomicUsize::new(times);
    let cancel = move || {
        while left.load(Ordering::SeqCst) > 0 {
            left.fetch_sub(1, Ordering::SeqCst);
            let outcome = queue.cancel(active.run().unwrap(), false, "me").unwrap();
            assert_eq!(outcome, CancelOutcome::Cancelling);
        }
    };
    assert!(on_request.set(Box::new(cancel)).is_ok());
    let report = pipeline.run(&spec, &stop).await.unwrap();
    assert_conserved(&store, report.run);
    (report, store)
}

#[tokio::test]
async fn cancelled_run_ends_as_cancelled_whatever_happens() {
    let failing = CountingPublisher::default();
    let error = ResponseError::Permanent {
        status: 415,
        detail: String::new(),
    };
    failing.script.lock().unwrap().push_back(Err(error));
    let unauthorized = CountingPublisher::default();
    unauthorized
        .script
        .lock()
        .unwrap()
        .push_back(Err(ResponseError::Unauthorized { status: 401 }));
    let hanging = CountingPublisher {
        hangs: true,
        ..CountingPublisher::default()
    };
    for (publisher, reason) in [
        (failing, "failed to deliver records"),
        (unauthorized, "failed to deliver records"),
        (hanging, "the run exceeded run.timeout"),
    ] {
        let (report, store) = run_cancelled(publisher, 1, |settings| {
            settings.run.timeout = Duration::from_millis(200);
        })
        .await;
        assert!(
            matches!(report.outcome, RunOutcome::Cancelled(Some(_))),
            "{report:?}"
        );
        assert!(report.reason().unwrap().starts_with(reason) && !report.is_unrecoverable());
        assert!(
            report.counts.undelivered > 0 && adds_up(&report.counts),
            "{:?}",
            report.counts
        );
        let stored = store.run(report.run).unwrap().unwrap();
        assert_eq!(
            (stored.state, stored.counts),
            (RunState::Cancelled, report.counts)
        );
    }
}

#[tokio::test]
async fn cancelled_run_delivers_fetched_users() {
    let (report, _) = run_cancelled(CountingPublisher::default(), 1, |settings| {
        settings.run.users = 1_000;
        settings.run.duplicate_window = 1;
    })
    .await;
    assert!(
        matches!(report.outcome, RunOutcome::Cancelled(None)),
        "{report:?}"
    );
    assert_eq!((report.reason(), report.counts.undelivered), (None, 0));
    assert!(report.counts.fetched < 100, "{:?}", report.counts);
}

#[tokio::test]
async fn second_cancel_drops_what_waits() {
    let publisher = CountingPublisher {
        hangs: true,
        ..CountingPublisher::default()
    };
    let (report, store) = run_cancelled(publisher, 2, |_| {}).await;
    assert!(
        matches!(report.outcome, RunOutcome::Cancelled(None)),
        "{report:?}"
    );
    assert!(report.counts.undelivered > 0 && report.counts.accepted == 0);
    assert_eq!(store.pending_pages(report.run).unwrap(), 0);
    assert_eq!(store.run(report.run).unwrap().unwrap().state, RunState::Cancelled);
}

#[tokio::test]
async fn run_cancelled_in_an_earlier_process_fetches_no_more() {
    for drop_pending in [false, true] {
        let publisher = CountingPublisher::default();
        let (mut pipeline, settings, stop) = pipeline(publisher.clone(), |_| {});
        let spec = RunRequest::default().spec(Trigger::Manual, &settings);
        let store = pipeline.store().clone();
        let run = store
            .insert_run(&spec, RunState::Queued, None, Timestamp::now())
            .unwrap();
        let delivery = DeliverySpec::of(&settings);
        let stored = store.start_run(run, &delivery, Timestamp::now()).unwrap();
        let progress = RunProgress::open(store.clone(), &stored, pipeline.metrics().clone()).unwrap();
        progress.record_page(&page_of(10)).unwrap();
        store.cancel_run(run, drop_pending, "me").unwrap();
        let report = pipeline.execute(run, &stop).await.unwrap();
        assert!(
            matches!(report.outcome, RunOutcome::Cancelled(None)),
            "{report:?}"
        );
        assert_eq!(publisher.api.requested.load(Ordering::SeqCst), 0);
        let delivered = if drop_pending { 0 } else { 10 };
        assert_eq!((report.counts.fetched, report.counts.accepted), (10, delivered));
        assert_conserved(&store, run);
        assert!(store.unfinished_runs().unwrap().is_empty());
    }
}

#[tokio::test]
async fn resumed_run_keeps_its_window_and_its_deduplication() {
    let publisher = CountingPublisher {
        hangs: true,
        ..CountingPublisher::default()
    };
    let (mut pipeline, settings, stop) = pipeline(publisher.clone(), |settings| {
        settings.publisher.max_in_flight = 4;
        settings.run.timeout = Duration::from_millis(300);
    });
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let store = pipeline.store().clone();
    let run = store
        .insert_run(&spec, RunState::Queued, None, Timestamp::now())
        .unwrap();
    let earlier = DeliverySpec {
        batch_size: 2,
        max_in_flight: 1,
        duplicate_window: 2,
    };
    store.start_run(run, &earlier, Timestamp::now()).unwrap();
    let report = pipeline.execute(run, &stop).await.unwrap();
    assert_eq!(
        *publisher.sent.lock().unwrap(),
        [(0, 2)],
        "one batch of two in flight"
    );
    assert_eq!((report.counts.fetched, report.counts.duplicate), (20, 0));
}

#[tokio::test]
async fn last_success_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = |settings: &mut IngesterSettings| settings.state.path = Some(folder.path().join("state.db"));
    let (pipeline_before, settings, stop) = pipeline(CountingPublisher::default(), state);
    assert!(pipeline_before.metrics().last_success.get().abs() < 1.0);
    let mut pipeline_before = pipeline_before;
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let report = pipeline_before.run(&spec, &stop).await.unwrap();
    let ended = pipeline_before
        .store()
        .run(report.run)
        .unwrap()
        .unwrap()
        .ended
        .unwrap();
    drop(pipeline_before);
    let (pipeline_after, ..) = pipeline(CountingPublisher::default(), state);
    let known = pipeline_after.metrics().last_success.get();
    assert!((known - seconds(ended)).abs() < 0.01, "{known}");
}

/// Runs twice in one process, so that the second run can see what the first one left.
#[tokio::test(start_paused = true)]
async fn retry_after_does_not_outlive_its_run() {
    let publisher = CountingPublisher::default();
    publisher
        .script
        .lock()
        .unwrap()
        .extend([Err(ResponseError::Retryable {
            status: 503,
            retry_after: Some(Duration::from_secs(u64::MAX)),
        })]);
    let mut settings = IngesterSettings::default();
    settings.run.users = 5;
    settings.run.timeout = Duration::from_secs(60);
    let context = Context::new("ingester");
    let publisher_health = PublisherHealth::new(&context.health);
    let mut pipeline = Pipeline::with_clients(
        (publisher.api.clone(), publisher),
        publisher_health,
        &settings,
        Store::from_settings(&settings.state).unwrap(),
        &context,
    )
    .unwrap();
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let first = pipeline.run(&spec, &context.shutdown).await.unwrap();
    assert!(
        matches!(first.outcome, RunOutcome::Failed(RunError::Timeout(_))),
        "{first:?}"
    );
    let started = tokio::time::Instant::now();
    let second = pipeline.run(&spec, &context.shutdown).await.unwrap();
    assert!(matches!(second.outcome, RunOutcome::Complete), "{second:?}");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn stopped_run_delivers_fetched_users() {
    let publisher = CountingPublisher {
        stop_at_first: Some(CancellationToken::new()),
        ..CountingPublisher::default()
    };
    let report = run(publisher.clone(), |settings| {
        settings.run.users = 1_000;
        settings.run.duplicate_window = 1;
    })
    .await;
    assert!(matches!(report.outcome, RunOutcome::Stopped));
    let counts = &report.counts;
    assert_eq!((counts.fetched, counts.accepted, counts.undelivered), (20, 20, 0));
    assert_eq!(publisher.api.requested.load(Ordering::SeqCst), 2);
}

/// Serves different users on each page and counts the page requests.
#[derive(Clone, Default)]
struct DistinctUsers(Arc<AtomicUsize>);

impl UserApi for DistinctUsers {
    async fn fetch_page(&self, request: &PageRequest) -> Result<Page, FetchError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let size = u128::from(request.results);
        Ok(page_from(1 + size * u128::from(request.page - 1), size))
    }
}

/// Rejects requests until `until`. Records the number of page requests at the first accepted request.
#[derive(Clone)]
struct PublisherOutage {
    until: tokio::time::Instant,
    api: DistinctUsers,
    requested_during_outage: Arc<Mutex<Option<usize>>>,
}

impl PublisherClient for PublisherOutage {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        if tokio::time::Instant::now() < self.until {
            return Err(SendError::Response(ResponseError::Retryable {
                status: 503,
                retry_after: None,
            }));
        }
        let requested = self.api.0.load(Ordering::SeqCst);
        self.requested_during_outage
            .lock()
            .unwrap()
            .get_or_insert(requested);
        Ok(BatchOutcome {
            accepted: request.records,
            rejected: vec![],
        })
    }
}

/// Uses the default timeouts and backoffs with a paused clock that advances to the next timer.
#[tokio::test(start_paused = true)]
async fn hour_of_publisher_outage_applies_backpressure() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = IngesterSettings::default();
    settings.source.page_size = 10;
    settings.source.rate_limit.users = 1_000_000;
    settings.run.users = 600;
    settings.state.path = Some(folder.path().join("state.db"));
    let context = Context::new("ingester");
    let started = tokio::time::Instant::now();
    let publisher = PublisherOutage {
        until: started + HOUR,
        api: DistinctUsers::default(),
        requested_during_outage: Arc::default(),
    };
    let publisher_health = PublisherHealth::new(&context.health);
    let mut pipeline = Pipeline::with_clients(
        (publisher.api.clone(), publisher.clone()),
        publisher_health,
        &settings,
        Store::from_settings(&settings.state).unwrap(),
        &context,
    )
    .unwrap();
    let spec = RunRequest::default().spec(Trigger::Manual, &settings);
    let report = pipeline.run(&spec, &context.shutdown).await.unwrap();
    assert!(matches!(report.outcome, RunOutcome::Complete), "{report:?}");
    assert_eq!((report.counts.fetched, report.counts.accepted), (600, 600));
    let duration = started.elapsed();
    assert!(
        HOUR <= duration && duration < HOUR + Duration::from_secs(10),
        "{duration:?}"
    );
    assert_eq!(
        *publisher.requested_during_outage.lock().unwrap(),
        Some(settings.state.outbox_pages)
    );
    assert!(
        report.counts.retried > 600,
        "it kept retrying: {:?}",
        report.counts
    );
}
