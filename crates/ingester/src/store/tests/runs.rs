//! Runs: their order, filters, retries, cancellation and retention.

use super::*;
use crate::delivery::record_batch::tests::page_of;

#[test]
fn stored_run_round_trips() {
    let (_folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    let run = store
        .insert_run(&spec(Trigger::Backfill), RunState::Queued, None, at(5))
        .unwrap();
    assert_eq!(store.start_run(run, &delivery(50), at(6)).unwrap().resumed, 0);
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.unfinished_runs().unwrap().len(), 1);
    let stored = store.start_run(run, &delivery(70), at(9)).unwrap();
    assert_eq!(
        (stored.resumed, stored.started, stored.state),
        (1, Some(at(6)), RunState::Running)
    );
    assert_eq!(stored.spec(), spec(Trigger::Backfill));
    assert_eq!(stored.delivery, Some(delivery(50)), "as it was started");
    assert_eq!(stored.counts.requested, 7);
    store
        .finish_run(run, RunState::Failed, Some("why"), &counts(3), at(10))
        .unwrap();
    let stored = store.run(run).unwrap().unwrap();
    assert_eq!(
        (stored.reason.as_deref(), stored.ended, stored.counts),
        (Some("why"), Some(at(10)), counts(3))
    );
    assert!(
        store.unfinished_runs().unwrap().is_empty() && store.start_run(run, &delivery(50), at(11)).is_err()
    );
}

#[test]
fn runs_are_filtered_and_paged_newest_first() {
    let store = Store::in_memory().unwrap();
    let enter = |trigger, state| {
        store
            .insert_run(&spec(trigger), state, Some("so"), at(0))
            .unwrap()
    };
    let first = enter(Trigger::Schedule, RunState::Missed);
    let second = enter(Trigger::Manual, RunState::Queued);
    let third = enter(Trigger::Schedule, RunState::Skipped);
    let ids = |filter: &RunFilter| ids(&store, filter);
    assert_eq!(ids(&RunFilter::default()), [third, second, first]);
    let trigger = Some(Trigger::Schedule);
    assert_eq!(
        ids(&RunFilter {
            trigger,
            ..RunFilter::default()
        }),
        [third, first]
    );
    let state = Some(RunState::Missed);
    assert_eq!(
        ids(&RunFilter {
            state,
            ..RunFilter::default()
        }),
        [first]
    );
    assert_eq!(
        ids(&RunFilter {
            before: Some(third),
            limit: 1,
            ..RunFilter::default()
        }),
        [second]
    );
}

#[test]
fn pruning_keeps_unfinished_runs() {
    let store = Store::in_memory().unwrap();
    let enter = |state, second| {
        store
            .insert_run(&spec(Trigger::Manual), state, None, at(second))
            .unwrap()
    };
    let queued = enter(RunState::Queued, 0);
    enter(RunState::Missed, 10);
    enter(RunState::Missed, 90);
    let kept = enter(RunState::Missed, 95);
    assert_eq!(store.prune_runs(Duration::from_secs(50), 9, at(100)).unwrap(), 1);
    assert_eq!(store.prune_runs(Duration::from_secs(50), 1, at(100)).unwrap(), 1);
    assert_eq!(ids(&store, &RunFilter::default()), [kept, queued]);
}

#[test]
fn retry_begins_where_the_run_failed() {
    let store = Store::in_memory().unwrap();
    let spec = RunSpec {
        users: 25,
        pages: None,
        ..spec(Trigger::Manual)
    };
    let run = store.insert_run(&spec, RunState::Queued, None, at(0)).unwrap();
    store.start_run(run, &delivery(50), at(1)).unwrap();
    for number in 0..3 {
        insert_page(&store, run, number, &page_of(5));
    }
    let mut chunks = Vec::new();
    while let Some(chunk) = store
        .next_chunk(
            run,
            chunks.last().map(|last: &OutboxChunk| (last.page, last.start)),
        )
        .unwrap()
    {
        chunks.push(chunk);
    }
    assert_eq!(chunks.len(), 6, "two of each page");
    // Only the first chunk of the second page is not delivered.
    chunks.remove(2);
    for chunk in &chunks {
        accept(&store, run, chunk, chunk.range());
    }
    store
        .finish_run(run, RunState::Failed, Some("why"), &counts(15), at(2))
        .unwrap();
    let failed = store.run(run).unwrap().unwrap();
    assert_eq!(failed.delivered_pages, 1);
    assert_eq!(failed.retried().pages, Some("2..5".parse().unwrap()));
    let retry = store
        .insert_run(&failed.retried(), RunState::Queued, None, at(3))
        .unwrap();
    store.start_run(retry, &delivery(50), at(4)).unwrap();
    insert_page(&store, retry, 0, &Page::default());
    finish(&store, retry, RunState::Failed, 5);
    let failed = store.run(retry).unwrap().unwrap();
    assert_eq!(failed.retried().pages, Some("3..5".parse().unwrap()));
}

