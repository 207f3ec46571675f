//! Tests of the delivery stage, with a publisher that checks each request against the invariants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use service::{Backoff, Health};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::*;
use crate::config::PublisherSettings;
use crate::delivery::delivery_error::DeliveryError;
use crate::delivery::publisher_client::{PublishRequest, SendError};
use crate::delivery::publisher_health::PublisherHealth;
use crate::delivery::record_batch::tests::page_from;
use crate::delivery::response::{BatchOutcome, ResponseError};
use crate::metrics::IngesterMetrics;
use crate::run::{DeliverySpec, RunSpec, RunState, Trigger};
use crate::store::Store;

const HOUR: Duration = Duration::from_secs(3_600);

/// The reply to a request, after a delay.
#[derive(Clone, Copy, Debug)]
struct ScriptedResponse {
    takes: Duration,
    reply: ScriptedReply,
}

#[derive(Clone, Copy, Debug)]
enum ScriptedReply {
    Accepts,
    Retryable(Option<Duration>),
    Lost,
    Invalid,
    Permanent,
}

fn response(milliseconds: u64, reply: ScriptedReply) -> ScriptedResponse {
    ScriptedResponse {
        takes: Duration::from_millis(milliseconds),
        reply,
    }
}

/// A publisher that outlives the ingester processes and checks each request against the invariants of `delivery_loop`.
#[derive(Clone)]
struct FakePublisher {
    window: u64,
    max_in_flight: usize,
    largest: u64,
    state: Arc<Mutex<PublisherState>>,
}

#[derive(Default)]
struct PublisherState {
    script: VecDeque<ScriptedResponse>,
    in_flight_batches: usize,
    acknowledged: BTreeSet<u64>,
    /// Record → first record, number of records and body of the batch that may have written it.
    batches: BTreeMap<u64, (u64, u64, Bytes)>,
    not_before: Option<Instant>,
    /// First record and number of records of each request.
    sent: Vec<(u64, u64)>,
}

impl FakePublisher {
    /// Ignores poisoning: a failed assertion leaves valid state.
    fn state(&self) -> MutexGuard<'_, PublisherState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct InFlight(FakePublisher);

impl InFlight {
    fn begin(publisher: &FakePublisher, request: &PublishRequest) -> (Self, Option<ScriptedResponse>) {
        let mut state = publisher.state();
        let numbers = request.first..request.first + request.records;
        state.sent.push((request.first, request.records));
        state.in_flight_batches += 1;
        assert!(
            state.in_flight_batches <= publisher.max_in_flight,
            "{} requests in flight",
            state.in_flight_batches
        );
        let early = state.not_before.filter(|until| *until > Instant::now());
        assert_eq!(early, None, "request before the end of Retry-After");
        let oldest = (0..).find(|number| !state.acknowledged.contains(number)).unwrap();
        assert!(
            numbers.end - oldest <= publisher.window,
            "{numbers:?} is too far from {oldest}"
        );
        if request.records <= publisher.largest {
            let batch = (request.first, request.records, request.body.clone());
            for number in numbers {
                assert!(!state.acknowledged.contains(&number), "{number} was acknowledged");
                let known = state.batches.entry(number).or_insert_with(|| batch.clone());
                assert_eq!(*known, batch, "{number} is sent under another key");
            }
        }
        let response = state.script.pop_front();
        (Self(publisher.clone()), response)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state().in_flight_batches -= 1;
    }
}

impl PublisherClient for FakePublisher {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        let (_in_flight, response) = InFlight::begin(self, request);
        let ScriptedResponse { takes, reply } = response.unwrap_or(default_response());
        sleep(takes).await;
        if request.records > self.largest {
            return Err(ResponseError::TooLarge.into());
        }
        let mut state = self.state();
        match reply {
            ScriptedReply::Accepts => {
                state
                    .acknowledged
                    .extend(request.first..request.first + request.records);
                Ok(BatchOutcome {
                    accepted: request.records,
                    rejected: vec![],
                })
            }
            ScriptedReply::Retryable(retry_after) => {
                let until = retry_after.map(|wait| Instant::now() + wait);
                state.not_before = state.not_before.max(until);
                let status = 503;
                Err(ResponseError::Retryable { status, retry_after }.into())
            }
            ScriptedReply::Lost => Err(SendError::Timeout(takes)),
            ScriptedReply::Invalid => Err(ResponseError::Invalid {
                status: 200,
                reason: "scripted",
            }
            .into()),
            ScriptedReply::Permanent => Err(ResponseError::Permanent {
                status: 400,
                detail: String::new(),
            }
            .into()),
        }
    }
}

