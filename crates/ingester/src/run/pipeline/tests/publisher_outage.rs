//! Runs during an outage of the publisher, with a paused clock.

use super::*;
use crate::delivery::record_batch::tests::page_from;

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
    let clients = (publisher.api.clone(), publisher.clone());
    let mut pipeline = pipeline_of(clients, &settings, &context);
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

/// Runs twice in one process, so that the second run can see what the first one left.
#[tokio::test(start_paused = true)]
async fn retry_after_does_not_outlive_its_run() {
    let retryable = ResponseError::Retryable {
        status: 503,
        retry_after: Some(Duration::from_secs(u64::MAX)),
    };
    let publisher = CountingPublisher::with_script([Err(retryable)]);
    let mut settings = IngesterSettings::default();
    settings.run.users = 5;
    settings.run.timeout = Duration::from_secs(60);
    let context = Context::new("ingester");
    let mut pipeline = pipeline_of((publisher.api.clone(), publisher), &settings, &context);
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
