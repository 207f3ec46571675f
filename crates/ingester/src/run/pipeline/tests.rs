use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use service::{Backoff, Health, Metrics};

use super::*;
use crate::delivery::publisher_client::{PublishRequest, SendError};
use crate::delivery::record_batch::tests::{page_from, page_of};
use crate::delivery::response::{BatchOutcome, RecordRejection, ResponseError};
use crate::fetch::user_api::FetchError;
use crate::run::plan::PageRequest;
use crate::transform::page::Page;

/// Serves the same people on each page, as many as asked for.
#[derive(Clone, Default)]
struct Api {
    asked: Arc<AtomicUsize>,
    fails_from: Option<usize>,
}

impl UserApi for Api {
    async fn fetch(&self, request: &PageRequest) -> Result<Page, FetchError> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        if self.fails_from.is_some_and(|from| asked >= from) {
            return Err(FetchError::Status {
                status: StatusCode::FORBIDDEN,
                retry_after: None,
            });
        }
        Ok(page_of(request.results.into()))
    }
}

/// Answers as the script says, then accepts; at each request it notes how many pages had been asked for.
#[derive(Clone, Default)]
struct FakePublisher {
    api: Api,
    script: Arc<Mutex<VecDeque<Result<BatchOutcome, ResponseError>>>>,
    asked_before: Arc<Mutex<Vec<usize>>>,
    sent: Arc<Mutex<Vec<(u64, u64)>>>,
    stop_at_first: Option<CancellationToken>,
    hangs: bool,
}

impl PublisherClient for FakePublisher {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        // Gives the other leg every chance to run ahead.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.asked_before
            .lock()
            .unwrap()
            .push(self.api.asked.load(Ordering::SeqCst));
        self.sent.lock().unwrap().push((request.first, request.records));
        if let Some(stop) = &self.stop_at_first {
            stop.cancel();
        }
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let scripted = self.script.lock().unwrap().pop_front();
        let answer = scripted.unwrap_or(Ok(BatchOutcome {
            accepted: request.records,
            rejected: vec![],
        }));
        Ok(answer?)
    }
}

async fn run(publisher: FakePublisher, change: impl FnOnce(&mut IngesterSettings)) -> Report {
    let fast = Backoff {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(2),
    };
    let mut settings = IngesterSettings::default();
    settings.source.backoff = fast;
    settings.publisher.backoff = fast;
    settings.source.page_size = 10;
    settings.publisher.batch_size = 4;
    settings.publisher.max_in_flight = 1; // so that a script meets the batches in their spec
    settings.run.users = 25;
    change(&mut settings);
    let stop = publisher.stop_at_first.clone().unwrap_or_default();
    let context = Context {
        shutdown: stop.clone(),
        health: Health::default(),
        metrics: Metrics::new("ingester"),
    };
    let publisher_health = PublisherHealth::new(&context.health);
    let mut pipeline = Pipeline::with_clients(
        publisher.api.clone(),
        publisher,
        publisher_health,
        &settings,
        &context,
    )
    .unwrap();
    let spec = pipeline.spec(Trigger::Manual);
    pipeline.run(&spec, &stop).await.unwrap()
}

fn adds_up(counts: &Counts) -> bool {
    counts.fetched
        == counts.invalid + counts.duplicate + counts.accepted + counts.rejected + counts.undelivered
}

#[tokio::test]
async fn a_complete_run_sends_each_user_once_and_numbers_them() {
    let publisher = FakePublisher::default();
    let report = run(publisher.clone(), |_| {}).await;
    let counts = &report.counts;
    assert!(matches!(report.outcome, Outcome::Complete));
    assert_eq!((counts.requested, counts.fetched, counts.accepted), (25, 25, 10));
    assert_eq!(
        (counts.duplicate, counts.undelivered),
        (15, 0),
        "the same ten people on each page"
    );
    assert_eq!(*publisher.sent.lock().unwrap(), [(0, 4), (4, 4), (8, 2)]);
    assert!(adds_up(counts));
}

#[tokio::test]
async fn the_next_page_is_fetched_meanwhile_and_no_more_than_that() {
    let publisher = FakePublisher::default();
    run(publisher.clone(), |settings| {
        settings.run.users = 60;
        settings.run.duplicate_window = 1; // so that each page is delivered in full
        settings.publisher.batch_size = 10;
    })
    .await;
    let asked = publisher.asked_before.lock().unwrap().clone();
    assert_eq!(
        asked,
        [2, 3, 4, 5, 6, 6],
        "at each delivery one page more had been asked for"
    );
}

#[tokio::test]
async fn rejected_records_make_another_outcome_that_keeps_the_reasons() {
    let rejected = vec![RecordRejection::new(0, "email: is blank")];
    let publisher = FakePublisher::default();
    publisher.script.lock().unwrap().push_back(Ok(BatchOutcome {
        accepted: 3,
        rejected,
    }));
    let report = run(publisher, |_| {}).await;
    assert!(matches!(report.outcome, Outcome::Rejected));
    assert_eq!((report.counts.accepted, report.counts.rejected), (9, 1));
    assert!(adds_up(&report.counts));
}