fn default_response() -> ScriptedResponse {
    response(1, ScriptedReply::Accepts)
}

/// A run of pages with the given numbers of records, in a store that outlives each process.
struct TestRun {
    store: Store,
    run: Uuid,
    pages: Vec<u128>,
    batch: u32,
    publisher: FakePublisher,
}

impl TestRun {
    fn new(
        pages: &[u128],
        batch: u32,
        max_in_flight: usize,
        script: impl IntoIterator<Item = ScriptedResponse>,
    ) -> Self {
        let store = Store::in_memory().unwrap();
        let spec = RunSpec {
            trigger: Trigger::Manual,
            scheduled: None,
            seed: "abc".parse().unwrap(),
            users: 1,
            page_size: 1,
            pages: None,
            retry: 0,
            requested_by: None,
        };
        let run = store
            .insert_run(&spec, RunState::Queued, None, Timestamp::UNIX_EPOCH)
            .unwrap();
        let state = PublisherState {
            script: script.into_iter().collect(),
            ..PublisherState::default()
        };
        let publisher = FakePublisher {
            window: u64::from(batch) * max_in_flight as u64,
            max_in_flight,
            largest: u64::MAX,
            state: Arc::new(Mutex::new(state)),
        };
        let pages = pages.to_vec();
        Self {
            store,
            run,
            pages,
            batch,
            publisher,
        }
    }

    fn records(&self) -> u64 {
        u64::try_from(self.pages.iter().sum::<u128>()).unwrap()
    }

    fn sent(&self) -> Vec<(u64, u64)> {
        self.publisher.state().sent.clone()
    }

    /// Runs one process for at most `life`. Stores pages one by one, each after `pace`. Returns the accepted records and
    /// the result, unless the process was killed.
    async fn run_process(&self, life: Duration, pace: Duration) -> (u64, Option<Result<(), RunError>>) {
        let settings = PublisherSettings {
            backoff: Backoff {
                initial: Duration::from_millis(5),
                max: Duration::from_millis(20),
            },
            max_invalid_responses: 1_000,
            ..PublisherSettings::default()
        };
        // `Retry-After` does not outlive the process.
        self.publisher.state().not_before = None;
        let delivery = DeliverySpec {
            batch_size: usize::try_from(self.batch).unwrap(),
            max_in_flight: self.publisher.max_in_flight,
            duplicate_window: 1_000_000,
        };
        let stored = self
            .store
            .start_run(self.run, &delivery, Timestamp::UNIX_EPOCH)
            .unwrap();
        let metrics = IngesterMetrics::new(&service::Metrics::new("ingester"));
        let progress = RunProgress::open(self.store.clone(), &stored, metrics).unwrap();
        let sender = RetryingSender::new(
            self.publisher.clone(),
            &settings,
            PublisherHealth::new(&Health::default()),
        );
        let slots = PageSlots::new(self.pages.len() + 1, progress.pending_pages().unwrap());
        let delivery_loop = DeliveryLoop {
            sender: &sender,
            progress: &progress,
            slots: &slots,
        };
        let (wakeup, wakeups) = mpsc::channel(1);
        let fetching = async {
            let fetched = usize::try_from(progress.pages_fetched()).unwrap();
            for (index, records) in self.pages.iter().enumerate().skip(fetched) {
                sleep(pace).await;
                let first = 1 + self.pages[..index].iter().sum::<u128>();
                progress.record_page(&page_from(first, *records)).unwrap();
                let _ = wakeup.try_send(());
            }
            drop(wakeup);
        };
        let both = async { tokio::join!(delivery_loop.run(wakeups), fetching).0 };
        let result = timeout(life, both).await.ok();
        (progress.stats().counts().accepted, result)
    }
}

fn script() -> impl Strategy<Value = Vec<ScriptedResponse>> {
    let reply = prop_oneof![
        5 => Just(ScriptedReply::Accepts),
        2 => Just(ScriptedReply::Retryable(None)),
        1 => (1_u64..60).prop_map(|wait| ScriptedReply::Retryable(Some(Duration::from_millis(wait)))),
        2 => Just(ScriptedReply::Lost),
        1 => Just(ScriptedReply::Invalid),
    ];
    prop::collection::vec(
        (1_u64..40, reply).prop_map(|(takes, reply)| response(takes, reply)),
        0..80,
    )
}

