//! Invariants of checkpoints.

use super::*;

#[test]
fn checkpoint_ahead_of_durable_data_is_a_violation() {
    let sample = |change: fn(&mut CheckpointSample)| {
        move |evidence: &mut Evidence| {
            let mut sample = at_the_end(evidence);
            change(&mut sample);
            evidence.checkpoints.insert(0, sample);
        }
    };
    let ahead = [CheckpointNotAhead];
    assert_eq!(
        broken(sample(|it| {
            it.write_timestamps.remove(&row_id(1));
        })),
        ahead
    );
    assert_eq!(
        broken(sample(|it| it.dead_letters = Some(BTreeSet::new()))),
        ahead
    );
    let old = |it: &mut CheckpointSample| {
        it.write_timestamps.insert(row_id(3), NOON * 1_000 + 1);
    };
    assert_eq!(broken(sample(old)), ahead, "the deletion is not applied yet");
    let before_the_deletion = |it: &mut CheckpointSample| {
        // The checkpoint covers the user's first record; the deletion is not appended yet.
        it.next_offsets.insert(1, 2);
        it.read_at_ms = NOON - 1;
    };
    assert_eq!(
        broken(sample(before_the_deletion)),
        ahead,
        "a later deletion does not explain the missing row"
    );
    assert_eq!(
        broken(sample(|it| it.dead_letters = None)),
        [],
        "dead letters could not be read"
    );
}

#[test]
fn checkpoint_backwards_or_before_the_end_is_a_violation() {
    let back = |evidence: &mut Evidence| {
        let mut lower = at_the_end(evidence);
        lower.next_offsets.insert(1, 2);
        evidence.checkpoints.push(lower);
        evidence.checkpoints.push(at_the_end(evidence));
    };
    assert_eq!(broken(back), [CheckpointMonotonic]);
    let by_operator = |evidence: &mut Evidence| {
        back(evidence);
        let last = evidence.checkpoints.len() - 2;
        evidence.checkpoints[last].reset = true;
    };
    assert_eq!(broken(by_operator), []);
    assert_eq!(
        broken(|it| {
            it.ends.insert(2, 1);
        }),
        [CheckpointAtEnd]
    );
}
