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
use crate::answer::{Refusal, Verdict};
use crate::batch::tests::page_from;
use crate::delivery::DeliveryError;
use crate::history::{Cause, Order, State};
use crate::memory::Memory;
use crate::metrics::IngesterMetrics;
use crate::post::{Parcel, PostError};
use crate::reach::Reach;
use crate::settings::PublisherSettings;

const HOUR: Duration = Duration::from_secs(3_600);

/// What becomes of a request after a while.
#[derive(Clone, Copy, Debug)]
struct Fate {
    takes: Duration,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Accepts,
    Later(Option<Duration>),
    Lost,
    Odd,
    No,
}

fn fate(milliseconds: u64, answer: Answer) -> Fate {
    Fate {
        takes: Duration::from_millis(milliseconds),
        answer,
    }
}

/// A publisher that outlives the processes that post to it, and holds each request against what `delivering` promises.
#[derive(Clone)]
struct Door {
    window: u64,
    in_flight: usize,
    largest: u64,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    fates: VecDeque<Fate>,
    under_way: usize,
    accounted: BTreeSet<u64>,
    /// Record → the batch that may have written it, and its body.
    batches: BTreeMap<u64, (u64, u64, Bytes)>,
    not_before: Option<Instant>,
    /// First record and number of records of each request.
    posted: Vec<(u64, u64)>,
}

impl Door {
    /// A request that broke a law leaves a true record behind.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct UnderWay(Door);

impl UnderWay {
    fn begin(door: &Door, parcel: &Parcel) -> (Self, Option<Fate>) {
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

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.seen().under_way -= 1;
    }
}

impl Post for Door {
    async fn post(&self, parcel: &Parcel) -> Result<Verdict, PostError> {
        let (_under_way, fate) = UnderWay::begin(self, parcel);
        let Fate { takes, answer } = fate.unwrap_or(fate_of_the_rest());
        sleep(takes).await;
        if parcel.records > self.largest {
            return Err(Refusal::TooLarge.into());
        }
        let mut seen = self.seen();
        match answer {
            Answer::Accepts => {
                seen.accounted.extend(parcel.first..parcel.first + parcel.records);
                Ok(Verdict {
                    accepted: parcel.records,
                    rejected: vec![],
                })
            }
            Answer::Later(retry_after) => {
                let until = retry_after.map(|wait| Instant::now() + wait);
                seen.not_before = seen.not_before.max(until);
                let status = 503;
                Err(Refusal::Later { status, retry_after }.into())
            }
            Answer::Lost => Err(PostError::Timeout(takes)),
            Answer::Odd => Err(Refusal::Odd {
                status: 200,
                reason: "it says so",
            }
            .into()),
            Answer::No => Err(Refusal::Definite {
                status: 400,
                detail: String::new(),
            }
            .into()),
        }
    }
}

fn fate_of_the_rest() -> Fate {
    fate(1, Answer::Accepts)
}

/// A run of pages of so many records, in a state that outlives whoever works on it.
struct World {
    memory: Memory,
    run: Uuid,
    pages: Vec<u128>,
    batch: u32,
    door: Door,
}

impl World {
    fn new(pages: &[u128], batch: u32, in_flight: usize, fates: impl IntoIterator<Item = Fate>) -> Self {
        let memory = Memory::volatile().unwrap();
        let order = Order {
            cause: Cause::Manual,
            scheduled: None,
            seed: "abc".parse().unwrap(),
            users: 1,
            page_size: 1,
            pages: None,
            retry: 0,
        };
        let run = memory
            .enter(&order, State::Queued, None, Timestamp::UNIX_EPOCH)
            .unwrap();
        let seen = Seen {
            fates: fates.into_iter().collect(),
            ..Seen::default()
        };
        let door = Door {
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
        let ledger = Ledger::open(self.memory.clone(), &entry, metrics, 1_000_000).unwrap();
        let delivery = Delivery::new(self.door.clone(), &settings, Reach::new(&Health::default()));
        let room = Room::new(self.pages.len() + 1, ledger.waiting_pages().unwrap());
        let delivering = Delivering {
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

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let answer = prop_oneof![
        5 => Just(Answer::Accepts),
        2 => Just(Answer::Later(None)),
        1 => (1_u64..60).prop_map(|wait| Answer::Later(Some(Duration::from_millis(wait)))),
        2 => Just(Answer::Lost),
        1 => Just(Answer::Odd),
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
            let mut world = World::new(&pages, batch, in_flight, fates);
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
        let world = World::new(&[20, 20, 20], 10, in_flight, vec![fate(10, Answer::Accepts); 6]);
        let started = Instant::now();
        world.live(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
        let took = started.elapsed().as_millis();
        assert!((most..most + 10).contains(&took), "{in_flight}: {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_batch_that_was_accounted_for_first_is_not_posted_again_by_the_next_process() {
    let hangs = Fate {
        takes: HOUR,
        answer: Answer::Lost,
    };
    let world = World::new(&[30], 10, 2, [hangs, fate(5, Answer::Accepts)]);
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
    let world = World::new(&[40], 10, 2, [fate(500, Answer::Accepts), fate(5, Answer::No)]);
    let (accepted, ended) = world.live(HOUR, Duration::ZERO).await;
    let refused = matches!(ended, Some(Err(RunError::Delivery(DeliveryError::Refused(_)))));
    assert!(refused && accepted == 10);
    assert_eq!(world.posted(), [(0, 10), (10, 10)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_definite_no_nothing_is_sent_again() {
    let down = [fate(1, Answer::Later(Some(HOUR))), fate(5, Answer::No)];
    let world = World::new(&[40], 10, 2, down);
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
    let world = World::new(
        &[40],
        10,
        2,
        [fate(5, Answer::Later(Some(wait))), fate(2, Answer::Accepts)],
    );
    let started = Instant::now();
    world.live(HOUR, Duration::ZERO).await.1.unwrap().unwrap();
    assert!(started.elapsed() >= wait);
    let expected = [(0, 10), (10, 10), (0, 10), (20, 10), (30, 10)];
    assert_eq!(world.posted(), expected, "the door takes nobody who comes early");
}