proptest! {
    /// The publisher asserts the invariants at each request.
    #[test]
    fn each_record_is_acknowledged_once_under_one_key(
        pages in prop::collection::vec(1_u128..25, 1..8),
        batch in 1_u32..8,
        max_in_flight in 1_usize..5,
        largest in 1_u64..10,
        pace in 0_u64..30,
        script in script(),
        lives in prop::collection::vec(1_u64..120, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut test = TestRun::new(&pages, batch, max_in_flight, script);
            test.publisher.largest = largest;
            let pace = Duration::from_millis(pace);
            let lives = lives.into_iter().map(Duration::from_millis).chain([HOUR]);
            let mut last = 0;
            for life in lives {
                let (accepted, result) = test.run_process(life, pace).await;
                prop_assert!(accepted >= last, "the next process continues the counts");
                last = accepted;
                if let Some(result) = result {
                    result.unwrap();
                    break;
                }
            }
            prop_assert_eq!(last, test.records());
            prop_assert_eq!(test.publisher.state().acknowledged.len() as u64, test.records());
            prop_assert_eq!(test.store.pending_pages(test.run).unwrap(), 0);
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn max_in_flight_batches_are_sent_across_pages() {
    for (max_in_flight, expected_ms) in [(1, 60), (2, 30), (3, 20)] {
        let test = TestRun::new(
            &[20, 20, 20],
            10,
            max_in_flight,
            vec![response(10, ScriptedReply::Accepts); 6],
        );
        let started = Instant::now();
        test.run_process(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
        let duration = started.elapsed().as_millis();
        assert!(
            (expected_ms..expected_ms + 10).contains(&duration),
            "{max_in_flight}: {duration} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledged_later_batch_is_not_sent_again() {
    let hangs = ScriptedResponse {
        takes: HOUR,
        reply: ScriptedReply::Lost,
    };
    let test = TestRun::new(&[30], 10, 2, [hangs, response(5, ScriptedReply::Accepts)]);
    let (accepted, result) = test.run_process(Duration::from_secs(1), Duration::ZERO).await;
    assert!(result.is_none() && accepted == 10);
    assert_eq!(
        test.sent(),
        [(0, 10), (10, 10)],
        "the window waits for its oldest"
    );
    let (accepted, result) = test.run_process(HOUR, Duration::ZERO).await;
    result.unwrap().unwrap();
    let again = &test.sent()[2..];
    assert_eq!((accepted, again), (30, &[(0, 10), (20, 10)][..]));
}

#[tokio::test(start_paused = true)]
async fn permanent_error_awaits_requests_in_flight() {
    let test = TestRun::new(
        &[40],
        10,
        2,
        [
            response(500, ScriptedReply::Accepts),
            response(5, ScriptedReply::Permanent),
        ],
    );
    let (accepted, result) = test.run_process(HOUR, Duration::ZERO).await;
    let refused = matches!(result, Some(Err(RunError::Delivery(DeliveryError::Permanent(_)))));
    assert!(refused && accepted == 10);
    assert_eq!(test.sent(), [(0, 10), (10, 10)]);
}

#[tokio::test(start_paused = true)]
async fn permanent_error_stops_all_retries() {
    let down = [
        response(1, ScriptedReply::Retryable(Some(HOUR))),
        response(5, ScriptedReply::Permanent),
    ];
    let test = TestRun::new(&[40], 10, 2, down);
    let started = Instant::now();
    let (accepted, result) = test.run_process(HOUR * 2, Duration::ZERO).await;
    assert!(matches!(result, Some(Err(_))) && accepted == 0);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "it does not wait out Retry-After"
    );
    assert_eq!(test.sent(), [(0, 10), (10, 10)]);
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_one_batch_applies_to_all() {
    let wait = Duration::from_secs(5);
    let test = TestRun::new(
        &[40],
        10,
        2,
        [
            response(5, ScriptedReply::Retryable(Some(wait))),
            response(2, ScriptedReply::Accepts),
        ],
    );
    let started = Instant::now();
    test.run_process(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
    assert!(started.elapsed() >= wait);
    let expected = [(0, 10), (10, 10), (0, 10), (20, 10), (30, 10)];
    assert_eq!(test.sent(), expected, "no request before the end of Retry-After");
}
