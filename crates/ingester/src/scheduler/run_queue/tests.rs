//! Tests of the queue of requested runs.

use super::*;
use crate::run::DeliverySpec;

fn queue() -> RunQueue {
    let settings = IngesterSettings::default();
    RunQueue::new(Store::in_memory().unwrap(), ActiveRun::default(), settings)
}

fn enqueue(queue: &RunQueue) -> Result<Uuid, EnqueueError> {
    queue.enqueue(&queue.spec(Trigger::Manual, &RunRequest::default()))
}

fn cancel(queue: &RunQueue, run: Uuid) -> CancelOutcome {
    queue.cancel(run, false, "me").unwrap()
}

#[test]
fn requested_runs_wait_in_a_bounded_queue() {
    let queue = queue();
    let first = enqueue(&queue).unwrap();
    for _ in 1..MAX_UNFINISHED_RUNS {
        enqueue(&queue).unwrap();
    }
    assert!(matches!(enqueue(&queue), Err(EnqueueError::Full)));
    cancel(&queue, first);
    enqueue(&queue).unwrap();
}

#[test]
fn queued_run_can_be_removed() {
    let queue = queue();
    let run = enqueue(&queue).unwrap();
    assert_eq!(cancel(&queue, run), CancelOutcome::Cancelled);
    let stop = CancellationToken::new();
    assert_eq!(
        (cancel(&queue, run), queue.dequeue(&stop).unwrap()),
        (CancelOutcome::AlreadyEnded, None)
    );
    assert_eq!(cancel(&queue, Uuid::nil()), CancelOutcome::NotFound);
    enqueue(&queue).unwrap();
}

#[test]
fn dequeued_run_is_cancelled_instead_of_removed() {
    let queue = queue();
    let (run, stop) = (enqueue(&queue).unwrap(), CancellationToken::new());
    assert_eq!(queue.dequeue(&stop).unwrap().unwrap().id, run);
    assert_eq!(cancel(&queue, run), CancelOutcome::Cancelling);
    assert_eq!(queue.run(run).unwrap().unwrap().state, RunState::Cancelling);
    let tokens = queue.active.claim(run, &stop);
    assert!(tokens.requested.is_cancelled() && !tokens.drop.is_cancelled());
    assert_eq!(cancel(&queue, run), CancelOutcome::Cancelling);
    assert!(tokens.drop.is_cancelled(), "the second request drops what waits");
}

#[test]
fn cancel_of_a_run_to_resume_is_stored() {
    let queue = queue();
    let start = || {
        let run = enqueue(&queue).unwrap();
        let delivery = DeliverySpec::of(queue.settings());
        queue.store().start_run(run, &delivery, Timestamp::now()).unwrap();
        run
    };
    let state = |run| queue.run(run).unwrap().unwrap().state;
    let (once, twice, forced) = (start(), start(), start());
    assert_eq!(cancel(&queue, once), CancelOutcome::Cancelling);
    assert_eq!(state(once), RunState::Cancelling);
    assert_eq!(cancel(&queue, twice), CancelOutcome::Cancelling);
    assert_eq!(cancel(&queue, twice), CancelOutcome::Cancelled);
    assert_eq!(
        queue.cancel(forced, true, "me").unwrap(),
        CancelOutcome::Cancelled
    );
    assert_eq!(
        (state(twice), state(forced)),
        (RunState::Cancelled, RunState::Cancelled)
    );
}

#[test]
fn cancel_after_the_end_is_not_acknowledged() {
    let queue = queue();
    let (run, stop) = (enqueue(&queue).unwrap(), CancellationToken::new());
    queue.dequeue(&stop).unwrap();
    let counts = crate::run::run_stats::RunCounts::default();
    queue
        .store()
        .finish_run(run, RunState::Complete, None, &counts, Timestamp::now())
        .unwrap();
    // The claim is released a moment after the end is stored.
    assert_eq!(cancel(&queue, run), CancelOutcome::AlreadyEnded);
}

#[test]
fn pages_beyond_the_last_are_rejected() {
    let queue = queue();
    let pages = Some("9..10".parse().unwrap());
    let spec = queue.spec(
        Trigger::Backfill,
        &RunRequest {
            pages,
            ..RunRequest::default()
        },
    );
    assert!(matches!(
        queue.enqueue(&spec),
        Err(EnqueueError::Invalid(InvalidRequest::NoUsers))
    ));
}

#[test]
fn request_that_takes_longer_than_the_timeout_is_rejected() {
    let queue = queue();
    let request = |users| {
        queue.spec(
            Trigger::Manual,
            &RunRequest {
                users: Some(users),
                ..RunRequest::default()
            },
        )
    };
    let error = queue.enqueue(&request(1_000_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1000000 users take 4h 5m at source.rate_limit, but run.timeout is 4h"
    );
    queue.enqueue(&request(900_000)).unwrap();
}
