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
use crate::delivery::response::{ResponseError, BatchOutcome};
use crate::delivery::record_batch::tests::page_from;
use crate::delivery::retrying_sender::DeliveryError;
use crate::run::{Trigger, RunSpec, RunState};
use crate::store::Store;
use crate::metrics::IngesterMetrics;
use crate::delivery::publisher_client::{PublishRequest, SendError};
use crate::delivery::publisher_health::PublisherHealth;
use crate::settings::PublisherSettings;

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

fn fate(milliseconds: u64, answer: Reply) -> ScriptedResponse {
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
    fates: VecDeque<ScriptedResponse>,
    under_way: usize,
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
    fn begin(door: &FakePublisher, parcel: &PublishRequest) -> (Self, Option<ScriptedResponse>) {
        let mut seen = door.seen();
        let numbers = parcel.first..parcel.first + parcel.records;
        seen.posted.push((parcel.first, parcel.records));
        seen.under_way += 1;
        assert!(
            seen.under_way <= door.in_flight,
            "{} are under way",
            seen.under_way
        );
        let early = seen.not_before.filter(|until| *until > Instant::now());
        assert_eq!(early, None, "somebody was asked to wait");
        let oldest = (0..).find(|number| !seen.accounted.contains(number)).unwrap();
        assert!(
            numbers.end - oldest <= door.window,
            "{numbers:?} is too far from {oldest}"
        );
        if parcel.records <= door.largest {
            let batch = (parcel.first, parcel.records, parcel.body.clone());
            for number in numbers {
                assert!(!seen.accounted.contains(&number), "{number} was accounted for");
                let known = seen.batches.entry(number).or_insert_with(|| batch.clone());
                assert_eq!(*known, batch, "{number} is posted under another key");
            }
        }
        let fate = seen.fates.pop_front();
        (Self(door.clone()), fate)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.seen().under_way -= 1;
    }
}

