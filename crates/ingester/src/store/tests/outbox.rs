//! Pages until their last record is acknowledged, and the numbers of their records afterwards.

use super::*;
use crate::delivery::record_batch::tests::page_of;
use crate::ledger::verdict::LedgerVerdict;
use crate::store::outbox::RejectedRecord;

#[test]
fn page_is_pending_until_its_last_record_is_acknowledged() {
    let store = Store::in_memory().unwrap();
    let run = queued_run(&store);
    let page = page_of(5);
    insert_page(&store, run, 0, &page);
    insert_page(&store, run, 1, &page_of(2));
    let next_chunk = |after| store.next_chunk(run, after).unwrap().unwrap();
    let (front, back) = (next_chunk(None), next_chunk(Some((0, 0))));
    assert_eq!((front.page, front.first, front.range()), (0, 0, 0..3));
    assert_eq!(
        (&front.records, &back.records),
        (&page.records(&[0, 1, 2]), &page.records(&[3, 4]))
    );
    let next = next_chunk(Some((0, 3)));
    assert_eq!((back.range(), next.page, next.first), (3..5, 1, 5));
    assert!(store.next_chunk(run, Some((1, 0))).unwrap().is_none());
    let ack = |chunk, range, rejected_records: &[RejectedRecord]| {
        let rejected = rejected_records.iter().map(|rejected| {
            let index = usize::try_from(rejected.record).unwrap();
            index..index + 1
        });
        let ack = Ack {
            chunk,
            range,
            rejected: rejected.fold(RangeSet::default(), |set, range| set.union(&range.into())),
            rejected_records,
        };
        store.acknowledge(run, &ack, || counts(9)).unwrap()
    };
    let rejected = RejectedRecord {
        record: 4,
        id: "x".into(),
        reason: "email: is blank".into(),
    };
    assert!(!ack(&back, 3..5, std::slice::from_ref(&rejected)));
    assert_eq!(
        next_chunk(Some((0, 0))).page,
        1,
        "a chunk is deleted with its last record"
    );
    assert!(!ack(&front, 0..1, &[]));
    assert_eq!(next_chunk(None).acknowledged.to_string(), "0-1,3-5");
    assert_eq!(store.pending_pages(run).unwrap(), 2);
    assert!(ack(&front, 1..3, &[]));
    assert_eq!((next_chunk(None).page, store.pending_pages(run).unwrap()), (1, 1));
    assert_eq!(store.rejected_records(run, 10).unwrap(), [rejected]);
    let stored = store.run(run).unwrap().unwrap();
    assert_eq!(
        (stored.pages_fetched, stored.next_record, stored.counts.fetched),
        (2, 7, 9)
    );
    assert_eq!(store.user_ids(run).unwrap().len(), 7, "including delivered pages");
    store
        .finish_run(run, RunState::Cancelled, None, &counts(9), at(1))
        .unwrap();
    assert_eq!(
        (
            store.pending_pages(run).unwrap(),
            store.user_ids(run).unwrap().len()
        ),
        (0, 0)
    );
}

#[test]
fn ended_run_keeps_numbers_of_rejected_and_undelivered_records() {
    let store = Store::in_memory().unwrap();
    let run = started_run(&store);
    insert_page(&store, run, 0, &page_of(5));
    insert_page(&store, run, 1, &page_of(4));
    insert_page(&store, run, 2, &Page::default());
    // Of the second page's chunk of three, the last record has no outcome yet.
    for (after, range, rejected) in [
        (None, 0..3, "0-1,2-3"),
        (Some((0, 0)), 3..5, "4-5"),
        (Some((0, 3)), 0..2, "0-1"),
    ] {
        let chunk = store.next_chunk(run, after).unwrap().unwrap();
        let ack = Ack {
            chunk: &chunk,
            range,
            rejected: rejected.parse().unwrap(),
            rejected_records: &[],
        };
        store.acknowledge(run, &ack, || counts(9)).unwrap();
    }
    assert_eq!(store.numbers(run).unwrap(), None, "the run has not ended");
    store
        .finish_run(run, RunState::Failed, Some("why"), &counts(9), at(1))
        .unwrap();
    let numbers = store.numbers(run).unwrap().unwrap();
    assert_eq!(
        numbers.assigned, 10,
        "five, and the numbers of a second page of five"
    );
    assert_eq!(
        (numbers.rejected.to_string(), numbers.undelivered.to_string()),
        ("0-1,2-3,4-6".to_owned(), "7-9".to_owned())
    );
    assert_eq!(store.runs_without_verdict().unwrap()[0].id, run);
    let verdict = LedgerVerdict::unknown("so");
    store.save_verdict(run, &verdict).unwrap();
    assert_eq!(store.run(run).unwrap().unwrap().verdict, Some(verdict));
    let unknown = queued_run(&store);
    finish(&store, unknown, RunState::Cancelled, 1);
    assert_eq!(store.numbers(unknown).unwrap(), None, "it has not started");
}

#[test]
fn numbers_are_deleted_with_their_run() {
    let store = Store::in_memory().unwrap();
    let old = started_run(&store);
    finish(&store, old, RunState::Complete, 1);
    let new = started_run(&store);
    finish(&store, new, RunState::Complete, 2);
    assert_eq!(store.prune_runs(Duration::from_secs(50), 1, at(3)).unwrap(), 1);
    assert_eq!(
        (store.numbers(old).unwrap(), store.numbers(new).unwrap().is_some()),
        (None, true)
    );
    let left = store.read(|connection| {
        Ok(connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get::<_, u32>(0))?)
    });
    assert_eq!(left.unwrap(), 1);
}

#[test]
fn time_of_a_page_is_kept_with_its_batches() {
    let (_folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    let run = started_run(&store);
    let fetched_at = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
    insert_page(&store, run, 0, &page_of(5).with_fetched_at(fetched_at));
    insert_page(&store, run, 1, &page_of(1));
    drop(store);
    let store = Store::open(&path).unwrap();
    for (after, expected) in [
        (None, Some(fetched_at)),
        (Some((0, 0)), Some(fetched_at)),
        (Some((0, 3)), None),
    ] {
        assert_eq!(
            store.next_chunk(run, after).unwrap().unwrap().fetched_at,
            expected
        );
    }
}
