//! Events for the webhook.

use super::*;
use crate::store::events::Event;

#[test]
fn event_is_pending_after_a_failure_and_after_the_recovery() {
    let (_folder, path) = new_state_file();
    let store = Store::open(&path).unwrap();
    for state in [
        RunState::Complete,
        RunState::Failed,
        RunState::Complete,
        RunState::Complete,
        RunState::Rejected,
        RunState::Cancelled,
    ] {
        let run = started_run(&store);
        finish(&store, run, state, 7);
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    let pending = store.pending_events().unwrap();
    let found: Vec<_> = pending
        .iter()
        .map(|pending| (pending.event, pending.run.state))
        .collect();
    assert_eq!(
        found,
        [
            (Event::RunFailed, RunState::Failed),
            (Event::RunRecovered, RunState::Complete)
        ]
    );
    assert_eq!(pending[0].at, at(7));
    store.remove_event(pending[0].run.id).unwrap();
    assert_eq!(store.pending_events().unwrap(), pending[1..]);
    store.drop_events().unwrap();
    assert!(store.pending_events().unwrap().is_empty());
}
