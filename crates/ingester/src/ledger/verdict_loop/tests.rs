//! Tests of the verdict loop, with a scripted ledger.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use prometheus::{IntCounterVec, Opts};
use reqwest::StatusCode;

use super::*;
use crate::delivery::record_batch::tests::page_of;
use crate::ledger::ledger_client::LedgerError;
use crate::ledger::ledger_ranges::LedgerRanges;
use crate::run::run_stats::RunCounts;
use crate::run::{DeliverySpec, RunSpec, RunState, Trigger};
use crate::store::outbox::{Ack, FetchedPage};

/// Returns the scripted responses, and the last one for ever. `None` is a 503.
#[derive(Clone, Default)]
struct ScriptedLedger {
    responses: Arc<Mutex<VecDeque<Option<&'static str>>>>,
    queried: Arc<Mutex<Vec<Uuid>>>,
}

impl ScriptedLedger {
    fn of(responses: &[Option<&'static str>]) -> Self {
        let responses = responses.iter().copied().collect();
        Self {
            responses: Arc::new(Mutex::new(responses)),
            ..Self::default()
        }
    }
}

impl RunLedger for ScriptedLedger {
    async fn run(&self, run: Uuid) -> Result<LedgerRanges, LedgerError> {
        self.queried.lock().unwrap().push(run);
        let mut responses = self.responses.lock().unwrap();
        let stored = if responses.len() > 1 {
            responses.pop_front()
        } else {
            responses.front().copied()
        };
        match stored.flatten() {
            Some(stored) => Ok(LedgerRanges {
                stored: stored.parse().unwrap(),
                ..LedgerRanges::default()
            }),
            None => Err(LedgerError::Status(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }
}

/// Stores an ended run with five accepted records.
fn ended_run(store: &Store, ended: Timestamp) -> Uuid {
    let spec = RunSpec {
        trigger: Trigger::Manual,
        scheduled: None,
        seed: "abc".parse().unwrap(),
        users: 5,
        page_size: 5,
        pages: None,
        retry: 0,
        requested_by: None,
    };
    let run = store.insert_run(&spec, RunState::Queued, None, ended).unwrap();
    let delivery = DeliverySpec {
        batch_size: 5,
        max_in_flight: 1,
        duplicate_window: 5,
    };
    store.start_run(run, &delivery, ended).unwrap();
    let page = FetchedPage {
        page: 0,
        first: 0,
        content: &page_of(5),
        new_records: &[0, 1, 2, 3, 4],
        chunk_size: 5,
    };
    store.insert_page(run, &page, RunCounts::default).unwrap();
    let chunk = store.next_chunk(run, None).unwrap().unwrap();
    let ack = Ack {
        chunk: &chunk,
        range: 0..5,
        rejected: "".parse().unwrap(),
        rejected_records: &[],
    };
    store.acknowledge(run, &ack, RunCounts::default).unwrap();
    store
        .finish_run(run, RunState::Complete, None, &RunCounts::default(), ended)
        .unwrap();
    run
}

fn verdict_loop(ledger: &ScriptedLedger, store: &Store) -> VerdictLoop<ScriptedLedger> {
    let counter = IntCounterVec::new(Opts::new("verdicts", "of runs"), &["verdict"]).unwrap();
    VerdictLoop::new(
        ledger.clone(),
        store.clone(),
        &PipelineSettings::default(),
        counter,
    )
}

/// Runs the loop until `run` has a verdict that satisfies `wanted`.
async fn wait_for(
    checks: VerdictLoop<ScriptedLedger>,
    store: &Store,
    wanted: impl Fn(&[Run]) -> bool,
) -> Vec<Run> {
    let (_sender, run_ended) = watch::channel(());
    let found = async {
        loop {
            let runs = store.runs(&crate::run::RunFilter::default()).unwrap();
            if wanted(&runs) {
                return runs;
            }
            sleep(Duration::from_secs(60)).await;
        }
    };
    tokio::select! {
        error = checks.run(run_ended) => panic!("{error}"),
        runs = found => runs,
    }
}

fn state(run: &Run) -> VerdictState {
    run.verdict
        .as_ref()
        .map_or(VerdictState::Pending, |verdict| verdict.state)
}

#[tokio::test(start_paused = true)]
async fn run_is_pending_until_the_ledger_has_each_record() {
    let store = Store::in_memory().unwrap();
    let run = ended_run(&store, Timestamp::now());
    let ledger = ScriptedLedger::of(&[None, Some(""), Some("0-3"), None, Some("0-5")]);
    let checks = verdict_loop(&ledger, &store);
    let counter = checks.verdicts.clone();
    let runs = wait_for(checks, &store, |runs| state(&runs[0]) != VerdictState::Pending).await;
    let verdict = runs[0].verdict.clone().unwrap();
    assert_eq!((verdict.state, verdict.reason), (VerdictState::Conserved, None));
    assert_eq!(verdict.ledger.unwrap().rows, 5);
    assert_eq!(*ledger.queried.lock().unwrap(), [run; 5]);
    assert_eq!(counter.with_label_values(&["conserved"]).get(), 1);
    // The verdict is kept: nothing is queried again.
    let mut again = verdict_loop(&ledger, &store);
    assert_eq!(again.check_due().await.unwrap(), None);
    assert_eq!(ledger.queried.lock().unwrap().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn pending_verdict_tells_why() {
    let store = Store::in_memory().unwrap();
    ended_run(&store, Timestamp::now());
    let ledger = ScriptedLedger::of(&[Some("0-3"), None]);
    let runs = wait_for(verdict_loop(&ledger, &store), &store, |runs| {
        runs[0].verdict.as_ref().is_some_and(|verdict| {
            verdict.reason.as_deref() == Some("the streamer responded with 503 Service Unavailable")
        })
    })
    .await;
    let verdict = runs[0].verdict.clone().unwrap();
    assert_eq!(verdict.state, VerdictState::Pending);
    assert_eq!(verdict.ledger.unwrap().missing, 2, "the latest response is kept");
}

#[tokio::test(start_paused = true)]
async fn missing_records_violate_after_a_day_without_progress() {
    let store = Store::in_memory().unwrap();
    ended_run(&store, Timestamp::now());
    let started = Instant::now();
    let day = PipelineSettings::default().missing_timeout;
    // Its progress after most of the day begins another one.
    let ledger = ScriptedLedger::of(&[Some("0-1")]);
    let responses = Arc::clone(&ledger.responses);
    let progress = async {
        sleep(day - Duration::from_secs(600)).await;
        responses.lock().unwrap().push_front(Some("0-4"));
        responses.lock().unwrap().pop_back();
        std::future::pending::<()>().await;
    };
    let checks = wait_for(verdict_loop(&ledger, &store), &store, |runs| {
        state(&runs[0]) == VerdictState::Violated
    });
    let runs = tokio::select! {
        runs = checks => runs,
        () = progress => unreachable!("it never ends"),
    };
    assert_eq!(runs[0].verdict.as_ref().unwrap().ledger.unwrap().missing, 1);
    assert!(
        started.elapsed() > day + day - Duration::from_secs(600),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn expired_ledger_is_not_queried() {
    let store = Store::in_memory().unwrap();
    let old = Timestamp::now() - jiff::SignedDuration::from_hours(24 * 31);
    ended_run(&store, old);
    let new = ended_run(&store, Timestamp::now());
    let ledger = ScriptedLedger::of(&[Some("0-5")]);
    let runs = wait_for(verdict_loop(&ledger, &store), &store, |runs| {
        runs.iter().all(|run| state(run).is_final())
    })
    .await;
    let states: Vec<_> = runs.iter().map(state).collect();
    assert_eq!(states, [VerdictState::Conserved, VerdictState::Expired]);
    assert_eq!(*ledger.queried.lock().unwrap(), [new]);
}

#[tokio::test(start_paused = true)]
async fn outage_of_the_streamer_is_not_hammered() {
    let store = Store::in_memory().unwrap();
    for _ in 0..20 {
        ended_run(&store, Timestamp::now());
    }
    let ledger = ScriptedLedger::of(&[None]);
    let (_sender, run_ended) = watch::channel(());
    let run = timeout(
        Duration::from_secs(3_600),
        verdict_loop(&ledger, &store).run(run_ended),
    )
    .await;
    assert!(run.is_err(), "it goes on");
    let requests = ledger.queried.lock().unwrap().len();
    assert!((100..400).contains(&requests), "{requests} requests in an hour");
}

#[tokio::test(start_paused = true)]
async fn command_waits_for_the_verdict_up_to_its_timeout() {
    let store = Store::in_memory().unwrap();
    let run = ended_run(&store, Timestamp::now());
    let ledger = ScriptedLedger::of(&[None, Some("0-4"), Some("0-5")]);
    let minute = Duration::from_secs(60);
    let verdict = verdict_loop(&ledger, &store)
        .wait_for_verdict(run, minute)
        .await
        .unwrap();
    assert_eq!(verdict.state, VerdictState::Conserved);
    let run = ended_run(&store, Timestamp::now());
    let lagging = ScriptedLedger::of(&[Some("0-4")]);
    let started = Instant::now();
    let verdict = verdict_loop(&lagging, &store)
        .wait_for_verdict(run, minute)
        .await
        .unwrap();
    assert_eq!(
        (verdict.state, verdict.ledger.unwrap().missing),
        (VerdictState::Pending, 1)
    );
    assert_eq!(started.elapsed(), minute);
}