impl PublisherClient for FakePublisher {
    async fn post(&self, parcel: &PublishRequest) -> Result<BatchOutcome, SendError> {
        let (_under_way, fate) = InFlight::begin(self, parcel);
        let ScriptedResponse { takes, answer } = fate.unwrap_or(fate_of_the_rest());
        sleep(takes).await;
        if parcel.records > self.largest {
            return Err(ResponseError::TooLarge.into());
        }
        let mut seen = self.seen();
        match answer {
            Reply::Accepts => {
                seen.accounted.extend(parcel.first..parcel.first + parcel.records);
                Ok(BatchOutcome {
                    accepted: parcel.records,
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
    fate(1, Reply::Accepts)
}

/// A run of pages of so many records, in a state that outlives whoever works on it.
struct TestRun {
    memory: Store,
    run: Uuid,
    pages: Vec<u128>,
    batch: u32,
    door: FakePublisher,
}

impl TestRun {
    fn new(pages: &[u128], batch: u32, in_flight: usize, fates: impl IntoIterator<Item = ScriptedResponse>) -> Self {
        let memory = Store::volatile().unwrap();
        let order = RunSpec {
            cause: Trigger::Manual,
            scheduled: None,
            seed: "abc".parse().unwrap(),
            users: 1,
            page_size: 1,
            pages: None,
            retry: 0,
        };
        let run = memory
            .enter(&order, RunState::Queued, None, Timestamp::UNIX_EPOCH)
            .unwrap();
        let seen = PublisherState {
            fates: fates.into_iter().collect(),
            ..PublisherState::default()
        };
        let door = FakePublisher {
            window: u64::from(batch) * in_flight as u64,
            in_flight,
            largest: u64::MAX,
            seen: Arc::new(Mutex::new(seen)),
        };
        let pages = pages.to_vec();
        Self {
            memory,
            run,
            pages,
            batch,
            door,
        }
    }

    fn records(&self) -> u64 {
        u64::try_from(self.pages.iter().sum::<u128>()).unwrap()
    }

    fn posted(&self) -> Vec<(u64, u64)> {
        self.door.seen().posted.clone()
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
        self.door.seen().not_before = None;
        let entry = self
            .memory
            .begin(self.run, self.batch, Timestamp::UNIX_EPOCH)
            .unwrap();
        let metrics = IngesterMetrics::new(&service::Metrics::new("ingester"));
        let ledger = RunProgress::open(self.memory.clone(), &entry, metrics, 1_000_000).unwrap();
        let delivery = RetryingSender::new(self.door.clone(), &settings, PublisherHealth::new(&Health::default()));
        let room = PageSlots::new(self.pages.len() + 1, ledger.waiting_pages().unwrap());
        let delivering = DeliveryLoop {
            delivery: &delivery,
            ledger: &ledger,
            room: &room,
            in_flight: self.door.in_flight,
        };
        let (bell, rings) = mpsc::channel(1);
        let fetching = async {
            let fetched = usize::try_from(ledger.pages_fetched()).unwrap();
            for (index, records) in self.pages.iter().enumerate().skip(fetched) {
                sleep(pace).await;
                let first = 1 + self.pages[..index].iter().sum::<u128>();
                ledger.fetched(&page_from(first, *records)).unwrap();
                let _ = bell.try_send(());
            }
            drop(bell);
        };
        let both = async { tokio::join!(delivering.all(rings), fetching).0 };
        let ended = timeout(life, both).await.ok();
        (ledger.tally().counts().accepted, ended)
    }
}

fn fates() -> impl Strategy<Value = Vec<ScriptedResponse>> {
    let answer = prop_oneof![
        5 => Just(Reply::Accepts),
        2 => Just(Reply::Retryable(None)),
        1 => (1_u64..60).prop_map(|wait| Reply::Retryable(Some(Duration::from_millis(wait)))),
        2 => Just(Reply::Lost),
        1 => Just(Reply::Invalid),
    ];
    prop::collection::vec(
        (1_u64..40, answer).prop_map(|(takes, answer)| fate(takes, answer)),
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
        fates in fates(),
        lives in prop::collection::vec(1_u64..120, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = TestRun::new(&pages, batch, in_flight, fates);
            world.door.largest = largest;
            let pace = Duration::from_millis(pace);
            let lives = lives.into_iter().map(Duration::from_millis).chain([HOUR]);
            let mut last = 0;
            for life in lives {
                let (accepted, ended) = world.live(life, pace).await;
                prop_assert!(accepted >= last, "the next process counts on");
                last = accepted;
                if let Some(ended) = ended {
                    ended.unwrap();
                    break;
                }
            }
            prop_assert_eq!(last, world.records());
            prop_assert_eq!(world.door.seen().accounted.len() as u64, world.records());
            prop_assert_eq!(world.memory.waiting_pages(world.run).unwrap(), 0);
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_batches_as_allowed_are_under_way_also_of_two_pages() {
    for (in_flight, most) in [(1, 60), (2, 30), (3, 20)] {
        let world = TestRun::new(&[20, 20, 20], 10, in_flight, vec![fate(10, Reply::Accepts); 6]);
        let started = Instant::now();
        world.live(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
        let took = started.elapsed().as_millis();
        assert!((most..most + 10).contains(&took), "{in_flight}: {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_batch_that_was_accounted_for_first_is_not_posted_again_by_the_next_process() {
    let hangs = ScriptedResponse {
        takes: HOUR,
        answer: Reply::Lost,
    };
    let world = TestRun::new(&[30], 10, 2, [hangs, fate(5, Reply::Accepts)]);
    let (accepted, ended) = world.live(Duration::from_secs(1), Duration::ZERO).await;
    assert!(ended.is_none() && accepted == 10);
    assert_eq!(
        world.posted(),
        [(0, 10), (10, 10)],
        "the window waits for its oldest"
    );
    let (accepted, ended) = world.live(HOUR, Duration::ZERO).await;
    ended.unwrap().unwrap();
    let again = &world.posted()[2..];
    assert_eq!((accepted, again), (30, &[(0, 10), (20, 10)][..]));
}

#[tokio::test(start_paused = true)]
async fn a_definite_no_begins_nothing_more_and_hears_what_is_under_way() {
    let world = TestRun::new(&[40], 10, 2, [fate(500, Reply::Accepts), fate(5, Reply::Permanent)]);
    let (accepted, ended) = world.live(HOUR, Duration::ZERO).await;
    let refused = matches!(ended, Some(Err(RunError::Delivery(DeliveryError::Permanent(_)))));
    assert!(refused && accepted == 10);
    assert_eq!(world.posted(), [(0, 10), (10, 10)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_definite_no_nothing_is_sent_again() {
    let down = [fate(1, Reply::Retryable(Some(HOUR))), fate(5, Reply::Permanent)];
    let world = TestRun::new(&[40], 10, 2, down);
    let started = Instant::now();
    let (accepted, ended) = world.live(HOUR * 2, Duration::ZERO).await;
    assert!(matches!(ended, Some(Err(_))) && accepted == 0);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "it need not wait out the hour"
    );
    assert_eq!(world.posted(), [(0, 10), (10, 10)]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_one_batch_is_asked_for_holds_for_all() {
    let wait = Duration::from_secs(5);
    let world = TestRun::new(
        &[40],
        10,
        2,
        [fate(5, Reply::Retryable(Some(wait))), fate(2, Reply::Accepts)],
    );
    let started = Instant::now();
    world.live(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
    assert!(started.elapsed() >= wait);
    let expected = [(0, 10), (10, 10), (0, 10), (20, 10), (30, 10)];
    assert_eq!(world.posted(), expected, "the door takes nobody who comes early");
}
