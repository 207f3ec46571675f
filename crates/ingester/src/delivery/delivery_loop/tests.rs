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
use crate::delivery::publisher_client::{PublishRequest, SendError};
use crate::delivery::publisher_health::PublisherHealth;
use crate::delivery::record_batch::tests::page_from;
use crate::delivery::response::{BatchOutcome, ResponseError};
use crate::delivery::retrying_sender::DeliveryError;
use crate::metrics::IngesterMetrics;
use crate::run::{RunSpec, RunState, Trigger};
use crate::settings::PublisherSettings;
use crate::store::Store;

const HOUR: Duration = Duration::from_secs(3_600);

/// What becomes of a request after a while.
#[derive(Clone, Copy, Debug)]
struct ScriptedResponse {
    takes: Duration,
    answer: Reply,
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Accepts,
    Retryable(Option<Duration>),
    Lost,
    Invalid,
    Permanent,
}

fn response(milliseconds: u64, answer: Reply) -> ScriptedResponse {
    ScriptedResponse {
        takes: Duration::from_millis(milliseconds),
        answer,
    }
}

/// A publisher that outlives the processes that post to it, and holds each request against what `delivering` promises.
#[derive(Clone)]
struct FakePublisher {
    window: u64,
    in_flight: usize,
    largest: u64,
    seen: Arc<Mutex<PublisherState>>,
}

#[derive(Default)]
struct PublisherState {
    script: VecDeque<ScriptedResponse>,
    in_flight_batches: usize,
    accounted: BTreeSet<u64>,
    /// Record → the batch that may have written it, and its body.
    batches: BTreeMap<u64, (u64, u64, Bytes)>,
    not_before: Option<Instant>,
    /// First record and number of records of each request.
    posted: Vec<(u64, u64)>,
}

impl FakePublisher {
    /// A request that broke a law leaves a true record behind.
    fn seen(&self) -> MutexGuard<'_, PublisherState> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct InFlight(FakePublisher);

impl InFlight {
    fn begin(publisher: &FakePublisher, request: &PublishRequest) -> (Self, Option<ScriptedResponse>) {
        let mut seen = publisher.seen();
        let numbers = request.first..request.first + request.records;
        seen.posted.push((request.first, request.records));
        seen.in_flight_batches += 1;
        assert!(
            seen.in_flight_batches <= publisher.in_flight,
            "{} are under way",
            seen.in_flight_batches
        );
        let early = seen.not_before.filter(|until| *until > Instant::now());
        assert_eq!(early, None, "somebody was asked to wait");
        let oldest = (0..).find(|number| !seen.accounted.contains(number)).unwrap();
        assert!(
            numbers.end - oldest <= publisher.window,
            "{numbers:?} is too far from {oldest}"
        );
        if request.records <= publisher.largest {
            let batch = (request.first, request.records, request.body.clone());
            for number in numbers {
                assert!(!seen.accounted.contains(&number), "{number} was accounted for");
                let known = seen.batches.entry(number).or_insert_with(|| batch.clone());
                assert_eq!(*known, batch, "{number} is posted under another key");
            }
        }
        let response = seen.script.pop_front();
        (Self(publisher.clone()), response)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.seen().in_flight_batches -= 1;
    }
}

impl PublisherClient for FakePublisher {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        let (_under_way, response) = InFlight::begin(self, request);
        let ScriptedResponse { takes, answer } = response.unwrap_or(fate_of_the_rest());
        sleep(takes).await;
        if request.records > self.largest {
            return Err(ResponseError::TooLarge.into());
        }
        let mut seen = self.seen();
        match answer {
            Reply::Accepts => {
                seen.accounted
                    .extend(request.first..request.first + request.records);
                Ok(BatchOutcome {
                    accepted: request.records,
                    rejected: vec![],
                })
            }
            Reply::Retryable(retry_after) => {
                let until = retry_after.map(|wait| Instant::now() + wait);
                seen.not_before = seen.not_before.max(until);
                let status = 503;
                Err(ResponseError::Retryable { status, retry_after }.into())
            }
            Reply::Lost => Err(SendError::Timeout(takes)),
            Reply::Invalid => Err(ResponseError::Invalid {
                status: 200,
                reason: "it says so",
            }
            .into()),
            Reply::Permanent => Err(ResponseError::Permanent {
                status: 400,
                detail: String::new(),
            }
            .into()),
        }
    }
}

fn fate_of_the_rest() -> ScriptedResponse {
    response(1, Reply::Accepts)
}

/// A run of pages of so many records, in a state that outlives whoever works on it.
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
        in_flight: usize,
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
        };
        let run = store
            .insert_run(&spec, RunState::Queued, None, Timestamp::UNIX_EPOCH)
            .unwrap();
        let seen = PublisherState {
            script: script.into_iter().collect(),
            ..PublisherState::default()
        };
        let publisher = FakePublisher {
            window: u64::from(batch) * in_flight as u64,
            in_flight,
            largest: u64::MAX,
            seen: Arc::new(Mutex::new(seen)),
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

    fn posted(&self) -> Vec<(u64, u64)> {
        self.publisher.seen().posted.clone()
    }

    /// One process, which lives so long at most; the counts that it leaves, and how it ended if it did so by itself.
    /// Pages come in one by one, each after `pace`.
    async fn live(&self, life: Duration, pace: Duration) -> (u64, Option<Result<(), RunError>>) {
        let settings = PublisherSettings {
            backoff: Backoff {
                initial: Duration::from_millis(5),
                max: Duration::from_millis(20),
            },
            max_invalid_responses: 1_000,
            ..PublisherSettings::default()
        };
        // What a publisher asked of a process dies with it.
        self.publisher.seen().not_before = None;
        let entry = self
            .store
            .start_run(self.run, self.batch, Timestamp::UNIX_EPOCH)
            .unwrap();
        let metrics = IngesterMetrics::new(&service::Metrics::new("ingester"));
        let progress = RunProgress::open(self.store.clone(), &entry, metrics, 1_000_000).unwrap();
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
            in_flight: self.publisher.in_flight,
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
        let ended = timeout(life, both).await.ok();
        (progress.stats().counts().accepted, ended)
    }
}