#[tokio::test]
async fn what_was_fetched_before_a_failure_is_delivered() {
    let publisher = FakePublisher {
        api: Api {
            fails_from: Some(1),
            ..Api::default()
        },
        ..FakePublisher::default()
    };
    let report = run(publisher, |_| {}).await;
    let reason = "fetching ended: fetch page 2: answered 403 Forbidden";
    assert_eq!(report.reason().as_deref(), Some(reason));
    assert_eq!((report.counts.fetched, report.counts.accepted), (10, 10));
}

#[tokio::test]
async fn a_refused_delivery_ends_the_run_and_counts_what_is_left() {
    let publisher = FakePublisher::default();
    let no = ResponseError::Permanent {
        status: 415,
        detail: String::new(),
    };
    publisher.script.lock().unwrap().extend([
        Ok(BatchOutcome {
            accepted: 4,
            rejected: vec![],
        }),
        Err(no),
    ]);
    let report = run(publisher, |_| {}).await;
    assert!(matches!(report.outcome, Outcome::Failed(RunError::Delivery(_))));
    assert_eq!(report.counts.accepted, 4);
    assert!(report.counts.undelivered >= 6 && adds_up(&report.counts));
}

#[tokio::test]
async fn refused_credentials_are_hopeless() {
    let publisher = FakePublisher::default();
    publisher
        .script
        .lock()
        .unwrap()
        .push_back(Err(ResponseError::Unauthorized { status: 401 }));
    assert!(run(publisher, |_| {}).await.is_unrecoverable());
}

#[tokio::test]
async fn a_run_ends_at_its_deadline() {
    let publisher = FakePublisher {
        hangs: true,
        ..FakePublisher::default()
    };
    let report = run(publisher, |settings| {
        settings.run.timeout = Duration::from_millis(100)
    })
    .await;
    assert!(matches!(report.outcome, Outcome::Failed(RunError::Timeout(_))));
    assert!(report.counts.accepted == 0 && adds_up(&report.counts));
}

#[tokio::test]
async fn told_to_stop_it_fetches_no_more_and_delivers_what_it_has() {
    let publisher = FakePublisher {
        stop_at_first: Some(CancellationToken::new()),
        ..FakePublisher::default()
    };
    let report = run(publisher.clone(), |settings| {
        settings.run.users = 1_000;
        settings.run.duplicate_window = 1;
    })
    .await;
    assert!(matches!(report.outcome, Outcome::Stopped));
    let counts = &report.counts;
    assert_eq!((counts.fetched, counts.accepted, counts.undelivered), (20, 20, 0));
    assert_eq!(publisher.api.asked.load(Ordering::SeqCst), 2);
}

/// Serves other people on each page, and counts how many pages were asked for.
#[derive(Clone, Default)]
struct DistinctUsers(Arc<AtomicUsize>);

impl UserApi for DistinctUsers {
    async fn fetch(&self, request: &PageRequest) -> Result<Page, FetchError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let size = u128::from(request.results);
        Ok(page_from(1 + size * u128::from(request.page - 1), size))
    }
}

/// Takes nothing before its time, and notes how many pages had been asked for when it first took something.
#[derive(Clone)]
struct Outage {
    until: tokio::time::Instant,
    crowd: DistinctUsers,
    asked_meanwhile: Arc<Mutex<Option<usize>>>,
}

impl PublisherClient for Outage {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        if tokio::time::Instant::now() < self.until {
            return Err(SendError::Response(ResponseError::Retryable {
                status: 503,
                retry_after: None,
            }));
        }
        let asked = self.crowd.0.load(Ordering::SeqCst);
        self.asked_meanwhile.lock().unwrap().get_or_insert(asked);
        Ok(BatchOutcome {
            accepted: request.records,
            rejected: vec![],
        })
    }
}

/// The default deadlines and waits, by a clock that jumps to where somebody waits for it.
#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_down_for_an_hour_costs_an_hour_and_the_outbox_stops_the_fetching() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = IngesterSettings::default();
    settings.source.page_size = 10;
    settings.source.rate_limit.users = 1_000_000;
    settings.run.users = 600;
    settings.state.path = Some(folder.path().join("state.db"));
    let context = Context {
        shutdown: CancellationToken::new(),
        health: Health::default(),
        metrics: Metrics::new("ingester"),
    };
    let started = tokio::time::Instant::now();
    let publisher = Outage {
        until: started + HOUR,
        crowd: DistinctUsers::default(),
        asked_meanwhile: Arc::default(),
    };
    let publisher_health = PublisherHealth::new(&context.health);
    let mut pipeline = Pipeline::with_clients(
        publisher.crowd.clone(),
        publisher.clone(),
        publisher_health,
        &settings,
        &context,
    )
    .unwrap();
    let spec = pipeline.spec(Trigger::Manual);
    let report = pipeline.run(&spec, &context.shutdown).await.unwrap();
    assert!(matches!(report.outcome, Outcome::Complete), "{report:?}");
    assert_eq!((report.counts.fetched, report.counts.accepted), (600, 600));
    let duration = started.elapsed();
    assert!(
        HOUR <= duration && duration < HOUR + Duration::from_secs(10),
        "{duration:?}"
    );
    assert_eq!(
        *publisher.asked_meanwhile.lock().unwrap(),
        Some(settings.state.outbox_pages)
    );
    assert!(
        report.counts.retried > 600,
        "it went on asking: {:?}",
        report.counts
    );
}
