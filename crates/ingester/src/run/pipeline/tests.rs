//! Tests of whole runs, and what they share: a fake API and a fake publisher.

mod cancellation;
mod outcomes;
mod publisher_outage;
mod resumption;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use model::FieldName;
use reqwest::StatusCode;
use service::Backoff;

use super::*;
use crate::delivery::publisher_client::{PublishRequest, SendError};
use crate::delivery::record_batch::tests::page_of;
use crate::delivery::response::{BatchOutcome, ResponseError};
use crate::fetch::user_api::FetchError;
use crate::run::Trigger;
use crate::run::plan::PageRequest;
use crate::scheduler::run_queue::RunRequest;
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

impl CountingPublisher {
    /// Returns these responses, then accepts every record.
    fn with_script(script: impl IntoIterator<Item = Result<BatchOutcome, ResponseError>>) -> Self {
        Self {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            ..Self::default()
        }
    }

    /// Never responds.
    fn hanging() -> Self {
        Self {
            hangs: true,
            ..Self::default()
        }
    }
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

fn permanent_error() -> ResponseError {
    ResponseError::Permanent {
        status: 415,
        detail: String::new(),
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
    let pipeline = pipeline_of((publisher.api.clone(), publisher), &settings, &context);
    (pipeline, settings, stop)
}

fn pipeline_of<F: UserApi, P: PublisherClient>(
    clients: (F, P),
    settings: &IngesterSettings,
    context: &Context,
) -> Pipeline<F, P> {
    let publisher_health = PublisherHealth::new(&context.health);
    let store = Store::from_settings(&settings.state).unwrap();
    Pipeline::with_clients(clients, publisher_health, settings, store, context).unwrap()
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