fn script() -> impl Strategy<Value = Vec<ScriptedResponse>> {
    let answer = prop_oneof![
        5 => Just(Reply::Accepts),
        2 => Just(Reply::Retryable(None)),
        1 => (1_u64..60).prop_map(|wait| Reply::Retryable(Some(Duration::from_millis(wait)))),
        2 => Just(Reply::Lost),
        1 => Just(Reply::Invalid),
    ];
    prop::collection::vec(
        (1_u64..40, answer).prop_map(|(takes, answer)| response(takes, answer)),
        0..80,
    )
}

proptest! {
    /// The door asserts the laws at each request.
    #[test]
    fn whatever_is_answered_and_whenever_it_is_killed_each_record_is_accounted_for_once_and_posted_under_one_key(
        pages in prop::collection::vec(1_u128..25, 1..8),
        batch in 1_u32..8,
        in_flight in 1_usize..5,
        largest in 1_u64..10,
        pace in 0_u64..30,
        script in script(),
        lives in prop::collection::vec(1_u64..120, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut test = TestRun::new(&pages, batch, in_flight, script);
            test.publisher.largest = largest;
            let pace = Duration::from_millis(pace);
            let lives = lives.into_iter().map(Duration::from_millis).chain([HOUR]);
            let mut last = 0;
            for life in lives {
                let (accepted, ended) = test.live(life, pace).await;
                prop_assert!(accepted >= last, "the next process counts on");
                last = accepted;
                if let Some(ended) = ended {
                    ended.unwrap();
                    break;
                }
            }
            prop_assert_eq!(last, test.records());
            prop_assert_eq!(test.publisher.seen().accounted.len() as u64, test.records());
            prop_assert_eq!(test.store.pending_pages(test.run).unwrap(), 0);
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_batches_as_allowed_are_under_way_also_of_two_pages() {
    for (in_flight, most) in [(1, 60), (2, 30), (3, 20)] {
        let test = TestRun::new(
            &[20, 20, 20],
            10,
            in_flight,
            vec![response(10, Reply::Accepts); 6],
        );
        let started = Instant::now();
        test.live(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
        let duration = started.elapsed().as_millis();
        assert!(
            (most..most + 10).contains(&duration),
            "{in_flight}: {duration} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_batch_that_was_accounted_for_first_is_not_posted_again_by_the_next_process() {
    let hangs = ScriptedResponse {
        takes: HOUR,
        answer: Reply::Lost,
    };
    let test = TestRun::new(&[30], 10, 2, [hangs, response(5, Reply::Accepts)]);
    let (accepted, ended) = test.live(Duration::from_secs(1), Duration::ZERO).await;
    assert!(ended.is_none() && accepted == 10);
    assert_eq!(
        test.posted(),
        [(0, 10), (10, 10)],
        "the window waits for its oldest"
    );
    let (accepted, ended) = test.live(HOUR, Duration::ZERO).await;
    ended.unwrap().unwrap();
    let again = &test.posted()[2..];
    assert_eq!((accepted, again), (30, &[(0, 10), (20, 10)][..]));
}

#[tokio::test(start_paused = true)]
async fn a_definite_no_begins_nothing_more_and_hears_what_is_under_way() {
    let test = TestRun::new(
        &[40],
        10,
        2,
        [response(500, Reply::Accepts), response(5, Reply::Permanent)],
    );
    let (accepted, ended) = test.live(HOUR, Duration::ZERO).await;
    let refused = matches!(ended, Some(Err(RunError::Delivery(DeliveryError::Permanent(_)))));
    assert!(refused && accepted == 10);
    assert_eq!(test.posted(), [(0, 10), (10, 10)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_definite_no_nothing_is_sent_again() {
    let down = [
        response(1, Reply::Retryable(Some(HOUR))),
        response(5, Reply::Permanent),
    ];
    let test = TestRun::new(&[40], 10, 2, down);
    let started = Instant::now();
    let (accepted, ended) = test.live(HOUR * 2, Duration::ZERO).await;
    assert!(matches!(ended, Some(Err(_))) && accepted == 0);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "it need not wait out the hour"
    );
    assert_eq!(test.posted(), [(0, 10), (10, 10)]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_one_batch_is_asked_for_holds_for_all() {
    let wait = Duration::from_secs(5);
    let test = TestRun::new(
        &[40],
        10,
        2,
        [
            response(5, Reply::Retryable(Some(wait))),
            response(2, Reply::Accepts),
        ],
    );
    let started = Instant::now();
    test.live(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
    assert!(started.elapsed() >= wait);
    let expected = [(0, 10), (10, 10), (0, 10), (20, 10), (30, 10)];
    assert_eq!(
        test.posted(),
        expected,
        "the publisher takes nobody who comes early"
    );
}
