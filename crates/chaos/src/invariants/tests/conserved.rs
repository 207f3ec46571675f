//! Invariants of the run ledger.

use super::*;
use crate::evidence::run_ledger::LedgerRanges;

#[test]
fn ledger_that_differs_from_the_log_is_a_violation() {
    fn ledger(evidence: &mut Evidence) -> &mut LedgerRanges {
        evidence.run_ledgers.values_mut().next().unwrap()
    }
    assert_eq!(broken(|it| ledger(it).stored.truncate(1)), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).stored.push([7, 9])), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).dead_lettered.clear()), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).dead_lettered.push([0, 0])), [RunConserved]);
    assert_eq!(broken(|it| ledger(it).lost.push([0, 0])), [RunConserved]);
    assert_eq!(broken(|it| it.run_ledgers.clear()), [RunConserved]);
    for verdict in [None, Some("pending".to_owned()), Some("violated".to_owned())] {
        assert_eq!(broken(|it| it.runs[0].verdict = verdict), [RunConserved]);
    }
}

/// The streamers may have read a lost record or not, and the ingester can't tell it from a late one.
#[test]
fn run_with_lost_records_may_be_pending() {
    let lost = |in_ledger: bool| {
        move |evidence: &mut Evidence| {
            let (id, value) = (person(9).id, Some(version(9, 1)));
            evidence.lost.unread.push(record(1, 3, &id, value));
            evidence.runs[0].verdict = Some("pending".to_owned());
            if in_ledger {
                let ledger = evidence.run_ledgers.values_mut().next().unwrap();
                ledger.stored.push([1_003, 1_003]);
            }
        }
    };
    assert_eq!(broken(lost(false)), []);
    assert_eq!(broken(lost(true)), []);
}

#[test]
fn number_with_a_row_and_a_dead_letter_is_stored() {
    let id = person(1).id;
    let mut again = record(0, 1, &id, Some(b"{}".to_vec()));
    let number = again.headers.get_mut(kafka::RUN_SEQ).unwrap();
    *number = b"0".to_vec();
    let mut round = correct(vec![record(0, 0, &id, Some(version(1, 1))), again]);
    round.runs[0].accepted = 1;
    let ledger = round.run_ledgers.values().next().unwrap();
    assert_eq!((ledger.stored.len(), ledger.dead_lettered.len()), (1, 0));
    assert_eq!(check(&round), Vec::new());
}
