//! Cancelled runs.

use super::*;
use crate::scheduler::run_queue::{CancelOutcome, RunQueue};

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
    let unauthorized = ResponseError::Unauthorized { status: 401 };
    for (publisher, reason) in [
        (
            CountingPublisher::with_script([Err(permanent_error())]),
            "failed to deliver records",
        ),
        (
            CountingPublisher::with_script([Err(unauthorized)]),
            "failed to deliver records",
        ),
        (CountingPublisher::hanging(), "the run exceeded run.timeout"),
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
    let publisher = CountingPublisher::hanging();
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