#[test]
fn last_finished_run_survives_pruning() {
    let store = Store::in_memory().unwrap();
    let queued = |trigger| {
        store
            .insert_run(&spec(trigger), RunState::Queued, None, at(0))
            .unwrap()
    };
    assert_eq!(store.last_finished_run().unwrap(), None);
    let (failed, cancelled) = (queued(Trigger::Manual), queued(Trigger::Manual));
    store.start_run(failed, &delivery(50), at(1)).unwrap();
    finish(&store, cancelled, RunState::Cancelled, 9);
    finish(&store, failed, RunState::Failed, 5);
    let last = store.last_finished_run().unwrap().unwrap();
    assert_eq!(
        (last.id, last.retry),
        (failed, 3),
        "a cancelled queued run had not started"
    );
    let retried = last.retried();
    assert_eq!(
        (retried.trigger, retried.retry, &retried.seed),
        (Trigger::Retry, 4, &last.seed)
    );
    store.prune_runs(Duration::ZERO, 1, at(100)).unwrap();
    assert_eq!(store.last_finished_run().unwrap().unwrap().id, failed);
}

#[test]
fn backward_clock_step_keeps_the_order_of_runs() {
    let store = Store::in_memory().unwrap();
    let ahead = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 4_000_000_000, 0));
    let run = |second, state| {
        let run = store
            .insert_run(&spec(Trigger::Manual), RunState::Queued, None, at(second))
            .unwrap();
        store.start_run(run, &delivery(50), at(second)).unwrap();
        finish(&store, run, state, second);
        run
    };
    let failed = run(4_000_000_000, RunState::Failed);
    let renamed = store.read(|connection| {
        let names = [ahead.to_string(), failed.to_string()];
        Ok(connection.execute("UPDATE runs SET id = ?1 WHERE id = ?2", names)?)
    });
    assert_eq!(renamed.unwrap(), 1);
    assert_eq!(store.last_finished_run().unwrap().unwrap().id, ahead);
    let later = [run(1_000, RunState::Complete), run(900, RunState::Complete)];
    assert_eq!(
        store.last_finished_run().unwrap().unwrap().id,
        later[1],
        "independent of its clock"
    );
    assert_eq!(ids(&store, &RunFilter::default()), [later[1], later[0], ahead]);
    assert!(later.iter().all(|id| id.get_version_num() == 7));
}

#[test]
fn cancelled_run_stays_cancelled() {
    let (_folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    let run = queued_run(&store);
    store.start_run(run, &delivery(50), at(1)).unwrap();
    assert!(store.cancel_run(run, false, "me").unwrap());
    drop(store);
    let store = Store::open(&path).unwrap();
    let unfinished = store.unfinished_runs().unwrap();
    assert_eq!(
        (unfinished[0].state, unfinished[0].drop_pending),
        (RunState::Cancelling, false)
    );
    let resumed = store.start_run(run, &delivery(50), at(2)).unwrap();
    assert_eq!((resumed.state, resumed.resumed), (RunState::Cancelling, 1));
    assert!(store.cancel_run(run, true, "me").unwrap() && store.cancel_run(run, false, "me").unwrap());
    let stored = store.run(run).unwrap().unwrap();
    assert!(stored.drop_pending, "a request is not taken back");
    assert_eq!(stored.cancelled_by.as_deref(), Some("me"));
    for state in [RunState::Failed, RunState::Complete] {
        assert_eq!(
            store
                .finish_run(run, state, Some("why"), &counts(3), at(3))
                .unwrap(),
            if state == RunState::Failed {
                RunState::Cancelled
            } else {
                state
            },
            "only an unfinished run is cancelled"
        );
    }
    assert!(!store.cancel_run(run, true, "me").unwrap());
}
